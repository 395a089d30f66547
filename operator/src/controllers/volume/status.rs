//! A volume's next status, as the controller sees it: what no check-in can tell.
//!
//! Invariant: pure; while a pod mounts the claim its phase is what check-ins say, and nobody's word is success.

use api::condition::{reasons, types};
use api::{EncryptedVolume, EncryptedVolumeStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::jobs;
use super::left;
use super::look::{Around, bound};
use super::rewrapped::rewrapped;
use crate::controllers::conditions::{Verdict, put};
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
        // Another volume: nothing that was seen of the old one is true of it.
        next = EncryptedVolumeStatus::default();
    }
    next.persistent_volume = bound.or(next.persistent_volume);
    let (phase, message) = phase(volume, &next, around, plan, now);
    let by_pod = around.pods.iter().any(|pod| Some(pod.name_any()) == next.pod);
    let by_job = around.pods.is_empty() && around.jobs.iter().any(|job| ending(job).is_none());
    if phase == "Detached" || phase == "Orphaned" || phase == "Released" {
        let verdict = Verdict::no(reasons::DETACHED, "no pod mounts it");
        put(&mut next.conditions, types::SUSPENDED, &verdict, volume.metadata.generation, now);
    }
    if phase == "Unknown" {
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
    for (type_, verdict) in jobs::verdicts(around, &next.conditions, verdict.status == "True") {
        put(&mut next.conditions, type_, &verdict, volume.metadata.generation, now);
    }
    next
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
    if volume.spec.release {
        return say("Released", format!("claim {claim} is not protected any more; its files stay encrypted"));
    }
    if volume.has_left_its_claim() {
        return left::phase(volume, around);
    }
    if around.claim.is_none() {
        let message = "the claim is gone and its persistent volume is not: its files still count; delete the persistent \
                       volume, or set spec.acknowledged if it is gone for good";
        return say("Orphaned", around.kept.clone().unwrap_or_else(|| message.into()));
    }
    let (was, said) = (status.phase.clone().unwrap_or_default(), status.message.clone().unwrap_or_default());
    if let Some(pod) = around.pods.first() {
        return with_pod(status, around, pod, now, (was, said));
    }
    if around.jobs.iter().any(|job| ending(job).is_none()) {
        let by_job = status.pod.as_ref().is_some_and(|pod| pod.starts_with(JOB_PREFIX)) && fresh(status, now);
        return if by_job { (was, said) } else { say("Sweeping", "a rewrap Job was started".into()) };
    }
    if status.persistent_volume.is_none() {
        return say("Pending", "the claim is not bound yet".into());
    }
    match &plan.waits {
        Some(why) => say("Detached", format!("no pod mounts it; rewrapping waits: {why}")),
        None => say("Detached", "no pod mounts it".into()),
    }
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
