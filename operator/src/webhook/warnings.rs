//! Warnings at `kubectl apply`: what the pods of a template will meet, and bindings that get in each other's way.
//!
//! Invariant: pure; only warnings, nothing is refused here.

use api::StorageBinding;
use contract::names::{INJECTION_ENABLED, INJECTION_LABEL};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::injection::{ClaimView, Facts, Refusal, inject, protected_volumes, selects};
use crate::settings::InjectionSettings;

/// The pod that a controller's template stands for; none for other kinds. Claims of a StatefulSet's templates appear as claims
/// of the pod's own, so that their labels count.
pub fn pod_of(kind: &str, object: &Value) -> Option<Value> {
    let template = match kind {
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job" => {
            object.pointer("/spec/template")?
        }
        "CronJob" => object.pointer("/spec/jobTemplate/spec/template")?,
        _ => return None,
    };
    let mut pod = json!({"metadata": template.get("metadata").cloned().unwrap_or_else(|| json!({})), "spec": template.get("spec")?});
    pod["metadata"].as_object_mut()?.remove("name");
    let templates = object.pointer("/spec/volumeClaimTemplates").and_then(Value::as_array);
    for claim in templates.into_iter().flatten() {
        let name = claim.pointer("/metadata/name")?.clone();
        let volumes = pod["spec"].as_object_mut()?.entry("volumes").or_insert_with(|| json!([]));
        let volumes = volumes.as_array_mut()?;
        volumes.retain(|volume| volume.get("name") != Some(&name));
        volumes.push(json!({"name": name, "ephemeral": {"volumeClaimTemplate": claim}}));
    }
    Some(pod)
}

/// What the pods of a template will meet.
pub fn of_template(
    kind: &str,
    object: &Value,
    pod: &Value,
    facts: &Facts,
    settings: &InjectionSettings,
) -> Vec<String> {
    let mut warnings = vec![];
    match inject(pod, facts, settings) {
        // The claim may well be applied after the template; its pods are tried again.
        Ok(_) | Err(Refusal::ClaimMissing { .. }) => {}
        Err(refusal) => warnings.push(format!("Cofferdam will refuse pods of this template: {refusal}")),
    }
    let Ok(protected) = protected_volumes(pod, facts) else { return warnings };
    let shared: Vec<_> = protected.iter().filter(|volume| volume.claim.name.is_some()).collect();
    let Some(first) = shared.first() else { return warnings };
    let claim = &first.claim.shown;
    if kind == "Deployment" && surges(object) {
        warnings.push(format!(
            "claim {claim} is protected, and one pod at a time may write it: with maxSurge > 0 a rollout waits for itself; use \
             strategy Recreate, or maxSurge 0"
        ));
    }
    let replicas = object.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1);
    let many = matches!(kind, "Deployment" | "ReplicaSet" | "StatefulSet") && replicas > 1;
    if many || kind == "DaemonSet" {
        warnings.push(format!(
            "claim {claim} is protected, and one pod at a time may write it: the other pods of this {kind} will wait"
        ));
    }
    warnings
}

/// Whether a Deployment's rollout starts new pods before old ones are gone.
fn surges(deployment: &Value) -> bool {
    if deployment.pointer("/spec/strategy/type").and_then(Value::as_str) == Some("Recreate") {
        return false;
    }
    match deployment.pointer("/spec/strategy/rollingUpdate/maxSurge") {
        Some(Value::Number(surge)) => surge.as_u64() != Some(0),
        Some(Value::String(surge)) => surge.trim_end_matches('%') != "0",
        _ => true,
    }
}

/// What is wrong with a binding or a profile that CEL rules cannot see.
pub fn of_declaration(kind: &str, object: &Value, facts: &Facts) -> Vec<String> {
    match kind {
        "StorageBinding" => {
            serde_json::from_value(object.clone()).map_or_else(|_| vec![], |one| of_binding(&one, facts))
        }
        "KmsProfile" => of_profile(object),
        _ => vec![],
    }
}

fn of_binding(binding: &StorageBinding, facts: &Facts) -> Vec<String> {
    let mut warnings = vec![];
    let namespace = &facts.namespace;
    if facts.namespace_labels.get(INJECTION_LABEL).is_none_or(|value| value != INJECTION_ENABLED) {
        warnings.push(format!(
            "nothing is protected yet: run kubectl label namespace {namespace} {INJECTION_LABEL}={INJECTION_ENABLED}"
        ));
    }
    let reference = &binding.spec.profile;
    let home = reference.namespace.as_deref().unwrap_or(namespace);
    let known = facts
        .profiles
        .iter()
        .any(|profile| profile.name_any() == reference.name && profile.namespace().as_deref() == Some(home));
    // A profile that no other binding refers to is not among the facts, so only a contradiction is worth a warning.
    let referred = facts.bindings.iter().any(|other| other.name_any() == binding.name_any());
    if referred && !known {
        warnings.push(format!("KmsProfile {home}/{} does not exist", reference.name));
    }
    warnings.extend(overlaps(binding, facts));
    warnings
}

/// Claims that this binding and another one select, and selectors that would meet in any claim.
fn overlaps(binding: &StorageBinding, facts: &Facts) -> Vec<String> {
    let others = facts.bindings.iter().filter(|other| other.name_any() != binding.name_any());
    let mut warnings = vec![];
    for other in others {
        let mut names: Vec<&String> = binding.spec.claims.names.iter().collect();
        names.extend(other.spec.claims.names.iter());
        names.extend(facts.claims.keys());
        let view = |name: &str| ClaimView {
            name: Some(name.to_owned()),
            shown: name.to_owned(),
            labels: labels_of(facts.claims.get(name).and_then(Option::as_deref)),
            block: false,
        };
        let both = |name: &str| {
            let claim = view(name);
            selects(binding, &claim).unwrap_or(false) && selects(other, &claim).unwrap_or(false)
        };
        let same_selector = binding.spec.claims.selector.is_some()
            && binding.spec.claims.selector == other.spec.claims.selector;
        if same_selector || names.iter().any(|name| both(name)) {
            warnings.push(format!(
                "StorageBinding {} selects claims that {} selects too: pods that mount them will be refused",
                other.name_any(),
                binding.name_any()
            ));
        }
    }
    warnings
}

fn labels_of(claim: Option<&PersistentVolumeClaim>) -> std::collections::BTreeMap<String, String> {
    claim.map(|claim| claim.labels().clone()).unwrap_or_default()
}

fn of_profile(profile: &Value) -> Vec<String> {
    let shared = profile.pointer("/spec/allowedNamespaces").and_then(Value::as_array);
    let with_secret = profile.pointer("/spec/credentials/data/apiKeySecret").is_some();
    if shared.is_some_and(|namespaces| !namespaces.is_empty()) && with_secret {
        return vec![
            "allowedNamespaces has no effect with an apiKeySecret as data credential: a Secret is never copied into another \
             namespace; use a trustedProfile"
                .into(),
        ];
    }
    vec![]
}

#[cfg(test)]
mod tests;
