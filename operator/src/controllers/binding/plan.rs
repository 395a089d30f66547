//! What a binding means, given what is around it.
//!
//! Invariant: pure; a claim that two bindings select belongs to neither until a person decides; a claim whose pods the webhook
//! injects is recorded, whatever else is wrong.

use std::sync::Arc;

use api::binding::SuspensionMode;
use api::condition::{reasons, types};
use api::{EncryptedVolume, EncryptedVolumeSpec, StorageBinding, StorageBindingStatus};
use contract::names::{INJECTION_ENABLED, INJECTION_LABEL};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::core::{Selector, SelectorExt};

use super::look::Around;
use crate::controllers::conditions::{Verdict, find, put, status as status_of};
use crate::webhook::injection::{ClaimView, Facts, protection};

/// What to record, and what to say.
pub struct Plan {
    /// Claims to record, with what to record.
    pub record: Vec<(String, EncryptedVolumeSpec)>,
    /// Claims that it protects now, the ones to record included.
    pub protected: u64,
    /// `Ready`.
    pub ready: Verdict,
    /// `Suspended`.
    pub suspended: Verdict,
}

/// Whether a binding selects a claim.
pub fn selects(binding: &StorageBinding, claim: &PersistentVolumeClaim) -> bool {
    let spec = &binding.spec.claims;
    let labels = claim.metadata.labels.clone().unwrap_or_default();
    let by_label = spec.selector.clone().and_then(|selector| Selector::try_from(selector).ok());
    spec.names.contains(&claim.name_any()) || by_label.is_some_and(|selector| selector.matches(&labels))
}

/// Works the plan out.
pub fn plan(binding: &StorageBinding, around: &Around) -> Plan {
    let claims: Vec<_> = around.claims.iter().filter(|claim| selects(binding, claim)).collect();
    let ready = ready(binding, around, &claims);
    let of_claims = || around.volumes.iter().filter(|volume| !volume.has_left_its_claim());
    let mine =
        |volume: &&EncryptedVolume| volume.spec.binding_name == binding.name_any() && !volume.is_released();
    let volumes: Vec<_> = of_claims().filter(mine).collect();
    let recorded = |claim: &str| of_claims().any(|volume| volume.name_any() == claim);
    let fresh = injected(binding, around, &claims).into_iter().filter(|name| !recorded(name));
    let record: Vec<_> = fresh.map(|name| (name.clone(), spec(binding, &name))).collect();
    let closed = volumes.iter().filter(|volume| !is_open(volume)).count();
    let protected = (closed + record.len()) as u64;
    Plan { record, protected, ready, suspended: suspended(around, &volumes) }
}

/// The claims whose pods the webhook injects for this binding, by its own test: what is wrong with one claim, or with the
/// binding alone, does not keep the others from being written, so it must not keep them from being recorded.
fn injected(binding: &StorageBinding, around: &Around, claims: &[&PersistentVolumeClaim]) -> Vec<String> {
    if !opted_in(around) {
        return vec![];
    }
    let facts = facts(binding, around, claims);
    let is_injected = |claim: &&&PersistentVolumeClaim| {
        let view = ClaimView {
            name: Some(claim.name_any()),
            shown: claim.name_any(),
            labels: claim.labels().clone(),
            block: is_block(claim),
        };
        let by = protection(&facts, &view).ok().flatten().and_then(|protection| protection.binding);
        !view.block && by.is_some_and(|by| by.name_any() == binding.name_any())
    };
    claims.iter().filter(is_injected).map(|claim| claim.name_any()).collect()
}

fn facts(binding: &StorageBinding, around: &Around, claims: &[&PersistentVolumeClaim]) -> Facts {
    Facts {
        namespace: binding.namespace().unwrap_or_default(),
        namespace_labels: around.namespace.as_ref().map(|ns| ns.labels().clone()).unwrap_or_default(),
        claims: claims.iter().map(|&claim| (claim.name_any(), Some(Arc::new(claim.clone())))).collect(),
        bindings: around.bindings.iter().cloned().map(Arc::new).collect(),
        volumes: around.volumes.iter().cloned().map(Arc::new).collect(),
        profiles: around.profile.iter().cloned().map(Arc::new).collect(),
    }
}

