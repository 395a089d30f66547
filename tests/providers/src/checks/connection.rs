//! Troubles on the way, concurrency, cache.

use tokio::time::Instant;

use super::{
    Bench, BreakerPolicy, CTX, CallCtx, Caller, Duration, Op, Options, RetryPolicy, Trouble, bare, unwrap,
};

fn retrying() -> Options {
    let retry = RetryPolicy {
        attempts: 4,
        base: Duration::from_millis(5),
        cap: Duration::from_millis(20),
        budget: 1000,
    };
    Options { retry, ..bare() }
}

pub async fn throttling_is_waited_out_within_bounds(b: impl Bench) {
    let (kms, key) = (b.connect(Caller::Data, &retrying()), b.key());
    let (_, wrapped) = kms.generate(&key, &CTX, &CallCtx::new()).await.unwrap();
    b.reset_requests();
    b.trouble(Op::Unwrap, Trouble::Throttled { retry_after: Some(1) }, Some(1));
    let began = Instant::now();
    unwrap(&kms, &key, &wrapped).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(b.requests(Op::Unwrap), 2);

    b.trouble(Op::Unwrap, Trouble::Throttled { retry_after: None }, None);
    b.reset_requests();
    let error = unwrap(&kms, &key, &wrapped).await.unwrap_err();
    assert_eq!((error.reason(), error.is_refusal()), ("KmsThrottled", false));
    assert_eq!(b.requests(Op::Unwrap), 4);
}

pub async fn every_trouble_is_an_outage_and_passes(b: impl Bench) {
    let options = Options { attempt_timeout: Duration::from_millis(400), ..bare() };
    let (kms, key) = (b.connect(Caller::Data, &options), b.key());
    let (plain, wrapped) = kms.generate(&key, &CTX, &CallCtx::new()).await.unwrap();
    let again =
        b.connect(Caller::Data, &Options { attempt_timeout: Duration::from_millis(400), ..retrying() });
    for trouble in Trouble::ALL {
        b.trouble(Op::Unwrap, trouble, None);
        let error = unwrap(&kms, &key, &wrapped).await.unwrap_err();
        assert!(error.is_outage() && error.retryable() && !error.is_refusal(), "{trouble:?}: {error}");
        b.heal();
        b.trouble(Op::Unwrap, trouble, Some(1));
        let passed = unwrap(&again, &key, &wrapped).await;
        assert_eq!(passed.unwrap().key.expose(), plain.expose(), "{trouble:?}");
        b.heal();
        b.revoke_tokens().await;
        b.trouble(Op::Authenticate, trouble, None);
        let error = unwrap(&kms, &key, &wrapped).await.unwrap_err();
        assert!(error.is_outage() && !error.is_refusal(), "{trouble:?} of the login: {error}");
        b.heal();
        unwrap(&kms, &key, &wrapped).await.unwrap();
    }
}

pub async fn a_deadline_holds_against_silence(b: impl Bench) {
    let (kms, key) = (b.connect(Caller::Data, &retrying()), b.key());
    let (_, wrapped) = kms.generate(&key, &CTX, &CallCtx::new()).await.unwrap();
    for op in [Op::Unwrap, Op::Authenticate] {
        b.trouble(op, Trouble::Silence, None);
        b.revoke_tokens().await;
        let began = Instant::now();
        let call = CallCtx::within(Duration::from_millis(300));
        let error = kms.unwrap(&key, &wrapped, &CTX, &call).await.unwrap_err();
        assert_eq!(error.reason(), "KmsTimeout", "{error}");
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(250) && took < Duration::from_secs(4), "{took:?}");
        b.heal();
    }
}

pub async fn a_hundred_callers_of_one_blob_make_one_call(b: impl Bench) {
    let options = Options { cache_ttl: Duration::from_mins(5), ..bare() };
    let (kms, key, call) = (b.connect(Caller::Data, &options), b.key(), CallCtx::new());
    let (plain, wrapped) = kms.generate(&key, &CTX, &call).await.unwrap();
    b.reset_requests();
    let calls = (0..100).map(|_| kms.unwrap(&key, &wrapped, &CTX, &call));
    for result in futures::future::join_all(calls).await {
        assert_eq!(result.unwrap().key.expose(), plain.expose());
    }
    assert_eq!(b.requests(Op::Unwrap), 1);
}

pub async fn a_thousand_keys_arrive_in_bounded_numbers(b: impl Bench) {
    let options = Options { max_concurrency: 8, default_deadline: Duration::from_mins(1), ..bare() };
    let (kms, key, call) = (b.connect(Caller::Data, &options), b.key(), CallCtx::new());
    b.reset_requests();
    let calls = (0..1000).map(|_| kms.generate(&key, &CTX, &call));
    let made = futures::future::join_all(calls).await;
    let blobs: std::collections::HashSet<Vec<u8>> =
        made.into_iter().map(|result| result.unwrap().1.blob).collect();
    // A service that makes no data keys wraps those that are made here.
    let op = if kms.caps().native_generate { Op::Generate } else { Op::Wrap };
    assert_eq!((blobs.len(), b.requests(op)), (1000, 1000));
    assert_eq!(b.requests(Op::Authenticate), 1);
}

