//! The Job that rewraps one volume, or looks into one of which nobody has reported a marker.
//!
//! Invariant: a function of the custom resources and the settings alone; its pod meets Pod Security `restricted` wherever
//! the volume's ownership is not native, and holds the rewrap credential where the profile has one. One that looks has no credential,
//! cannot write the volume, and hands it to no group.

use api::binding::Rewrap;
use api::condition::reasons;
use api::profile::Credential;
use api::volume::Marker;
use api::{EncryptedVolume, KmsProfile, StorageBinding};
use contract::config::{CONFIG_VERSION, Ownership, Profile, SidecarConfig};
use contract::names;
use k8s_openapi::api::batch::v1::Job;
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use super::Settings;
use super::plan::Start;
use crate::credentials;
use crate::injection_config::{self, Use};
use crate::profile_use;
use crate::short_hash::short_hash;
use crate::webhook::injection::config::environment_value;

/// Annotation of a Job: the key version that it leads to.
const TARGET_ANNOTATION: &str = "cofferdam.io/rewrap-target";
/// Annotation of a Job: which attempt it is.
const ATTEMPT_ANNOTATION: &str = "cofferdam.io/rewrap-attempt";
/// Annotation of a Job: which credential it uses, `rewrap` or `data`.
const CREDENTIAL_ANNOTATION: &str = "cofferdam.io/rewrap-credential";
/// Label of a Job: the binding's name, so that its Jobs can be counted; hashed where it is too long.
pub const BINDING_LABEL: &str = "cofferdam.io/binding";
/// How the names of Jobs and of their pods begin; the admission policies rest on it.
pub const JOB_PREFIX: &str = "cofferdam-rewrap-";
/// The pod volume's name, and the raw volume's directory below `names::RAW_DIR`.
const VOLUME: &str = "data";
/// Capabilities of a Job on a volume of native ownership: it must open files of any owner and mode. Both are allowed at
/// Pod Security `baseline`.
const NATIVE_CAPABILITIES: [&str; 2] = ["DAC_OVERRIDE", "FOWNER"];

/// A Job could not be built.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum JobError {
    /// The profile's provider is not known to this version.
    #[error("reach the root key: the profile names no provider that this version supports")]
    Provider,
    /// The profile is of another namespace and has no trusted profile.
    #[error("authenticate with the KMS: a Secret of another namespace is never copied")]
    ForeignSecret,
    /// The profile cannot be used now.
    #[error("use the profile: it {0}")]
    Profile(String),
    /// The API's types did not take it.
    #[error("build a Job from its parts: {0}")]
    Shape(String),
}

/// The version that a Job leads to.
pub fn target(job: &Job) -> &str {
    job.annotations().get(TARGET_ANNOTATION).map_or("", String::as_str)
}

/// Which attempt a Job is.
pub fn attempt(job: &Job) -> u32 {
    job.annotations().get(ATTEMPT_ANNOTATION).and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Whether a Job uses the data credential; none: it does not say.
pub fn uses_data_credential(job: &Job) -> Option<bool> {
    job.annotations().get(CREDENTIAL_ANNOTATION).map(|credential| credential == "data")
}

/// A name as a label's value: hashed where it is longer than 63 bytes.
pub fn label_value(name: &str) -> String {
    if name.len() <= 63 { name.to_owned() } else { short_hash(&[name], 20) }
}

/// The credential that a Job uses; the flag says that it is the *data* credential, because there is no better one.
pub fn credential(profile: &KmsProfile) -> (&Credential, bool) {
    let credentials = &profile.spec.credentials;
    credentials.rewrap.as_ref().map_or((&credentials.data, true), |rewrap| (rewrap, false))
}

/// Nobody has reported the volume's marker: its Job only looks.
pub fn only_looks(volume: &EncryptedVolume) -> bool {
    marker(volume).is_none()
}

fn marker(volume: &EncryptedVolume) -> Option<&Marker> {
    volume.status.as_ref()?.marker.as_ref()
}

/// The Job for a volume and a version.
pub fn build(
    volume: &EncryptedVolume,
    binding: Option<&StorageBinding>,
    profile: &KmsProfile,
    start: &Start,
    settings: &Settings,
) -> Result<Job, JobError> {
    let namespace = volume.namespace().unwrap_or_default();
    let used = (!only_looks(volume)).then(|| usable(credential(profile), profile, &namespace)).transpose()?;
    let credential = used.map(|(credential, _)| credential);
    let profiles = credential.map(|credential| {
        injection_config::profile(profile, credential, &namespace, 0).ok_or(JobError::Provider)
    });
    let profiles = profiles.transpose()?.into_iter().collect();
    let config = config(volume, binding, profiles, start, settings);
    let claim = &volume.spec.claim_name;
    let labels = json!({
        names::REWRAP_LABEL: label_value(claim),
        BINDING_LABEL: label_value(&volume.spec.binding_name),
    });
    let name = format!("{JOB_PREFIX}{}-{}", short_hash(&[claim, &start.target], 10), start.attempt);
    let job = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels,
            "annotations": annotations(start, used.map(|(_, fallback)| fallback)),
            "ownerReferences": volume.controller_owner_ref(&()).into_iter().collect::<Vec<_>>(),
        },
        "spec": {
            "backoffLimit": binding.map_or(6, |binding| binding.spec.rewrap.backoff_limit),
            "completions": 1,
            "parallelism": 1,
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": {
                        "sidecar.istio.io/inject": "false",
                        "linkerd.io/inject": "disabled",
                    },
                },
                "spec": pod(volume, binding, credential, &config, settings),
            },
        },
    });
    serde_json::from_value(job).map_err(|error| JobError::Shape(error.to_string()))
}