fn opted_in(around: &Around) -> bool {
    let label = around.namespace.as_ref().and_then(|namespace| namespace.labels().get(INJECTION_LABEL));
    label.is_some_and(|value| value == INJECTION_ENABLED)
}

fn is_block(claim: &PersistentVolumeClaim) -> bool {
    claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref()) == Some("Block")
}

fn spec(binding: &StorageBinding, claim: &str) -> EncryptedVolumeSpec {
    EncryptedVolumeSpec {
        claim_name: claim.into(),
        binding_name: binding.name_any(),
        profile: binding.spec.profile.clone(),
        release: false,
        acknowledged: false,
        persistent_volume: None,
    }
}

fn ready(binding: &StorageBinding, around: &Around, claims: &[&PersistentVolumeClaim]) -> Verdict {
    let namespace = binding.namespace().unwrap_or_default();
    if !opted_in(around) {
        let message = format!(
            "the namespace is not opted in; run: kubectl label namespace {namespace} {INJECTION_LABEL}={INJECTION_ENABLED}"
        );
        return Verdict::no(reasons::NAMESPACE_NOT_OPTED_IN, message);
    }
    if binding.spec.suspension.mode == SuspensionMode::Freeze {
        let message = "suspension.mode Freeze is not supported by this version; use Error";
        return Verdict::no(reasons::INVALID_SPEC, message);
    }
    if let Some(selector) = binding.spec.claims.selector.clone()
        && let Err(error) = Selector::try_from(selector)
    {
        return Verdict::no(reasons::INVALID_SPEC, format!("claims.selector: {error}"));
    }
    if let Some(verdict) = conflict(binding, around, claims) {
        return verdict;
    }
    if let Some(secret) = around.missing_pull_secrets.first() {
        return Verdict::no(
            reasons::PULL_SECRET_MISSING,
            format!("Secret {namespace}/{secret} does not exist"),
        );
    }
    if around.service_account_missing {
        let account = &binding.spec.rewrap.service_account_name;
        let message = format!(
            "ServiceAccount {namespace}/{account} does not exist, and rewrap Jobs run as it (rewrap.serviceAccountName)"
        );
        return Verdict::no(reasons::SERVICE_ACCOUNT_MISSING, message);
    }
    of_profile(binding, around, &namespace)
}

/// What is wrong with its claims.
fn conflict(binding: &StorageBinding, around: &Around, claims: &[&PersistentVolumeClaim]) -> Option<Verdict> {
    for claim in claims {
        let name = claim.name_any();
        if is_block(claim) {
            let message = format!("claim {name} is a block volume; only filesystems can be protected");
            return Some(Verdict::no(reasons::BLOCK_VOLUME, message));
        }
        let other = |other: &&StorageBinding| other.name_any() != binding.name_any() && selects(other, claim);
        if let Some(other) = around.bindings.iter().find(other) {
            let message = format!(
                "claim {name} is selected by the bindings {} and {}",
                binding.name_any(),
                other.name_any()
            );
            return Some(Verdict::no(reasons::CONFLICTING_BINDING, message));
        }
    }
    None
}

fn of_profile(binding: &StorageBinding, around: &Around, namespace: &str) -> Verdict {
    let reference = &binding.spec.profile;
    let home = reference.namespace.as_deref().unwrap_or(namespace);
    let name = format!("KmsProfile {home}/{}", reference.name);
    let Some(profile) = &around.profile else {
        return Verdict::no(reasons::PROFILE_MISSING, format!("{name} does not exist"));
    };
    let allowed =
        home == namespace || profile.spec.allowed_namespaces.iter().any(|allowed| allowed == namespace);
    if !allowed {
        let message = format!("{name} does not list {namespace} in allowedNamespaces");
        return Verdict::no(reasons::NAMESPACE_NOT_ALLOWED, message);
    }
    if home != namespace && profile.spec.credentials.data.audience().is_none() {
        let message =
            format!("{name} is of another namespace and shows no identity token; a Secret is never copied");
        return Verdict::no(reasons::NAMESPACE_NOT_ALLOWED, message);
    }
    let conditions = profile.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    match find(conditions, types::READY) {
        Some(condition) if condition.status == "True" => {
            Verdict::yes(reasons::READY, format!("{name} is Ready"))
        }
        Some(condition) if condition.status == "Unknown" => {
            Verdict::unknown(condition.reason.clone(), format!("{name}: {}", condition.message))
        }
        Some(condition) => {
            let message = format!("{name} is not Ready: {}: {}", condition.reason, condition.message);
            Verdict::no(reasons::PROFILE_NOT_READY, message)
        }
        None => Verdict::no(reasons::PROFILE_NOT_READY, format!("{name} has not been looked at yet")),
    }
}

