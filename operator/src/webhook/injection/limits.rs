//! What a pod with protected claims cannot have.
//!
//! Invariant: each refusal says what to change; nothing is changed silently.

use serde_json::Value;
use std::path::Path;

use super::ProtectedVolume;
use super::pod;
use super::refusal::Refusal;

/// Refuses what cannot work or would open what is to be closed.
pub fn check(spec: &Value, pod: &Value, protected: &[ProtectedVolume<'_>]) -> Result<(), Refusal> {
    check_pod(spec, pod)?;
    for volume in protected {
        if volume.claim.block {
            return Err(Refusal::BlockVolume { volume: volume.name.clone() });
        }
        for container in pod::containers(spec)? {
            check_container(container, &volume.name)?;
        }
    }
    Ok(())
}

fn check_pod(spec: &Value, pod: &Value) -> Result<(), Refusal> {
    if pod::text(spec, "/os/name") == Some("windows")
        || pod::text(spec, "/nodeSelector/kubernetes.io~1os") == Some("windows")
    {
        return Err(Refusal::Windows);
    }
    if spec.get("hostUsers").and_then(Value::as_bool) == Some(false) {
        return Err(Refusal::UserNamespace);
    }
    for field in ["shareProcessNamespace", "hostPID"] {
        if pod::is_true(spec, &format!("/{field}")) {
            return Err(Refusal::SharedProcesses { field });
        }
    }
    if pod.pointer("/metadata/annotations/kubernetes.io~1config.mirror").is_some() {
        return Err(Refusal::StaticPod);
    }
    Ok(())
}

fn check_container(container: &Value, volume: &str) -> Result<(), Refusal> {
    let named = |item: &&Value| pod::name(item) == volume;
    if pod::list(container, "volumeDevices")?.iter().any(|device| named(&device)) {
        return Err(Refusal::BlockVolume { volume: volume.to_owned() });
    }
    let (container_name, volume_name) = (pod::name(container).to_owned(), volume.to_owned());
    for mount in pod::list(container, "volumeMounts")?.iter().filter(named) {
        if pod::text(mount, "/mountPropagation") == Some("Bidirectional") {
            return Err(Refusal::Bidirectional { container: container_name, volume: volume_name });
        }
        let message = pod::text(container, "/terminationMessagePath").unwrap_or_default();
        let path = pod::text(mount, "/mountPath").unwrap_or_default();
        if !message.is_empty() && Path::new(message).starts_with(path) {
            return Err(Refusal::TerminationMessage { container: container_name, volume: volume_name });
        }
    }
    Ok(())
}