/// A Secret is used in its own namespace alone, and nothing with a profile that cannot work.
fn usable<'a>(
    (credential, fallback): (&'a Credential, bool),
    profile: &KmsProfile,
    namespace: &str,
) -> Result<(&'a Credential, bool), JobError> {
    let foreign = profile.namespace().as_deref() != Some(namespace) && credential.audience().is_none();
    if foreign {
        return Err(JobError::ForeignSecret);
    }
    match profile_use::problem(profile) {
        Some(problem) => Err(JobError::Profile(problem)),
        None => Ok((credential, fallback)),
    }
}

/// `fallback`: the credential is the *data* credential; none: there is no credential.
fn annotations(start: &Start, fallback: Option<bool>) -> Value {
    let mut all = json!({TARGET_ANNOTATION: start.target, ATTEMPT_ANNOTATION: start.attempt.to_string()});
    if let Some(fallback) = fallback {
        all[CREDENTIAL_ANNOTATION] = json!(if fallback { "data" } else { "rewrap" });
    }
    all
}

fn config(
    volume: &EncryptedVolume,
    binding: Option<&StorageBinding>,
    profiles: Vec<Profile>,
    start: &Start,
    settings: &Settings,
) -> String {
    let used = Use {
        name: VOLUME,
        claim: &volume.spec.claim_name,
        profile: 0,
        // The marker's, where there is one; what only looks owns nothing.
        ownership: Ownership::Virtual,
        read_only: only_looks(volume),
    };
    let mut used = injection_config::volume(used, binding, Some(volume));
    used.look_for = only_looks(volume).then(|| start.target.clone());
    let config = SidecarConfig {
        version: CONFIG_VERSION,
        operator_url: settings.operator_url.clone(),
        profiles,
        volumes: vec![used],
    };
    environment_value(&config)
}

fn pod(
    volume: &EncryptedVolume,
    binding: Option<&StorageBinding>,
    credential: Option<&Credential>,
    config: &str,
    settings: &Settings,
) -> Value {
    let marker = marker(volume);
    let secrets = binding.map(|binding| binding.spec.image_pull_secrets.as_slice()).unwrap_or_default();
    let pull: Vec<_> = secrets.iter().map(|name| json!({"name": name})).collect();
    json!({
        "restartPolicy": "OnFailure",
        "terminationGracePeriodSeconds": 10,
        // Its tokens are those of `volumes`: none of them is for the API server.
        "serviceAccountName": binding.map_or_else(Rewrap::default, |binding| binding.spec.rewrap.clone()).service_account_name,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "imagePullSecrets": pull,
        "securityContext": pod_security(marker),
        "containers": [{
            "name": names::JOB_CONTAINER,
            "image": settings.image,
            "imagePullPolicy": settings.image_pull_policy,
            "command": [names::SIDECAR_PROGRAM, "job"],
            // Its last line says why it ended; kubelet puts it into the pod's status.
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "env": environment(config),
            "resources": resources(binding, settings),
            "securityContext": container_security(marker),
            "volumeMounts": mounts(credential.is_some()),
        }],
        "volumes": volumes(volume, credential),
    })
}