/// A volume that says so suspends the binding; a refused key does too, also while nothing is mounted. It is not suspended only
/// where the key's state and what each volume says are known.
fn suspended(around: &Around, volumes: &[&EncryptedVolume]) -> Verdict {
    let phase = |volume: &&&EncryptedVolume| {
        volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Suspended")
    };
    let state = around.profile.as_ref().and_then(|profile| profile.status.as_ref());
    let state = state.and_then(|status| status.key_state.as_deref()).unwrap_or("Unknown");
    let refused = ["Disabled", "Expired", "PendingDeletion", "Destroyed"].contains(&state);
    if let Some(volume) = volumes.iter().find(phase) {
        let why = volume.status.as_ref().and_then(|status| status.message.clone()).unwrap_or_default();
        let message = format!("access to {} is suspended: {why}; the root key is {state}", volume.name_any());
        return Verdict::yes(reasons::KEY_REFUSED, message);
    }
    if refused {
        return Verdict::yes(reasons::KEY_REFUSED, format!("the root key is {state} at the KMS"));
    }
    if let Some(volume) = volumes.iter().find(|volume| is_unknown(volume)) {
        let why = volume.status.as_ref().and_then(|status| status.message.clone()).unwrap_or_default();
        let message = format!("it is not known whether access to {} is suspended: {why}", volume.name_any());
        return Verdict::unknown(reasons::UNKNOWN, message);
    }
    if state == "Unknown" {
        return Verdict::unknown(reasons::UNKNOWN, "no volume says so; the key's state is not known now");
    }
    Verdict::no(reasons::READY, "the root key may be used")
}

/// A volume that says that it does not know. One that never had anything to say (no pod has served it yet) is not meant.
fn is_unknown(volume: &EncryptedVolume) -> bool {
    let conditions = volume.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    status_of(conditions, types::SUSPENDED) == Some("Unknown")
}

/// A pod mounts it as it is.
fn is_open(volume: &EncryptedVolume) -> bool {
    let conditions = volume.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    find(conditions, types::SUSPENDED).is_some_and(|said| said.reason == reasons::OPEN_POD)
}

