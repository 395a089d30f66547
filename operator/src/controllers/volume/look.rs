//! Reads what is around a volume.
//!
//! Invariant: it reads the API itself, not a cache: what is decided on it may delete or start a Job.

use api::{EncryptedVolume, KmsProfile, StorageBinding};
use contract::names::REWRAP_LABEL;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use crate::rewrap::job::{BINDING_LABEL, label_value};
use crate::rewrap::plan::ending;

/// What is around a volume.
pub struct Around {
    /// Its claim, if it exists.
    pub claim: Option<PersistentVolumeClaim>,
    /// Its persistent volume (the claim's, or the recorded one) exists.
    pub persistent_volume_exists: bool,
    /// Its binding, if it still exists.
    pub binding: Option<StorageBinding>,
    /// Its profile, if it exists.
    pub profile: Option<KmsProfile>,
    /// Pods that have not ended and mount the claim, without those of its Jobs.
    pub pods: Vec<Pod>,
    /// Its Jobs.
    pub jobs: Vec<Job>,
    /// Unfinished Jobs of other volumes of its binding.
    pub others_running: usize,
}

/// Looks around.
pub async fn look(client: &Client, volume: &EncryptedVolume) -> Result<Around, kube::Error> {
    let namespace = volume.namespace().unwrap_or_default();
    let spec = &volume.spec;
    let home = spec.profile.namespace.as_deref().unwrap_or(&namespace);
    let claims = Api::<PersistentVolumeClaim>::namespaced(client.clone(), &namespace);
    let claim = claims.get_opt(&spec.claim_name).await?;
    let jobs = Api::<Job>::namespaced(client.clone(), &namespace);
    let of_binding = ListParams::default()
        .labels(&format!("{REWRAP_LABEL},{BINDING_LABEL}={}", label_value(&spec.binding_name)));
    let all = jobs.list(&of_binding).await?.items;
    let (mine, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|job| is_of(job, volume));
    let unended = ListParams::default().fields("status.phase!=Succeeded,status.phase!=Failed");
    let pods = Api::<Pod>::namespaced(client.clone(), &namespace).list(&unended).await?.items;
    let pods =
        pods.into_iter().filter(|pod| mounts(pod, &spec.claim_name) && !belongs_to(pod, &mine)).collect();
    Ok(Around {
        persistent_volume_exists: persistent_volume_exists(client, volume, claim.as_ref()).await?,
        claim,
        binding: Api::namespaced(client.clone(), &namespace).get_opt(&spec.binding_name).await?,
        profile: Api::namespaced(client.clone(), home).get_opt(&spec.profile.name).await?,
        pods,
        others_running: others.iter().filter(|job| ending(job).is_none()).count(),
        jobs: mine,
    })
}

async fn persistent_volume_exists(
    client: &Client,
    volume: &EncryptedVolume,
    claim: Option<&PersistentVolumeClaim>,
) -> Result<bool, kube::Error> {
    let bound = claim.and_then(|claim| claim.spec.as_ref()).and_then(|spec| spec.volume_name.clone());
    let recorded = volume.status.as_ref().and_then(|status| status.persistent_volume.clone());
    let Some(name) = bound.or(recorded) else { return Ok(false) };
    Ok(Api::<PersistentVolume>::all(client.clone()).get_metadata_opt(&name).await?.is_some())
}

fn is_of(job: &Job, volume: &EncryptedVolume) -> bool {
    job.owner_references().iter().any(|owner| Some(&owner.uid) == volume.metadata.uid.as_ref())
}

/// Whether a pod belongs to one of these Jobs.
fn belongs_to(pod: &Pod, jobs: &[Job]) -> bool {
    let owners = pod.owner_references();
    jobs.iter().any(|job| owners.iter().any(|owner| Some(&owner.uid) == job.metadata.uid.as_ref()))
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
}
