//! Injection: what becomes of a pod that uses protected claims.
//!
//! Invariant: pure and deterministic; the user's volumes are never renamed or changed; injecting an injected pod gives the same
//! pod; a pod without a protected claim is not touched.

pub mod config;
mod containers;
mod limits;
mod normal;
mod ownership;
pub mod patch;
mod pod;
mod protection;
mod refusal;
mod volumes;

use std::collections::BTreeMap;

use api::connection;
use api::{KmsProfile, StorageBinding};
use contract::names::{
    CHECK_IN_PORT, INJECTED_ANNOTATION, PROTECTED_LABEL, REWRAP_LABEL, SIDECAR_CPU_ANNOTATION,
    SIDECAR_MEMORY_ANNOTATION,
};
use kube::ResourceExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use self::containers::{Common, Mounted};
pub use self::ownership::{ENFORCE_LABEL, Runner};
pub use self::protection::{ClaimView, Facts, Protection, protection, selects};
pub use self::refusal::Refusal;
pub use self::volumes::plain_name;
use crate::injection_config::{self, Use};
use crate::settings::InjectionSettings;

/// Istio's and Linkerd's annotations for ports that their proxies leave alone.
const MESH_ANNOTATIONS: [&str; 2] =
    ["traffic.sidecar.istio.io/excludeOutboundPorts", "config.linkerd.io/skip-outbound-ports"];

/// A volume of a pod, its claim and what protects it.
#[derive(Debug)]
pub struct ProtectedVolume<'a> {
    /// The pod volume's name.
    pub name: String,
    /// The claim.
    pub claim: ClaimView,
    /// `persistentVolumeClaim.readOnly`.
    pub read_only_source: bool,
    /// What protects it.
    pub protection: Protection<'a>,
}

/// The injected pod; none where no claim of the pod is protected.
///
/// `pod` is the raw object of the admission request.
pub fn inject(pod: &Value, facts: &Facts, settings: &InjectionSettings) -> Result<Option<Value>, Refusal> {
    // The pods of rewrap Jobs mount raw claims on purpose; an admission policy sees to it that they are the operator's.
    if pod::strings(pod, "/metadata/labels").contains_key(REWRAP_LABEL) {
        return Ok(None);
    }
    let mut result = pod.clone();
    let kept = normal::strip(&mut result)?;
    let protected = protected_volumes(&result, facts)?;
    if protected.is_empty() {
        return if normal::was_injected(pod) { Err(Refusal::NothingProtected) } else { Ok(None) };
    }
    limits::check(pod::spec(&result)?, &result, &protected)?;
    let restricted = facts.namespace_labels.get(ENFORCE_LABEL).is_some_and(|level| level == "restricted");
    let claims: Vec<_> = protected.iter().map(|volume| volume.claim.shown.as_str()).collect();
    let protections: Vec<_> = protected.iter().map(|volume| &volume.protection).collect();
    let runner = ownership::decide(pod::spec(&result)?, restricted, &claims, &protections)?;
    let profiles = profiles(&protected);
    let config = configuration(&result, facts, settings, &protected, &profiles, runner)?;
    let common = Common {
        settings,
        runner,
        config: &config,
        resources: resources(&result, &protected, settings)?,
        volumes: protected
            .iter()
            .map(|volume| Mounted { name: volume.name.clone(), read_only: volume.read_only_source })
            .collect(),
        profiles: profiles.len(),
        app_armor: pod.pointer("/spec/securityContext/appArmorProfile").is_some_and(Value::is_object),
    };
    let ours = [containers::sidecar(&common), containers::gate(&common)];
    add_containers(
        &mut result,
        ours.into_iter().map(|container| with_kept(container, &kept)).collect(),
        &protected,
    )?;
    add_volumes(&mut result, &protected, &profiles)?;
    add_pull_secrets(&mut result, &protected)?;
    add_metadata(&mut result, &config, settings, &profiles)?;
    Ok(Some(result))
}

/// The pod's volumes whose claims are protected, in the pod's order.
pub fn protected_volumes<'a>(pod: &Value, facts: &'a Facts) -> Result<Vec<ProtectedVolume<'a>>, Refusal> {
    let mut found = vec![];
    for volume in pod::list(pod::spec(pod)?, "volumes")? {
        let Some(claim) = claim(pod, volume, facts)? else { continue };
        if let Some(protection) = protection(facts, &claim)? {
            found.push(ProtectedVolume {
                name: pod::name(volume).to_owned(),
                claim,
                read_only_source: pod::is_true(volume, "/persistentVolumeClaim/readOnly"),
                protection,
            });
        }
    }
    Ok(found)
}

