//! A report becomes part of an `EncryptedVolume`'s status.
//!
//! Invariant: pure; a pod that only waits says nothing of a volume that another one serves; what a report does not know
//! leaves what was known, except that a volume put back to an earlier state is known no more.

use api::condition::{reasons, types};
use api::volume::{Marker, NotCounted, Sweep};
use api::{EncryptedVolume, EncryptedVolumeStatus};
use contract::check_in::{self, LookReport, MarkerReport, Role, SweepReport, VolumePhase, VolumeReport};
use contract::config::Ownership;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::controllers::conditions::{self, Verdict, put};
use crate::controllers::volume::rewrapped::rewrapped;
use crate::controllers::volume::status::fresh;

/// Something that a person should see, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// It is a warning.
    pub warning: bool,
    /// A PascalCase word.
    pub reason: String,
    /// For a person.
    pub note: String,
}

/// What a report came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Merged {
    /// The next status.
    pub status: EncryptedVolumeStatus,
    /// What happened with it.
    pub notices: Vec<Notice>,
    /// What was known of the volume is not true any more, since this report.
    pub restored: bool,
}

/// Who reports.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    /// The pod's name.
    pub pod: &'a str,
    /// Sidecar or Job.
    pub role: Role,
}

/// Merges a report; `None`: it says nothing of the volume, because another pod has it. `current` is the profile's current
/// key version, where it is known.
pub fn merge(
    volume: &EncryptedVolume,
    report: &VolumeReport,
    from: Sender<'_>,
    current: Option<&str>,
    now: &Time,
) -> Option<Merged> {
    let before = volume.status.clone().unwrap_or_default();
    if !speaks_for(&before, report, from, now) {
        return None;
    }
    let mut next = before.clone();
    let mut notices = vec![];
    let generation = volume.metadata.generation;
    let restored = report.marker.as_ref().and_then(|marker| pin(&mut next, marker));
    let known = conditions::find(&before.conditions, types::REWRAPPED).map(|said| said.reason.clone());
    let news = restored.as_ref().is_some_and(|(reason, _)| known.as_deref() != Some(reason));
    if let Some((reason, note)) = &restored {
        next.forget_counts();
        put(
            &mut next.conditions,
            types::REWRAPPED,
            &Verdict::unknown(*reason, note.clone()),
            generation,
            now,
        );
        if news {
            notices.push(Notice { warning: true, reason: (*reason).into(), note: note.clone() });
        }
    } else {
        counted(&before, &mut next, report, now);
    }
    let unclear = report.look.as_ref().and_then(|look| looked(&mut next, look, report, now));
    let phase = if volume.is_released() { "Released" } else { phase(report.phase) };
    next.message = Some(message(report));
    next.pod = (report.phase != VolumePhase::Swept).then(|| from.pod.to_owned());
    next.last_check_in = Some(now.clone());
    if report.integrity_errors > before.integrity_errors {
        let note = format!("{} reads were refused because of damage", report.integrity_errors);
        notices.push(Notice { warning: true, reason: "IntegrityErrors".into(), note });
    }
    next.integrity_errors = report.integrity_errors;
    conditions_of(&mut next, report, current, generation, now);
    next.phase = Some(phase.into());
    notices.extend(transitions(&before, &next, report, unclear));
    Some(Merged { status: next, notices, restored: news })
}

/// Whether this pod's word is about the volume, or only about itself.
fn speaks_for(status: &EncryptedVolumeStatus, report: &VolumeReport, from: Sender<'_>, now: &Time) -> bool {
    let other = status.pod.as_deref().is_some_and(|pod| pod != from.pod);
    if report.look.is_some() {
        // Who only looks has no lease.
        let outdated = status.marker.is_some() && report.marker.is_none();
        return from.role == Role::Job && !outdated && !(other && fresh(status, now));
    }
    // Who has the lease has the volume.
    if matches!(report.phase, VolumePhase::Serving | VolumePhase::Sweeping | VolumePhase::Swept) {
        return true;
    }
    if other && fresh(status, now) {
        return false;
    }
    from.role == Role::Job || report.reason != check_in::reasons::VOLUME_IN_USE
}

