//! The Job that rewraps one volume.
//!
//! Invariant: a function of the custom resources and the settings alone; its pod meets Pod Security `restricted` wherever
//! the volume's ownership is virtual, and holds the rewrap credential where the profile has one.

use api::condition::reasons;
use api::profile::Credential;
use api::volume::Marker;
use api::{EncryptedVolume, KmsProfile, StorageBinding};
use contract::config::{CONFIG_VERSION, Ownership, SidecarConfig};
use contract::names;
use k8s_openapi::api::batch::v1::Job;
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Settings;
use super::plan::Start;
use crate::injection_config::{self, IDENTITY_TOKEN, Use};
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
    /// Nobody has seen the volume's marker.
    #[error("know who must open the volume: its marker was never reported")]
    NoMarker,
    /// The profile's provider is not known to this version.
    #[error("reach the root key: this version supports keyProtect only")]
    Provider,
    /// The profile is of another namespace and has no trusted profile.
    #[error("authenticate with the KMS: a Secret of another namespace is never copied")]
    ForeignSecret,
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

/// The first hexadecimal digits of a hash over these parts.
pub fn short_hash(parts: &[&str], digits: usize) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    hex[..digits].to_owned()
}

/// The credential that a Job uses; the flag says that it is the *data* credential, because there is no better one.
pub fn credential(profile: &KmsProfile) -> (&Credential, bool) {
    let credentials = &profile.spec.credentials;
    credentials.rewrap.as_ref().map_or((&credentials.data, true), |rewrap| (rewrap, false))
}

/// The Job for a volume and a version.
pub fn build(
    volume: &EncryptedVolume,
    binding: Option<&StorageBinding>,
    profile: &KmsProfile,
    start: &Start,
    settings: &Settings,
) -> Result<Job, JobError> {
    let status = volume.status.as_ref();
    let marker = status.and_then(|status| status.marker.as_ref()).ok_or(JobError::NoMarker)?;
    let namespace = volume.namespace().unwrap_or_default();
    let (credential, fallback) = credential(profile);
    if profile.namespace().as_deref() != Some(&namespace) && credential.trusted_profile.is_none() {
        return Err(JobError::ForeignSecret);
    }
    let config = config(volume, binding, profile, credential, settings)?;
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
            "annotations": {
                TARGET_ANNOTATION: start.target,
                ATTEMPT_ANNOTATION: start.attempt.to_string(),
                CREDENTIAL_ANNOTATION: if fallback { "data" } else { "rewrap" },
            },
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
                "spec": pod(volume, binding, profile, marker, &config, settings),
            },
        },
    });
    serde_json::from_value(job).map_err(|error| JobError::Shape(error.to_string()))
}

fn config(
    volume: &EncryptedVolume,
    binding: Option<&StorageBinding>,
    profile: &KmsProfile,
    credential: &Credential,
    settings: &Settings,
) -> Result<String, JobError> {
    let namespace = volume.namespace().unwrap_or_default();
    let used = Use {
        name: VOLUME,
        claim: &volume.spec.claim_name,
        profile: 0,
        // The marker's, which `build` has required.
        ownership: Ownership::Virtual,
        read_only: false,
    };
    let config = SidecarConfig {
        version: CONFIG_VERSION,
        operator_url: settings.operator_url.clone(),
        profiles: vec![
            injection_config::profile(profile, credential, &namespace, 0).ok_or(JobError::Provider)?,
        ],
        volumes: vec![injection_config::volume(used, binding, Some(volume))],
    };
    Ok(environment_value(&config))
}

fn pod(
    volume: &EncryptedVolume,
    binding: Option<&StorageBinding>,
    profile: &KmsProfile,
    marker: &Marker,
    config: &str,
    settings: &Settings,
) -> Value {
    let secrets = binding.map(|binding| binding.spec.image_pull_secrets.as_slice()).unwrap_or_default();
    let pull: Vec<_> = secrets.iter().map(|name| json!({"name": name})).collect();
    json!({
        "restartPolicy": "OnFailure",
        "terminationGracePeriodSeconds": 10,
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
            "volumeMounts": mounts(),
        }],
        "volumes": volumes(volume, profile),
    })
}

/// Virtual ownership: the identity that wrote the files, never root. Native: root, with what opens any file.
fn pod_security(marker: &Marker) -> Value {
    if is_native(marker) {
        return json!({"runAsUser": 0, "runAsGroup": 0, "seccompProfile": {"type": "RuntimeDefault"}});
    }
    json!({
        "runAsNonRoot": true,
        "runAsUser": if marker.uid == 0 { names::SIDECAR_UID } else { marker.uid },
        "runAsGroup": marker.gid,
        "fsGroup": marker.gid,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

fn container_security(marker: &Marker) -> Value {
    let mut capabilities = json!({"drop": ["ALL"]});
    if is_native(marker) {
        capabilities["add"] = json!(NATIVE_CAPABILITIES);
    }
    json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": capabilities})
}

fn is_native(marker: &Marker) -> bool {
    marker.ownership == "Native"
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

fn mounts() -> Value {
    json!([
        {"name": VOLUME, "mountPath": format!("{}/{VOLUME}", names::RAW_DIR)},
        {"name": names::TOKEN_VOLUME, "mountPath": "/cofferdam/token", "readOnly": true},
        {"name": names::CA_VOLUME, "mountPath": names::CA_DIR, "readOnly": true},
        {
            "name": format!("{}0", names::CREDENTIALS_VOLUME_PREFIX),
            "mountPath": format!("{}/0", names::CREDENTIALS_DIR),
            "readOnly": true,
        },
    ])
}

fn volumes(volume: &EncryptedVolume, profile: &KmsProfile) -> Value {
    let token = |audience: &str, path: &str| {
        let source = json!({"audience": audience, "expirationSeconds": 3600, "path": path});
        json!({"sources": [{"serviceAccountToken": source}], "defaultMode": 0o440})
    };
    let (credential, _) = credential(profile);
    let mut credentials = match (&credential.trusted_profile, &credential.api_key_secret) {
        (Some(trusted), _) => json!({"projected": token(&trusted.audience, IDENTITY_TOKEN)}),
        (None, secret) => json!({"secret": {
            "secretName": secret.as_ref().map(|secret| secret.name.clone()),
            "items": [{"key": names::API_KEY_SECRET_KEY, "path": names::API_KEY_SECRET_KEY}],
            "defaultMode": 0o440,
        }}),
    };
    credentials["name"] = json!(format!("{}0", names::CREDENTIALS_VOLUME_PREFIX));
    json!([
        {"name": VOLUME, "persistentVolumeClaim": {"claimName": volume.spec.claim_name}},
        {"name": names::TOKEN_VOLUME, "projected": token(names::TOKEN_AUDIENCE, "token")},
        {"name": names::CA_VOLUME, "configMap": {"name": names::CA_CONFIG_MAP, "optional": true}},
        credentials,
    ])
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
        JobError::NoMarker => reasons::PENDING,
        JobError::Provider => reasons::PROVIDER_NOT_SUPPORTED,
        JobError::ForeignSecret => reasons::NAMESPACE_NOT_ALLOWED,
        JobError::Shape(_) => reasons::INVALID_SPEC,
    }
}

#[cfg(test)]
#[path = "job_tests.rs"]
mod tests;
