//! What a volume's rewrap Jobs come to, as conditions: which credential the last one used, and why it failed.
//!
//! Invariant: pure; a pod's own words are kept from when they were seen, because the pod is gone once its Job has failed.

use api::condition::{reasons, types};
use contract::{exit, names};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use super::look::{Around, belongs_to};
use crate::controllers::conditions::{Verdict, find};
use crate::rewrap::job::{attempt, uses_data_credential};
use crate::rewrap::plan::ending;

/// Characters of a pod's words that are kept.
const LONGEST: usize = 600;

/// What the conditions `DataCredentialUsed` and `RewrapFailed` should say; a condition that is not among them stays as it is.
pub fn verdicts(around: &Around, before: &[Condition], all_rewrapped: bool) -> Vec<(&'static str, Verdict)> {
    let newest = around.jobs.iter().max_by_key(|job| (job.creation_timestamp(), attempt(job)));
    let credential = newest.and_then(credential).map(|verdict| (types::DATA_CREDENTIAL_USED, verdict));
    let failed = if all_rewrapped {
        let message = "every file is wrapped by the current key version";
        find(before, types::REWRAP_FAILED).map(|_| Verdict::no(reasons::READY, message))
    } else {
        newest.and_then(|job| failed(job, &around.job_pods, before))
    };
    credential.into_iter().chain(failed.map(|verdict| (types::REWRAP_FAILED, verdict))).collect()
}

fn credential(job: &Job) -> Option<Verdict> {
    let name = job.name_any();
    Some(if uses_data_credential(job)? {
        let message = format!(
            "rewrap Job {name} uses the data credential, which can also unwrap: its KmsProfile has no rewrap credential"
        );
        Verdict::yes(reasons::NO_REWRAP_CREDENTIAL, message)
    } else {
        Verdict::no(reasons::READY, format!("rewrap Job {name} uses the rewrap credential"))
    })
}

fn failed(job: &Job, pods: &[Pod], before: &[Condition]) -> Option<Verdict> {
    let about = format!("rewrap Job {}: ", job.name_any());
    let now =
        pods.iter().filter(|pod| belongs_to(pod, std::slice::from_ref(job))).filter_map(of_pod).next_back();
    let now = now.map(|(reason, words)| (reason, format!("{about}{words}")));
    let known = find(before, types::REWRAP_FAILED).filter(|condition| condition.message.starts_with(&about));
    let seen = now.or_else(|| known.map(|condition| (condition.reason.clone(), condition.message.clone())));
    match ending(job) {
        // It is tried again until its backoff limit.
        None => seen.map(|(reason, message)| Verdict::unknown(reason, message)),
        Some(end) if end.complete => Some(Verdict::no(reasons::READY, format!("{about}it is complete"))),
        Some(_) => {
            let (reason, message) = seen.unwrap_or_else(|| of_job(job, &about));
            Some(Verdict::yes(reason, message))
        }
    }
}

/// What the Job itself says, where no pod said anything.
fn of_job(job: &Job, about: &str) -> (String, String) {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let failed = conditions.iter().find(|condition| condition.type_ == "Failed");
    let reason = failed.and_then(|failed| failed.reason.clone()).unwrap_or_else(|| "Failed".into());
    let message =
        failed.and_then(|failed| failed.message.clone()).unwrap_or_else(|| "no pod said why".into());
    (reason, format!("{about}{message}"))
}

/// Why a pod's last run ended badly: a word, and words for a person.
fn of_pod(pod: &Pod) -> Option<(String, String)> {
    let status = pod.status.as_ref()?;
    if let Some(reason) = &status.reason {
        // Evicted, lost with its node: kubelet says so of the pod, not of its container.
        let words = status.message.clone().unwrap_or_else(|| "the pod was stopped".into());
        return Some((reason.clone(), shown(&words)));
    }
    let containers = status.container_statuses.iter().flatten();
    let container = containers.into_iter().find(|container| container.name == names::JOB_CONTAINER)?;
    let states = [container.state.as_ref(), container.last_state.as_ref()];
    let ended = states.into_iter().flatten().find_map(|state| state.terminated.as_ref())?;
    (ended.exit_code != exit::OK).then(|| (word(ended), words(ended)))
}

fn word(ended: &ContainerStateTerminated) -> String {
    let known = match ended.exit_code {
        exit::REFUSED => reasons::KEY_REFUSED,
        exit::UNAVAILABLE => "Unavailable",
        exit::DATA => "VolumeUnreadable",
        exit::CONFIG => reasons::INVALID_SPEC,
        exit::INCOMPLETE => "SweepIncomplete",
        _ => return ended.reason.clone().unwrap_or_else(|| "Error".into()),
    };
    known.into()
}

/// The program's last line on standard error, which kubelet gives as the message, says why it ended.
fn words(ended: &ContainerStateTerminated) -> String {
    let message = ended.message.as_deref().unwrap_or_default();
    let last = message.lines().map(str::trim).rfind(|line| !line.is_empty());
    match last {
        Some(line) => shown(line.strip_prefix("cofferdam-sidecar: ").unwrap_or(line)),
        None => format!("its pod ended with exit code {} and said nothing", ended.exit_code),
    }
}

fn shown(words: &str) -> String {
    words.chars().take(LONGEST).collect()
}

#[cfg(test)]
#[path = "jobs_tests.rs"]
mod tests;
