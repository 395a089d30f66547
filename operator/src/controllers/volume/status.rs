//! A volume's next status, as the controller sees it: what no check-in can tell.
//!
//! Invariant: pure; while a pod mounts the claim its phase is what check-ins say, and nobody's word is success.

use api::condition::{reasons, types};
use api::{EncryptedVolume, EncryptedVolumeStatus};
use contract::names::SWEEP_REQUESTED_ANNOTATION;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::jobs;
use super::left;
use super::look::{Around, bound, is_open, only_reads};
use super::rewrapped::rewrapped;
use crate::controllers::conditions::{Verdict, find, put};
use crate::rewrap::job::JOB_PREFIX;
use crate::rewrap::plan::{Plan, ending};

/// Seconds without a check-in after which nothing is known: three of them failed.
pub const STALE: i64 = 90;

/// Whether somebody checked in lately enough to be believed.
pub fn fresh(status: &EncryptedVolumeStatus, now: &Time) -> bool {
    status.last_check_in.as_ref().is_some_and(|last| now.0.as_second() - last.0.as_second() <= STALE)
}

/// The next status.
pub fn next(volume: &EncryptedVolume, around: &Around, plan: &Plan, now: &Time) -> EncryptedVolumeStatus {
    let mut next = volume.status.clone().unwrap_or_default();
    let bound = bound(around.claim.as_ref());
    if let (Some(before), Some(bound)) = (&next.persistent_volume, &bound)
        && before != bound
    {
        // Another volume: nothing that was seen of the old one is true of it, nor what was said of that.
        next = EncryptedVolumeStatus {
            released_volume: next.released_volume.or_else(|| Some(before.clone())),
            acknowledged_volume: next.acknowledged_volume.or_else(|| Some(before.clone())),
            ..EncryptedVolumeStatus::default()
        };
    }
    next.persistent_volume = bound.or(next.persistent_volume);
    pin_what_was_said(volume, &mut next);
    forget_what_was_seen(volume, around, &mut next);
    let volume = &EncryptedVolume { status: Some(next.clone()), ..volume.clone() };
    let (phase, message) = phase(volume, &next, around, plan, now);
    let by_pod = around.pods.iter().any(|pod| Some(pod.name_any()) == next.pod);
    let by_job = around.pods.is_empty() && around.jobs.iter().any(|job| ending(job).is_none());
    if phase == "Detached" || phase == "Orphaned" || phase == "Released" {
        let verdict = Verdict::no(reasons::DETACHED, "no pod mounts it");
        put(&mut next.conditions, types::SUSPENDED, &verdict, volume.metadata.generation, now);
    }
    let outdated = suspended_for(&next, reasons::READY) || suspended_for(&next, reasons::OPEN_POD);
    if open_pod(around).is_some() && phase == "Failed" {
        let verdict = Verdict::unknown(reasons::OPEN_POD, message.clone());
        put(&mut next.conditions, types::SUSPENDED, &verdict, volume.metadata.generation, now);
    } else if phase == "Unknown" || (phase == "Pending" && outdated) {
        let verdict = Verdict::unknown(reasons::NO_CHECK_IN, message.clone());
        put(&mut next.conditions, types::SUSPENDED, &verdict, volume.metadata.generation, now);
    }
    if !by_pod && !by_job {
        next.pod = None;
    }
    (next.phase, next.message) = (Some(phase), Some(message));
    let current =
        around.profile.as_ref().and_then(|profile| profile.status.as_ref()?.current_version.clone());
    let verdict = rewrapped(&next, current.as_deref());
    put(&mut next.conditions, types::REWRAPPED, &verdict, volume.metadata.generation, now);
    if let Some(verdict) = waits(&next, plan) {
        put(&mut next.conditions, types::REWRAP_WAITS, &verdict, volume.metadata.generation, now);
    }
    for (type_, verdict) in jobs::verdicts(around, &next.conditions, verdict.status == "True") {
        put(&mut next.conditions, type_, &verdict, volume.metadata.generation, now);
    }
    next
}

/// What a Job saw in a volume without a marker is true as long as no pod that may write has mounted it.
fn forget_what_was_seen(volume: &EncryptedVolume, around: &Around, next: &mut EncryptedVolumeStatus) {
    let writes = |pod: &Pod| !only_reads(pod, &volume.spec.claim_name);
    if next.marker.is_none() && around.pods.iter().any(writes) {
        next.forget_counts();
    }
}

/// The condition `RewrapWaits`; none: it was never true.
fn waits(status: &EncryptedVolumeStatus, plan: &Plan) -> Option<Verdict> {
    match &plan.stays {
        Some(why) => Some(Verdict::yes(reasons::MOUNTED_READ_ONLY, why.clone())),
        None => find(&status.conditions, types::REWRAP_WAITS)
            .map(|_| Verdict::no(reasons::READY, "no pod keeps it from being rewrapped")),
    }
}

/// A person's word is about one persistent volume: the one that was there when it was first seen.
fn pin_what_was_said(volume: &EncryptedVolume, next: &mut EncryptedVolumeStatus) {
    let here = next.persistent_volume.clone();
    let pin = |said: bool, pinned: Option<String>| pinned.or_else(|| here.clone()).filter(|_| said);
    next.released_volume = pin(volume.spec.release, next.released_volume.take());
    next.acknowledged_volume = pin(volume.spec.acknowledged, next.acknowledged_volume.take());
}

