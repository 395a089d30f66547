//! A volume that its claim has left: the claim was made anew and is bound to another persistent volume.
//!
//! Invariant: what is known of the old volume stands in a record of its own before the claim's record forgets it. Such a
//! record closes no claim; it counts, until its persistent volume is gone or a person acknowledges.

use api::{EncryptedVolume, EncryptedVolumeSpec, EncryptedVolumeStatus};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::core::ObjectMeta;
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;

use super::look::{Around, bound, remains};
use crate::controllers::Shared;
use crate::short_hash::short_hash;

/// Bytes of a claim's name in the name of such a record: 253 are allowed.
const LONGEST: usize = 200;

/// The persistent volume that the claim of this record has left. One that nobody has looked into is none the less known to be
/// there, and may hold files.
pub fn behind(volume: &EncryptedVolume, around: &Around) -> Option<String> {
    let status = volume.status.as_ref()?;
    let (was, is) = (status.persistent_volume.as_ref()?, bound(around.claim.as_ref())?);
    (*was != is).then(|| was.clone())
}

/// The record of the volume that was left.
fn record(volume: &EncryptedVolume, left: &str) -> EncryptedVolume {
    let claim = &volume.spec.claim_name;
    let short: String = claim.chars().take(LONGEST).collect();
    let name = format!("{short}.left-{}", short_hash(&[claim, left], 10));
    let spec = EncryptedVolumeSpec {
        persistent_volume: Some(left.to_owned()),
        release: false,
        ..volume.spec.clone()
    };
    let metadata = ObjectMeta { namespace: volume.namespace(), ..ObjectMeta::default() };
    let mut record = EncryptedVolume::new(&name, spec);
    record.metadata = ObjectMeta { name: Some(name), ..metadata };
    record
}

fn message(volume: &EncryptedVolume) -> String {
    format!(
        "claim {} has another persistent volume now, and this one is still there: its files count; delete the persistent volume, \
         or set spec.acknowledged if it is gone for good",
        volume.spec.claim_name
    )
}

/// Phase and message of such a record.
pub fn phase(volume: &EncryptedVolume, around: &Around) -> (String, String) {
    ("Orphaned".into(), around.kept.clone().unwrap_or_else(|| message(volume)))
}

/// Gives the volume that was left a record of its own, if anything of it is there; the claim's record as it is then.
pub async fn keep(
    shared: &Shared,
    volume: EncryptedVolume,
    left: &str,
) -> Result<EncryptedVolume, kube::Error> {
    let mut record = record(&volume, left);
    if remains(&shared.client, &record, left).await?.is_none() {
        return Ok(volume);
    }
    let namespace = volume.namespace().unwrap_or_default();
    let api = Api::<EncryptedVolume>::namespaced(shared.client.clone(), &namespace);
    let (mut kept, new) = match api.create(&PostParams::default(), &record).await {
        Ok(made) => (made, true),
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            (api.get(&record.name_any()).await?, false)
        }
        Err(error) => return Err(error),
    };
    let status = EncryptedVolumeStatus {
        phase: Some("Orphaned".into()),
        message: Some(message(&volume)),
        pod: None,
        ..volume.status.clone().unwrap_or_default()
    };
    kept.status = Some(status);
    api.replace_status(&kept.name_any(), &PostParams::default(), &kept).await?;
    record.metadata = kept.metadata;
    if new {
        shared.events.warning(&record.object_ref(&()), "Orphaned", &message(&volume)).await;
    }
    if !volume.spec.acknowledged {
        return Ok(volume);
    }
    // What a person said of the old volume is not said of the new one.
    let patch = Patch::Merge(json!({"spec": {"acknowledged": false}}));
    api.patch(&volume.name_any(), &PatchParams::default(), &patch).await
}

/// Another record that counts the same volume, because its claim is bound to it now. Of a volume that nobody has looked into
/// that one knows as much.
pub async fn counted_by(client: &Client, volume: &EncryptedVolume) -> Result<Option<String>, kube::Error> {
    let Some(left) = &volume.spec.persistent_volume else { return Ok(None) };
    let id = |volume: &EncryptedVolume| Some(volume.status.as_ref()?.marker.as_ref()?.volume_id.clone());
    let all = Api::<EncryptedVolume>::all(client.clone()).list(&ListParams::default()).await?.items;
    let counts = |other: &&EncryptedVolume| {
        let status = other.status.as_ref();
        !other.has_left_its_claim()
            && status.and_then(|status| status.persistent_volume.as_ref()) == Some(left)
            && status.and_then(|status| status.phase.as_deref()) != Some("Orphaned")
            && (id(volume).is_none() || id(other) == id(volume))
    };
    Ok(all.iter().find(counts).map(ResourceExt::name_any))
}
