//! The webhook's HTTP interface: `POST /mutate-pods` and `POST /warn`.
//!
//! Invariant: a pod is let pass without injection only on what the API server itself said just now.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use json_patch::Patch;
use serde_json::Value;

use super::facts::{FactsError, Source, claim_count, claim_names};
use super::injection::{Refusal, inject, patch, protected_volumes};
use super::review::{self, Request, Review};
use super::warnings;
use crate::metrics::{Metrics, Outcome};
use crate::settings::InjectionSettings;

/// The largest review that is read, in bytes; objects are limited to about 3 MiB by the API server.
const LARGEST_REVIEW: usize = 8 << 20;
/// The longest that a decision may take; the API server waits 10 s.
const LONGEST_DECISION: Duration = Duration::from_secs(8);

/// What the webhooks need.
pub struct Webhook {
    /// Where facts come from.
    pub source: Source,
    /// What is written into pods.
    pub injection: InjectionSettings,
    /// Counters.
    pub metrics: Metrics,
}

/// The routes.
pub fn router(webhook: Arc<Webhook>) -> Router {
    Router::new()
        .route("/mutate-pods", post(mutate_pods))
        .route("/warn", post(warn))
        .layer(DefaultBodyLimit::max(LARGEST_REVIEW))
        .with_state(webhook)
}

/// Why no decision was made.
#[derive(Debug, thiserror::Error)]
enum Undecided {
    #[error("ask the API server")]
    Facts(#[from] FactsError),
    #[error("decide in time")]
    Slow,
}

async fn mutate_pods(State(webhook): State<Arc<Webhook>>, body: Bytes) -> Result<Json<Value>, StatusCode> {
    let request = read(&body)?;
    let begin = Instant::now();
    let decision = tokio::time::timeout(LONGEST_DECISION, webhook.decide(&request)).await;
    let (outcome, answer) = match decision.unwrap_or(Err(Undecided::Slow)) {
        Ok(Ok(changes)) => {
            let outcome = if changes.0.is_empty() { Outcome::Unchanged } else { Outcome::Injected };
            (outcome, review::allow(&request.uid, &changes, &[]))
        }
        Ok(Err(refusal)) => {
            tracing::info!(namespace = request.namespace, %refusal, "pod refused");
            (Outcome::Refused, review::refuse(&request.uid, 403, &refusal.to_string()))
        }
        Err(error) => {
            tracing::warn!(
                namespace = request.namespace,
                error = &error as &dyn std::error::Error,
                "undecided"
            );
            let message = "it could not be found out whether the pod's claims are protected; try again";
            (Outcome::Undecided, review::refuse(&request.uid, 500, message))
        }
    };
    webhook.metrics.admission("pods", outcome, begin.elapsed());
    Ok(Json(answer))
}

async fn warn(State(webhook): State<Arc<Webhook>>, body: Bytes) -> Result<Json<Value>, StatusCode> {
    let request = read(&body)?;
    let begin = Instant::now();
    let looking = tokio::time::timeout(LONGEST_DECISION, webhook.warnings(&request));
    let found = match looking.await {
        Ok(Ok(found)) => found,
        // Warnings never stop anybody.
        Ok(Err(_)) | Err(_) => vec![],
    };
    let outcome = if found.is_empty() { Outcome::Unchanged } else { Outcome::Warned };
    webhook.metrics.admission("warnings", outcome, begin.elapsed());
    Ok(Json(review::allow(&request.uid, &Patch(vec![]), &found)))
}

fn read(body: &Bytes) -> Result<Request, StatusCode> {
    serde_json::from_slice::<Review>(body).map(|review| review.request).map_err(|_| StatusCode::BAD_REQUEST)
}

impl Webhook {
    /// The change to a pod. The stores are enough where they show every claim of the pod as protected and nothing is wrong;
    /// everything else (nothing protects it, something is missing) is decided on a live look.
    async fn decide(&self, request: &Request) -> Result<Result<Patch, Refusal>, Undecided> {
        let pod = &request.object;
        let claims = claim_names(pod);
        let remembered = self.source.remembered(&request.namespace, &claims).await?;
        let all =
            protected_volumes(pod, &remembered).is_ok_and(|protected| protected.len() == claim_count(pod));
        if all && let Ok(Some(injected)) = inject(pod, &remembered, &self.injection) {
            return Ok(Ok(patch::between(pod, &injected)));
        }
        let live = self.source.live(&request.namespace, &claims).await?;
        Ok(inject(pod, &live, &self.injection)
            .map(|injected| injected.map_or(Patch(vec![]), |injected| patch::between(pod, &injected))))
    }

    async fn warnings(&self, request: &Request) -> Result<Vec<String>, FactsError> {
        let Some(pod) = warnings::pod_of(&request.kind.kind, &request.object) else {
            let mut facts = self.source.live(&request.namespace, &BTreeSet::new()).await?;
            facts.claims = self.source.known_claims(&request.namespace);
            return Ok(warnings::of_declaration(&request.kind.kind, &request.object, &facts));
        };
        let facts = self.source.live(&request.namespace, &claim_names(&pod)).await?;
        Ok(warnings::of_template(&request.kind.kind, &request.object, &pod, &facts, &self.injection))
    }
}
