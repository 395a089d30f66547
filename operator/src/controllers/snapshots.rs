//! VolumeSnapshots, as far as they may hold files of protected claims.
//!
//! Invariant: "there is none" is said only where the API server was asked and said so; all else is not known.

use api::EncryptedVolume;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client, ResourceExt};

/// The API group of CSI's snapshot controller.
const GROUP: &str = "snapshot.storage.k8s.io";
/// The version of it that is read.
const VERSION: &str = "v1";
/// The resource.
const PLURAL: &str = "volumesnapshots";
/// Snapshots in one answer of the API server.
const PAGE: u32 = 500;
/// How far the clocks of nodes, storage, KMS and API server may be apart.
pub const CLOCKS: SignedDuration = SignedDuration::from_mins(5);

/// A VolumeSnapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The claim that it was taken of, in its namespace; `None`: it was brought in from elsewhere, and nobody says of what.
    pub claim: Option<String>,
    /// It was not taken before that.
    pub earliest: Option<Timestamp>,
    /// It was not taken after that.
    pub latest: Option<Timestamp>,
}

impl Snapshot {
    /// Whether it may have been taken of a volume; one that was brought in from elsewhere may be of any in its namespace.
    pub fn may_be_of(&self, volume: &EncryptedVolume) -> bool {
        let made = volume.creation_timestamp().filter(|_| volume.has_left_its_claim()).map(|Time(at)| at);
        // Once a volume has been left, snapshots of the claim are of another one.
        let too_late = matches!((self.earliest, made), (Some(taken), Some(made)) if taken > made + CLOCKS);
        volume.namespace().as_deref() == Some(self.namespace.as_str())
            && self.claim.as_ref().is_none_or(|claim| *claim == volume.spec.claim_name && !too_late)
    }
}

/// The API server did not say which VolumeSnapshots there are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the VolumeSnapshots of the cluster are not known: {0}")]
pub struct NotKnown(String);

impl NotKnown {
    /// For this reason.
    pub fn because(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// The cluster's snapshots, where there are volumes that they could be of.
pub async fn known(client: &Client, volumes: &[&EncryptedVolume]) -> Result<Vec<Snapshot>, NotKnown> {
    if volumes.is_empty() {
        return Ok(vec![]);
    }
    list(client, Api::all_with(client.clone(), &resource())).await
}

/// The snapshots of one namespace.
pub async fn of_namespace(client: &Client, namespace: &str) -> Result<Vec<Snapshot>, NotKnown> {
    list(client, Api::namespaced_with(client.clone(), namespace, &resource())).await
}

fn resource() -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, VERSION, "VolumeSnapshot"), PLURAL)
}

async fn list(client: &Client, api: Api<DynamicObject>) -> Result<Vec<Snapshot>, NotKnown> {
    let (mut found, mut page) = (vec![], ListParams::default().limit(PAGE));
    loop {
        let next = match api.list(&page).await {
            Ok(list) => {
                found.extend(list.items.iter().map(read));
                list.metadata.continue_.filter(|token| !token.is_empty())
            }
            // There may be no such resource because nothing takes snapshots here.
            Err(kube::Error::Api(status)) if status.code == 404 => return none_here(client).await,
            Err(error) => return Err(NotKnown::because(error.to_string())),
        };
        let Some(token) = next else { return Ok(found) };
        page = page.continue_token(&token);
    }
}

/// The resource was not found: there is none where the API server does not serve the group at all.
async fn none_here(client: &Client) -> Result<Vec<Snapshot>, NotKnown> {
    match client.list_api_groups().await {
        Ok(groups) if groups.groups.is_empty() => Err(NotKnown::because("the API server names no group")),
        Ok(groups) if groups.groups.iter().all(|group| group.name != GROUP) => Ok(vec![]),
        Ok(_) => {
            Err(NotKnown::because(format!("the API server serves {GROUP}, and no {PLURAL} of {VERSION}")))
        }
        Err(error) => Err(NotKnown::because(error.to_string())),
    }
}

fn read(object: &DynamicObject) -> Snapshot {
    let claim = object.data.pointer("/spec/source/persistentVolumeClaimName").and_then(|name| name.as_str());
    let by_storage: Option<Timestamp> =
        object.data.pointer("/status/creationTime").and_then(|time| time.as_str()?.parse().ok());
    // It was taken after somebody asked for it, unless it was there before its object.
    let asked = object.creation_timestamp().filter(|_| claim.is_some()).map(|Time(at)| at);
    Snapshot {
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        claim: claim.map(str::to_owned),
        earliest: [by_storage, asked].into_iter().flatten().min(),
        latest: by_storage.map(|at| asked.map_or(at, |asked| at.max(asked))),
    }
}

#[cfg(test)]
#[path = "snapshots_tests.rs"]
mod tests;
