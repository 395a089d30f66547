//! All decorators in the order that is used.

use std::sync::atomic::Ordering;

use super::*;
use crate::connect::{BreakerPolicy, Options, RetryPolicy};
use crate::decorate::decorate;
use crate::decorate::testlog::Log;

fn options(recorder: &Arc<Recorder>) -> Options {
    Options {
        retry: RetryPolicy { attempts: 3, base: ms(1), cap: ms(2), budget: 100 },
        breaker: BreakerPolicy { failures: 100, open_for: ms(20) },
        denial_window: ms(30),
        default_deadline: ms(5000),
        max_concurrency: 4,
        observer: recorder.clone(),
        ..Options::default()
    }
}

#[tokio::test]
async fn attempts_are_audited_and_hits_are_not() {
    let log = Log::default();
    let _guard = log.collect();
    let recorder = Arc::new(Recorder::default());
    let kms = decorate(Scripted::new([Step::Fail(DOWN), Step::Answer]), &options(&recorder));
    let call = CallCtx::new();
    for _ in 0..5 {
        kms.unwrap(&key(), &blob("a"), &CTX, &call).await.unwrap();
    }
    assert_eq!(log.audit_events().len(), 2);
    assert_eq!(recorder.attempts.lock().unwrap().len(), 2);
    assert_eq!(recorder.retries.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_storm_on_many_keys_is_a_queue_at_the_kms() {
    let scripted = Scripted::new([Step::Late(ms(1))]);
    let recorder = Arc::new(Recorder::default());
    let kms = decorate(scripted.clone(), &options(&recorder));
    let (root, call) = (key(), CallCtx::new());
    let calls = (0..1000u16).map(|n| {
        let (kms, root, call) = (&kms, &root, &call);
        async move { kms.unwrap(root, &blob(&n.to_string()), &CTX, call).await }
    });
    assert!(futures::future::join_all(calls).await.iter().all(Result::is_ok));
    assert_eq!(scripted.calls(), 1000);
    assert_eq!(scripted.most_under_way.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn waiting_for_a_denials_confirmation_takes_no_place_from_others() {
    let scripted = Scripted::new([Step::Fail(DENIED)]);
    let recorder = Arc::new(Recorder::default());
    let options = Options { max_concurrency: 1, denial_window: ms(1500), ..options(&recorder) };
    let kms = decorate(scripted.clone(), &options);
    let denied = {
        let kms = kms.clone();
        tokio::spawn(async move { kms.unwrap(&key(), &blob("a"), &CTX, &CallCtx::new()).await })
    };
    while scripted.calls() == 0 {
        tokio::task::yield_now().await;
    }
    scripted.push(Step::Answer);
    let began = Instant::now();
    kms.describe(&key(), &CallCtx::new()).await.unwrap();
    assert!(began.elapsed() < ms(1500));
    denied.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_confirmed_denial_drops_cached_keys_and_an_outage_does_not() {
    let scripted = Scripted::new([Step::Answer]);
    let recorder = Arc::new(Recorder::default());
    let kms = decorate(scripted.clone(), &options(&recorder));
    let call = CallCtx::new();
    kms.unwrap(&key(), &blob("a"), &CTX, &call).await.unwrap();
    scripted.push(Step::Fail(DOWN));
    kms.describe(&key(), &call).await.unwrap_err();
    kms.unwrap(&key(), &blob("a"), &CTX, &call).await.unwrap();
    scripted.push(Step::Fail(DENIED));
    assert!(kms.describe(&key(), &call).await.unwrap_err().is_refusal());
    let error = kms.unwrap(&key(), &blob("a"), &CTX, &CallCtx::within(ms(10))).await.unwrap_err();
    assert_eq!(error.reason(), "KeyAccessDenied");
}

#[tokio::test]
async fn an_outage_reported_by_the_deadline_is_bridged_by_the_grace() {
    let scripted = Scripted::new([Step::Answer]);
    let recorder = Arc::new(Recorder::default());
    let options = Options { cache_ttl: ms(10), outage_grace: ms(60_000), ..options(&recorder) };
    let kms = decorate(scripted.clone(), &options);
    kms.unwrap(&key(), &blob("a"), &CTX, &CallCtx::new()).await.unwrap();
    tokio::time::sleep(ms(10)).await;
    scripted.push(Step::Hang);
    kms.unwrap(&key(), &blob("a"), &CTX, &CallCtx::within(ms(20))).await.unwrap();
    assert_eq!(recorder.cache.lock().unwrap().last(), Some(&CacheEvent::Grace));
}
