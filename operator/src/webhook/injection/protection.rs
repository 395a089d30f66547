//! Whether a claim is protected, by what, and whether that can be used now.
//!
//! Invariant: what cannot be decided is refused, never left open; a claim with an `EncryptedVolume` is protected until a
//! person releases it, whatever happens to labels and bindings.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::binding::{ProfileReference, SuspensionMode};
use api::connection;
use api::{EncryptedVolume, KmsProfile, StorageBinding};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use kube::core::{Selector, SelectorExt};

use super::refusal::Refusal;
use crate::injection_config::{describes, releases};
use crate::profile_use;

/// All that decides over a pod beside the pod itself.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The pod's namespace.
    pub namespace: String,
    /// Labels of that namespace.
    pub namespace_labels: BTreeMap<String, String>,
    /// Claims that the pod names; none: the API server has no such claim.
    pub claims: BTreeMap<String, Option<Arc<PersistentVolumeClaim>>>,
    /// All bindings of the namespace.
    pub bindings: Vec<Arc<StorageBinding>>,
    /// All records of the namespace.
    pub volumes: Vec<Arc<EncryptedVolume>>,
    /// Profiles that bindings and records of the namespace refer to, as far as they exist.
    pub profiles: Vec<Arc<KmsProfile>>,
}

/// A claim, as far as it decides over protection.
#[derive(Clone, Debug)]
pub struct ClaimView {
    /// Its name; none: it will be known only when the pod has a name.
    pub name: Option<String>,
    /// The name for messages.
    pub shown: String,
    /// Its labels, or those of its template.
    pub labels: BTreeMap<String, String>,
    /// `volumeMode: Block`.
    pub block: bool,
}

/// How a claim is protected.
#[derive(Clone, Debug)]
pub struct Protection<'a> {
    /// The binding; none where it is gone and the record alone protects.
    pub binding: Option<&'a StorageBinding>,
    /// The profile.
    pub profile: &'a KmsProfile,
    /// The record, where there is one and it speaks of the volume that the claim is bound to now.
    pub record: Option<&'a EncryptedVolume>,
}

/// Whether a binding selects a claim; an error where its selector makes no sense.
pub fn selects(binding: &StorageBinding, claim: &ClaimView) -> Result<bool, Refusal> {
    let spec = &binding.spec.claims;
    if claim.name.as_ref().is_some_and(|name| spec.names.contains(name)) {
        return Ok(true);
    }
    let Some(selector) = spec.selector.clone() else { return Ok(false) };
    match Selector::try_from(selector) {
        Ok(selector) => Ok(selector.matches(&claim.labels)),
        Err(error) => Err(Refusal::InvalidBinding {
            binding: binding.name_any(),
            problem: format!("claims.selector cannot be read ({error}); correct it"),
        }),
    }
}

/// What protects a claim; none: nothing does.
pub fn protection<'a>(facts: &'a Facts, claim: &ClaimView) -> Result<Option<Protection<'a>>, Refusal> {
    let by_name = |volume: &&Arc<EncryptedVolume>| {
        !volume.has_left_its_claim() && Some(&volume.spec.claim_name) == claim.name.as_ref()
    };
    let record = facts.volumes.iter().find(by_name).map(AsRef::as_ref);
    let known = claim.name.as_ref().and_then(|name| facts.claims.get(name)).and_then(Option::as_deref);
    if record.is_some_and(|record| releases(record, known)) {
        return Ok(None);
    }
    let mut selecting = vec![];
    for binding in &facts.bindings {
        if selects(binding, claim)? {
            selecting.push(binding.as_ref());
        }
    }
    if selecting.len() > 1 {
        let mut bindings: Vec<_> = selecting.iter().map(|binding| binding.name_any()).collect();
        bindings.sort();
        return Err(Refusal::TwoBindings { claim: claim.shown.clone(), bindings });
    }
    let named = |record: &EncryptedVolume| {
        facts.bindings.iter().find(|binding| binding.name_any() == record.spec.binding_name)
    };
    let binding = selecting.first().copied().or_else(|| record.and_then(named).map(AsRef::as_ref));
    let reference = match (binding, record) {
        (None, None) => return Ok(None),
        (Some(binding), _) => &binding.spec.profile,
        (None, Some(record)) => &record.spec.profile,
    };
    // What the record says of the content counts only where it speaks of the volume that the claim is bound to now.
    let record = record.filter(|record| describes(record, known));
    if let Some(binding) = binding {
        check_binding(binding)?;
        check_same_profile(facts, claim, binding, record)?;
    }
    let profile = usable_profile(facts, claim, reference)?;
    Ok(Some(Protection { binding, profile, record }))
}

fn check_binding(binding: &StorageBinding) -> Result<(), Refusal> {
    if binding.spec.suspension.mode == SuspensionMode::Freeze {
        let problem = "suspension.mode Freeze is not supported by this version; use Error".into();
        return Err(Refusal::InvalidBinding { binding: binding.name_any(), problem });
    }
    Ok(())
}

/// A volume that was written once keeps its root key.
fn check_same_profile(
    facts: &Facts,
    claim: &ClaimView,
    binding: &StorageBinding,
    record: Option<&EncryptedVolume>,
) -> Result<(), Refusal> {
    let written = |record: &&EncryptedVolume| record.status.as_ref().is_some_and(|s| s.marker.is_some());
    let Some(record) = record.filter(written) else { return Ok(()) };
    let (was, is) = (full_name(facts, &record.spec.profile), full_name(facts, &binding.spec.profile));
    if was == is {
        return Ok(());
    }
    Err(Refusal::ProfileChanged { claim: claim.shown.clone(), binding: binding.name_any(), was, is })
}

fn full_name(facts: &Facts, reference: &ProfileReference) -> String {
    format!("{}/{}", reference.namespace.as_deref().unwrap_or(&facts.namespace), reference.name)
}

/// The profile, if pods may start with it now.
fn usable_profile<'a>(
    facts: &'a Facts,
    claim: &ClaimView,
    reference: &ProfileReference,
) -> Result<&'a KmsProfile, Refusal> {
    let home = reference.namespace.as_deref().unwrap_or(&facts.namespace);
    let refuse = |problem: String| Refusal::Profile {
        claim: claim.shown.clone(),
        profile: format!("{home}/{}", reference.name),
        problem,
    };
    let is_it = |profile: &&Arc<KmsProfile>| {
        profile.name_any() == reference.name && profile.namespace().as_deref() == Some(home)
    };
    let Some(profile) = facts.profiles.iter().find(is_it) else {
        return Err(refuse("does not exist: create it".into()));
    };
    if home != facts.namespace && !profile.spec.allowed_namespaces.contains(&facts.namespace) {
        let problem =
            format!("does not allow namespace {}: its owner lists it in allowedNamespaces", facts.namespace);
        return Err(refuse(problem));
    }
    if home != facts.namespace && profile.spec.credentials.data.audience().is_none() {
        let problem = "authenticates with a Secret, and a Secret is never copied into another namespace: it needs a \
                       data credential that is a service account token";
        return Err(refuse(problem.into()));
    }
    if connection::provider(&profile.spec).is_none() {
        return Err(refuse("names no provider that this version supports".into()));
    }
    match profile_use::problem(profile) {
        Some(problem) => Err(refuse(problem)),
        None => Ok(profile),
    }
}
