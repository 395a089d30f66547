//! The unwrap cache.

use super::*;
use crate::connect::Options;
use crate::decorate::cache::Cache;

struct Cached {
    scripted: Arc<Scripted>,
    recorder: Arc<Recorder>,
    kms: Cache,
}

fn cached(ttl: u64, grace: u64) -> Cached {
    let scripted = Scripted::new([Step::Answer]);
    let recorder = Arc::new(Recorder::default());
    let options = Options {
        cache_ttl: ms(ttl),
        cache_entries: 3,
        outage_grace: ms(grace),
        observer: recorder.clone(),
        ..Options::default()
    };
    let kms = Cache::new(scripted.clone(), &options);
    Cached { scripted, recorder, kms }
}

impl Cached {
    async fn unwrap(&self, text: &str) -> Result<Unwrapped> {
        self.kms.unwrap(&key(), &blob(text), &CTX, &CallCtx::new()).await
    }
    async fn fresh(&self, text: &str) -> Result<Unwrapped> {
        self.kms.unwrap(&key(), &blob(text), &CTX, &CallCtx::new().fresh()).await
    }
    fn count(&self, event: CacheEvent) -> usize {
        self.recorder.cache.lock().unwrap().iter().filter(|seen| **seen == event).count()
    }
}

const LONG: u64 = 60_000;

#[tokio::test]
async fn a_key_is_unwrapped_once_within_its_ttl() {
    let c = cached(LONG, 0);
    let first = c.unwrap("a").await.unwrap();
    let second = c.unwrap("a").await.unwrap();
    assert_eq!((first.key.expose(), c.scripted.calls()), (second.key.expose(), 1));
    assert_eq!((second.rewrapped, second.asked_at), (first.rewrapped, first.asked_at));
    assert_eq!(c.count(CacheEvent::Hit), 1);
}

#[tokio::test]
async fn the_ttl_is_hard_and_use_does_not_extend_it() {
    let c = cached(60, 0);
    let began = Instant::now();
    c.unwrap("a").await.unwrap();
    while began.elapsed() < ms(60) {
        c.unwrap("a").await.unwrap();
        tokio::time::sleep(ms(5)).await;
    }
    c.unwrap("a").await.unwrap();
    let times = c.scripted.times();
    assert_eq!(times.len(), 2);
    assert!(times[1] - times[0] >= ms(60));
}

#[tokio::test]
async fn keys_are_dropped_when_their_time_ends_though_nobody_looks() {
    let c = cached(100, 50);
    c.unwrap("a").await.unwrap();
    assert_eq!(c.kms.len(), 1);
    let until = Instant::now() + ms(5000);
    while c.kms.len() > 0 && Instant::now() < until {
        tokio::time::sleep(ms(5)).await;
    }
    assert_eq!(c.kms.len(), 0);
    c.unwrap("b").await.unwrap();
    while c.kms.len() > 0 && Instant::now() < until {
        tokio::time::sleep(ms(5)).await;
    }
    assert_eq!(c.kms.len(), 0, "a second time as well");
}

#[tokio::test]
async fn another_context_or_root_key_never_finds_a_cached_key() {
    let c = cached(LONG, 0);
    c.unwrap("a").await.unwrap();
    let call = CallCtx::new();
    c.kms.unwrap(&key(), &blob("a"), &[8; 32], &call).await.unwrap();
    c.kms.unwrap(&KeyRef("other".into()), &blob("a"), &CTX, &call).await.unwrap();
    assert_eq!(c.scripted.calls(), 3);
}

#[tokio::test]
async fn a_fresh_call_asks_the_kms_and_renews_the_entry() {
    let c = cached(LONG, LONG);
    c.unwrap("a").await.unwrap();
    let renewed = c.fresh("a").await.unwrap();
    assert_eq!(c.scripted.calls(), 2);
    assert_eq!(c.unwrap("a").await.unwrap().asked_at, renewed.asked_at);
    c.scripted.push(Step::Fail(DOWN));
    assert_eq!(c.fresh("a").await.unwrap_err().kind, DOWN, "no grace for a fresh call");
}

#[tokio::test]
async fn any_refusal_of_any_operation_drops_every_key() {
    let refusals = [
        ErrorKind::Denied { confirmed: true },
        ErrorKind::KeyDisabled,
        ErrorKind::KeyPendingDeletion { until: None },
        ErrorKind::KeyDestroyed { recoverable_until: None },
        ErrorKind::KeyNotFound,
        ErrorKind::VersionUnavailable { version: None },
    ];
    for refusal in refusals {
        for op in 0..6 {
            let c = cached(LONG, LONG);
            c.unwrap("a").await.unwrap();
            c.unwrap("b").await.unwrap();
            c.scripted.push(Step::Fail(refusal.clone()));
            let (root, wrapped, call, plain) =
                (key(), blob("c"), CallCtx::new(), PlainKey::from_bytes(&[0; 32]));
            let failed = match op {
                0 => c.kms.describe(&root, &call).await.err(),
                1 => c.kms.generate(&root, &CTX, &call).await.err(),
                2 => c.kms.wrap(&root, &plain, &CTX, &call).await.err(),
                3 => c.kms.unwrap(&root, &wrapped, &CTX, &call).await.err(),
                4 => c.kms.rewrap(&root, &wrapped, &CTX, &call).await.err(),
                _ => c.kms.versions(&root, &call).await.err(),
            };
            assert!(failed.unwrap().is_refusal());
            assert_eq!(c.kms.len(), 0, "{refusal:?} {op}");
            assert_eq!(c.unwrap("a").await.unwrap_err().kind, refusal, "no grace after a refusal");
        }
    }
}

