//! Which key versions nothing needs any more.
//!
//! Invariant: pure; a version is retirable only where every volume that its root key protects, under any profile, is known
//! to have been swept to the current version, and no VolumeSnapshot of one is older than that. What is not known needs it.

use api::condition::{reasons, types};
use api::profile::VersionStatus;
use api::volume::Sweep;
use api::{EncryptedVolume, KmsProfileStatus};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use crate::controllers::conditions::status as status_of;
use crate::controllers::snapshots::{CLOCKS, NotKnown, Snapshot};

/// Blockers that are listed: a status should stay small.
const LISTED: usize = 50;

/// Decides for each version, and says why.
pub fn decide(
    status: &mut KmsProfileStatus,
    volumes: &[&EncryptedVolume],
    snapshots: &Result<Vec<Snapshot>, NotKnown>,
) {
    let current = status.current_version.clone().unwrap_or_default();
    for version in &mut status.versions {
        let (reason, message, blockers, older) = if current.is_empty() {
            (reasons::UNKNOWN, "the current version is not known".into(), vec![], 0)
        } else if version.id == current {
            (reasons::CURRENT, "new files are wrapped by it".into(), vec![], 0)
        } else {
            of_version(version, &current, volumes, snapshots)
        };
        version.retirable = reason == reasons::UNNEEDED;
        (version.reason, version.message) = (Some(reason.into()), Some(message));
        version.older_snapshots = older;
        version.blockers = blockers.into_iter().take(LISTED).collect();
    }
}

type Finding = (&'static str, String, Vec<String>, u64);

fn of_version(
    version: &VersionStatus,
    current: &str,
    volumes: &[&EncryptedVolume],
    snapshots: &Result<Vec<Snapshot>, NotKnown>,
) -> Finding {
    let in_the_way = |volume: &&EncryptedVolume| counts(volume) && needs(volume, current, &version.id);
    let needing: Vec<_> = volumes.iter().copied().filter(in_the_way).collect();
    let blocker = |volume: &&EncryptedVolume| name("EncryptedVolume", volume.namespace(), &volume.name_any());
    let mut blockers: Vec<_> = needing.iter().map(blocker).collect();
    let unswept = blockers.len();
    let older: Vec<_> = match snapshots {
        Ok(all) => all.iter().filter(|one| may_hold(one, version, current, volumes)).collect(),
        Err(_) => vec![],
    };
    blockers.extend(older.iter().map(|one| name("VolumeSnapshot", Some(one.namespace.clone()), &one.name)));
    let older = older.len() as u64;
    let read_only = mounted_read_only(&needing);
    let (reason, message) = if version.files > 0 {
        (reasons::FILES_LEFT, format!("it still wraps {} files{read_only}", version.files))
    } else if version.unknown_volumes > 0 {
        let unknown = version.unknown_volumes;
        (reasons::UNKNOWN, format!("the files of {unknown} volumes could not be counted{read_only}"))
    } else if unswept > 0 {
        let message = format!("{unswept} volumes have not been swept to version {current}{read_only}");
        (reasons::NOT_SWEPT, message)
    } else if let Err(error) = snapshots {
        (reasons::SNAPSHOTS_UNKNOWN, error.to_string())
    } else if older > 0 {
        (
            reasons::OLDER_SNAPSHOTS,
            format!("{older} VolumeSnapshots were taken before their volume was swept to version {current}"),
        )
    } else {
        (reasons::UNNEEDED, "no volume and no VolumeSnapshot known to this cluster needs it".into())
    };
    (reason, message, blockers, older)
}

/// Words on those that no waiting helps.
fn mounted_read_only(needing: &[&EncryptedVolume]) -> String {
    let waits = |volume: &&&EncryptedVolume| {
        let conditions =
            volume.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        status_of(conditions, types::REWRAP_WAITS) == Some("True")
    };
    match needing.iter().filter(waits).count() {
        0 => String::new(),
        some => {
            format!(
                "; of the listed volumes {some} are mounted read-only, and nothing rewraps them as long as they are"
            )
        }
    }
}

fn name(kind: &str, namespace: Option<String>, name: &str) -> String {
    format!("{kind} {}/{name}", namespace.unwrap_or_default())
}

/// Whether a volume is counted: nobody has said that it is gone for good, and it may hold something.
pub fn counts(volume: &EncryptedVolume) -> bool {
    !volume.is_acknowledged() && volume.may_hold_files()
}

/// The last sweep, if it could read every file.
pub fn known_sweep(volume: &EncryptedVolume) -> Option<&Sweep> {
    volume.status.as_ref()?.last_sweep.as_ref().filter(|sweep| sweep.unknown == 0)
}

/// A sweep to another version than the current one proves nothing: files may have come since.
fn needs(volume: &EncryptedVolume, current: &str, version: &str) -> bool {
    known_sweep(volume).is_none_or(|sweep| {
        sweep.target_version != current
            || sweep.files_per_version.get(version).is_some_and(|files| *files > 0)
    })
}

/// Whether files that the version wraps may be in a snapshot.
fn may_hold(
    snapshot: &Snapshot,
    version: &VersionStatus,
    current: &str,
    volumes: &[&EncryptedVolume],
) -> bool {
    let made = version.created_at.as_ref().map(|made| made.0);
    if let (Some(taken), Some(made)) = (snapshot.latest, made)
        && taken < made - CLOCKS
    {
        return false;
    }
    // Snapshots outlive their volume: what a person says of the volume says nothing of them.
    let mut sources = volumes.iter().filter(|volume| volume.may_hold_files() && snapshot.may_be_of(volume));
    sources.any(|volume| {
        let clean = clean_since(volume, current);
        !matches!((snapshot.earliest, clean), (Some(taken), Some(clean)) if taken > clean + CLOCKS)
    })
}

/// Since when no file of the volume needs an older version than this; `None`: since never.
fn clean_since(volume: &EncryptedVolume, current: &str) -> Option<Timestamp> {
    let sweep = known_sweep(volume).filter(|sweep| sweep.target_version == current)?;
    let left = sweep.files_per_version.iter().any(|(version, files)| version != current && *files > 0);
    let since = sweep.clean_since.as_ref().or(sweep.completed_at.as_ref()).filter(|_| !left)?;
    Some(since.0)
}

#[cfg(test)]
#[path = "retirable_tests.rs"]
mod tests;
