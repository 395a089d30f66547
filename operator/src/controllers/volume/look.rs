//! Reads what is around a volume.
//!
//! Invariant: it reads the API itself, not a cache: what is decided on it may delete or start a Job.

use api::{EncryptedVolume, KmsProfile, StorageBinding};
use contract::names::{REWRAP_LABEL, SIDECAR_CONTAINER};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::left;
use crate::controllers::snapshots;
use crate::rewrap::job::{BINDING_LABEL, label_value};
use crate::rewrap::plan::ending;

/// What is around a volume.
pub struct Around {
    /// Its claim, if it exists.
    pub claim: Option<PersistentVolumeClaim>,
    /// Its persistent volume (the claim's, or the recorded one) exists.
    pub persistent_volume_exists: bool,
    /// Why the record stays although claim and persistent volume are gone.
    pub kept: Option<String>,
    /// Its binding, if it still exists.
    pub binding: Option<StorageBinding>,
    /// Its profile, if it exists.
    pub profile: Option<KmsProfile>,
    /// Pods that have not ended and mount the claim, without those of its Jobs.
    pub pods: Vec<Pod>,
    /// Its Jobs.
    pub jobs: Vec<Job>,
    /// Pods of its Jobs, ended ones too.
    pub job_pods: Vec<Pod>,
    /// Unfinished Jobs of other volumes of its binding.
    pub others_running: usize,
}

impl Around {
    /// Pods mount the volume, and none of them can write it.
    pub fn only_read(&self, claim: &str) -> bool {
        !self.pods.is_empty() && self.pods.iter().all(|pod| only_reads(pod, claim))
    }
}

/// Looks around.
pub async fn look(client: &Client, volume: &EncryptedVolume) -> Result<Around, kube::Error> {
    let namespace = volume.namespace().unwrap_or_default();
    let spec = &volume.spec;
    let home = spec.profile.namespace.as_deref().unwrap_or(&namespace);
    let claim = claim(client, volume).await?;
    let jobs = Api::<Job>::namespaced(client.clone(), &namespace);
    let of_binding = ListParams::default()
        .labels(&format!("{REWRAP_LABEL},{BINDING_LABEL}={}", label_value(&spec.binding_name)));
    let all = jobs.list(&of_binding).await?.items;
    let (mine, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|job| is_of(job, volume));
    let unended = ListParams::default().fields("status.phase!=Succeeded,status.phase!=Failed");
    let pods = Api::<Pod>::namespaced(client.clone(), &namespace).list(&unended).await?.items;
    // Pods that mount the claim mount another volume than the one that it has left.
    let mounts = |pod: &Pod| !volume.has_left_its_claim() && mounts(pod, &spec.claim_name);
    let pods: Vec<_> = pods.into_iter().filter(|pod| mounts(pod) && !belongs_to(pod, &mine)).collect();
    let exists = persistent_volume_exists(client, volume, claim.as_ref()).await?;
    let kept = if claim.is_none() && pods.is_empty() && !exists { held(client, volume).await } else { None };
    Ok(Around {
        persistent_volume_exists: exists,
        kept,
        claim,
        binding: Api::namespaced(client.clone(), &namespace).get_opt(&spec.binding_name).await?,
        profile: Api::namespaced(client.clone(), home).get_opt(&spec.profile.name).await?,
        pods,
        job_pods: job_pods(client, volume, &mine).await?,
        others_running: others.iter().filter(|job| ending(job).is_none()).count(),
        jobs: mine,
    })
}

async fn claim(
    client: &Client,
    volume: &EncryptedVolume,
) -> Result<Option<PersistentVolumeClaim>, kube::Error> {
    if volume.has_left_its_claim() {
        return Ok(None);
    }
    let namespace = volume.namespace().unwrap_or_default();
    Api::namespaced(client.clone(), &namespace).get_opt(&volume.spec.claim_name).await
}

/// The persistent volume that a claim is bound to.
pub fn bound(claim: Option<&PersistentVolumeClaim>) -> Option<String> {
    claim?.spec.as_ref()?.volume_name.clone()
}

/// Whether there is a persistent volume that this record alone counts.
async fn persistent_volume_exists(
    client: &Client,
    volume: &EncryptedVolume,
    claim: Option<&PersistentVolumeClaim>,
) -> Result<bool, kube::Error> {
    let recorded = volume.status.as_ref().and_then(|status| status.persistent_volume.clone());
    let left = volume.spec.persistent_volume.clone();
    let Some(name) = left.or_else(|| bound(claim)).or(recorded) else { return Ok(false) };
    Ok(exists(client, &name).await? && left::counted_by(client, volume).await?.is_none())
}

async fn exists(client: &Client, persistent_volume: &str) -> Result<bool, kube::Error> {
    let all = Api::<PersistentVolume>::all(client.clone());
    Ok(all.get_metadata_opt(persistent_volume).await?.is_some())
}

/// Why a volume that no claim is bound to still has to be counted; none: nothing of it is there.
pub async fn remains(
    client: &Client,
    volume: &EncryptedVolume,
    persistent_volume: &str,
) -> Result<Option<String>, kube::Error> {
    if exists(client, persistent_volume).await? {
        return Ok(Some(format!("persistent volume {persistent_volume} is still there")));
    }
    Ok(held(client, volume).await)
}