/// Takes the marker over; says why what was counted is not true any more.
fn pin(status: &mut EncryptedVolumeStatus, seen: &MarkerReport) -> Option<(&'static str, String)> {
    let marker = Marker {
        volume_id: seen.volume_id.clone(),
        strict: seen.strict,
        seal: seen.seal,
        ownership: match seen.ownership {
            Ownership::Native => "Native".into(),
            Ownership::Virtual => "Virtual".into(),
        },
        sweep_epoch: seen.sweep_epoch,
        uid: seen.uid,
        gid: seen.gid,
    };
    let Some(pinned) = &status.marker else {
        status.marker = Some(marker);
        return None;
    };
    if pinned.volume_id != marker.volume_id {
        let note = format!(
            "the volume's id is {}, and was {}: it is another volume",
            marker.volume_id, pinned.volume_id
        );
        // The pin stays: only a person can say that it is right.
        return Some((reasons::WRONG_VOLUME, note));
    }
    let (before, now) = (pinned.sweep_epoch, marker.sweep_epoch);
    status.marker = Some(marker);
    (now < before).then(|| {
        let note = format!("the volume was put back to an earlier state: {now} sweeps, {before} were known");
        (reasons::RESTORED, note)
    })
}

/// Takes over what a sweep counted.
fn counted(
    before: &EncryptedVolumeStatus,
    next: &mut EncryptedVolumeStatus,
    report: &VolumeReport,
    now: &Time,
) {
    if before.marker.is_none() && next.marker.is_some() {
        // What was seen before it had a marker says nothing of what came with it.
        next.forget_counts();
    }
    if let Some(sweep) = report.sweep.as_ref().filter(|sweep| sweep.complete) {
        count(next, sweep, now);
    }
}

fn count(status: &mut EncryptedVolumeStatus, sweep: &SweepReport, now: &Time) {
    let completed = sweep.completed_at.as_deref().and_then(|text| text.parse().ok()).map(Time);
    let completed = completed.unwrap_or_else(|| now.clone());
    let clean_since = clean_since(status.last_sweep.as_ref(), sweep, &completed);
    status.files = Some(sweep.files_per_version.values().sum::<u64>() + sweep.unknown);
    status.last_sweep = Some(Sweep {
        target_version: sweep.target_version.clone(),
        files_per_version: sweep.files_per_version.clone(),
        unknown: sweep.unknown,
        rewrapped: sweep.rewrapped,
        completed_at: Some(completed),
        clean_since: Some(clean_since),
    });
}

/// Takes over what a Job saw in a volume without a marker: nothing, which counts as a sweep that found nothing, or what nobody can
/// count. The latter is a notice where it is news.
fn looked(
    status: &mut EncryptedVolumeStatus,
    look: &LookReport,
    report: &VolumeReport,
    now: &Time,
) -> Option<Notice> {
    if status.marker.is_some() {
        return None;
    }
    if look.empty {
        let nothing = SweepReport { complete: true, ..SweepReport::begun(&look.target_version) };
        status.not_counted = None;
        count(status, &nothing, now);
        return None;
    }
    let known = status.not_counted.take();
    status.forget_counts();
    status.not_counted = Some(NotCounted {
        target_version: look.target_version.clone(),
        reason: reason(report).to_owned(),
        message: report.message.clone(),
        at: Some(now.clone()),
    });
    let news = known.is_none_or(|known| known.reason != report.reason || known.message != report.message);
    let note = format!("a Job could not count its files: {}", report.message);
    news.then(|| Notice { warning: true, reason: reason(report).to_owned(), note })
}

/// A sidecar sweeps whenever it starts: a sweep that found nothing to do does not make what was clean before it unclean.
fn clean_since(last: Option<&Sweep>, sweep: &SweepReport, completed: &Time) -> Time {
    let left = |last: &Sweep| last.files_per_version.iter().any(|(v, n)| *v != last.target_version && *n > 0);
    let clean = |last: &&Sweep| {
        let same = last.completed_at.as_ref() == Some(completed);
        let nothing_done = sweep.rewrapped == 0 && last.unknown == 0 && !left(last);
        last.target_version == sweep.target_version && (same || nothing_done)
    };
    let since = last.filter(clean).and_then(|last| last.clean_since.clone().or(last.completed_at.clone()));
    since.unwrap_or_else(|| completed.clone())
}

