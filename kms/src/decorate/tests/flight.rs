//! Single-flight.

use futures::future::join_all;

use super::*;
use crate::decorate::flight::SingleFlight;

fn shared(script: impl IntoIterator<Item = Step>) -> (Arc<Scripted>, Arc<SingleFlight>) {
    let scripted = Scripted::new(script);
    let kms = Arc::new(SingleFlight::new(scripted.clone()));
    (scripted, kms)
}

#[tokio::test]
async fn a_hundred_who_want_one_key_make_one_call_and_each_gets_it() {
    let (scripted, kms) = shared([Step::Late(ms(20))]);
    let (root, wrapped, call) = (key(), blob("k"), CallCtx::new());
    let all = join_all((0..100).map(|_| kms.unwrap(&root, &wrapped, &CTX, &call))).await;
    for result in all {
        assert_eq!(result.unwrap().key.expose(), &[b'k'; 32]);
    }
    assert_eq!(scripted.calls(), 1);
    kms.unwrap(&root, &wrapped, &CTX, &call).await.unwrap();
    assert_eq!(scripted.calls(), 2, "what landed is not a cache");
}

#[tokio::test]
async fn only_the_very_same_question_is_shared() {
    let (scripted, kms) = shared([Step::Late(ms(20))]);
    let (root, other, call) = (key(), KeyRef("other".into()), CallCtx::new());
    let wrapped = blob("k");
    let none = Wrapped { scheme: ContextScheme::None, ..wrapped.clone() };
    let (longer, other_ctx) = (blob("kk"), [8; 32]);
    let questions = [
        kms.unwrap(&root, &wrapped, &CTX, &call),
        kms.unwrap(&other, &wrapped, &CTX, &call),
        kms.unwrap(&root, &wrapped, &other_ctx, &call),
        kms.unwrap(&root, &none, &CTX, &call),
        kms.unwrap(&root, &longer, &CTX, &call),
    ];
    join_all(questions).await;
    assert_eq!(scripted.calls(), 5);
}

#[tokio::test]
async fn rewraps_and_descriptions_are_shared_too_but_new_keys_never() {
    let (scripted, kms) = shared([Step::Late(ms(20))]);
    let (root, wrapped, call) = (key(), blob("k"), CallCtx::new());
    join_all((0..10).map(|_| kms.rewrap(&root, &wrapped, &CTX, &call))).await;
    join_all((0..10).map(|_| kms.describe(&root, &call))).await;
    assert_eq!(scripted.calls(), 2);
    join_all((0..10).map(|_| kms.generate(&root, &CTX, &call))).await;
    assert_eq!(scripted.calls(), 12);
}

#[tokio::test]
async fn a_failure_is_shared_as_well() {
    let (scripted, kms) = shared([Step::FailLate(ms(20), ErrorKind::KeyDisabled)]);
    let (root, call) = (key(), CallCtx::new());
    let all = join_all((0..10).map(|_| kms.describe(&root, &call))).await;
    assert!(all.iter().all(|result| result.as_ref().is_err_and(KmsError::is_refusal)));
    assert_eq!(scripted.calls(), 1);
}

#[tokio::test]
async fn when_the_caller_who_asks_is_dropped_the_next_one_asks() {
    let (scripted, kms) = shared([Step::Hang, Step::Answer]);
    let leader = {
        let kms = kms.clone();
        tokio::spawn(async move { kms.describe(&key(), &CallCtx::new()).await })
    };
    while scripted.calls() < 1 {
        tokio::task::yield_now().await;
    }
    let follower = {
        let kms = kms.clone();
        tokio::spawn(async move { kms.describe(&key(), &CallCtx::new()).await })
    };
    tokio::task::yield_now().await;
    assert_eq!(scripted.calls(), 1, "the second one waits");
    leader.abort();
    follower.await.unwrap().unwrap();
    assert_eq!(scripted.calls(), 2);
}

#[tokio::test]
async fn the_short_patience_of_one_caller_is_no_failure_of_another() {
    let timeout = ErrorKind::Unavailable { why: Outage::Timeout, retry_after: None };
    let (scripted, kms) = shared([Step::FailLate(ms(20), timeout.clone()), Step::Answer]);
    let (root, hasty, patient) = (key(), CallCtx::within(ms(20)), CallCtx::within(ms(5000)));
    let (first, second) = tokio::join!(kms.describe(&root, &hasty), kms.describe(&root, &patient));
    assert_eq!(first.unwrap_err().kind, timeout);
    second.unwrap();
    assert_eq!(scripted.calls(), 2);
}

#[tokio::test]
async fn an_outage_is_shared_by_those_who_are_not_more_patient() {
    let (scripted, kms) = shared([Step::FailLate(ms(20), DOWN)]);
    let (root, call) = (key(), CallCtx::within(ms(5000)));
    let all = join_all((0..10).map(|_| kms.describe(&root, &call))).await;
    assert!(all.iter().all(|result| result.as_ref().is_err_and(KmsError::is_outage)));
    assert_eq!(scripted.calls(), 1);
}

#[tokio::test]
async fn nothing_stays_behind_of_calls_that_ended_or_were_dropped() {
    let (scripted, kms) = shared([Step::Late(ms(5))]);
    let (root, wrapped, call) = (key(), blob("k"), CallCtx::new());
    join_all((0..10).map(|_| kms.unwrap(&root, &wrapped, &CTX, &call))).await;
    kms.rewrap(&root, &wrapped, &CTX, &call).await.unwrap();
    assert_eq!(kms.under_way(), 0);
    scripted.push(Step::Hang);
    let hanging = join_all((0..10).map(|_| kms.describe(&root, &call)));
    let _ = tokio::time::timeout(ms(20), hanging).await.unwrap_err();
    assert_eq!((scripted.calls(), kms.under_way()), (3, 0));
}