/// What holds files of a volume whose persistent volume is gone. Where nobody says, it is not forgotten.
async fn held(client: &Client, volume: &EncryptedVolume) -> Option<String> {
    let seen =
        volume.has_left_its_claim() || volume.status.as_ref().is_some_and(|status| status.marker.is_some());
    if !seen {
        return None;
    }
    let namespace = volume.namespace().unwrap_or_default();
    let snapshots = match snapshots::of_namespace(client, &namespace).await {
        Ok(snapshots) => snapshots,
        Err(error) => return Some(format!("claim and persistent volume are gone, and {error}")),
    };
    let of_it = snapshots.iter().filter(|snapshot| snapshot.claim.is_some() && snapshot.may_be_of(volume));
    let names: Vec<_> = of_it.map(|snapshot| snapshot.name.as_str()).collect();
    let first = names.first()?;
    let more = if names.len() > 1 { format!(" and {} more", names.len() - 1) } else { String::new() };
    Some(format!(
        "claim and persistent volume are gone; VolumeSnapshot {first}{more} still holds files of it"
    ))
}

fn is_of(job: &Job, volume: &EncryptedVolume) -> bool {
    job.owner_references().iter().any(|owner| Some(&owner.uid) == volume.metadata.uid.as_ref())
}

async fn job_pods(client: &Client, volume: &EncryptedVolume, jobs: &[Job]) -> Result<Vec<Pod>, kube::Error> {
    if jobs.is_empty() {
        return Ok(vec![]);
    }
    let namespace = volume.namespace().unwrap_or_default();
    let of_claim = format!("{REWRAP_LABEL}={}", label_value(&volume.spec.claim_name));
    let pods = Api::<Pod>::namespaced(client.clone(), &namespace);
    let pods = pods.list(&ListParams::default().labels(&of_claim)).await?.items;
    Ok(pods.into_iter().filter(|pod| belongs_to(pod, jobs)).collect())
}

/// Whether a pod belongs to one of these Jobs.
pub fn belongs_to(pod: &Pod, jobs: &[Job]) -> bool {
    let owners = pod.owner_references();
    jobs.iter().any(|job| owners.iter().any(|owner| Some(&owner.uid) == job.metadata.uid.as_ref()))
}

/// Whether a pod mounts what is on its volumes as it is: it has no sidecar, because it began before the claim was protected.
pub fn is_open(pod: &Pod) -> bool {
    let containers = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    !containers.iter().any(|container| container.name == SIDECAR_CONTAINER)
}

/// Whether a pod that mounts a claim can only read it: every volume of it that its sidecar has is mounted read-only.
pub fn only_reads(pod: &Pod, claim: &str) -> bool {
    let containers = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    let sidecar = containers.iter().find(|container| container.name == SIDECAR_CONTAINER);
    let mounts = sidecar.and_then(|sidecar| sidecar.volume_mounts.as_deref()).unwrap_or_default();
    let mut raw =
        claims(pod).into_iter().filter(|(_, name)| name == claim).map(|(volume, _)| volume).peekable();
    let read_only = |volume: String| {
        let mut of_it = mounts.iter().filter(|mount| mount.name == volume).peekable();
        of_it.peek().is_some() && of_it.all(|mount| mount.read_only == Some(true))
    };
    raw.peek().is_some() && raw.all(read_only)
}

/// Whether a pod mounts a claim.
pub fn mounts(pod: &Pod, claim: &str) -> bool {
    claims(pod).iter().any(|(_, name)| name == claim)
}

/// The pod's volumes that are claims: the volume's name and the claim's, generic ephemeral ones included.
pub fn claims(pod: &Pod) -> Vec<(String, String)> {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    let claim = |volume: &k8s_openapi::api::core::v1::Volume| {
        let named = volume.persistent_volume_claim.as_ref().map(|source| source.claim_name.clone());
        let ephemeral = volume.ephemeral.as_ref().map(|_| format!("{}-{}", pod.name_any(), volume.name));
        named.or(ephemeral).map(|claim| (volume.name.clone(), claim))
    };
    volumes.iter().filter_map(claim).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_pods_claims_are_those_it_names_and_its_ephemeral_ones() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "app"},
            "spec": {"containers": [], "volumes": [
                {"name": "data", "persistentVolumeClaim": {"claimName": "files"}},
                {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}},
                {"name": "tmp", "emptyDir": {}},
            ]},
        }))
        .unwrap();
        let pairs = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(claims(&pod), [pairs("data", "files"), pairs("scratch", "app-scratch")]);
        assert!(mounts(&pod, "files") && !mounts(&pod, "data"));
    }

    #[test]
    fn a_pod_only_reads_where_its_sidecar_cannot_write() {
        let with = |mounts: serde_json::Value| -> Pod {
            serde_json::from_value(serde_json::json!({
                "metadata": {"name": "app"},
                "spec": {
                    "containers": [], "initContainers": [{"name": "cofferdam-sidecar", "volumeMounts": mounts}],
                    "volumes": [
                        {"name": "data", "persistentVolumeClaim": {"claimName": "files"}},
                        {"name": "logs", "persistentVolumeClaim": {"claimName": "logs"}},
                    ],
                },
            }))
            .unwrap()
        };
        let mount = |name: &str, read_only: bool| serde_json::json!({"name": name, "mountPath": "/m", "readOnly": read_only});
        let reader = with(serde_json::json!([mount("data", true), mount("logs", false)]));
        assert!(only_reads(&reader, "files") && !only_reads(&reader, "logs"));
        assert!(!only_reads(&with(serde_json::json!([])), "files"), "nobody says what it does");
        let mut open = reader;
        open.spec.as_mut().unwrap().init_containers = None;
        assert!(!only_reads(&open, "files"), "it has no sidecar");
    }
}
