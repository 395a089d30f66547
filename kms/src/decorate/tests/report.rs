//! Audit events and counts.

use std::sync::Mutex;

use contract::audit::{Event, Subject};

use super::*;
use crate::admin::{KmsAdmin, NewKey};
use crate::decorate::layer;
use crate::decorate::report::{Audit, AuditedAdmin, Metrics};
use crate::decorate::testlog::Log;
use crate::observe::{Auditor, Logged};

fn logged() -> Arc<dyn Auditor> {
    Arc::new(Logged)
}

#[tokio::test]
async fn the_trail_says_what_a_call_is_about_and_its_correlation_id() {
    #[derive(Default)]
    struct Kept(Mutex<Vec<Event>>);
    impl Auditor for Kept {
        fn record(&self, event: Event) {
            self.0.lock().unwrap().push(event);
        }
    }
    let kept = Arc::new(Kept::default());
    let auditor: Arc<dyn Auditor> = kept.clone();
    let kms = layer(Scripted::new([Step::Answer]), Audit::new(&auditor));
    let subject = Subject { object: Some("group 1".into()), ..Subject::default() };
    let call = CallCtx::new().about(subject.clone());
    kms.unwrap(&key(), &blob("a"), &CTX, &call).await.unwrap();
    let kept = kept.0.lock().unwrap();
    assert_eq!((kept.len(), &kept[0].subject, &*kept[0].operation), (1, &subject, "unwrap"));
    let exchange = kept[0].exchange.as_ref().unwrap();
    assert_eq!(exchange.correlation_id, call.correlation_id.to_string());
    assert_eq!((exchange.root_key.as_deref(), exchange.key_version.as_deref()), (Some("root"), Some("v1")));
}

#[tokio::test]
async fn every_call_leaves_an_audit_event_that_can_be_matched_with_the_vendors() {
    let log = Log::default();
    let _guard = log.collect();
    let failing = Step::Fail(ErrorKind::KeyDisabled);
    let kms = layer(Scripted::new([Step::Answer, failing]), Audit::new(&logged()));
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

/// The owner's side of a KMS that makes the key `made`, and where the key `gone` cannot be touched.
struct Owner;

impl Owner {
    fn act(op: Op, key: &KeyRef) -> Result<()> {
        let refused = || KmsError::new(ErrorKind::KeyDisabled, "owned", op);
        if key.0 == "gone" { Err(refused()) } else { Ok(()) }
    }
}

#[async_trait]
impl KmsAdmin for Owner {
    async fn create(&self, new: &NewKey, _call: &CallCtx) -> Result<KeyRef> {
        Self::act(Op::Create, &KeyRef(new.name.clone()))?;
        Ok(KeyRef("made".into()))
    }
    async fn rotate(&self, key: &KeyRef, _call: &CallCtx) -> Result<()> {
        Self::act(Op::Rotate, key)
    }
    async fn set_enabled(&self, key: &KeyRef, _enabled: bool, _call: &CallCtx) -> Result<()> {
        Self::act(Op::Enable, key)
    }
    async fn delete(&self, key: &KeyRef, _call: &CallCtx) -> Result<()> {
        Self::act(Op::Delete, key)
    }
    async fn restore(&self, key: &KeyRef, _call: &CallCtx) -> Result<()> {
        Self::act(Op::Restore, key)
    }
    async fn set_auto_rotation(&self, key: &KeyRef, _every: Option<Duration>, _call: &CallCtx) -> Result<()> {
        Self::act(Op::SetRotationPolicy, key)
    }
}

#[tokio::test]
async fn each_act_of_the_owner_is_told_once_and_a_key_that_was_made_is_named() {
    let log = Log::default();
    let _guard = log.collect();
    let recorder = Arc::new(Recorder::default());
    let observer: Arc<dyn Observer> = recorder.clone();
    let admin = AuditedAdmin::new(Arc::new(Owner), "owned", &observer, &logged());
    let named = |name: &str| NewKey { name: name.into(), description: None };
    let (key, gone, call) = (key(), KeyRef("gone".into()), CallCtx::new());
    admin.create(&named("new"), &call).await.unwrap();
    admin.create(&named("gone"), &call).await.unwrap_err();
    admin.rotate(&key, &call).await.unwrap();
    admin.set_enabled(&key, true, &call).await.unwrap();
    admin.set_enabled(&key, false, &call).await.unwrap();
    admin.delete(&gone, &call).await.unwrap_err();
    admin.restore(&key, &call).await.unwrap();
    admin.set_auto_rotation(&key, None, &call).await.unwrap();

    let told = [
        (Op::Create, "made", "Ok"),
        (Op::Create, "", "KeyDisabled"),
        (Op::Rotate, "root", "Ok"),
        (Op::Enable, "root", "Ok"),
        (Op::Disable, "root", "Ok"),
        (Op::Delete, "gone", "KeyDisabled"),
        (Op::Restore, "root", "Ok"),
        (Op::SetRotationPolicy, "root", "Ok"),
    ];
    let events = log.audit_events();
    let text = |event: &serde_json::Value, field: &str| event["fields"][field].as_str().unwrap().to_owned();
    let written: Vec<_> =
        events.iter().map(|event| (text(event, "op"), text(event, "key"), text(event, "outcome"))).collect();
    let expected =
        told.map(|(op, key, outcome)| (op.as_str().to_owned(), key.to_owned(), outcome.to_owned()));
    assert_eq!(written, expected);
    let attempts = recorder.attempts.lock().unwrap();
    let counted: Vec<_> = attempts.iter().map(|attempt| (attempt.op, attempt.outcome)).collect();
    assert_eq!(counted, told.map(|(op, _, outcome)| (op, outcome)));
}
