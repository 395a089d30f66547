//! Who speaks: a pod-bound service account token, reviewed by the API server and remembered until it expires.
//!
//! Invariant: tokens are remembered by their SHA-256 only; a token that is not bound to a pod is nobody's. Anybody can reach
//! this, so the API server is asked only where the token itself does not already say no, once about the same bad one, by a
//! peer that has not had too many refused, and about few at a time. None of this ever accepts a token.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::Future;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use contract::names::TOKEN_AUDIENCE;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::PostParams;
use kube::{Api, Client};
use sha2::{Digest, Sha256};

use super::allowance::{Allowance, Charged};
use crate::claims;

/// Tokens remembered at most, of those that were accepted; a kubelet renews each within the hour.
const MOST: usize = 20_000;
/// The longest that an accepted token is remembered, in seconds, whatever it says of itself.
const LONGEST: i64 = 3600;
/// How long a token that the API server refused is remembered, in seconds: well below the 24 s after which a sidecar comes
/// again at the earliest, so that each of its check-ins is judged by what holds then.
const REFUSED: i64 = 10;
/// Refused tokens remembered at most; about others the API server may be asked again, at the peer's charge.
const MOST_REFUSED: usize = 4096;
/// Reviews at once. One takes a few milliseconds, so that 8 at a time are hundreds in a second: five thousand sidecars that
/// come within 30 s, because the operator began anew, are 170.
pub const AT_ONCE: usize = 8;
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

/// A token is nobody's, or nobody could say whose it is.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// What it says of itself is enough to refuse it.
    #[error("accept the token: {0}, as it says itself")]
    Claims(&'static str),
    /// The API server refused it a moment ago.
    #[error("accept the token: the API server refused it within the last {REFUSED} s")]
    Remembered,
    /// The API server does not accept it for our audience.
    #[error("accept the token: {0}")]
    Rejected(&'static str),
    /// Too many tokens of this peer were refused.
    #[error("ask the API server about another token of this address: too many were refused")]
    Limited,
    /// Other tokens are being reviewed, or this one.
    #[error("ask the API server about another token while it is asked about so many")]
    Busy,
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

type Fingerprint = [u8; 32];

/// Callers by token.
#[derive(Default)]
pub struct Identities {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Accepted tokens, and until when.
    known: HashMap<Fingerprint, (Caller, i64)>,
    /// Tokens that a review refused, and when.
    refused: HashMap<Fingerprint, i64>,
    reviewing: HashSet<Fingerprint>,
    allowance: Allowance,
}

/// What comes before a review.
enum Begun<'a> {
    Known(Caller),
    Review(Review<'a>),
}

/// A review that is under way. Where it is dropped before its end its place is free again, and its charge stays.
struct Review<'a> {
    identities: &'a Identities,
    token: Fingerprint,
    ends_at: i64,
    charged: Charged,
}

impl Drop for Review<'_> {
    fn drop(&mut self) {
        self.identities.lock().reviewing.remove(&self.token);
    }
}

impl Identities {
    /// Whose token it is; `now` in seconds since the Unix epoch; `asked` is called when the API server is.
    pub async fn of(
        &self,
        reviewer: &impl Reviewer,
        token: &str,
        peer: IpAddr,
        now: i64,
        asked: impl FnOnce(),
    ) -> Result<Caller, IdentityError> {
        let review = match self.begin(token, peer, now)? {
            Begun::Known(caller) => return Ok(caller),
            Begun::Review(review) => review,
        };
        asked();
        let status = reviewer.review(token).await.map_err(IdentityError::Review)?;
        let result = caller(&status);
        self.lock().learn(&review, result.as_ref().ok(), now);
        result
    }

    fn begin(&self, token: &str, peer: IpAddr, now: i64) -> Result<Begun<'_>, IdentityError> {
        let fingerprint: Fingerprint = Sha256::digest(token.as_bytes()).into();
        let mut state = self.lock();
        // An honest sidecar costs nothing but its first review, whoever else comes from its address.
        if let Some((caller, until)) = state.known.get(&fingerprint)
            && now < *until
        {
            return Ok(Begun::Known(caller.clone()));
        }
        if state.refused.get(&fingerprint).is_some_and(|at| still_refused(*at, now)) {
            return Err(IdentityError::Remembered);
        }
        let ends_at = claims::ends_at(token, now).map_err(IdentityError::Claims)?;
        if state.reviewing.len() >= AT_ONCE || state.reviewing.contains(&fingerprint) {
            return Err(IdentityError::Busy);
        }
        let charged = state.allowance.charge(peer, now).ok_or(IdentityError::Limited)?;
        state.reviewing.insert(fingerprint);
        Ok(Begun::Review(Review { identities: self, token: fingerprint, ends_at, charged }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Remembers what a review said.
    fn learn(&mut self, review: &Review<'_>, accepted: Option<&Caller>, now: i64) {
        if let Some(caller) = accepted {
            self.allowance.refund(review.charged);
            // The API server vouches for what the token says, and so for when it ends.
            let until = review.ends_at.min(now + LONGEST);
            if self.known.len() >= MOST {
                self.known.retain(|_, (_, until)| now < *until);
            }
            if self.known.len() < MOST {
                self.known.insert(review.token, (caller.clone(), until));
            }
            return;
        }
        if self.refused.len() >= MOST_REFUSED {
            self.refused.retain(|_, at| still_refused(*at, now));
        }
        if self.refused.len() < MOST_REFUSED {
            self.refused.insert(review.token, now);
        }
    }
}

/// Whether a refusal still counts; after a clock was set back it does not.
fn still_refused(at: i64, now: i64) -> bool {
    (0..REFUSED).contains(&(now - at))
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

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