/// The claim of a pod volume; none where the volume has no claim.
fn claim(pod: &Value, volume: &Value, facts: &Facts) -> Result<Option<ClaimView>, Refusal> {
    let is_block = |mode: Option<&str>| mode == Some("Block");
    if let Some(name) = pod::text(volume, "/persistentVolumeClaim/claimName") {
        let Some(Some(claim)) = facts.claims.get(name) else {
            return Err(Refusal::ClaimMissing { claim: name.to_owned() });
        };
        return Ok(Some(ClaimView {
            name: Some(name.to_owned()),
            shown: name.to_owned(),
            labels: claim.labels().clone(),
            block: is_block(claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref())),
        }));
    }
    let Some(template) = volume.pointer("/ephemeral/volumeClaimTemplate") else { return Ok(None) };
    let name = pod::text(pod, "/metadata/name").filter(|name| !name.is_empty());
    let name = name.map(|pod| format!("{pod}-{}", pod::name(volume)));
    Ok(Some(ClaimView {
        shown: name.clone().unwrap_or_else(|| format!("of volume {}", pod::name(volume))),
        name,
        labels: pod::strings(template, "/metadata/labels"),
        block: is_block(pod::text(template, "/spec/volumeMode")),
    }))
}

/// The profiles of the protected volumes, each once, in the order of the volumes.
fn profiles<'a>(protected: &[ProtectedVolume<'a>]) -> Vec<&'a KmsProfile> {
    let mut profiles: Vec<&KmsProfile> = vec![];
    for volume in protected {
        if !profiles.iter().any(|known| same(known, volume.protection.profile)) {
            profiles.push(volume.protection.profile);
        }
    }
    profiles
}

fn same(one: &KmsProfile, other: &KmsProfile) -> bool {
    (one.namespace(), one.name_any()) == (other.namespace(), other.name_any())
}

