//! Jobs that fail, complete and fall back to the data credential, as conditions.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;
use crate::controllers::conditions::{now, put};

fn around(jobs: &[Value], pods: &[Value]) -> Around {
    let parse = |value: &Value| serde_json::from_value(value.clone()).unwrap();
    Around {
        claim: None,
        persistent_volume_exists: true,
        kept: None,
        binding: None,
        profile: None,
        pods: vec![],
        jobs: jobs.iter().map(parse).collect(),
        job_pods: pods.iter().map(|pod| serde_json::from_value(pod.clone()).unwrap()).collect(),
        others_running: 0,
    }
}

/// A Job, by its number; `end` is the type of the condition that it ended with.
fn job(number: u32, end: Option<&str>, credential: &str) -> Value {
    let end = end.map(|end| {
        json!({"type": end, "status": "True", "reason": "BackoffLimitExceeded", "message": "too often"})
    });
    json!({
        "metadata": {
            "name": format!("cofferdam-rewrap-{number}"), "uid": format!("u{number}"),
            "creationTimestamp": format!("2026-01-01T00:00:0{number}Z"),
            "annotations": {"cofferdam.io/rewrap-credential": credential},
        },
        "status": {"conditions": end.into_iter().collect::<Vec<_>>()},
    })
}

/// A pod of a Job whose container ended so before it was started again.
fn pod(number: u32, exit_code: i32, reason: &str, message: Option<&str>) -> Value {
    let ended = json!({"terminated": {"exitCode": exit_code, "reason": reason, "message": message}});
    json!({
        "metadata": {"name": "p", "ownerReferences": [
            {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": format!("u{number}")},
        ]},
        "status": {"phase": "Running", "containerStatuses": [{
            "name": names::JOB_CONTAINER, "image": "", "imageID": "", "ready": false, "restartCount": 1,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ended,
        }]},
    })
}

fn of(type_: &str, around: &Around, before: &[Condition]) -> Option<(String, String, String)> {
    let found = verdicts(around, before, false).into_iter().find(|(found, _)| *found == type_)?;
    Some((found.1.status.into(), found.1.reason, found.1.message))
}

fn condition(verdict: &(String, String, String)) -> Vec<Condition> {
    let (status, reason, message) = verdict.clone();
    let mut list = vec![];
    put(&mut list, types::REWRAP_FAILED, &Verdict { status: "Unknown", reason, message }, None, &now());
    list[0].status = status;
    list
}

const LOG: &str =
    "{\"level\":\"INFO\"}\n{\"level\":\"WARN\"}\ncofferdam-sidecar: rewrap a key: the root key is disabled\n";

#[test]
fn the_words_of_a_pod_are_kept_until_its_job_has_failed() {
    let running = around(&[job(1, None, "rewrap")], &[pod(1, 77, "Error", Some(LOG))]);
    let seen = of(types::REWRAP_FAILED, &running, &[]).unwrap();
    let words = "rewrap Job cofferdam-rewrap-1: rewrap a key: the root key is disabled";
    assert_eq!(seen, ("Unknown".into(), "KeyRefused".into(), words.into()));
    // The Job controller has taken the pod away.
    let failed = around(&[job(1, Some("Failed"), "rewrap")], &[]);
    let known = of(types::REWRAP_FAILED, &failed, &condition(&seen)).unwrap();
    assert_eq!(known, ("True".into(), "KeyRefused".into(), words.into()));
    assert_eq!(of(types::REWRAP_FAILED, &failed, &condition(&known)).unwrap(), known, "it stays so");
    // Nobody has seen the pod: what the Job says.
    let (status, reason, message) = of(types::REWRAP_FAILED, &failed, &[]).unwrap();
    assert_eq!((status.as_str(), reason.as_str()), ("True", "BackoffLimitExceeded"));
    assert!(message.ends_with("too often"), "{message}");
    // Words about another Job are not about this one.
    let next = around(&[job(1, Some("Failed"), "rewrap"), job(2, Some("Failed"), "rewrap")], &[]);
    assert_eq!(of(types::REWRAP_FAILED, &next, &condition(&known)).unwrap().1, "BackoffLimitExceeded");
}

#[test]
fn a_pod_that_was_killed_or_evicted_says_so_in_kubelets_words() {
    let words = |pod: Value| {
        of(types::REWRAP_FAILED, &around(&[job(1, Some("Failed"), "rewrap")], &[pod]), &[]).unwrap()
    };
    let (_, reason, message) = words(pod(1, 137, "OOMKilled", None));
    assert_eq!(reason, "OOMKilled");
    assert!(message.contains("exit code 137"), "{message}");
    let mut evicted = pod(1, 0, "Completed", None);
    evicted["status"] =
        json!({"phase": "Failed", "reason": "Evicted", "message": "the node is short of memory"});
    let (_, reason, message) = words(evicted);
    assert_eq!(reason, "Evicted");
    assert!(message.contains("short of memory"), "{message}");
    assert_eq!(words(pod(2, 77, "Error", None)).1, "BackoffLimitExceeded", "a pod of another Job");
}

#[test]
fn a_job_that_completes_and_a_volume_that_is_rewrapped_end_the_failure() {
    let verdict = |jobs: &[Value]| of(types::REWRAP_FAILED, &around(jobs, &[]), &[]);
    let (failed, complete) = (job(1, Some("Failed"), "rewrap"), job(2, Some("Complete"), "rewrap"));
    assert_eq!(verdict(&[failed.clone(), complete]).unwrap().0, "False");
    // A new attempt that has said nothing yet changes nothing.
    assert_eq!(verdict(&[failed.clone(), job(2, None, "rewrap")]), None);
    assert_eq!(verdict(&[]), None);
    let around = around(&[failed], &[]);
    let before = condition(&of(types::REWRAP_FAILED, &around, &[]).unwrap());
    let by_sidecar = verdicts(&around, &before, true);
    assert!(
        by_sidecar.iter().any(|(type_, verdict)| *type_ == types::REWRAP_FAILED && verdict.status == "False")
    );
}

#[test]
fn the_data_credential_is_said_of_the_last_job_that_used_it() {
    let said = |jobs: &[Value]| of(types::DATA_CREDENTIAL_USED, &around(jobs, &[]), &[]);
    let (status, reason, message) = said(&[job(1, None, "data")]).unwrap();
    assert_eq!((status.as_str(), reason.as_str()), ("True", reasons::NO_REWRAP_CREDENTIAL));
    assert!(message.contains("cofferdam-rewrap-1") && message.contains("can also unwrap"), "{message}");
    assert_eq!(said(&[job(1, None, "data"), job(2, None, "rewrap")]).unwrap().0, "False");
    let mut older = job(1, None, "data");
    older["metadata"]["annotations"] = json!({});
    assert_eq!((said(&[older]), said(&[])), (None, None), "nobody knows");
}