fn caching(ttl: Duration, grace: Duration) -> Options {
    Options { cache_ttl: ttl, outage_grace: grace, ..bare() }
}

pub async fn keys_serve_through_an_outage_for_their_time_and_no_longer(b: impl Bench) {
    let (ttl, key) = (Duration::from_millis(700), b.key());
    let kms = b.connect(Caller::Data, &caching(ttl, Duration::ZERO));
    let with_grace = b.connect(Caller::Data, &caching(ttl, Duration::from_mins(1)));
    let (plain, wrapped) = kms.generate(&key, &CTX, &CallCtx::new()).await.unwrap();
    unwrap(&with_grace, &key, &wrapped).await.unwrap();
    let asked = unwrap(&kms, &key, &wrapped).await.unwrap().asked_at;
    b.trouble(Op::Unwrap, Trouble::ServerError, None);
    assert_eq!(unwrap(&kms, &key, &wrapped).await.unwrap().key.expose(), plain.expose());
    tokio::time::sleep_until(asked + ttl).await;
    assert!(unwrap(&kms, &key, &wrapped).await.unwrap_err().is_outage());
    assert_eq!(unwrap(&with_grace, &key, &wrapped).await.unwrap().key.expose(), plain.expose());
}

pub async fn a_refusal_ends_every_grace(b: impl Bench) {
    let long = Duration::from_mins(5);
    let (kms, key, call) = (b.connect(Caller::Data, &caching(long, long)), b.key(), CallCtx::new());
    let (_, wrapped) = kms.generate(&key, &CTX, &call).await.unwrap();
    unwrap(&kms, &key, &wrapped).await.unwrap();
    b.owner().set_enabled(&key, false, &call).await.unwrap();
    unwrap(&kms, &key, &wrapped).await.expect("nobody told us yet");
    // One poll, then an outage: what is cached must not come back.
    assert!(!kms.describe(&key, &call).await.unwrap().state.unwraps());
    b.trouble(Op::Unwrap, Trouble::ServerError, None);
    assert!(unwrap(&kms, &key, &wrapped).await.unwrap_err().is_outage());
    b.heal();
    assert!(unwrap(&kms, &key, &wrapped).await.unwrap_err().is_refusal());
}

pub async fn an_outage_that_ends_closes_the_breaker(b: impl Bench) {
    let breaker = BreakerPolicy { failures: 3, open_for: Duration::from_millis(300) };
    let (kms, key) = (b.connect(Caller::Data, &Options { breaker, ..bare() }), b.key());
    let (_, wrapped) = kms.generate(&key, &CTX, &CallCtx::new()).await.unwrap();
    b.trouble(Op::Unwrap, Trouble::ServerError, None);
    b.reset_requests();
    for _ in 0..10 {
        assert!(unwrap(&kms, &key, &wrapped).await.unwrap_err().is_outage());
    }
    assert!(b.requests(Op::Unwrap) < 10, "{}", b.requests(Op::Unwrap));
    b.heal();
    tokio::time::sleep(Duration::from_millis(300)).await;
    unwrap(&kms, &key, &wrapped).await.unwrap();
    unwrap(&kms, &key, &wrapped).await.unwrap();
}

pub async fn a_call_that_is_given_up_leaves_nothing_behind(b: impl Bench) {
    let options = Options { max_concurrency: 4, ..bare() };
    let (kms, key, call) = (b.connect(Caller::Data, &options), b.key(), CallCtx::new());
    let (plain, wrapped) = kms.generate(&key, &CTX, &call).await.unwrap();
    b.trouble(Op::Unwrap, Trouble::Silence, None);
    for _ in 0..3 {
        // More than there are places, each of another context so that none joins another, all given up on the way.
        let calls = (0..8u8).map(|n| {
            let (kms, key, wrapped) = (&kms, &key, &wrapped);
            async move { kms.unwrap(key, wrapped, &[n; 32], &CallCtx::new()).await.map(drop) }
        });
        let all = futures::future::join_all(calls);
        assert!(tokio::time::timeout(Duration::from_millis(100), all).await.is_err(), "they were under way");
    }
    b.heal();
    let began = Instant::now();
    for _ in 0..8 {
        assert_eq!(unwrap(&kms, &key, &wrapped).await.unwrap().key.expose(), plain.expose());
    }
    assert!(began.elapsed() < Duration::from_secs(5), "somebody still holds a place");
}
