//! Check-in: what a sidecar or a rewrap Job tells the operator every 30 s ± 20 %, and what it is told in return.
//! `POST /v1/check-in` over HTTPS with the pod-bound token as bearer.
//!
//! Invariant: the sender's identity comes from its token, never from the message; unknown counts are absent, never zero.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::Ownership;

/// A report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckIn {
    /// Whether a sidecar or a Job speaks.
    pub role: Role,
    /// One for each volume of its configuration.
    pub volumes: Vec<VolumeReport>,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// The sidecar of an application's pod.
    Sidecar,
    /// A rewrap Job.
    Job,
}

/// The state of one volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeReport {
    /// The pod volume's name.
    pub name: String,
    /// The claim's name; the operator checks that this pod mounts it.
    pub claim: String,
    /// What it is doing.
    pub phase: VolumePhase,
    /// Why, as a PascalCase word; one of `reasons` or a KMS error's reason.
    pub reason: String,
    /// Why, for a person.
    pub message: String,
    /// From the volume's marker; absent while it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marker: Option<MarkerReport>,
    /// The root key as this sidecar sees it; absent while it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyReport>,
    /// The last complete or running sweep; absent: none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<SweepReport>,
    /// A Job that only looks: what it found; absent: it has not found out yet, or does something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub look: Option<LookReport>,
    /// Files rewrapped because they were opened, since the process began.
    pub lazy_rewraps: u64,
    /// Reads refused because of damaged data or headers, since the process began.
    pub integrity_errors: u64,
    /// Facts that do not stop the service, as PascalCase words, such as [`reasons::TORN_WRITES_POSSIBLE`].
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// What a volume is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumePhase {
    /// Not yet: the volume is in use elsewhere, or the KMS is unreachable.
    Waiting,
    /// Data is served.
    Serving,
    /// The key is refused: every request fails with ENOKEY.
    Suspended,
    /// It cannot be served until a person acts: plaintext, unknown format, wrong volume, lost session.
    Failed,
    /// A Job: the sweep is running.
    Sweeping,
    /// A Job: the sweep, or the look, is complete.
    Swept,
}

/// What the marker says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MarkerReport {
    /// Lower-case hex, 32 digits.
    pub volume_id: String,
    /// The strict flag.
    pub strict: bool,
    /// The seal flag.
    #[serde(default)]
    pub seal: bool,
    /// The ownership flag.
    pub ownership: Ownership,
    /// Sweeps completed on this volume.
    pub sweep_epoch: u64,
    /// Uid that owns the volume's files (the one that a rewrap Job must take where ownership is virtual).
    pub uid: u32,
    /// Gid that owns the volume's files.
    pub gid: u32,
}

/// The root key, as seen from a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyReport {
    /// `Enabled`, `Disabled`, … as in `KmsProfile.status.keyState`, or `Unknown`.
    pub state: String,
    /// The current version, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_version: Option<String>,
}

/// How far a sweep is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SweepReport {
    /// The version that the sweep leads to.
    pub target_version: String,
    /// Files by the version of their current slot; the volume's marker and group records count as files.
    pub files_per_version: BTreeMap<String, u64>,
    /// Files whose version could not be read.
    pub unknown: u64,
    /// Files rewrapped by this sweep.
    pub rewrapped: u64,
    /// The walk reached its end, and what it wrote is durable.
    pub complete: bool,
    /// RFC 3339; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<String>,
}

impl SweepReport {
    /// Of a sweep that has just begun.
    pub fn begun(target: &str) -> Self {
        Self {
            target_version: target.to_owned(),
            files_per_version: BTreeMap::new(),
            unknown: 0,
            rewrapped: 0,
            complete: false,
            completed_at: None,
        }
    }
}

/// What a Job found in a volume of which nobody had reported a marker. It wrote nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LookReport {
    /// The key version that was the current one before the look began.
    pub target_version: String,
    /// There are no files and no marker, so that no key version is needed. Where this is `false` and the report has no marker,
    /// nobody can say which ones are: its `reason` and `message` say why.
    pub empty: bool,
}

/// What the sender is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckInReply {
    /// One for each volume of the report that was accepted.
    pub volumes: Vec<VolumeOrder>,
}

/// What to do with one volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeOrder {
    /// The pod volume's name.
    pub name: String,
    /// The version to reach; absent: nothing new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_version: Option<String>,
    /// Sweep now, although a sweep for this version was completed (a person asked).
    #[serde(default)]
    pub sweep_again: bool,
}

/// Words of [`VolumeReport::reason`] and [`VolumeReport::warnings`] that are not a KMS error's.
pub mod reasons {
    /// All is well.
    pub const SERVING: &str = "Serving";
    /// The process has just begun.
    pub const STARTING: &str = "Starting";
    /// Another sidecar holds the volume's lease.
    pub const VOLUME_IN_USE: &str = "VolumeInUse";
    /// The volume holds files but no marker: it is left untouched.
    pub const PLAINTEXT_FOUND: &str = "PlaintextFound";
    /// The marker's format version is not known.
    pub const UNKNOWN_FORMAT: &str = "UnknownFormatVersion";
    /// The marker is damaged.
    pub const MARKER_DAMAGED: &str = "MarkerDamaged";
    /// The marker is of another volume than the one that was pinned.
    pub const WRONG_VOLUME: &str = "WrongVolume";
    /// A look: there are no files and no marker.
    pub const VOLUME_EMPTY: &str = "VolumeEmpty";
    /// A look: there is a marker.
    pub const MARKER_FOUND: &str = "MarkerFound";
    /// A look: somebody began to initialise the volume, and there is no marker.
    pub const INITIALISATION_UNFINISHED: &str = "InitialisationUnfinished";
    /// The volume cannot be read by the identity of the sender, or not at all.
    pub const VOLUME_UNREADABLE: &str = "VolumeUnreadable";
    /// The volume cannot be written by the identity of the sidecar.
    pub const NOT_WRITABLE: &str = "VolumeNotWritable";
    /// The FUSE connection was served before and cannot be taken over.
    pub const SESSION_LOST: &str = "SessionLost";
    /// The KMS does not answer; keys that are cached go on serving.
    pub const KMS_UNREACHABLE: &str = "KmsUnreachable";
    /// An aligned 4 KiB write may be torn on this backing filesystem.
    pub const TORN_WRITES_POSSIBLE: &str = "TornWritesPossible";
    /// The kernel cannot hand a live session to a new server (Linux before 6.9).
    pub const NO_TAKEOVER: &str = "TakeoverUnsupported";
    /// A Job used the data credential, because the profile has no rewrap credential.
    pub const DATA_CREDENTIAL_USED: &str = "DataCredentialUsed";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_without_counts_says_nothing_rather_than_zero() {
        let report = VolumeReport {
            name: "data".into(),
            claim: "data-0".into(),
            phase: VolumePhase::Waiting,
            reason: reasons::STARTING.into(),
            message: String::new(),
            marker: None,
            key: None,
            sweep: None,
            look: None,
            lazy_rewraps: 0,
            integrity_errors: 0,
            warnings: vec![],
        };
        let json = serde_json::to_value(&report).expect("plain data");
        assert!(["sweep", "key", "look"].iter().all(|unknown| json.get(unknown).is_none()), "{json}");
    }
}