/// Virtual ownership: the identity that wrote the files, never root. Native: root, with what opens any file. Nobody has written yet: the
/// identity of a sidecar, without the group that kubelet would hand the volume to.
fn pod_security(marker: Option<&Marker>) -> Value {
    if is_native(marker) {
        return json!({"runAsUser": 0, "runAsGroup": 0, "seccompProfile": {"type": "RuntimeDefault"}});
    }
    let Some(marker) = marker else {
        return json!({
            "runAsNonRoot": true,
            "runAsUser": names::SIDECAR_UID,
            "runAsGroup": names::SIDECAR_UID,
            "seccompProfile": {"type": "RuntimeDefault"},
        });
    };
    json!({
        "runAsNonRoot": true,
        "runAsUser": if marker.uid == 0 { names::SIDECAR_UID } else { marker.uid },
        "runAsGroup": marker.gid,
        "fsGroup": marker.gid,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

fn container_security(marker: Option<&Marker>) -> Value {
    let mut capabilities = json!({"drop": ["ALL"]});
    if is_native(marker) {
        capabilities["add"] = json!(NATIVE_CAPABILITIES);
    }
    json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": capabilities})
}

fn is_native(marker: Option<&Marker>) -> bool {
    marker.is_some_and(|marker| marker.ownership == "Native")
}

fn environment(config: &str) -> Value {
    let field =
        |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    json!([
        {"name": names::CONFIG_ENV, "value": config},
        field(names::POD_NAME_ENV, "metadata.name"),
        field(names::POD_NAMESPACE_ENV, "metadata.namespace"),
        field(names::POD_UID_ENV, "metadata.uid"),
    ])
}

/// Those of the binding's sidecars.
fn resources(binding: Option<&StorageBinding>, settings: &Settings) -> Value {
    if let Some(resources) = binding.and_then(|binding| binding.spec.sidecar_resources.as_ref()) {
        return json!(resources);
    }
    let both = json!({"cpu": settings.sidecar_cpu, "memory": settings.sidecar_memory});
    json!({"requests": both, "limits": both})
}

/// Without a credential there is nothing to rewrap with, and nothing to be written.
fn mounts(rewraps: bool) -> Value {
    let mount =
        |name: &str, path: &str, read_only| json!({"name": name, "mountPath": path, "readOnly": read_only});
    let mut all = vec![
        mount(VOLUME, &format!("{}/{VOLUME}", names::RAW_DIR), !rewraps),
        mount(names::TOKEN_VOLUME, "/cofferdam/token", true),
        mount(names::CA_VOLUME, names::CA_DIR, true),
    ];
    if rewraps {
        let name = format!("{}0", names::CREDENTIALS_VOLUME_PREFIX);
        all.push(mount(&name, &format!("{}/0", names::CREDENTIALS_DIR), true));
    }
    json!(all)
}

fn token(audience: &str, path: &str) -> Value {
    let source = json!({"audience": audience, "expirationSeconds": 3600, "path": path});
    json!({"sources": [{"serviceAccountToken": source}], "defaultMode": 0o440})
}

fn volumes(volume: &EncryptedVolume, credential: Option<&Credential>) -> Value {
    let mut all = vec![
        json!({"name": VOLUME, "persistentVolumeClaim": {"claimName": volume.spec.claim_name}}),
        json!({"name": names::TOKEN_VOLUME, "projected": token(names::TOKEN_AUDIENCE, "token")}),
        json!({"name": names::CA_VOLUME, "configMap": {"name": names::CA_CONFIG_MAP, "optional": true}}),
    ];
    all.extend(credential.map(credential_volume));
    json!(all)
}

fn credential_volume(credential: &Credential) -> Value {
    credentials::volume(&format!("{}0", names::CREDENTIALS_VOLUME_PREFIX), credential, 0o440)
}

/// What a person should know of the credential that a Job of this profile uses.
pub fn credential_warning(profile: &KmsProfile) -> Option<String> {
    let (_, fallback) = credential(profile);
    fallback.then(|| {
        format!(
            "KmsProfile {} has no rewrap credential, so its Jobs use the data credential, which can also unwrap",
            profile.name_any()
        )
    })
}

/// Why a Job cannot be built, as a condition's reason.
pub fn reason(error: &JobError) -> &'static str {
    match error {
        JobError::Profile(_) => reasons::PROFILE_NOT_READY,
        JobError::Provider => reasons::PROVIDER_NOT_SUPPORTED,
        JobError::ForeignSecret => reasons::NAMESPACE_NOT_ALLOWED,
        JobError::Shape(_) => reasons::INVALID_SPEC,
    }
}

#[cfg(test)]
#[path = "job_tests.rs"]
mod tests;
