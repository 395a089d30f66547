//! When a detached volume gets a rewrap Job, and which Jobs go. A volume of which nobody has reported a marker gets one that looks
//! whether it is empty.
//!
//! Invariant: pure; no Job runs beside a pod that mounts the claim, and none starts on what is not known. So what comes into a volume
//! after a Job found it empty is wrapped by the version that the Job was started for, or by a later one.

use api::profile::VersionStatus;
use api::{EncryptedVolume, KmsProfile, StorageBinding};
use contract::names::SWEEP_REQUESTED_ANNOTATION;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use sha2::{Digest, Sha256};

use super::job::{attempt, target};
use super::window::Window;

/// Seconds after the last check-in before a Job starts: a pod that is only replaced shall not wait for one.
const SETTLE: i64 = 15;
/// Seconds after the claim was recorded before a Job looks into a volume that no pod has mounted: its first pod may be on its way.
const FIRST_POD: i64 = 60;
/// Seconds until a Job follows one that did not reach its end; doubled each time.
const FIRST_BACKOFF: i64 = 60;
/// The longest such wait, in seconds.
const LONGEST_BACKOFF: i64 = 3600;
/// Seconds after which a volume that only waits for others is looked at again.
const LOOK_AGAIN: u32 = 15;

/// What decides over a volume's Jobs.
pub struct Situation<'a> {
    /// The volume.
    pub volume: &'a EncryptedVolume,
    /// Its binding, if there still is one.
    pub binding: Option<&'a StorageBinding>,
    /// Its profile, if it exists.
    pub profile: Option<&'a KmsProfile>,
    /// The claim exists and is bound.
    pub bound: bool,
    /// Pods that have not ended and mount the claim; Jobs' pods are none of them.
    pub pods: &'a [String],
    /// There are such pods, and none of them can write.
    pub only_read: bool,
    /// Jobs of this volume.
    pub jobs: &'a [&'a Job],
    /// Unfinished Jobs of other volumes of the same binding.
    pub others_running: usize,
    /// This moment.
    pub now: Timestamp,
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Jobs to delete, by name, each with why.
    pub delete: Vec<(String, &'static str)>,
    /// A Job to start.
    pub start: Option<Start>,
    /// Seconds after which it should be looked at again.
    pub again: Option<u32>,
    /// Why a Job that is needed does not run, for a person.
    pub waits: Option<String>,
    /// Why nothing rewraps the volume although pods mount it, for a person.
    pub stays: Option<String>,
}

/// A Job to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The key version that it leads to.
    pub target: String,
    /// 1 for the first Job of this volume and version.
    pub attempt: u32,
}

/// Works out what to do.
pub fn plan(situation: &Situation<'_>) -> Plan {
    let mut plan = Plan { delete: surplus(situation), ..Plan::default() };
    let Some(target) = needed(situation) else { return plan };
    if let Some(pod) = situation.pods.first() {
        plan.stays = situation.only_read.then(|| stays(pod, &target));
        return plan;
    }
    if situation.jobs.iter().any(|job| ending(job).is_none()) {
        return plan;
    }
    match earliest(situation, &target) {
        Ok(attempt) => plan.start = Some(Start { target, attempt }),
        Err((seconds, why)) => {
            plan.again = Some(seconds);
            plan.waits = Some(why);
        }
    }
    plan
}

/// A sidecar that only reads neither sweeps nor rewraps what is opened, and its lease keeps whoever writes away.
fn stays(pod: &str, target_version: &str) -> String {
    format!(
        "mounted read-only by every pod that mounts it, such as {pod}: nothing rewraps its files to version {target_version} meanwhile. A Job \
         does once no pod mounts it, or a pod that mounts it for writing, which has to wait until these are gone"
    )
}

/// How a Job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// It completed; otherwise it failed.
    pub complete: bool,
    /// When.
    pub at: Timestamp,
}

/// How a Job ended; `None`: it has not.
pub fn ending(job: &Job) -> Option<Ending> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let of = |type_: &str| conditions.iter().find(|c| c.type_ == type_ && c.status == "True");
    let (complete, condition) = match (of("Complete"), of("Failed")) {
        (Some(condition), _) => (true, condition),
        (None, condition) => (false, condition?),
    };
    let at = condition.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    Some(Ending { complete, at })
}

