//! The circuit breaker.

use BreakerState::{Closed, HalfOpen, Open};

use super::*;
use crate::connect::BreakerPolicy;
use crate::decorate::{breaker::Breaker, layer};

const OPEN_FOR: u64 = 150;

fn broken(script: impl IntoIterator<Item = Step>) -> (Arc<Scripted>, Arc<dyn Kms>, Arc<Recorder>) {
    let scripted = Scripted::new(script);
    let recorder = Arc::new(Recorder::default());
    let observer: Arc<dyn Observer> = recorder.clone();
    let policy = BreakerPolicy { failures: 3, open_for: ms(OPEN_FOR) };
    let kms = layer(scripted.clone(), Breaker::new(policy, &observer));
    (scripted, kms, recorder)
}

async fn describe(kms: &Arc<dyn Kms>) -> Result<KeyInfo> {
    kms.describe(&key(), &CallCtx::new()).await
}

fn is_open(result: Result<KeyInfo>) -> bool {
    matches!(result, Err(error) if error.reason() == "KmsCircuitOpen" && error.is_outage())
}

#[tokio::test]
async fn after_failures_in_a_row_the_kms_is_left_alone_until_one_probe_succeeds() {
    let (scripted, kms, recorder) = broken([Step::Fail(DOWN)]);
    for _ in 0..3 {
        assert_eq!(describe(&kms).await.unwrap_err().kind, DOWN);
    }
    assert!(is_open(describe(&kms).await));
    assert_eq!(scripted.calls(), 3);

    tokio::time::sleep(ms(OPEN_FOR)).await;
    assert_eq!(describe(&kms).await.unwrap_err().kind, DOWN, "the probe failed");
    assert!(is_open(describe(&kms).await));
    assert_eq!(scripted.calls(), 4);

    tokio::time::sleep(ms(OPEN_FOR)).await;
    scripted.push(Step::Answer);
    describe(&kms).await.unwrap();
    describe(&kms).await.unwrap();
    assert_eq!(*recorder.breaker.lock().unwrap(), [Open, HalfOpen, Open, HalfOpen, Closed]);
}

#[tokio::test]
async fn only_one_call_probes_and_a_dropped_probe_makes_room() {
    let (scripted, kms, _) = broken([Step::Fail(DOWN)]);
    for _ in 0..3 {
        describe(&kms).await.unwrap_err();
    }
    tokio::time::sleep(ms(OPEN_FOR)).await;
    scripted.push(Step::Hang);
    let probing = kms.clone();
    let probe = tokio::spawn(async move { describe(&probing).await });
    while scripted.calls() < 4 {
        tokio::task::yield_now().await;
    }
    assert!(is_open(describe(&kms).await));
    probe.abort();
    let _ = probe.await.unwrap_err();
    scripted.push(Step::Answer);
    describe(&kms).await.unwrap();
}

#[tokio::test]
async fn refusals_and_throttling_are_answers_and_open_nothing() {
    for kind in [
        ErrorKind::KeyDisabled,
        ErrorKind::CiphertextInvalid,
        ErrorKind::Throttled { retry_after: None },
        ErrorKind::CredentialRejected,
    ] {
        let (scripted, kms, _) = broken([Step::Fail(kind.clone())]);
        for _ in 0..10 {
            assert_eq!(describe(&kms).await.unwrap_err().kind, kind);
        }
        assert_eq!(scripted.calls(), 10);
    }
}

#[tokio::test]
async fn an_answer_in_between_starts_the_count_anew() {
    let down = || Step::Fail(DOWN);
    let (scripted, kms, _) = broken([down(), down(), Step::Answer, down(), down(), Step::Answer]);
    for _ in 0..6 {
        let _ = describe(&kms).await;
    }
    assert_eq!(scripted.calls(), 6);
}
