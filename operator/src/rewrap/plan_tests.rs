//! Situations, and what is planned in them.
#![allow(clippy::unwrap_used, clippy::unnecessary_wraps)]

use serde_json::{Value, json};

use super::*;

/// 2026-01-02T12:00:00Z.
const NOON: i64 = 1_767_355_200;

fn time(second: i64) -> String {
    Timestamp::from_second(second).unwrap().to_string()
}

/// A detached volume that was swept to v1 long ago, and everything around it.
struct Stage {
    volume: Value,
    binding: Value,
    profile: Value,
    bound: bool,
    pods: Vec<String>,
    only_read: bool,
    jobs: Vec<Value>,
    others_running: usize,
    now: i64,
}

impl Stage {
    fn new() -> Self {
        Self {
            volume: json!({
                "metadata": {"name": "files", "namespace": "shop"},
                "spec": {"claimName": "files", "bindingName": "app", "profile": {"name": "main"}},
                "status": {
                    "marker": {"volumeId": "aa", "strict": false, "ownership": "Virtual", "sweepEpoch": 1, "uid": 1, "gid": 1},
                    "lastCheckIn": time(NOON - 600),
                    "lastSweep": {"targetVersion": "v1", "filesPerVersion": {"v1": 5}, "completedAt": time(NOON - 7200)},
                },
            }),
            binding: json!({
                "metadata": {"name": "app", "namespace": "shop"},
                "spec": {"profile": {"name": "main"}, "claims": {"names": ["files"]}, "rewrap": {"staggerSeconds": 0}},
            }),
            profile: json!({
                "metadata": {"name": "main", "namespace": "shop"},
                "spec": {
                    "keyProtect": {"endpoint": "https://kms", "instance": "i", "rootKey": "k"},
                    "credentials": {"data": {"apiKeySecret": {"name": "s"}}},
                },
                "status": {
                    "keyState": "Enabled", "currentVersion": "v2", "rotatedAt": time(NOON - 3600),
                    "versions": [{"id": "v2"}, {"id": "v1"}],
                },
            }),
            bound: true,
            pods: vec![],
            only_read: false,
            jobs: vec![],
            others_running: 0,
            now: NOON,
        }
    }

    fn plan(&self) -> Plan {
        let volume: EncryptedVolume = parse("EncryptedVolume", &self.volume);
        let binding: StorageBinding = parse("StorageBinding", &self.binding);
        let profile: KmsProfile = parse("KmsProfile", &self.profile);
        let jobs: Vec<Job> =
            self.jobs.iter().map(|job| serde_json::from_value(job.clone()).unwrap()).collect();
        plan(&Situation {
            volume: &volume,
            binding: Some(&binding),
            profile: Some(&profile),
            bound: self.bound,
            pods: &self.pods,
            only_read: self.only_read,
            jobs: &jobs.iter().collect::<Vec<_>>(),
            others_running: self.others_running,
            now: Timestamp::from_second(self.now).unwrap(),
        })
    }
}

fn parse<T: serde::de::DeserializeOwned>(kind: &str, value: &Value) -> T {
    let mut value = value.clone();
    (value["apiVersion"], value["kind"]) = (json!("cofferdam.io/v1alpha1"), json!(kind));
    serde_json::from_value(value).unwrap()
}

fn job(name: &str, target: &str, attempt: u32, ended: Option<(&str, i64)>) -> Value {
    let conditions: Vec<_> = ended
        .iter()
        .map(|(type_, at)| json!({"type": type_, "status": "True", "lastTransitionTime": time(*at)}))
        .collect();
    json!({
        "metadata": {"name": name, "annotations": {
            "cofferdam.io/rewrap-target": target, "cofferdam.io/rewrap-attempt": attempt.to_string(),
        }},
        "status": {"conditions": conditions},
    })
}

fn start(attempt: u32) -> Option<Start> {
    Some(Start { target: "v2".into(), attempt })
}

type Change = fn(&mut Stage);

#[test]
fn a_detached_volume_behind_the_current_version_gets_a_job() {
    let plan = Stage::new().plan();
    assert_eq!(plan, Plan { start: start(1), ..Plan::default() });
}