fn phase(
    volume: &EncryptedVolume,
    status: &EncryptedVolumeStatus,
    around: &Around,
    plan: &Plan,
    now: &Time,
) -> (String, String) {
    let say = |phase: &str, message: String| (phase.to_owned(), message);
    let claim = &volume.spec.claim_name;
    if volume.has_left_its_claim() {
        return left::phase(volume, around);
    }
    if around.claim.is_none() {
        return say("Orphaned", orphaned(around));
    }
    if volume.is_released() {
        return say("Released", format!("claim {claim} is not protected any more; its files stay encrypted"));
    }
    let (mut was, said) =
        (status.phase.clone().unwrap_or_default(), status.message.clone().unwrap_or_default());
    if let Some(pod) = open_pod(around) {
        return say("Failed", open(pod));
    }
    if suspended_for(status, reasons::OPEN_POD) {
        // That was said here and by no check-in: it is not true any more.
        was.clear();
    }
    if let Some(pod) = around.pods.first() {
        return with_pod(status, around, pod, now, (was, said));
    }
    if around.jobs.iter().any(|job| ending(job).is_none()) {
        let by_job = status.pod.as_ref().is_some_and(|pod| pod.starts_with(JOB_PREFIX)) && fresh(status, now);
        let started = match status.marker {
            Some(_) => "a rewrap Job was started",
            None => "a Job was started that looks into it",
        };
        return if by_job { (was, said) } else { say("Sweeping", started.into()) };
    }
    if status.persistent_volume.is_none() {
        return say("Pending", "the claim is not bound yet".into());
    }
    if status.marker.is_none() {
        return say("Detached", unmarked(status, plan));
    }
    match &plan.waits {
        Some(why) => say("Detached", format!("no pod mounts it; rewrapping waits: {why}")),
        None => say("Detached", "no pod mounts it".into()),
    }
}

fn open(pod: &Pod) -> String {
    format!(
        "pod {} mounts it without the sidecar, because it began before the claim was protected: what it writes is not encrypted; \
         delete the pod",
        pod.name_any()
    )
}

fn orphaned(around: &Around) -> String {
    let message = "the claim is gone and its persistent volume is not: its files still count; delete the persistent volume, or set \
                   spec.acknowledged if it is gone for good";
    around.kept.clone().unwrap_or_else(|| message.into())
}

/// No pod mounts it, and nobody has reported a marker.
fn unmarked(status: &EncryptedVolumeStatus, plan: &Plan) -> String {
    if let Some(seen) = &status.not_counted {
        return format!(
            "no pod mounts it, and a Job could not count its files, so they are unknown: {}. The next look follows when the root key is \
             rotated, or when the annotation {SWEEP_REQUESTED_ANNOTATION} is set to the time; spec.acknowledged stops counting it",
            seen.message
        );
    }
    let known = if status.last_sweep.is_some() {
        "no pod has mounted it yet, and a Job found it empty"
    } else {
        "no pod mounts it, and nobody has looked into it yet: it counts as unknown until a pod has mounted it, a Job has looked into it \
         (which is done once the root key was rotated), or spec.acknowledged says that it was never written"
    };
    match &plan.waits {
        Some(why) => format!("{known}; a look waits: {why}"),
        None => known.into(),
    }
}

fn suspended_for(status: &EncryptedVolumeStatus, reason: &str) -> bool {
    find(&status.conditions, types::SUSPENDED).is_some_and(|said| said.reason == reason)
}

/// A pod that mounts the claim as it is.
fn open_pod(around: &Around) -> Option<&Pod> {
    around.pods.iter().find(|pod| is_open(pod))
}

/// What check-ins said, as long as they go on.
fn with_pod(
    status: &EncryptedVolumeStatus,
    around: &Around,
    first: &Pod,
    now: &Time,
    (was, said): (String, String),
) -> (String, String) {
    let checks_in = ["Serving", "Waiting", "Suspended", "Failed"].contains(&was.as_str());
    // A pod of the same name that came later has not said anything.
    let last = status.last_check_in.as_ref().map_or(0, |last| last.0.as_second());
    let spoke = |pod: &Pod| pod.creation_timestamp().is_none_or(|made| made.0.as_second() <= last);
    let by_one_of_them = around.pods.iter().any(|pod| Some(pod.name_any()) == status.pod && spoke(pod));
    if checks_in && by_one_of_them && fresh(status, now) {
        return (was, said);
    }
    let name = status.pod.clone().filter(|_| by_one_of_them).unwrap_or_else(|| first.name_any());
    let age = |pod: &Pod| pod.creation_timestamp().map_or(0, |made| now.0.as_second() - made.0.as_second());
    let youngest = around.pods.iter().map(age).min().unwrap_or(0);
    if youngest <= STALE && !(checks_in && by_one_of_them) {
        return ("Pending".into(), format!("pod {name} mounts it; its sidecar has not checked in yet"));
    }
    let message = format!(
        "pod {name} mounts it, and nobody has checked in for more than {STALE} s: its state is not known"
    );
    ("Unknown".into(), message)
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
