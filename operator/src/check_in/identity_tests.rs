//! What the API server is asked about, and what it is spared.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt;
use serde_json::json;
use tokio::sync::Semaphore;

use super::*;
use crate::check_in::sample;

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

/// Knows the tokens of pods whose names begin with `app`.
struct Fake {
    status: serde_json::Value,
    asked: AtomicUsize,
    /// Answers that it may give.
    answers: Semaphore,
}

impl Fake {
    fn new(status: serde_json::Value) -> Self {
        Self { status, asked: AtomicUsize::new(0), answers: Semaphore::new(Semaphore::MAX_PERMITS) }
    }

    /// One that answers only when it is told to.
    fn slow(status: serde_json::Value) -> Self {
        Self { answers: Semaphore::new(0), ..Self::new(status) }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Reviewer for Fake {
    async fn review(&self, _token: &str) -> Result<TokenReviewStatus, kube::Error> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.answers.acquire().await.unwrap().forget();
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

fn refused() -> serde_json::Value {
    json!({"authenticated": false})
}

fn token(number: usize) -> String {
    sample::signed(&sample::claims(&format!("app-{number}"), 2000))
}

/// What becomes of a token at second 1000.
async fn at_1000(identities: &Identities, fake: &Fake, token: &str) -> Result<Caller, IdentityError> {
    identities.of(fake, token, PEER, 1000, || ()).await
}

#[tokio::test]
async fn a_token_is_reviewed_once_until_it_expires() {
    let (fake, identities) = (Fake::new(accepted()), Identities::default());
    let long = sample::signed(&sample::claims("app", 9000));
    for now in [1000, 1500, 4599] {
        let caller = identities.of(&fake, &long, PEER, now, || ()).await.unwrap();
        assert_eq!(
            (caller.namespace.as_str(), caller.pod.as_str(), caller.uid.as_str()),
            ("shop", "app", "u-1")
        );
    }
    assert_eq!(fake.asked(), 1);
    identities.of(&fake, &long, PEER, 4600, || ()).await.unwrap();
    assert_eq!(fake.asked(), 2, "after an hour, whatever it says of itself");
    // Another token is another question, and an end is an end.
    identities.of(&fake, &token(1), PEER, 1999, || ()).await.unwrap();
    assert_eq!(fake.asked(), 3);
    let expired = identities.of(&fake, &token(1), PEER, 2000, || ()).await;
    assert!(matches!(expired, Err(IdentityError::Claims(_))), "{expired:?}");
    assert_eq!(fake.asked(), 3);
}

#[tokio::test]
async fn a_token_of_another_audience_or_of_no_pod_is_nobodys() {
    let mut audience = accepted();
    audience["audiences"] = json!(["https://kubernetes.default.svc"]);
    let mut unbound = accepted();
    unbound["user"]["extra"] = json!({});
    let mut person = accepted();
    person["user"]["username"] = json!("jane");
    for status in [refused(), audience, unbound, person] {
        let identities = Identities::default();
        let result = at_1000(&identities, &Fake::new(status.clone()), &token(1)).await;
        assert!(matches!(result, Err(IdentityError::Rejected(_))), "{status}");
    }
}

#[tokio::test]
async fn a_token_that_says_no_itself_costs_no_review() {
    let (fake, identities) = (Fake::new(accepted()), Identities::default());
    for _ in 0..1000 {
        let result = at_1000(&identities, &fake, "invented").await;
        assert!(matches!(result, Err(IdentityError::Claims(_))), "{result:?}");
    }
    assert_eq!(fake.asked(), 0);
    at_1000(&identities, &fake, &token(1)).await.unwrap();
}

#[tokio::test]
async fn the_same_bad_token_costs_one_review_in_10_seconds() {
    let (fake, identities) = (Fake::new(refused()), Identities::default());
    for now in [1000, 1000, 1009] {
        identities.of(&fake, &token(1), PEER, now, || ()).await.unwrap_err();
    }
    assert_eq!(fake.asked(), 1);
    identities.of(&fake, &token(1), PEER, 1010, || ()).await.unwrap_err();
    assert_eq!(fake.asked(), 2);
    // It may have become good, and a clock that was set back keeps nobody out.
    let fake = Fake::new(accepted());
    identities.of(&fake, &token(1), PEER, 900, || ()).await.unwrap();
}

#[tokio::test]
async fn refused_tokens_that_are_remembered_are_bounded() {
    let (fake, identities) = (Fake::new(refused()), Identities::default());
    for number in 0..MOST_REFUSED + 10 {
        let peer = IpAddr::from((number as u32).to_be_bytes());
        identities.of(&fake, &token(number), peer, 1000, || ()).await.unwrap_err();
    }
    assert_eq!(identities.lock().refused.len(), MOST_REFUSED);
    identities.of(&fake, &token(0), OTHER, 1010, || ()).await.unwrap_err();
    assert_eq!(identities.lock().refused.len(), 1, "room was made of what is over");
}

#[tokio::test]
async fn eight_reviews_run_at_once_and_a_place_is_free_again_however_its_review_ended() {
    let (fake, identities) = (Fake::slow(accepted()), Identities::default());
    let tokens: Vec<_> = (0..=AT_ONCE).map(token).collect();
    let mut reviews: Vec<_> =
        tokens[..AT_ONCE].iter().map(|token| Box::pin(at_1000(&identities, &fake, token))).collect();
    for review in &mut reviews {
        assert!(futures::poll!(review).is_pending());
    }
    let ninth = at_1000(&identities, &fake, &tokens[AT_ONCE]).now_or_never();
    assert!(matches!(ninth, Some(Err(IdentityError::Busy))), "{ninth:?}");
    assert_eq!(fake.asked(), AT_ONCE);
    // One is given up, one is answered.
    drop(reviews.pop());
    fake.answers.add_permits(1);
    reviews.remove(0).await.unwrap();
    // Those that still wait come first.
    fake.answers.add_permits(AT_ONCE);
    at_1000(&identities, &fake, &tokens[AT_ONCE]).await.unwrap();
    at_1000(&identities, &fake, &tokens[AT_ONCE - 1]).await.unwrap();
    assert_eq!(identities.lock().reviewing.len(), AT_ONCE - 2);
}

#[tokio::test]
async fn a_token_that_is_being_reviewed_is_not_reviewed_a_second_time() {
    let (fake, identities) = (Fake::slow(refused()), Identities::default());
    let token = token(1);
    let mut first = Box::pin(at_1000(&identities, &fake, &token));
    assert!(futures::poll!(&mut first).is_pending());
    let second = at_1000(&identities, &fake, &token).now_or_never();
    assert!(matches!(second, Some(Err(IdentityError::Busy))), "{second:?}");
    fake.answers.add_permits(2);
    first.await.unwrap_err();
    at_1000(&identities, &fake, &token).await.unwrap_err();
    assert_eq!(fake.asked(), 1);
}

#[tokio::test]
async fn a_peer_that_invents_tokens_is_stopped_and_nobody_else_is() {
    let (bad, good, identities) = (Fake::new(refused()), Fake::new(accepted()), Identities::default());
    at_1000(&identities, &good, &token(0)).await.unwrap();
    let mut limited = 0;
    for number in 1..1000 {
        let result = at_1000(&identities, &bad, &token(number)).await;
        limited += usize::from(matches!(result, Err(IdentityError::Limited)));
    }
    assert_eq!((bad.asked(), limited), (64, 999 - 64));
    // A sidecar of the same address that is known goes on, and so does one of another address that is not.
    at_1000(&identities, &good, &token(0)).await.unwrap();
    identities.of(&good, &token(5000), OTHER, 1000, || ()).await.unwrap();
    // A new one of the same address gets through as the bucket fills.
    at_1000(&identities, &good, &token(6000)).await.unwrap_err();
    identities.of(&good, &token(6000), PEER, 1001, || ()).await.unwrap();
}

#[tokio::test]
async fn all_sidecars_of_a_large_node_are_accepted_at_once_behind_one_address() {
    let (fake, identities) = (Fake::new(accepted()), Identities::default());
    for number in 0..500 {
        at_1000(&identities, &fake, &token(number)).await.unwrap();
    }
    assert_eq!(fake.asked(), 500);
}
