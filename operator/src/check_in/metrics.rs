//! What the check-in server counts.
//!
//! Invariant: labels have a few fixed values; no name of a namespace, pod or volume is one.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::identity::IdentityError;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every volume of the report counted.
    Accepted,
    /// Some volume was none of this pod's, or has no record yet.
    Partial,
    /// The report could not be read.
    Malformed,
    /// The token was not accepted.
    Unauthenticated,
    /// Too many tokens of this address were refused.
    Limited,
    /// Too many tokens are being reviewed.
    Busy,
    /// The sender may not report this.
    Forbidden,
    /// The API server could not be asked.
    Unavailable,
}

/// The counters.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    check_ins: Family<Vec<(&'static str, &'static str)>, Counter>,
    reviews: Counter,
    refusals: Family<Vec<(&'static str, &'static str)>, Counter>,
    evictions: Counter,
}

impl Metrics {
    /// Counters that the registry shows.
    pub fn register(all: &mut Registry) -> Self {
        let metrics = Self::default();
        all.register("cofferdam_check_ins", "Check-ins by outcome", metrics.check_ins.clone());
        all.register(
            "cofferdam_token_reviews",
            "Tokens that the API server was asked about",
            metrics.reviews.clone(),
        );
        all.register(
            "cofferdam_token_refusals",
            "Tokens that were not accepted, by what decided",
            metrics.refusals.clone(),
        );
        all.register(
            "cofferdam_pod_evictions",
            "Pods evicted because a session was lost",
            metrics.evictions.clone(),
        );
        metrics
    }

    pub(super) fn check_in(&self, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Accepted => "accepted",
            Outcome::Partial => "partial",
            Outcome::Malformed => "malformed",
            Outcome::Unauthenticated => "unauthenticated",
            Outcome::Limited => "limited",
            Outcome::Busy => "busy",
            Outcome::Forbidden => "forbidden",
            Outcome::Unavailable => "unavailable",
        };
        self.check_ins.get_or_create(&vec![("outcome", outcome)]).inc();
    }

    pub(super) fn review(&self) {
        self.reviews.inc();
    }

    pub(super) fn refusal(&self, why: &IdentityError) {
        let by = match why {
            IdentityError::Claims(_) => "claims",
            IdentityError::Remembered => "memory",
            IdentityError::Rejected(_) => "review",
            IdentityError::Limited => "peer_limit",
            IdentityError::Busy => "places",
            IdentityError::Review(_) => "no_answer",
        };
        self.refusals.get_or_create(&vec![("by", by)]).inc();
    }

    pub(super) fn eviction(&self) {
        self.evictions.inc();
    }
}
