//! How a controller says what it found: the status of the object, and an event for each condition that has moved.
//!
//! Invariant: no event without the status that it tells of; a condition that stays as it is says nothing.

use std::fmt::Debug;

use api::condition::types;
use contract::names::FIELD_MANAGER;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::Shared;
use super::conditions;

/// Writes the status of `object`, whose conditions were `before` and are `after` now.
pub async fn report<K>(
    shared: &Shared,
    object: &K,
    status: &impl Serialize,
    (before, after): (&[Condition], &[Condition]),
) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let namespace = object.namespace().unwrap_or_default();
    let api = Api::<K>::namespaced(shared.client.clone(), &namespace);
    let patch = Patch::Merge(json!({"status": status}));
    api.patch_status(&object.name_any(), &PatchParams::apply(FIELD_MANAGER), &patch).await?;
    let about = object.object_ref(&());
    for condition in after {
        if conditions::status(before, &condition.type_) == Some(&condition.status) {
            continue;
        }
        let note = format!("{} is {}: {}", condition.type_, condition.status, condition.message);
        if good(condition) {
            shared.events.normal(&about, &condition.reason, &note).await;
        } else {
            shared.events.warning(&about, &condition.reason, &note).await;
        }
    }
    Ok(())
}

/// `Ready` should be true, every other condition false.
fn good(condition: &Condition) -> bool {
    (condition.type_ == types::READY) == (condition.status == "True")
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