#[test]
fn no_job_starts_without_need_or_knowledge() {
    let cases: [(&str, Change); 9] = [
        ("a pod mounts the claim", |s| s.pods = vec!["app".into()]),
        ("swept to the current version", |s| {
            s.volume["status"]["lastSweep"] = json!({"targetVersion": "v2", "filesPerVersion": {"v2": 5}});
        }),
        ("released", |s| s.volume["spec"]["release"] = json!(true)),
        ("acknowledged as gone", |s| s.volume["spec"]["acknowledged"] = json!(true)),
        ("the claim is not bound", |s| s.bound = false),
        ("the current version is not known", |s| s.profile["status"]["currentVersion"] = Value::Null),
        ("the key is disabled", |s| s.profile["status"]["keyState"] = json!("Disabled")),
        ("the key's state is not known", |s| s.profile["status"]["keyState"] = json!("Unknown")),
        ("never rotated, never swept", |s| {
            s.volume["status"]["lastSweep"] = Value::Null;
            s.profile["status"]["versions"] = json!([{"id": "v2"}]);
        }),
    ];
    for (why, change) in cases {
        let mut stage = Stage::new();
        change(&mut stage);
        assert_eq!(stage.plan().start, None, "{why}");
    }
}

#[test]
fn what_a_person_said_of_another_persistent_volume_keeps_no_job_away() {
    for said in ["release", "acknowledged"] {
        let mut stage = Stage::new();
        stage.volume["spec"][said] = json!(true);
        stage.volume["status"]["persistentVolume"] = json!("pv-2");
        stage.volume["status"]["releasedVolume"] = json!("pv-1");
        stage.volume["status"]["acknowledgedVolume"] = json!("pv-1");
        assert_eq!(stage.plan().start, start(1), "{said}");
        stage.volume["status"]["persistentVolume"] = json!("pv-1");
        assert_eq!(stage.plan().start, None, "{said}");
    }
}

#[test]
fn what_is_unknown_or_asked_for_is_swept_again() {
    let cases: [(&str, Change); 3] = [
        ("files of unknown version", |s| {
            s.volume["status"]["lastSweep"] =
                json!({"targetVersion": "v2", "filesPerVersion": {"v2": 5}, "unknown": 1});
        }),
        ("put back to an earlier state", |s| s.volume["status"]["lastSweep"] = Value::Null),
        ("a person asked", |s| {
            s.volume["status"]["lastSweep"] =
                json!({"targetVersion": "v2", "filesPerVersion": {"v2": 5}, "completedAt": time(NOON - 60)});
            s.volume["metadata"]["annotations"] = json!({"cofferdam.io/sweep-requested": time(NOON - 30)});
        }),
    ];
    for (why, change) in cases {
        let mut stage = Stage::new();
        change(&mut stage);
        assert_eq!(stage.plan().start, start(1), "{why}");
    }
    let mut asked_before = Stage::new();
    cases[2].1(&mut asked_before);
    asked_before.volume["metadata"]["annotations"] = json!({"cofferdam.io/sweep-requested": time(NOON - 90)});
    assert_eq!(asked_before.plan().start, None);
}

#[test]
fn a_job_waits_for_its_window_its_turn_and_its_moment() {
    let cases: [(&str, u32, Change); 4] = [
        ("window", 10 * 3600, |s| s.binding["spec"]["rewrap"]["window"] = json!("22:00-05:00")),
        ("parallelism", LOOK_AGAIN, |s| s.others_running = 2),
        ("a sidecar has just left", 10, |s| s.volume["status"]["lastCheckIn"] = json!(time(NOON - 5))),
        ("spread over time", 0, |s| {
            s.binding["spec"]["rewrap"]["staggerSeconds"] = json!(1_000_000);
            s.profile["status"]["rotatedAt"] = json!(time(NOON - 1));
        }),
    ];
    for (why, seconds, change) in cases {
        let mut stage = Stage::new();
        change(&mut stage);
        let plan = stage.plan();
        assert_eq!(plan.start, None, "{why}");
        assert!(plan.waits.as_ref().unwrap().contains(why), "{plan:?}");
        assert!(seconds == 0 || plan.again == Some(seconds), "{plan:?}");
    }
    let mut in_window = Stage::new();
    in_window.binding["spec"]["rewrap"]["window"] = json!("11:00-13:00");
    assert_eq!(in_window.plan().start, start(1));
}

