//! Deadline, denial, retry, limit.

use std::sync::atomic::Ordering;

use super::*;
use crate::connect::RetryPolicy;
use crate::decorate::{deadline::Deadline, denial::Denial, layer, limit::Limit, retry::Retry};

fn timeout() -> ErrorKind {
    ErrorKind::Unavailable { why: Outage::Timeout, retry_after: None }
}

async fn unwrap(kms: &Arc<dyn Kms>, call: &CallCtx) -> Result<Unwrapped> {
    kms.unwrap(&key(), &blob("b"), &CTX, call).await
}

#[tokio::test]
async fn a_kms_that_hangs_costs_no_more_than_the_deadline() {
    let kms = layer(Scripted::new([Step::Hang]), Deadline::new(ms(60)));
    let began = Instant::now();
    let error = unwrap(&kms, &CallCtx::within(ms(30))).await.unwrap_err();
    assert_eq!(error.kind, timeout());
    assert_eq!((error.context.key, error.context.op), (Some(key()), Op::Unwrap));
    assert!(began.elapsed() >= ms(30));
    assert_eq!(unwrap(&kms, &CallCtx::new()).await.unwrap_err().kind, timeout());
    assert!(began.elapsed() >= ms(90));
}

#[tokio::test]
async fn a_call_without_a_deadline_has_one_inside_and_a_given_one_is_kept() {
    let scripted = Scripted::new([]);
    let kms = layer(scripted.clone(), Deadline::new(ms(60)));
    unwrap(&kms, &CallCtx::new()).await.unwrap();
    assert!(scripted.last_call().remaining().unwrap() <= ms(60));
    let call = CallCtx::within(ms(5000));
    unwrap(&kms, &call).await.unwrap();
    assert_eq!(scripted.last_call().deadline, call.deadline);
}

fn denial_of(kms_result: Result<Unwrapped>) -> Option<bool> {
    match kms_result.map_err(|error| error.kind) {
        Err(ErrorKind::Denied { confirmed }) => Some(confirmed),
        _ => None,
    }
}

#[tokio::test]
async fn a_denial_is_a_refusal_only_when_it_is_repeated_after_the_window() {
    let scripted = Scripted::new([Step::Fail(DENIED)]);
    let kms = layer(scripted.clone(), Denial::new(ms(50)));
    let error = unwrap(&kms, &CallCtx::within(ms(5000))).await.unwrap_err();
    assert!(error.is_refusal(), "{error}");
    let times = scripted.times();
    assert_eq!(times.len(), 2);
    assert!(times[1] - times[0] >= ms(50));
    assert_eq!(denial_of(unwrap(&kms, &CallCtx::new()).await), Some(true), "known by now, no more waiting");
    assert_eq!(scripted.calls(), 3);
}

#[tokio::test]
async fn a_denial_that_was_a_flap_is_no_failure_at_all() {
    let scripted = Scripted::new([Step::Fail(DENIED), Step::Answer]);
    let kms = layer(scripted.clone(), Denial::new(ms(20)));
    unwrap(&kms, &CallCtx::new()).await.unwrap();
    assert_eq!(scripted.calls(), 2);
    scripted.push(Step::Fail(DENIED));
    let short = CallCtx::within(ms(5));
    assert_eq!(denial_of(unwrap(&kms, &short).await), Some(false), "the success in between counts");
}

#[tokio::test]
async fn an_impatient_caller_learns_of_a_denial_that_the_next_call_confirms() {
    let scripted = Scripted::new([Step::Fail(DENIED)]);
    let kms = layer(scripted.clone(), Denial::new(ms(50)));
    let error = unwrap(&kms, &CallCtx::within(ms(10))).await.unwrap_err();
    assert!(!error.is_refusal() && !error.retryable(), "{error}");
    assert_eq!(scripted.calls(), 1);
    tokio::time::sleep(ms(50)).await;
    assert_eq!(denial_of(unwrap(&kms, &CallCtx::within(ms(10))).await), Some(true));
}

#[tokio::test]
async fn denials_of_two_operations_do_not_confirm_each_other() {
    let kms = layer(Scripted::new([Step::Fail(DENIED)]), Denial::new(ms(30)));
    let call = || CallCtx::within(ms(10));
    assert_eq!(denial_of(unwrap(&kms, &call()).await), Some(false));
    tokio::time::sleep(ms(30)).await;
    let error = kms.rewrap(&key(), &blob("b"), &CTX, &call()).await.unwrap_err();
    assert_eq!(error.kind, DENIED);
}

#[tokio::test]
async fn without_a_window_the_first_denial_counts() {
    let scripted = Scripted::new([Step::Fail(DENIED)]);
    let kms = layer(scripted.clone(), Denial::new(Duration::ZERO));
    assert_eq!(denial_of(unwrap(&kms, &CallCtx::new()).await), Some(true));
    assert_eq!(scripted.calls(), 1);
}

fn quick() -> RetryPolicy {
    RetryPolicy { attempts: 4, base: ms(2), cap: ms(8), budget: 100 }
}

