//! Takes out of a pod what an earlier injection put in, so that injecting again gives the same pod.
//!
//! Invariant: a pod that does not carry our annotation and yet uses our names is refused; nothing of the user's is removed.

use std::collections::BTreeMap;

use contract::names::{
    ATTRIBUTE_VOLUME, CSI_DRIVER, GATE_CONTAINER, INJECTED_ANNOTATION, JOB_CONTAINER, PLAIN_VOLUME_PREFIX,
    SIDECAR_CONTAINER, SYSTEM_VOLUME_PREFIX,
};
use serde_json::Value;

use super::pod;
use super::refusal::Refusal;

/// Where the API server mounts a service account's token into every container that has no mount there yet.
const API_TOKEN_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// What the API server's own plugins added to our containers between two calls of the webhook, to be kept.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// By container name: mounts of the API token.
    pub mounts: BTreeMap<String, Vec<Value>>,
    /// By container name: `resources`, for kinds that we do not set (a LimitRange may add them).
    pub resources: BTreeMap<String, Value>,
}

/// Whether a pod's annotation says that it was injected.
pub fn was_injected(pod: &Value) -> bool {
    let annotations = pod.pointer("/metadata/annotations");
    annotations.and_then(|all| all.get(INJECTED_ANNOTATION)).is_some()
}

/// Removes an earlier injection.
pub fn strip(pod: &mut Value) -> Result<Kept, Refusal> {
    if !was_injected(pod) {
        refuse_reserved(pod::spec(pod)?)?;
        return Ok(Kept::default());
    }
    let spec = pod::spec_mut(pod)?;
    let plain = plain_volumes(spec)?;
    let mut kept = Kept::default();
    for container in pod::list(spec, "initContainers")?.iter().filter(|container| is_ours(container)) {
        keep(&mut kept, container)?;
    }
    for field in pod::CONTAINER_LISTS {
        if pod::list(spec, field)?.is_empty() {
            continue;
        }
        let containers = pod::list_mut(spec, field)?;
        if field == "initContainers" {
            containers.retain(|container| !is_ours(container));
        }
        for container in containers {
            repoint(container, &plain)?;
        }
    }
    if !pod::list(spec, "volumes")?.is_empty() {
        pod::list_mut(spec, "volumes")?.retain(|volume| !is_our_volume(pod::name(volume)));
    }
    refuse_reserved(spec)?;
    Ok(kept)
}

/// Changes the volume names of a container's mounts.
pub fn repoint(container: &mut Value, names: &BTreeMap<String, String>) -> Result<(), Refusal> {
    if pod::list(container, "volumeMounts")?.is_empty() {
        return Ok(());
    }
    for mount in pod::list_mut(container, "volumeMounts")? {
        if let Some(name) = names.get(pod::name(mount)) {
            mount["name"] = Value::String(name.clone());
        }
    }
    Ok(())
}

fn is_ours(container: &Value) -> bool {
    [SIDECAR_CONTAINER, GATE_CONTAINER].contains(&pod::name(container))
}

fn is_our_volume(name: &str) -> bool {
    name.starts_with(PLAIN_VOLUME_PREFIX) || name.starts_with(SYSTEM_VOLUME_PREFIX)
}

/// Our inline CSI volumes, with the pod volume that each stands for.
fn plain_volumes(spec: &Value) -> Result<BTreeMap<String, String>, Refusal> {
    let volumes = pod::list(spec, "volumes")?.iter();
    let ours = volumes.filter(|volume| {
        pod::name(volume).starts_with(PLAIN_VOLUME_PREFIX)
            && pod::text(volume, "/csi/driver") == Some(CSI_DRIVER)
    });
    Ok(ours
        .filter_map(|volume| {
            let attributes = volume.pointer("/csi/volumeAttributes")?;
            let stands_for = attributes.get(ATTRIBUTE_VOLUME)?.as_str()?;
            Some((pod::name(volume).to_owned(), stands_for.to_owned()))
        })
        .collect())
}

fn keep(kept: &mut Kept, container: &Value) -> Result<(), Refusal> {
    let name = pod::name(container).to_owned();
    let mounts = pod::list(container, "volumeMounts")?.iter();
    let token =
        mounts.filter(|mount| pod::text(mount, "/mountPath") == Some(API_TOKEN_DIR)).cloned().collect();
    kept.mounts.insert(name.clone(), token);
    if let Some(resources) = container.get("resources") {
        kept.resources.insert(name, resources.clone());
    }
    Ok(())
}

fn refuse_reserved(spec: &Value) -> Result<(), Refusal> {
    let reserved = |name: &str| Refusal::ReservedName { name: name.to_owned() };
    for container in pod::containers(spec)? {
        let name = pod::name(container);
        if [SIDECAR_CONTAINER, GATE_CONTAINER, JOB_CONTAINER].contains(&name) {
            return Err(reserved(name));
        }
    }
    let volumes = pod::list(spec, "volumes")?;
    if let Some(name) = volumes.iter().map(pod::name).find(|name| is_our_volume(name)) {
        return Err(reserved(name));
    }
    let of_our_driver = |volume: &&Value| pod::text(volume, "/csi/driver") == Some(CSI_DRIVER);
    match volumes.iter().find(of_our_driver) {
        Some(volume) => Err(Refusal::OurDriver { volume: pod::name(volume).to_owned() }),
        None => Ok(()),
    }
}