#[test]
fn volumes_have_different_moments_that_do_not_move() {
    let moment = |name: &str| {
        let mut stage = Stage::new();
        stage.volume["metadata"]["name"] = json!(name);
        stage.binding["spec"]["rewrap"]["staggerSeconds"] = json!(1000);
        stage.profile["status"]["rotatedAt"] = json!(time(NOON));
        stage.plan().again.unwrap_or(0)
    };
    let moments: std::collections::BTreeSet<u32> = (0..50).map(|n| moment(&format!("files-{n}"))).collect();
    assert!(moments.len() > 40 && moments.last().unwrap() <= &1000, "{moments:?}");
    assert_eq!(moment("files-7"), moment("files-7"));
}

#[test]
fn there_is_one_job_at_a_time_and_the_next_follows_a_backoff() {
    let mut running = Stage::new();
    running.jobs = vec![job("one", "v2", 1, None)];
    assert_eq!(running.plan(), Plan::default());
    let mut failed = Stage::new();
    failed.jobs = vec![job("one", "v2", 1, Some(("Failed", NOON - 20)))];
    assert_eq!((failed.plan().start, failed.plan().again), (None, Some(40)));
    failed.jobs = vec![job("one", "v2", 1, Some(("Failed", NOON - 60)))];
    assert_eq!(failed.plan().start, start(2));
    failed.jobs.push(job("two", "v2", 2, Some(("Failed", NOON - 60))));
    assert_eq!((failed.plan().start, failed.plan().again), (None, Some(60)));
    // A Job for another version has nothing to do with it.
    failed.jobs = vec![job("old", "v1", 3, Some(("Failed", NOON - 1)))];
    assert_eq!(failed.plan().start, start(1));
    // What a person asks for does not wait.
    failed.jobs = vec![job("one", "v2", 1, Some(("Failed", NOON - 20)))];
    failed.volume["metadata"]["annotations"] = json!({"cofferdam.io/sweep-requested": time(NOON - 10)});
    assert_eq!(failed.plan().start, start(2));
}

#[test]
fn a_running_job_yields_to_a_pod_and_to_a_newer_version() {
    let mut stage = Stage::new();
    stage.jobs = vec![job("one", "v2", 1, None)];
    stage.pods = vec!["app".into()];
    let deleted = |stage: &Stage| stage.plan().delete.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(deleted(&stage), ["one"]);
    stage.pods.clear();
    stage.jobs = vec![job("one", "v1", 1, None)];
    assert_eq!(deleted(&stage), ["one"]);
    assert_eq!(stage.plan().start, None, "one at a time");
    stage.jobs[0]["metadata"]["deletionTimestamp"] = json!(time(NOON));
    assert_eq!(deleted(&stage), [] as [&str; 0]);
}

#[test]
fn history_is_kept_up_to_its_limit_and_a_failed_job_while_another_waits_for_it() {
    let mut stage = Stage::new();
    stage.binding["spec"]["rewrap"]["historyLimit"] = json!(1);
    stage.volume["status"]["lastSweep"] = json!({"targetVersion": "v2", "filesPerVersion": {"v2": 5}});
    stage.jobs = vec![
        job("new", "v2", 1, Some(("Complete", NOON - 1))),
        job("oldest", "v1", 1, Some(("Complete", NOON - 900))),
        job("old", "v1", 2, Some(("Complete", NOON - 300))),
    ];
    let deleted = |stage: &Stage| stage.plan().delete.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(deleted(&stage), ["old", "oldest"]);
    stage.binding["spec"]["rewrap"]["historyLimit"] = json!(0);
    assert_eq!(deleted(&stage), ["new", "old", "oldest"]);
    stage.volume["status"]["lastSweep"] = json!({"targetVersion": "v1", "filesPerVersion": {"v1": 5}});
    stage.jobs[0] = job("new", "v2", 1, Some(("Failed", NOON - 1)));
    assert_eq!(deleted(&stage), ["old", "oldest"]);
}