fn configuration(
    pod: &Value,
    facts: &Facts,
    settings: &InjectionSettings,
    protected: &[ProtectedVolume<'_>],
    profiles: &[&KmsProfile],
    runner: Runner,
) -> Result<String, Refusal> {
    let mut volumes = vec![];
    for volume in protected {
        let at = profiles.iter().position(|profile| same(profile, volume.protection.profile));
        let at = at.expect("`profiles` holds the profile of every volume");
        let ephemeral = volume.claim.name.is_none() || is_ephemeral(pod, &volume.name)?;
        let claim =
            if ephemeral { config::ephemeral_claim(&volume.name) } else { volume.claim.shown.clone() };
        let read_only = volume.read_only_source || only_read(pod, &volume.name)?;
        let used =
            Use { name: &volume.name, claim: &claim, profile: at, ownership: runner.ownership, read_only };
        let Protection { binding, record, .. } = volume.protection;
        volumes.push(injection_config::volume(used, binding, record));
    }
    let profiles = profiles.iter().enumerate().filter_map(|(at, profile)| {
        injection_config::profile(profile, &profile.spec.credentials.data, &facts.namespace, at)
    });
    let profiles = profiles.collect();
    Ok(config::environment_value(&config::sidecar_config(&settings.operator_url, profiles, volumes)))
}

fn is_ephemeral(pod: &Value, name: &str) -> Result<bool, Refusal> {
    let volumes = pod::list(pod::spec(pod)?, "volumes")?.iter();
    Ok(volumes.filter(|volume| pod::name(volume) == name).any(|volume| volume.get("ephemeral").is_some()))
}

/// Whether the application mounts a volume at all, and every mount of it is read-only.
fn only_read(pod: &Value, name: &str) -> Result<bool, Refusal> {
    let mut mounts = vec![];
    for container in pod::containers(pod::spec(pod)?)? {
        mounts.extend(pod::list(container, "volumeMounts")?.iter().filter(|mount| pod::name(mount) == name));
    }
    Ok(!mounts.is_empty() && mounts.iter().all(|mount| pod::is_true(mount, "/readOnly")))
}

/// CPU and memory of the sidecar: the pod's annotations, else the first binding that says it, else the operator's default.
fn resources(
    pod: &Value,
    protected: &[ProtectedVolume<'_>],
    settings: &InjectionSettings,
) -> Result<(String, String), Refusal> {
    let mut cpu = settings.sidecar_cpu.clone();
    let mut memory = settings.sidecar_memory.clone();
    let bindings = protected.iter().filter_map(|volume| volume.protection.binding);
    let mut saying = bindings.filter(|binding| binding.spec.sidecar_resources.is_some());
    if let Some(binding) = saying.next() {
        (cpu, memory) = of_binding(binding, (cpu, memory))?;
    }
    let annotations = pod::strings(pod, "/metadata/annotations");
    let chosen = |name: &str, other: String| annotations.get(name).cloned().unwrap_or(other);
    Ok((chosen(SIDECAR_CPU_ANNOTATION, cpu), chosen(SIDECAR_MEMORY_ANNOTATION, memory)))
}

fn of_binding(binding: &StorageBinding, default: (String, String)) -> Result<(String, String), Refusal> {
    let Some(resources) = &binding.spec.sidecar_resources else { return Ok(default) };
    let pick = |kind: &str, default: String| {
        let of = |list: &Option<BTreeMap<String, _>>| list.as_ref().and_then(|list| list.get(kind).cloned());
        match (of(&resources.requests), of(&resources.limits)) {
            (None, None) => Ok(default),
            (Some(one), Some(other)) if one != other => {
                Err(Refusal::UnequalResources { place: format!("StorageBinding {}", binding.name_any()) })
            }
            (Some(one), _) | (None, Some(one)) => Ok(one.0),
        }
    };
    Ok((pick("cpu", default.0)?, pick("memory", default.1)?))
}

/// Gives a container back what the API server's own plugins had added to it.
fn with_kept(mut container: Value, kept: &normal::Kept) -> Value {
    let name = pod::name(&container).to_owned();
    if let (Some(mounts), Some(list)) = (kept.mounts.get(&name), container["volumeMounts"].as_array_mut()) {
        list.extend(mounts.iter().cloned());
    }
    for field in ["requests", "limits"] {
        let had =
            kept.resources.get(&name).and_then(|resources| resources.get(field)).and_then(Value::as_object);
        for (kind, amount) in had.into_iter().flatten() {
            if container["resources"][field].get(kind).is_none() {
                container["resources"][field][kind] = amount.clone();
            }
        }
    }
    container
}

fn add_containers(
    pod: &mut Value,
    ours: Vec<Value>,
    protected: &[ProtectedVolume<'_>],
) -> Result<(), Refusal> {
    let names = protected.iter().map(|volume| (volume.name.clone(), plain_name(&volume.name))).collect();
    let spec = pod::spec_mut(pod)?;
    for field in pod::CONTAINER_LISTS {
        if pod::list(spec, field)?.is_empty() {
            continue;
        }
        for container in pod::list_mut(spec, field)? {
            normal::repoint(container, &names)?;
        }
    }
    pod::list_mut(spec, "initContainers")?.splice(0..0, ours);
    Ok(())
}

fn add_volumes(
    pod: &mut Value,
    protected: &[ProtectedVolume<'_>],
    profiles: &[&KmsProfile],
) -> Result<(), Refusal> {
    let volumes = pod::list_mut(pod::spec_mut(pod)?, "volumes")?;
    volumes.extend(protected.iter().map(|volume| volumes::plain(&volume.name, volume.read_only_source)));
    volumes.extend(volumes::system(profiles));
    Ok(())
}

fn add_pull_secrets(pod: &mut Value, protected: &[ProtectedVolume<'_>]) -> Result<(), Refusal> {
    let bindings = protected.iter().filter_map(|volume| volume.protection.binding);
    let names: Vec<_> = bindings.flat_map(|binding| &binding.spec.image_pull_secrets).collect();
    if names.is_empty() {
        return Ok(());
    }
    let list = pod::list_mut(pod::spec_mut(pod)?, "imagePullSecrets")?;
    for name in names {
        if !list.iter().any(|secret| pod::name(secret) == name) {
            list.push(json!({"name": name}));
        }
    }
    Ok(())
}

fn add_metadata(
    pod: &mut Value,
    config: &str,
    settings: &InjectionSettings,
    profiles: &[&KmsProfile],
) -> Result<(), Refusal> {
    let metadata = pod::map_mut(pod, "pod")?.entry("metadata").or_insert_with(|| json!({}));
    let hash: String = Sha256::digest(config.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    set(metadata, "labels", PROTECTED_LABEL, "true")?;
    set(metadata, "annotations", INJECTED_ANNOTATION, &format!("sha256:{hash}"))?;
    if settings.mesh_exclusion {
        for annotation in MESH_ANNOTATIONS {
            let had = pod::strings(metadata, "/annotations").remove(annotation).unwrap_or_default();
            set(metadata, "annotations", annotation, &with_ports(&had, profiles))?;
        }
    }
    Ok(())
}

fn set(metadata: &mut Value, field: &'static str, key: &str, value: &str) -> Result<(), Refusal> {
    let map = pod::map_mut(metadata, "metadata")?.entry(field).or_insert_with(|| json!({}));
    if map.is_null() {
        *map = json!({});
    }
    pod::map_mut(map, field)?.insert(key.to_owned(), Value::String(value.to_owned()));
    Ok(())
}

/// A comma-separated list of ports with those of the check-in server and of the KMS.
fn with_ports(had: &str, profiles: &[&KmsProfile]) -> String {
    let mut ports: Vec<String> =
        had.split(',').map(str::trim).filter(|port| !port.is_empty()).map(str::to_owned).collect();
    let providers = profiles.iter().filter_map(|profile| connection::provider(&profile.spec));
    let called = providers.flat_map(|provider| provider.endpoints()).map(|one| one.url);
    let proxies = profiles.iter().filter_map(|profile| profile.spec.proxy.clone());
    let ports_of_kms = called.chain(proxies).map(|url| port(&url));
    for port in std::iter::once(CHECK_IN_PORT.to_string()).chain(ports_of_kms) {
        if !ports.contains(&port) {
            ports.push(port);
        }
    }
    ports.join(",")
}

/// The port of an https URL without path.
fn port(url: &str) -> String {
    let authority = url.trim_start_matches("https://").trim_end_matches('/');
    let after_host = authority.rsplit_once(']').map_or(authority, |(_, rest)| rest);
    let port = after_host.rsplit_once(':').map(|(_, port)| port).filter(|port| port.parse::<u16>().is_ok());
    port.unwrap_or("443").to_owned()
}

#[cfg(test)]
mod tests;