fn phase(phase: VolumePhase) -> &'static str {
    match phase {
        VolumePhase::Waiting => "Waiting",
        VolumePhase::Serving => "Serving",
        VolumePhase::Suspended => "Suspended",
        VolumePhase::Failed => "Failed",
        VolumePhase::Sweeping => "Sweeping",
        VolumePhase::Swept => "Detached",
    }
}

fn message(report: &VolumeReport) -> String {
    let why = if report.message.is_empty() { &report.reason } else { &report.message };
    match report.sweep.as_ref().filter(|sweep| !sweep.complete) {
        Some(sweep) => {
            let seen: u64 = sweep.files_per_version.values().sum();
            format!("{why}; a sweep to version {} has seen {seen} files so far", sweep.target_version)
        }
        None => why.clone(),
    }
}

/// A condition's reason cannot be empty.
fn reason(report: &VolumeReport) -> &str {
    if report.reason.is_empty() { reasons::UNKNOWN } else { &report.reason }
}

fn conditions_of(
    next: &mut EncryptedVolumeStatus,
    report: &VolumeReport,
    current: Option<&str>,
    generation: Option<i64>,
    now: &Time,
) {
    let why = message(report);
    let suspended = match report.phase {
        VolumePhase::Suspended => Verdict::yes(reasons::KEY_REFUSED, why),
        VolumePhase::Serving => Verdict::no(reasons::READY, "data is served"),
        VolumePhase::Swept | VolumePhase::Sweeping => Verdict::no(reasons::DETACHED, "no pod mounts it"),
        // Not served, and not because the key is refused: whether it would be is not known.
        VolumePhase::Waiting | VolumePhase::Failed => Verdict::unknown(reason(report), why),
    };
    put(&mut next.conditions, types::SUSPENDED, &suspended, generation, now);
    let torn = report.warnings.iter().any(|warning| warning == check_in::reasons::TORN_WRITES_POSSIBLE);
    if torn {
        let message = "a power cut may leave a block half written: the backing filesystem does not write aligned 4 KiB at once";
        let verdict = Verdict::yes(check_in::reasons::TORN_WRITES_POSSIBLE, message);
        put(&mut next.conditions, types::TORN_WRITES_POSSIBLE, &verdict, generation, now);
    } else if report.phase == VolumePhase::Serving {
        let verdict = Verdict::no(reasons::READY, "aligned 4 KiB writes are old or new");
        put(&mut next.conditions, types::TORN_WRITES_POSSIBLE, &verdict, generation, now);
    }
    let verdict = rewrapped(next, current);
    put(&mut next.conditions, types::REWRAPPED, &verdict, generation, now);
}

fn transitions(
    before: &EncryptedVolumeStatus,
    next: &EncryptedVolumeStatus,
    report: &VolumeReport,
    unclear: Option<Notice>,
) -> Vec<Notice> {
    let mut notices = vec![];
    if let Some(unclear) = unclear {
        notices.push(unclear);
    } else if before.phase != next.phase {
        let note = format!(
            "{}: {}",
            next.phase.as_deref().unwrap_or_default(),
            next.message.as_deref().unwrap_or_default()
        );
        let warning = matches!(report.phase, VolumePhase::Failed | VolumePhase::Suspended);
        notices.push(Notice { warning, reason: report.reason.clone(), note });
    }
    let of = |status: &EncryptedVolumeStatus| {
        conditions::status(&status.conditions, types::REWRAPPED).map(str::to_owned)
    };
    if of(before) != of(next)
        && let Some(condition) = conditions::find(&next.conditions, types::REWRAPPED)
        && condition.status != "Unknown"
    {
        let note = format!("Rewrapped is {}: {}", condition.status, condition.message);
        notices.push(Notice { warning: false, reason: condition.reason.clone(), note });
    }
    notices
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