/// A claim that is bound, and that no pod has ever mounted; recorded a minute ago.
fn unseen() -> Stage {
    let mut stage = Stage::new();
    stage.volume["metadata"]["creationTimestamp"] = json!(time(NOON - 60));
    stage.volume["status"] = json!({"persistentVolume": "pv-1"});
    stage
}

#[test]
fn a_volume_that_no_pod_has_mounted_gets_a_look_once_there_is_a_version_to_retire() {
    assert_eq!(unseen().plan().start, start(1));
    let cases: [(&str, Change); 5] = [
        ("the claim is not bound", |s| s.bound = false),
        ("a pod mounts the claim", |s| s.pods = vec!["app".into()]),
        ("never rotated", |s| s.profile["status"]["versions"] = json!([{"id": "v2"}])),
        ("acknowledged", |s| s.volume["spec"]["acknowledged"] = json!(true)),
        ("the window is closed", |s| s.binding["spec"]["rewrap"]["window"] = json!("22:00-05:00")),
    ];
    for (why, change) in cases {
        let mut stage = unseen();
        change(&mut stage);
        assert_eq!(stage.plan().start, None, "{why}");
    }
    let mut young = unseen();
    young.volume["metadata"]["creationTimestamp"] = json!(time(NOON - 59));
    let plan = young.plan();
    assert_eq!((plan.start, plan.again), (None, Some(1)));
    assert!(plan.waits.unwrap().contains("its first pod may be on its way"));
}

#[test]
fn a_volume_is_looked_into_once_for_a_version_whatever_was_found() {
    let cases: [(&str, Value); 2] = [
        ("lastSweep", json!({"targetVersion": "v2", "completedAt": time(NOON - 30)})),
        (
            "notCounted",
            json!({"targetVersion": "v2", "reason": "PlaintextFound", "message": "", "at": time(NOON - 30)}),
        ),
    ];
    for (what, found) in cases {
        let mut stage = unseen();
        stage.volume["status"][what] = found;
        assert_eq!(stage.plan().start, None, "{what}");
        // A person asked before, and asks again.
        let asked = "cofferdam.io/sweep-requested";
        stage.volume["metadata"]["annotations"] = json!({asked: time(NOON - 40)});
        assert_eq!(stage.plan().start, None, "{what}");
        stage.volume["metadata"]["annotations"] = json!({asked: time(NOON - 20)});
        assert_eq!(stage.plan().start, start(1), "{what}");
        stage.volume["metadata"]["annotations"] = Value::Null;
        stage.volume["status"][what]["targetVersion"] = json!("v1");
        assert_eq!(stage.plan().start, start(1), "{what}: the key was rotated");
    }
    // Once it has a marker, what was not counted before is swept.
    let mut marked = Stage::new();
    marked.volume["status"]["notCounted"] = json!({"targetVersion": "v2", "reason": "X", "message": ""});
    assert_eq!(marked.plan().start, start(1));
}

#[test]
fn a_volume_that_pods_only_read_says_that_it_stays_as_it_is_while_it_is_behind() {
    let mut stage = Stage::new();
    (stage.pods, stage.only_read) = (vec!["reader".into()], true);
    let plan = stage.plan();
    assert_eq!(plan.start, None);
    let why = plan.stays.unwrap();
    assert!(why.contains("mounted read-only") && why.contains("reader") && why.contains("v2"), "{why}");
    stage.only_read = false;
    assert_eq!(stage.plan().stays, None, "who writes sweeps");
    stage.only_read = true;
    stage.volume["status"]["lastSweep"] = json!({"targetVersion": "v2", "filesPerVersion": {"v2": 5}});
    assert_eq!(stage.plan().stays, None, "it is not behind");
}