/// The binding's next status.
pub fn status(binding: &StorageBinding, plan: &Plan, now: &Time) -> StorageBindingStatus {
    let mut next = binding.status.clone().unwrap_or_default();
    let generation = binding.metadata.generation;
    put(&mut next.conditions, types::READY, &plan.ready, generation, now);
    put(&mut next.conditions, types::SUSPENDED, &plan.suspended, generation, now);
    next.observed_generation = generation;
    next.volumes = plan.protected;
    debug_assert!(status_of(&next.conditions, types::READY).is_some());
    next
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use k8s_openapi::api::core::v1::Namespace;
    use serde_json::{Value, json};

    use super::*;

    fn object<T: serde::de::DeserializeOwned>(kind: &str, name: &str, spec: &Value) -> T {
        let (api_version, labels) = match kind {
            "PersistentVolumeClaim" => ("v1", json!({"protect": "yes"})),
            "Namespace" => ("v1", json!({"cofferdam.io/injection": "enabled"})),
            _ => ("cofferdam.io/v1alpha1", json!({})),
        };
        let metadata = json!({"name": name, "namespace": "shop", "labels": labels});
        serde_json::from_value(
            json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}),
        )
        .unwrap()
    }

    fn binding(name: &str) -> StorageBinding {
        let spec =
            json!({"profile": {"name": "main"}, "claims": {"selector": {"matchLabels": {"protect": "yes"}}}});
        object("StorageBinding", name, &spec)
    }

    fn around(state: &str) -> Around {
        let mut profile: api::KmsProfile = object(
            "KmsProfile",
            "main",
            &json!({
                "keyProtect": {"endpoint": "https://kms", "instance": "i", "rootKey": "k"},
                "credentials": {"data": {"apiKeySecret": {"name": "s"}}},
            }),
        );
        let mut status =
            api::KmsProfileStatus { key_state: Some(state.into()), ..api::KmsProfileStatus::default() };
        status.current_version = Some("v1".into());
        put(
            &mut status.conditions,
            types::READY,
            &Verdict::yes("Ready", ""),
            None,
            &crate::controllers::conditions::now(),
        );
        profile.status = Some(status);
        Around {
            namespace: Some(object::<Namespace>("Namespace", "shop", &json!({}))),
            profile: Some(profile),
            claims: vec![object("PersistentVolumeClaim", "data-0", &json!({"volumeMode": "Filesystem"}))],
            bindings: vec![binding("app")],
            volumes: vec![],
            missing_pull_secrets: vec![],
            service_account_missing: false,
        }
    }

    #[test]
    fn a_ready_binding_records_each_claim_once() {
        let mut around = around("Enabled");
        let first = plan(&binding("app"), &around);
        assert_eq!((first.ready.status, first.record.len(), first.protected), ("True", 1, 1));
        let (name, spec) = first.record[0].clone();
        around.volumes.push(EncryptedVolume::new(&name, spec));
        let second = plan(&binding("app"), &around);
        assert_eq!((second.record.len(), second.protected), (0, 1));
    }

    #[test]
    fn the_record_of_a_volume_that_its_claim_has_left_stands_for_no_claim() {
        let mut around = around("Enabled");
        let (name, mut spec) = plan(&binding("app"), &around).record[0].clone();
        spec.persistent_volume = Some("pv-old".into());
        around.volumes.push(EncryptedVolume::new(&name, spec));
        let again = plan(&binding("app"), &around);
        assert_eq!((again.record.len(), again.protected), (1, 1));
    }

    #[test]
    fn a_claim_of_two_bindings_is_recorded_by_neither() {
        let mut around = around("Enabled");
        around.bindings.push(binding("twin"));
        let plan = plan(&binding("app"), &around);
        assert_eq!((plan.ready.reason.as_str(), plan.record.len()), (reasons::CONFLICTING_BINDING, 0));
        assert!(plan.ready.message.contains("twin"));
    }

    #[test]
    fn what_is_missing_is_said_with_what_to_do() {
        let mut not_opted_in = around("Enabled");
        not_opted_in.namespace.as_mut().unwrap().metadata.labels = None;
        let plan = plan(&binding("app"), &not_opted_in);
        assert_eq!(plan.ready.reason, reasons::NAMESPACE_NOT_OPTED_IN);
        assert!(plan.ready.message.contains("kubectl label namespace shop cofferdam.io/injection=enabled"));
        let mut no_account = around("Enabled");
        no_account.service_account_missing = true;
        let plan = super::plan(&binding("app"), &no_account);
        assert_eq!(plan.ready.reason, reasons::SERVICE_ACCOUNT_MISSING);
        assert!(plan.ready.message.contains("shop/default"), "{}", plan.ready.message);
        assert_eq!(names(&plan), ["data-0"], "its pods are injected all the same");
    }

    #[test]
    fn a_block_volume_and_a_missing_profile_are_refused() {
        let mut block = around("Enabled");
        block.claims = vec![object("PersistentVolumeClaim", "raw", &json!({"volumeMode": "Block"}))];
        assert_eq!(plan(&binding("app"), &block).ready.reason, reasons::BLOCK_VOLUME);
        let mut missing = around("Enabled");
        missing.profile = None;
        assert_eq!(plan(&binding("app"), &missing).ready.reason, reasons::PROFILE_MISSING);
    }

    #[test]
    fn a_refused_key_suspends_and_what_is_not_known_is_said_to_be_unknown() {
        let of_key = |state: &str| plan(&binding("app"), &around(state)).suspended.status;
        for state in ["Disabled", "Expired", "PendingDeletion", "Destroyed"] {
            assert_eq!(of_key(state), "True", "{state}");
        }
        assert_eq!((of_key("Enabled"), of_key("Unknown")), ("False", "Unknown"));
        let mut silent = around("Enabled");
        silent.volumes = vec![recorded("data-0", &Verdict::unknown(reasons::NO_CHECK_IN, ""))];
        let suspended = plan(&binding("app"), &silent).suspended;
        assert_eq!(suspended.status, "Unknown");
        assert!(suspended.message.contains("data-0"), "{}", suspended.message);
        silent.volumes = vec![recorded("data-0", &Verdict::no(reasons::READY, ""))];
        assert_eq!(plan(&binding("app"), &silent).suspended.status, "False");
    }

    /// A record of this binding that says this of its suspension.
    fn recorded(claim: &str, suspended: &Verdict) -> EncryptedVolume {
        let mut volume = EncryptedVolume::new(claim, spec(&binding("app"), claim));
        let mut status = api::EncryptedVolumeStatus::default();
        let now = crate::controllers::conditions::now();
        put(&mut status.conditions, types::SUSPENDED, suspended, None, &now);
        volume.status = Some(status);
        volume
    }

    fn names(plan: &Plan) -> Vec<&str> {
        plan.record.iter().map(|(claim, _)| claim.as_str()).collect()
    }

    #[test]
    fn what_is_wrong_with_one_claim_keeps_only_that_one_from_being_recorded() {
        let mut around = around("Enabled");
        let claim =
            |name: &str, mode: &str| object("PersistentVolumeClaim", name, &json!({"volumeMode": mode}));
        around.claims.extend([claim("raw", "Block"), claim("shared", "Filesystem")]);
        let mut other = binding("other");
        other.spec.claims.selector = None;
        other.spec.claims.names = vec!["shared".into()];
        around.bindings.push(other);
        let plan = plan(&binding("app"), &around);
        assert_eq!((plan.ready.status, names(&plan)), ("False", vec!["data-0"]));
    }

    #[test]
    fn claims_that_the_webhook_injects_are_recorded_although_the_binding_is_not_ready() {
        let mut secret = around("Enabled");
        secret.missing_pull_secrets.push("pull".into());
        let mut away = around("Unknown");
        let status = away.profile.as_mut().unwrap().status.as_mut().unwrap();
        let now = crate::controllers::conditions::now();
        put(&mut status.conditions, types::READY, &Verdict::unknown("KmsTimeout", ""), None, &now);
        let mut refused = around("Disabled");
        let status = refused.profile.as_mut().unwrap().status.as_mut().unwrap();
        put(&mut status.conditions, types::READY, &Verdict::no("KeyDisabled", ""), None, &now);
        for around in [&secret, &away, &refused] {
            let plan = plan(&binding("app"), around);
            assert_ne!(plan.ready.status, "True");
            assert_eq!(names(&plan), ["data-0"], "{}", plan.ready.message);
        }
        // The webhook refuses these, or is not asked.
        let mut never = away;
        never.profile.as_mut().unwrap().status.as_mut().unwrap().current_version = None;
        let mut not_opted_in = around("Enabled");
        not_opted_in.namespace.as_mut().unwrap().metadata.labels = None;
        for around in [&never, &not_opted_in] {
            assert!(plan(&binding("app"), around).record.is_empty());
        }
    }

    #[test]
    fn a_claim_that_an_open_pod_mounts_is_not_counted_as_protected() {
        let mut around = around("Enabled");
        around.volumes = vec![recorded("data-0", &Verdict::unknown(reasons::OPEN_POD, ""))];
        let plan = plan(&binding("app"), &around);
        assert_eq!((plan.protected, plan.suspended.status), (0, "Unknown"));
    }

    #[test]
    fn a_release_of_another_persistent_volume_releases_nothing() {
        let mut around = around("Enabled");
        let mut volume = recorded("data-0", &Verdict::no(reasons::READY, ""));
        volume.spec.release = true;
        let status = volume.status.as_mut().unwrap();
        (status.released_volume, status.persistent_volume) = (Some("pv-1".into()), Some("pv-2".into()));
        around.volumes = vec![volume.clone()];
        assert_eq!(plan(&binding("app"), &around).protected, 1);
        volume.status.as_mut().unwrap().persistent_volume = Some("pv-1".into());
        around.volumes = vec![volume];
        assert_eq!(plan(&binding("app"), &around).protected, 0);
    }
}
