//! `EncryptedVolume`: the operator's record of one protected claim; named like the claim, and outliving it. A volume that its
//! claim has left for another one has a record of its own.
//!
//! Invariant: once it exists, its claim stays closed to pods that are not injected, until a person releases it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube_derive::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::binding::ProfileReference;

/// A protected claim.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "cofferdam.io",
    version = "v1alpha1",
    kind = "EncryptedVolume",
    namespaced,
    crates(kube_core = "::kube_core"),
    status = "EncryptedVolumeStatus",
    shortname = "evol",
    category = "cofferdam",
    doc = "The record of one protected claim, written by the operator. It keeps the claim closed to pods that are not injected.",
    printcolumn(name = "Claim", type_ = "string", json_path = ".spec.claimName", priority = 1),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Profile", type_ = "string", json_path = ".spec.profile.name"),
    printcolumn(
        name = "Rewrapped",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Rewrapped')].status"
    ),
    printcolumn(name = "Files", type_ = "integer", json_path = ".status.files"),
    printcolumn(name = "Last sweep", type_ = "date", json_path = ".status.lastSweep.completedAt"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(crates(kube_core = "::kube_core"))]
pub struct EncryptedVolumeSpec {
    /// The claim, in this namespace.
    #[x_kube(validation = Rule::new("self == oldSelf").message("the record of a claim stays that claim's"))]
    pub claim_name: String,
    /// The binding that protects it; kept after the binding is gone.
    #[x_kube(validation = Rule::new("self == oldSelf").message("the record keeps the binding that protected the claim first"))]
    pub binding_name: String,
    /// The profile that protects it.
    #[x_kube(validation = Rule::new("self == oldSelf").message("a volume does not change its root key"))]
    pub profile: ProfileReference,
    /// Set by a person: stop protecting this claim. The files stay encrypted. It counts for the persistent volume that the
    /// claim has then, not for a later one. Default: false.
    #[serde(default)]
    pub release: bool,
    /// Set by a person: the volume is gone for good, or was never written; stop counting it. It counts for the persistent volume that the record
    /// speaks of then, not for a later one. Default: false.
    #[serde(default)]
    pub acknowledged: bool,
    /// The persistent volume of a record whose claim has left it: the claim was made anew, with another one. Such a record
    /// closes no claim, and counts its files until that persistent volume is gone. Absent: the record is of the claim as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("the record of a volume stays that volume's"))]
    pub persistent_volume: Option<String>,
}

impl EncryptedVolume {
    /// It is the record of a volume that its claim has left: it counts, and closes nothing.
    pub fn has_left_its_claim(&self) -> bool {
        self.spec.persistent_volume.is_some()
    }

    /// A person has released the volume that the record speaks of now.
    pub fn is_released(&self) -> bool {
        let of = |status: &EncryptedVolumeStatus| status.released_volume.clone();
        self.spec.release && self.is_of_now(of)
    }

    /// A person has said of the volume that the record speaks of now that it is gone for good.
    pub fn is_acknowledged(&self) -> bool {
        let of = |status: &EncryptedVolumeStatus| status.acknowledged_volume.clone();
        self.spec.acknowledged && self.is_of_now(of)
    }

    /// Whether the volume may hold files: it was seen written, or there is one and nobody has looked into it. Only where the
    /// claim was never bound there is none.
    pub fn may_hold_files(&self) -> bool {
        let holds =
            |status: &EncryptedVolumeStatus| status.marker.is_some() || status.persistent_volume.is_some();
        self.status.as_ref().is_some_and(holds)
    }

    /// What was said of no volume in particular is said of the first one.
    fn is_of_now(&self, said: impl Fn(&EncryptedVolumeStatus) -> Option<String>) -> bool {
        let Some(status) = &self.status else { return true };
        said(status).is_none_or(|said| status.persistent_volume.as_ref() == Some(&said))
    }
}

/// What the operator knows of the volume.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(crates(kube_core = "::kube_core"))]
pub struct EncryptedVolumeStatus {
    /// `Pending`, `Serving`, `Waiting`, `Suspended`, `Failed`, `Detached`, `Sweeping`, `Orphaned`,
    /// `Released`, or `Unknown` where a pod mounts it and nobody checks in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Why, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// `Suspended`, `Rewrapped`, `RewrapWaits`, `RewrapFailed`, `DataCredentialUsed`, `TornWritesPossible`.
    #[serde(default)]
    #[x_kube(merge_strategy = crate::condition::one_of_each_type())]
    pub conditions: Vec<Condition>,
    /// Name of the persistent volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume: Option<String>,
    /// The persistent volume that `spec.release` was set for. A claim made anew has another one, and is protected again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released_volume: Option<String>,
    /// The persistent volume that `spec.acknowledged` was set for. Another one is counted again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged_volume: Option<String>,
    /// From the volume's marker; pinned when it is first seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marker: Option<Marker>,
    /// The pod that serves it now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Files of the last complete sweep, all versions together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// The last complete sweep. Absent: none yet, so nothing is known. Without a marker: a Job found the volume empty, and no pod
    /// that may write has mounted it since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sweep: Option<Sweep>,
    /// What a Job found in a volume without a marker that is not empty either: its files are unknown. Absent: nobody has looked,
    /// or a pod has mounted it since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_counted: Option<NotCounted>,
    /// When a sidecar or a Job last checked in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_check_in: Option<Time>,
    /// Reads refused because of damage, as last reported.
    #[serde(default)]
    pub integrity_errors: u64,
}

impl EncryptedVolumeStatus {
    /// What a sweep or a look has counted says nothing any more.
    pub fn forget_counts(&mut self) {
        (self.last_sweep, self.files, self.not_counted) = (None, None, None);
    }
}

/// What is fixed when a volume is created.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Marker {
    /// The volume id, 32 hex digits.
    pub volume_id: String,
    /// The strict flag.
    pub strict: bool,
    /// The seal flag.
    #[serde(default)]
    pub seal: bool,
    /// `Native` or `Virtual`.
    pub ownership: String,
    /// Sweeps completed, as last reported; a marker that reports fewer was restored.
    pub sweep_epoch: u64,
    /// Uid that a rewrap Job must take.
    pub uid: u32,
    /// Gid that a rewrap Job must take.
    pub gid: u32,
}

/// Why a Job could not count a volume without a marker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NotCounted {
    /// The key version that it looked for. It is looked at again for the next one, or when a person asks.
    pub target_version: String,
    /// A PascalCase word.
    pub reason: String,
    /// For a person.
    pub message: String,
    /// When it was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
}

/// A complete sweep.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sweep {
    /// The version that it led to.
    pub target_version: String,
    /// Files by key version.
    #[serde(default)]
    pub files_per_version: BTreeMap<String, u64>,
    /// Files whose version could not be read.
    #[serde(default)]
    pub unknown: u64,
    /// Files that it rewrapped.
    #[serde(default)]
    pub rewrapped: u64,
    /// When it was complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// Since when no file needs an older version: the end of the first of the sweeps to this version since which none found
    /// anything left. What was copied before that, such as a VolumeSnapshot, may need an older one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clean_since: Option<Time>,
}
