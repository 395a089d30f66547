//! Parts are killed and held down; the node and everybody else go on.

use std::fs;
use std::time::{Duration, Instant};

use stage::manifests::{pod, protect};
use stage::{RootKey, Stage, soon, until, wait};

/// Processes of the cluster in uninterruptible sleep, with their names.
fn hung(stage: &Stage) -> Vec<String> {
    let inside = stage.cluster.path("/proc").unwrap();
    let entries = fs::read_dir(inside).unwrap().flatten();
    let stats = entries.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let in_d =
        |stat: &String| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('D'));
    stats.filter(in_d).map(|stat| stat.chars().take(40).collect()).collect()
}

/// Nothing stays in D for the driver's deadline; a momentary wait for a disk is none.
pub fn nothing_hangs(stage: &Stage) {
    until("no process hangs", Duration::from_secs(75), || {
        let hung = hung(stage);
        wait::expect(hung.is_empty(), format!("{hung:?}"))
    });
}

pub fn node_is_ready(stage: &Stage) {
    let (status, reason, message) = stage.condition("node", "node1", "Ready").unwrap();
    assert_eq!(status, "True", "{reason}: {message}");
}

/// Kills the sidecar of a pod from the node, as an out-of-memory kill would.
pub fn kill_sidecar(stage: &Stage, signal: &str) {
    let script = "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline 2>/dev/null | grep -q '^/usr/bin/cofferdam-sidecar serve' \
         && tr '\\0' '\\n' < $p/environ | grep -qx POD_NAMESPACE=$NAME && echo ${p#/proc/}; done; true";
    let mut find = stage.cluster.command(xtask::cluster::Within::Everything, "/bin/bash").unwrap();
    find.env("NAME", &stage.name).args(["-c", script]);
    let pids = stage::namespace::output(&mut find, "").unwrap();
    assert!(!pids.trim().is_empty(), "no sidecar runs");
    for pid in pids.split_whitespace() {
        let mut kill = stage.cluster.command(xtask::cluster::Within::Everything, "/bin/kill").unwrap();
        stage::namespace::output(kill.args([signal, pid]), "").unwrap();
    }
}

#[test]
fn a_killed_sidecar_hangs_nobody_and_the_next_pod_reads_what_was_acknowledged() {
    let stage = Stage::new("killed");
    let key = RootKey::create();
    protect(&stage, &key);
    stage.claim("files", 64);
    stage.run("app", &pod("app", "files", "exec workload journal /data/journal"));
    let acknowledged = soon("records", || {
        let event = stage.last_event("app", "app", "ok")?;
        let count = event["acknowledged"].as_u64().unwrap_or(0);
        wait::expect(count >= 10, count).map(|()| count)
    });
    kill_sidecar(&stage, "-KILL");
    // A live session cannot be taken over yet: it fails at once and is said, instead of hanging.
    soon("the pod says that its session is lost", || {
        let (status, reason, message) = stage.condition("pod", "app", "cofferdam.io/Served")?;
        wait::expect(status == "False" && reason == "SessionLost", format!("{status} {reason} {message}"))
    });
    nothing_hangs(&stage);
    node_is_ready(&stage);
    let _ = stage.try_kubectl(&["delete", "pod", "app", "--timeout=90s", "--ignore-not-found"]);
    stage.run("next", &pod("next", "files", "sleep infinity"));
    stage.exec("next", &format!("workload check-journal /data/journal --at-least {acknowledged}"));
}

#[test]
fn a_sidecar_held_down_ends_in_errors_within_the_drivers_deadline_and_other_pods_start() {
    let stage = Stage::new("held");
    let key = RootKey::create();
    protect(&stage, &key);
    stage.claim("files", 64);
    stage.claim("other", 64);
    stage.run_journal();
    kill_sidecar(&stage, "-STOP");
    stage.run("other", &pod("other", "other", "echo x > /data/x; sleep infinity"));
    node_is_ready(&stage);
    let begin = Instant::now();
    stage.kubectl(&["delete", "pod", "app", "--force", "--grace-period=0"]);
    nothing_hangs(&stage);
    assert!(begin.elapsed() < Duration::from_secs(75));
    node_is_ready(&stage);
    stage.run("next", &pod("next", "files", "sleep infinity"));
    stage.exec("next", "workload check-journal /data/journal --at-least 1");
}
