//! The configuration of a sidecar or a rewrap Job, as a function of the custom resources.
//!
//! Invariant: pure and deterministic; it names files, never their content, so no secret can get into it.

use api::binding::{SuspensionMode, Wrapping};
use api::connection;
use api::profile::Credential as Declared;
use api::{EncryptedVolume, KmsProfile, StorageBinding};
use contract::config::{Ownership, Profile, Suspension, Volume};
use contract::names::{CA_DIR, CREDENTIALS_DIR};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;

/// The longest that a sidecar may go without a look at the key.
const LONGEST_POLL: u32 = 30;

/// The key of the ConfigMap `cofferdam-ca` of a namespace under which a profile's certificate authorities stand.
pub fn ca_key(namespace: &str, profile: &KmsProfile) -> String {
    let (home, name) = (profile.namespace().unwrap_or_default(), profile.name_any());
    // `_` is in no name of an object, so that no two profiles share a key.
    if home == namespace { format!("kms-{name}.crt") } else { format!("kms-{home}_{name}.crt") }
}

/// A profile as a program in a pod of `namespace` needs it; `index` is its place in the configuration. `None`: this version
/// does not know its provider.
pub fn profile(
    profile: &KmsProfile,
    credential: &Declared,
    namespace: &str,
    index: usize,
) -> Option<Profile> {
    let provider = connection::provider(&profile.spec)?;
    let credential = connection::in_directory(credential, &format!("{CREDENTIALS_DIR}/{index}"))?;
    let ca = profile.spec.ca_bundle.as_ref().map(|_| format!("{CA_DIR}/{}", ca_key(namespace, profile)));
    Some(Profile {
        namespace: profile.namespace().unwrap_or_default(),
        name: profile.name_any(),
        provider,
        credential,
        ca_file: ca,
        proxy: profile.spec.proxy.clone(),
        poll_seconds: profile.spec.poll_seconds.min(LONGEST_POLL),
        key_ttl_seconds: profile.spec.key_ttl_seconds,
        outage_grace_seconds: profile.spec.outage_grace_seconds,
    })
}

/// Whether a record speaks of the volume that a claim is bound to now: a claim that was made anew has the name of one that is
/// gone, and none of its content. `None`: the claim does not exist yet.
pub fn describes(record: &EncryptedVolume, claim: Option<&PersistentVolumeClaim>) -> bool {
    let recorded = record.status.as_ref().and_then(|status| status.persistent_volume.as_ref());
    let bound = claim.and_then(|claim| claim.spec.as_ref()).and_then(|spec| spec.volume_name.as_ref());
    recorded.is_none() || recorded == bound
}

/// Whether a person has released the claim as it is now: what was released is a persistent volume, and a claim that was made
/// anew has another one. `None`: the claim does not exist yet.
pub fn releases(record: &EncryptedVolume, claim: Option<&PersistentVolumeClaim>) -> bool {
    let released = record.status.as_ref().and_then(|status| status.released_volume.as_ref());
    let bound = claim.and_then(|claim| claim.spec.as_ref()).and_then(|spec| spec.volume_name.as_ref());
    record.spec.release && describes(record, claim) && (released.is_none() || released == bound)
}

/// What a volume is called in its pod, and how the pod uses it.
#[derive(Clone, Copy, Debug)]
pub struct Use<'a> {
    /// The pod volume's name.
    pub name: &'a str,
    /// The claim's name.
    pub claim: &'a str,
    /// Index of its profile in the configuration.
    pub profile: usize,
    /// What the pod's identity asks for; a marker that was seen before overrides it.
    pub ownership: Ownership,
    /// The pod mounts it read-only everywhere.
    pub read_only: bool,
}

/// A volume, by its binding (`None` where that is gone: its defaults count) and its record (`None` where there is none yet).
pub fn volume(used: Use<'_>, binding: Option<&StorageBinding>, record: Option<&EncryptedVolume>) -> Volume {
    let spec = binding.map(|binding| &binding.spec);
    let marker = record.and_then(|record| record.status.as_ref()).and_then(|status| status.marker.as_ref());
    let ownership = match marker.map(|marker| marker.ownership.as_str()) {
        Some("Native") => Ownership::Native,
        Some("Virtual") => Ownership::Virtual,
        _ => used.ownership,
    };
    Volume {
        name: used.name.into(),
        claim: used.claim.into(),
        binding: binding.map(ResourceExt::name_any),
        profile: used.profile,
        wrapping: match spec.map(|spec| spec.wrapping).unwrap_or_default() {
            Wrapping::Direct => contract::config::Wrapping::Direct,
            Wrapping::Grouped => contract::config::Wrapping::Grouped,
        },
        ownership,
        strict: marker.map_or_else(|| spec.is_some_and(|spec| spec.strict), |marker| marker.strict),
        seal: marker.map_or_else(|| spec.is_some_and(|spec| spec.seal), |marker| marker.seal),
        read_only: used.read_only,
        // `Freeze` is refused before it comes here.
        suspension: match spec.map(|spec| spec.suspension.mode).unwrap_or_default() {
            SuspensionMode::Error | SuspensionMode::Freeze => Suspension::Error,
        },
        storage_entries: spec.map(|spec| spec.storage_entries.clone()).unwrap_or_default(),
        accepted_origins: spec.map(|spec| spec.accepted_origins.clone()).unwrap_or_default(),
        pinned_volume_id: marker.map(|marker| marker.volume_id.clone()),
        sweep_files_per_second: spec.map_or(0, |spec| spec.rewrap.files_per_second),
        look_for: None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_record_is_of_the_claim_only_while_both_name_the_same_persistent_volume() {
        let record = |persistent_volume: Option<&str>| -> EncryptedVolume {
            serde_json::from_value(json!({
                "apiVersion": "cofferdam.io/v1alpha1", "kind": "EncryptedVolume", "metadata": {"name": "files"},
                "spec": {"claimName": "files", "bindingName": "app", "profile": {"name": "main"}},
                "status": {"persistentVolume": persistent_volume},
            }))
            .unwrap()
        };
        let claim = |volume: Option<&str>| -> PersistentVolumeClaim {
            serde_json::from_value(json!({"spec": {"volumeName": volume}})).unwrap()
        };
        assert!(describes(&record(Some("pv-1")), Some(&claim(Some("pv-1")))));
        assert!(describes(&record(None), Some(&claim(Some("pv-1")))));
        assert!(!describes(&record(Some("pv-1")), Some(&claim(Some("pv-2")))));
        assert!(!describes(&record(Some("pv-1")), Some(&claim(None))), "not bound yet: a new claim");
        assert!(!describes(&record(Some("pv-1")), None));
    }
}
