//! Audit events and counts.

use super::*;
use crate::decorate::layer;
use crate::decorate::report::{Audit, Metrics};
use crate::decorate::testlog::Log;

#[tokio::test]
async fn every_call_leaves_an_audit_event_that_can_be_matched_with_the_vendors() {
    let log = Log::default();
    let _guard = log.collect();
    let failing = Step::Fail(ErrorKind::KeyDisabled);
    let kms = layer(Scripted::new([Step::Answer, failing]), Audit);
    let (first, second) = (CallCtx::new(), CallCtx::new());
    kms.unwrap(&key(), &blob("a"), &CTX, &first).await.unwrap();
    kms.wrap(&key(), &PlainKey::from_bytes(&[1; 32]), &CTX, &second).await.unwrap_err();

    let events = log.audit_events();
    assert_eq!(events.len(), 2);
    let (ok, failed) = (&events[0]["fields"], &events[1]["fields"]);
    assert_eq!(ok["op"], "unwrap");
    assert_eq!(ok["outcome"], "Ok");
    assert_eq!(ok["key"], "root");
    assert_eq!(ok["version"], "v1");
    assert_eq!(ok["rewrapped_version"], "v2");
    assert_eq!(ok["correlation_id"], first.correlation_id.to_string());
    assert!(ok["latency_ms"].is_u64());
    assert_eq!((&failed["op"], &failed["outcome"]), (&"wrap".into(), &"KeyDisabled".into()));
    assert_eq!((&failed["http_status"], &failed["code"]), (&409.into(), &"A_CODE".into()));
    assert_eq!(failed["correlation_id"], second.correlation_id.to_string());
}

#[tokio::test]
async fn the_observer_hears_operation_outcome_and_latency() {
    let recorder = Arc::new(Recorder::default());
    let observer: Arc<dyn Observer> = recorder.clone();
    let kms = layer(Scripted::new([Step::Late(ms(5)), Step::Fail(DOWN)]), Metrics::new(&observer));
    kms.describe(&key(), &CallCtx::new()).await.unwrap();
    kms.describe(&key(), &CallCtx::new()).await.unwrap_err();
    let attempts = recorder.attempts.lock().unwrap();
    let outcomes: Vec<_> = attempts.iter().map(|attempt| (attempt.op, attempt.outcome)).collect();
    assert_eq!(outcomes, [(Op::Describe, "Ok"), (Op::Describe, "KmsUnreachable")]);
    assert!(attempts[0].latency >= ms(5));
}
