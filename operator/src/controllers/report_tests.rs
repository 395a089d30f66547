//! What is written and announced, against an API server in memory.
#![allow(clippy::unwrap_used)]

use api::{StorageBinding, StorageBindingStatus};
use axum::http::Method;

use super::*;
use crate::controllers::conditions::{Verdict, now, put};
use crate::controllers::sample::shared;
use fake_api::FakeApi;

const BINDING: &str = "/apis/cofferdam.io/v1alpha1/namespaces/shop/storagebindings/app";

fn status(ready: &Verdict, suspended: &Verdict) -> StorageBindingStatus {
    let mut status = StorageBindingStatus::default();
    put(&mut status.conditions, types::READY, ready, None, &now());
    put(&mut status.conditions, types::SUSPENDED, suspended, None, &now());
    status
}

#[tokio::test]
async fn a_condition_that_moves_is_an_event_and_one_that_stays_is_none() {
    let (fake, client) = FakeApi::start().await;
    let binding = json!({
        "apiVersion": "cofferdam.io/v1alpha1", "kind": "StorageBinding", "metadata": {"name": "app", "namespace": "shop"},
        "spec": {"profile": {"name": "main"}, "claims": {"names": ["files"]}},
    });
    fake.put(BINDING, binding.clone());
    let (shared, binding) = (shared(client), serde_json::from_value::<StorageBinding>(binding).unwrap());
    let before = status(&Verdict::yes("Ready", "it works"), &Verdict::no("Ready", "the key may be used"));
    let after = status(&Verdict::yes("Ready", "it works still"), &Verdict::yes("KeyRefused", "disabled"));
    report(&shared, &binding, &after, (&before.conditions, &after.conditions)).await.unwrap();
    assert_eq!(fake.get(BINDING).unwrap()["status"]["conditions"].as_array().unwrap().len(), 2);
    let events = fake.asked(&Method::POST, "/events");
    let said: Vec<_> = events.iter().map(|(_, _, event)| (&event["reason"], &event["type"])).collect();
    assert_eq!(said, [(&json!("KeyRefused"), &json!("Warning"))]);

    // A status that could not be written is not announced.
    fake.fail_once(Method::PATCH, "storagebindings/app/status", 500);
    let failed = report(&shared, &binding, &before, (&after.conditions, &before.conditions)).await;
    assert!(failed.is_err());
    assert_eq!(fake.event_reasons().len(), 1);
}