fn retrying(scripted: &Arc<Scripted>, policy: RetryPolicy) -> Arc<dyn Kms> {
    layer(scripted.clone(), Retry::new(policy, &unobserved()))
}

#[tokio::test]
async fn an_outage_that_passes_is_not_seen_by_the_caller() {
    let scripted = Scripted::new([Step::Fail(DOWN), Step::Fail(DOWN), Step::Answer]);
    unwrap(&retrying(&scripted, quick()), &CallCtx::new()).await.unwrap();
    assert_eq!(scripted.calls(), 3);
}

#[tokio::test]
async fn tries_are_bounded_by_what_the_error_is_worth() {
    let bounds = [
        (DOWN, 4),
        (ErrorKind::Throttled { retry_after: None }, 4),
        (ErrorKind::Integrity("x"), 2),
        (ErrorKind::Unavailable { why: Outage::CircuitOpen, retry_after: None }, 1),
        (DENIED, 1),
        (ErrorKind::Denied { confirmed: true }, 1),
        (ErrorKind::KeyDisabled, 1),
        (ErrorKind::KeyExpired, 1),
        (ErrorKind::KeyDestroyed { recoverable_until: None }, 1),
        (ErrorKind::KeyNotFound, 1),
        (ErrorKind::CiphertextInvalid, 1),
        (ErrorKind::CredentialRejected, 1),
        (ErrorKind::Invalid, 1),
        (ErrorKind::Unsupported, 1),
    ];
    for (kind, tries) in bounds {
        let scripted = Scripted::new([Step::Fail(kind.clone())]);
        let error = unwrap(&retrying(&scripted, quick()), &CallCtx::new()).await.unwrap_err();
        assert_eq!(error.kind, kind);
        assert_eq!(scripted.calls(), tries, "{kind:?}");
    }
}

#[tokio::test]
async fn retry_after_is_honoured_but_never_past_the_deadline() {
    let throttled = ErrorKind::Throttled { retry_after: Some(ms(60)) };
    let scripted = Scripted::new([Step::Fail(throttled), Step::Answer]);
    unwrap(&retrying(&scripted, quick()), &CallCtx::new()).await.unwrap();
    let times = scripted.times();
    assert!(times[1] - times[0] >= ms(60));

    let throttled = ErrorKind::Throttled { retry_after: Some(ms(5000)) };
    let scripted = Scripted::new([Step::Fail(throttled.clone()), Step::Answer]);
    let began = Instant::now();
    let error = unwrap(&retrying(&scripted, quick()), &CallCtx::within(ms(4000))).await.unwrap_err();
    assert_eq!((error.kind, scripted.calls()), (throttled, 1));
    assert!(began.elapsed() < ms(4000));
}

#[tokio::test]
async fn a_kms_in_trouble_gets_a_tenth_more_calls_and_not_four_times_as_many() {
    let scripted = Scripted::new([Step::Fail(DOWN)]);
    let kms = retrying(&scripted, RetryPolicy { budget: 5, base: ms(0), ..quick() });
    for _ in 0..100 {
        unwrap(&kms, &CallCtx::new()).await.unwrap_err();
    }
    let retries = scripted.calls() - 100;
    assert!((14..=15).contains(&retries), "{retries}: 5 saved and 10 earned");
}

#[tokio::test]
async fn retries_are_spread_by_chance() {
    let mut waits = Vec::new();
    for _ in 0..12 {
        let scripted = Scripted::new([Step::Fail(DOWN), Step::Answer]);
        let policy = RetryPolicy { base: ms(40), cap: ms(40), ..quick() };
        unwrap(&retrying(&scripted, policy), &CallCtx::new()).await.unwrap();
        let times = scripted.times();
        waits.push((times[1] - times[0]).as_millis() / 8);
    }
    waits.sort_unstable();
    waits.dedup();
    assert!(waits.len() > 1, "twelve waits between 0 and 40 ms are not all alike");
}

#[tokio::test]
async fn no_more_calls_than_the_limit_are_under_way() {
    let scripted = Scripted::new([Step::Late(ms(5))]);
    let kms = layer(scripted.clone(), Limit::new(3));
    let (root, call) = (key(), CallCtx::new());
    let calls = (0..20u8).map(|n| {
        let (kms, root, call) = (&kms, &root, &call);
        async move { kms.unwrap(root, &blob(&n.to_string()), &CTX, call).await }
    });
    for result in futures::future::join_all(calls).await {
        result.unwrap();
    }
    assert_eq!(scripted.calls(), 20);
    assert_eq!(scripted.most_under_way.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_call_that_is_dropped_gives_its_place_back() {
    let scripted = Scripted::new([Step::Hang]);
    let kms = layer(scripted.clone(), Limit::new(1));
    for _ in 0..3 {
        let call = CallCtx::new();
        let _ = tokio::time::timeout(ms(5), unwrap(&kms, &call)).await.unwrap_err();
    }
    scripted.push(Step::Answer);
    tokio::time::timeout(ms(2000), unwrap(&kms, &CallCtx::new())).await.unwrap().unwrap();
}