#[tokio::test]
async fn a_state_that_unwraps_nothing_drops_every_key_and_an_expired_one_does_not() {
    let states = [
        (KeyState::Enabled, 1),
        (KeyState::Expired, 1),
        (KeyState::Disabled, 0),
        (KeyState::PendingDeletion, 0),
        (KeyState::Destroyed, 0),
        (KeyState::PendingImport, 0),
    ];
    for (state, left) in states {
        let c = cached(LONG, LONG);
        c.unwrap("a").await.unwrap();
        c.scripted.push(Step::State(state));
        assert_eq!(c.kms.describe(&key(), &CallCtx::new()).await.unwrap().state, state);
        assert_eq!(c.kms.len(), left, "{state}");
    }
}

#[tokio::test]
async fn an_outage_and_an_unconfirmed_denial_drop_nothing() {
    for kind in [DOWN, DENIED, ErrorKind::CredentialRejected, ErrorKind::Throttled { retry_after: None }] {
        let c = cached(LONG, 0);
        c.unwrap("a").await.unwrap();
        c.scripted.push(Step::Fail(kind));
        c.kms.describe(&key(), &CallCtx::new()).await.unwrap_err();
        c.unwrap("a").await.unwrap();
        assert_eq!(c.count(CacheEvent::Purge), 0);
    }
}

#[tokio::test]
async fn without_grace_an_outage_ends_with_the_ttl() {
    let c = cached(30, 0);
    c.unwrap("a").await.unwrap();
    c.scripted.push(Step::Fail(DOWN));
    tokio::time::sleep(ms(30)).await;
    assert_eq!(c.unwrap("a").await.unwrap_err().kind, DOWN);
}

#[tokio::test]
async fn grace_serves_through_an_outage_until_a_refusal_or_its_end() {
    let c = cached(20, 4000);
    c.unwrap("a").await.unwrap();
    c.unwrap("b").await.unwrap();
    tokio::time::sleep(ms(20)).await;
    c.scripted.push(Step::Fail(DOWN));
    c.unwrap("a").await.unwrap();
    assert_eq!(c.count(CacheEvent::Grace), 1);
    c.scripted.push(Step::Fail(ErrorKind::KeyDisabled));
    c.unwrap("b").await.unwrap_err();
    c.scripted.push(Step::Fail(DOWN));
    assert_eq!(c.unwrap("a").await.unwrap_err().kind, DOWN, "the refusal took it");

    let c = cached(20, 40);
    c.unwrap("a").await.unwrap();
    tokio::time::sleep(ms(60)).await;
    c.scripted.push(Step::Fail(DOWN));
    assert_eq!(c.unwrap("a").await.unwrap_err().kind, DOWN, "the grace ended");
}

#[tokio::test]
async fn a_rejected_credential_gets_no_grace() {
    let c = cached(10, LONG);
    c.unwrap("a").await.unwrap();
    tokio::time::sleep(ms(10)).await;
    c.scripted.push(Step::Fail(ErrorKind::CredentialRejected));
    assert_eq!(c.unwrap("a").await.unwrap_err().kind, ErrorKind::CredentialRejected);
}

#[tokio::test]
async fn an_answer_that_was_under_way_during_a_purge_is_not_kept() {
    let c = cached(LONG, 0);
    c.scripted.push(Step::Late(ms(20)));
    let call = CallCtx::new();
    let (root, wrapped) = (key(), blob("a"));
    let (unwrapped, ()) = tokio::join!(c.kms.unwrap(&root, &wrapped, &CTX, &call), async {
        while c.scripted.calls() == 0 {
            tokio::task::yield_now().await;
        }
        c.kms.purge();
    });
    unwrapped.unwrap();
    assert_eq!(c.kms.len(), 0);
}

#[tokio::test]
async fn the_number_of_keys_is_bounded_and_the_oldest_goes_first() {
    let c = cached(LONG, 0);
    for text in ["a", "b", "c", "d"] {
        c.unwrap(text).await.unwrap();
    }
    assert_eq!(c.kms.len(), 3);
    c.unwrap("d").await.unwrap();
    assert_eq!(c.scripted.calls(), 4);
    c.unwrap("a").await.unwrap();
    assert_eq!(c.scripted.calls(), 5);
}

#[tokio::test]
async fn without_a_ttl_nothing_is_kept() {
    let c = cached(0, LONG);
    c.unwrap("a").await.unwrap();
    c.unwrap("a").await.unwrap();
    assert_eq!((c.scripted.calls(), c.kms.len()), (2, 0));
}