/// Jobs that must go: all that run beside a pod or for a version that is none any more, and old history.
fn surplus(situation: &Situation<'_>) -> Vec<(String, &'static str)> {
    let current = situation.profile.and_then(current_version);
    let mut delete = vec![];
    let (running, mut ended): (Vec<&Job>, Vec<&Job>) =
        situation.jobs.iter().copied().partition(|job| ending(job).is_none());
    for job in running {
        if job.metadata.deletion_timestamp.is_some() {
            continue;
        }
        if !situation.pods.is_empty() {
            delete.push((job.name_any(), "a pod that mounts the claim exists"));
        } else if given_up(situation.volume) || !situation.bound {
            delete.push((job.name_any(), "the volume is released or gone"));
        } else if current.is_some_and(|current| target(job) != current) {
            delete.push((job.name_any(), "the root key was rotated again"));
        }
    }
    ended.sort_by_key(|job| std::cmp::Reverse(ending(job).map(|ending| ending.at)));
    let limit = situation.binding.map_or(3, |binding| binding.spec.rewrap.history_limit) as usize;
    // The last one stays while another must wait for it.
    let wanted = situation.profile.and_then(current_version);
    let keep =
        |job: &Job| wanted.is_some_and(|wanted| target(job) == wanted && !done(situation.volume, wanted));
    for (place, job) in ended.into_iter().enumerate() {
        if place >= limit && !(place == 0 && keep(job)) && job.metadata.deletion_timestamp.is_none() {
            delete.push((job.name_any(), "history"));
        }
    }
    delete
}

fn current_version(profile: &KmsProfile) -> Option<&str> {
    profile.status.as_ref()?.current_version.as_deref()
}

/// A person has said of this volume that it is not protected any more, or gone.
fn given_up(volume: &EncryptedVolume) -> bool {
    volume.is_released() || volume.is_acknowledged()
}

/// The version that a Job is needed for.
fn needed(situation: &Situation<'_>) -> Option<String> {
    let status = situation.volume.status.as_ref()?;
    if given_up(situation.volume) || !situation.bound {
        return None;
    }
    let profile = situation.profile?.status.as_ref()?;
    let current = profile.current_version.as_deref()?;
    if done(situation.volume, current) || in_vain(situation.volume, current) {
        return None;
    }
    // Before the first rotation there is nothing to rewrap, and no version that could be retired.
    let asked = requested(situation.volume).is_some();
    let older = |version: &VersionStatus| version.id != current;
    let swept_elsewhere = status.last_sweep.as_ref().is_some_and(|sweep| sweep.target_version != current);
    (asked || swept_elsewhere || profile.versions.iter().any(older)).then(|| current.to_owned())
}

/// The last sweep led to this version and left nothing.
fn done(volume: &EncryptedVolume, current: &str) -> bool {
    let Some(sweep) = volume.status.as_ref().and_then(|status| status.last_sweep.as_ref()) else {
        return false;
    };
    let left = sweep.files_per_version.iter().any(|(version, files)| version != current && *files > 0);
    sweep.target_version == current && sweep.unknown == 0 && !left && !sweep_requested(volume)
}

/// A Job has looked for this version, could not count what it saw, and nobody has asked since: it would see the same.
fn in_vain(volume: &EncryptedVolume, current: &str) -> bool {
    let seen = volume.status.as_ref().filter(|status| status.marker.is_none());
    let Some(seen) = seen.and_then(|status| status.not_counted.as_ref()) else { return false };
    let asked_since = requested(volume).is_some_and(|at| seen.at.as_ref().is_none_or(|seen| seen.0 < at));
    seen.target_version == current && !asked_since
}

/// A person asked for a sweep after the last one was complete.
pub fn sweep_requested(volume: &EncryptedVolume) -> bool {
    let sweep = volume.status.as_ref().and_then(|status| status.last_sweep.as_ref());
    let completed = sweep.and_then(|sweep| sweep.completed_at.as_ref());
    requested(volume).is_some_and(|at| completed.is_none_or(|completed| completed.0 < at))
}

