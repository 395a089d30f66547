//! Who speaks: a pod-bound service account token, reviewed by the API server and remembered until it expires.
//!
//! Invariant: tokens are remembered by their SHA-256 only; a token that is not bound to a pod is nobody's.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use contract::names::TOKEN_AUDIENCE;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::PostParams;
use kube::{Api, Client};
use sha2::{Digest, Sha256};

/// Tokens remembered at most; a kubelet renews each within the hour.
const MOST: usize = 20_000;
/// The longest that a token is remembered, in seconds, whatever it says of itself.
const LONGEST: i64 = 3600;
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// The pod that speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Its uid.
    pub uid: String,
}

/// A token is nobody's.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The API server does not accept it for our audience.
    #[error("accept the token: {0}")]
    Rejected(&'static str),
    /// The API server did not answer.
    #[error("ask the API server about the token")]
    Review(#[source] kube::Error),
}

/// Reviews tokens.
pub trait Reviewer: Send + Sync {
    /// What the API server says.
    fn review(&self, token: &str) -> impl Future<Output = Result<TokenReviewStatus, kube::Error>> + Send;
}

impl Reviewer for Client {
    async fn review(&self, token: &str) -> Result<TokenReviewStatus, kube::Error> {
        let spec =
            TokenReviewSpec { token: Some(token.into()), audiences: Some(vec![TOKEN_AUDIENCE.into()]) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let review = Api::<TokenReview>::all(self.clone()).create(&PostParams::default(), &review).await?;
        Ok(review.status.unwrap_or_default())
    }
}

/// Callers by token.
#[derive(Default)]
pub struct Identities {
    known: Mutex<HashMap<[u8; 32], (Caller, i64)>>,
}

impl Identities {
    /// Whose token it is; `now` in seconds since the Unix epoch; `asked` is called when the API server is.
    pub async fn of(
        &self,
        reviewer: &impl Reviewer,
        token: &str,
        now: i64,
        asked: impl FnOnce(),
    ) -> Result<Caller, IdentityError> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some((caller, until)) = self.lock().get(&digest)
            && now < *until
        {
            return Ok(caller.clone());
        }
        asked();
        let status = reviewer.review(token).await.map_err(IdentityError::Review)?;
        let caller = caller(&status)?;
        // Only a token that was accepted is read: its own word is good for when it ends.
        let until = expiry(token).unwrap_or(now).min(now + LONGEST);
        let mut known = self.lock();
        if known.len() >= MOST {
            known.retain(|_, (_, until)| now < *until);
        }
        if known.len() < MOST {
            known.insert(digest, (caller.clone(), until));
        }
        Ok(caller)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], (Caller, i64)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn caller(status: &TokenReviewStatus) -> Result<Caller, IdentityError> {
    if status.authenticated != Some(true) {
        return Err(IdentityError::Rejected("the API server does not know it"));
    }
    let audiences = status.audiences.as_deref().unwrap_or_default();
    if !audiences.iter().any(|audience| audience == TOKEN_AUDIENCE) {
        return Err(IdentityError::Rejected("it is for another audience"));
    }
    let user = status.user.clone().unwrap_or_default();
    let extra: BTreeMap<_, _> = user.extra.unwrap_or_default();
    let one = |key: &str| extra.get(key).and_then(|values| values.first()).cloned();
    let namespace = user.username.as_deref().and_then(|name| name.strip_prefix("system:serviceaccount:"));
    let namespace = namespace.and_then(|rest| rest.split(':').next());
    match (namespace, one(POD_NAME), one(POD_UID)) {
        (Some(namespace), Some(pod), Some(uid)) => Ok(Caller { namespace: namespace.into(), pod, uid }),
        _ => Err(IdentityError::Rejected("it is not bound to a pod")),
    }
}

/// `exp` of a JWT (RFC 7519), in seconds since the Unix epoch.
fn expiry(token: &str) -> Option<i64> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&payload).ok()?;
    claims.get("exp")?.as_i64()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::json;

    use super::*;

    struct Fake {
        status: serde_json::Value,
        asked: AtomicUsize,
    }

    impl Fake {
        fn new(status: serde_json::Value) -> Self {
            Self { status, asked: AtomicUsize::new(0) }
        }
    }

    impl Reviewer for Fake {
        async fn review(&self, _token: &str) -> Result<TokenReviewStatus, kube::Error> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            Ok(serde_json::from_value(self.status.clone()).unwrap())
        }
    }

    fn accepted() -> serde_json::Value {
        json!({
            "authenticated": true, "audiences": ["cofferdam"],
            "user": {
                "username": "system:serviceaccount:shop:default",
                "extra": {POD_NAME: ["app"], POD_UID: ["u-1"]},
            },
        })
    }

    fn token(exp: i64) -> String {
        format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(json!({"exp": exp}).to_string()))
    }

    #[tokio::test]
    async fn a_token_is_reviewed_once_until_it_expires() {
        let (fake, identities) = (Fake::new(accepted()), Identities::default());
        let token = token(2000);
        for now in [1000, 1500, 1999] {
            let caller = identities.of(&fake, &token, now, || ()).await.unwrap();
            assert_eq!(
                (caller.namespace.as_str(), caller.pod.as_str(), caller.uid.as_str()),
                ("shop", "app", "u-1")
            );
        }
        assert_eq!(fake.asked.load(Ordering::SeqCst), 1);
        identities.of(&fake, &token, 2000, || ()).await.unwrap();
        assert_eq!(fake.asked.load(Ordering::SeqCst), 2);
        // Another token is another question.
        identities.of(&fake, &format!("{token}x"), 1000, || ()).await.unwrap();
        assert_eq!(fake.asked.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn a_token_of_another_audience_or_of_no_pod_is_nobodys() {
        let mut unknown = accepted();
        unknown["authenticated"] = json!(false);
        let mut audience = accepted();
        audience["audiences"] = json!(["https://kubernetes.default.svc"]);
        let mut unbound = accepted();
        unbound["user"]["extra"] = json!({});
        let mut person = accepted();
        person["user"]["username"] = json!("jane");
        for status in [unknown, audience, unbound, person] {
            let identities = Identities::default();
            let result = identities.of(&Fake::new(status.clone()), &token(2000), 1000, || ()).await;
            assert!(matches!(result, Err(IdentityError::Rejected(_))), "{status}");
        }
    }
}