fn requested(volume: &EncryptedVolume) -> Option<Timestamp> {
    volume.annotations().get(SWEEP_REQUESTED_ANNOTATION)?.parse().ok()
}

/// The attempt that may start now, or how long it must wait and why.
fn earliest(situation: &Situation<'_>, target_version: &str) -> Result<u32, (u32, String)> {
    let profile = situation.profile.and_then(|profile| profile.status.as_ref());
    let state = profile.and_then(|status| status.key_state.as_deref()).unwrap_or("Unknown");
    if state != "Enabled" {
        return Err((LOOK_AGAIN, format!("the root key is {state}")));
    }
    let (attempt, after_backoff) = backoff(situation, target_version);
    let now = situation.now.as_second();
    let seen = situation.volume.status.as_ref().and_then(|status| status.last_check_in.as_ref());
    let settled = seen.map_or(now, |Time(seen)| seen.as_second() + SETTLE);
    for (at, why) in [
        (settled, "a sidecar has just left it"),
        (first_pod(situation.volume).unwrap_or(now), "its first pod may be on its way"),
        (staggered(situation, target_version).unwrap_or(now), "Jobs are spread over time"),
        (after_backoff, "the last Job did not reach its end"),
    ] {
        if at > now {
            // A time and no countdown: the same words until then.
            let when = Timestamp::from_second(at).unwrap_or(situation.now);
            return Err(((at - now).min(LONGEST_BACKOFF) as u32, format!("{why}; a Job starts at {when}")));
        }
    }
    open_window(situation, now)?;
    let parallelism = situation.binding.map_or(1, |binding| binding.spec.rewrap.parallelism) as usize;
    if situation.others_running >= parallelism {
        let why = format!(
            "{} Jobs of the binding run, and its parallelism is {parallelism}",
            situation.others_running
        );
        return Err((LOOK_AGAIN, why));
    }
    Ok(attempt)
}

/// Until when a volume without a marker is left to its first pod.
fn first_pod(volume: &EncryptedVolume) -> Option<i64> {
    let unseen = volume.status.as_ref().is_none_or(|status| status.marker.is_none());
    let recorded = volume.creation_timestamp().filter(|_| unseen)?;
    Some(recorded.0.as_second() + FIRST_POD)
}

fn open_window(situation: &Situation<'_>, now: i64) -> Result<(), (u32, String)> {
    let Some(text) = situation.binding.and_then(|binding| binding.spec.rewrap.window.as_deref()) else {
        return Ok(());
    };
    let Some(window) = Window::parse(text) else {
        return Err((LONGEST_BACKOFF as u32, format!("the binding's rewrap.window {text} cannot be read")));
    };
    match window.opens_in(now) {
        0 => Ok(()),
        seconds => Err((seconds, format!("the binding's window {text} (UTC) is closed"))),
    }
}

/// Which attempt is next, and from when on.
fn backoff(situation: &Situation<'_>, target_version: &str) -> (u32, i64) {
    let tried = situation.jobs.iter().filter(|job| target(job) == target_version);
    let Some((last, ended)) = tried.filter_map(|job| Some((attempt(job), ending(job)?.at))).max() else {
        return (1, i64::MIN);
    };
    // What a person asked for since does not wait.
    if requested(situation.volume).is_some_and(|at| at > ended) {
        return (last + 1, i64::MIN);
    }
    let wait = (FIRST_BACKOFF << (last.clamp(1, 10) - 1)).min(LONGEST_BACKOFF);
    (last + 1, ended.as_second() + wait)
}

/// The volume's own moment after the rotation.
fn staggered(situation: &Situation<'_>, target_version: &str) -> Option<i64> {
    let rotated = situation.profile?.status.as_ref()?.rotated_at.as_ref()?.0.as_second();
    let span = situation.binding.map_or(60, |binding| binding.spec.rewrap.stagger_seconds);
    let volume = situation.volume;
    let mut hash = Sha256::new();
    for part in [volume.namespace().unwrap_or_default(), volume.name_any(), target_version.to_owned()] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let digest = hash.finalize();
    let number = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    Some(rotated + i64::from(number % span.saturating_add(1)))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
