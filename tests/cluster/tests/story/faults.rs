//! Parts are killed and held down; the node and everybody else go on.

use std::fs;
use std::time::{Duration, Instant};

use stage::manifests::{pod, protect};
use stage::{RootKey, Stage, soon, until, wait};
use xtask::cluster::Request;

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
fn nothing_hangs(stage: &Stage) {
    until("no process hangs", Duration::from_secs(75), || {
        let hung = hung(stage);
        wait::expect(hung.is_empty(), format!("{hung:?}"))
    });
}

fn node_is_ready(stage: &Stage) {
    let (status, reason, message) = stage.condition("node", "node1", "Ready").unwrap();
    assert_eq!(status, "True", "{reason}: {message}");
}

/// Kills the sidecar of a pod from the node, as an out-of-memory kill would.
fn kill_sidecar(stage: &Stage, signal: &str) {
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

/// Ends when the new driver has heard again from the sidecar of `app`.
fn restart_node_driver(stage: &Stage) {
    let system = |arguments: &[&str]| {
        let all = ["--namespace", "cofferdam-system"].iter().chain(arguments).copied();
        stage::namespace::output(&mut stage.cluster.kubectl(all)?, "")
    };
    let drivers = "--selector=app.kubernetes.io/component=node";
    system(&["delete", "pod", drivers, "--timeout=60s"]).unwrap();
    system(&["rollout", "status", "daemonset/cofferdam-node", "--timeout=60s"]).unwrap();
    soon("the sidecar says that it serves", || {
        let log = system(&["logs", drivers, "--tail=1000"])?;
        let said = |line: &str| ["serving", "Done", &stage.name].iter().all(|word| line.contains(word));
        wait::expect(log.lines().any(said), log)
    });
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
    stage.run("app", &pod("app", "files", "exec workload journal /data/journal"));
    soon("the journal runs", || stage.last_event("app", "app", "ok"));
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

#[test]
fn a_sidecar_that_hangs_in_a_running_pod_ends_in_errors_after_60_seconds_and_its_pod_is_replaced() {
    let stage = Stage::new("hung");
    let key = RootKey::create();
    protect(&stage, &key);
    stage.claim("files", 64);
    stage.claim("other", 64);
    // Names that nobody has looked up before are never answered from the kernel's memory.
    let script = "echo kept > /data/kept && sync; while true; do ls /data/none-$SECONDS 2>&1; sleep 1; done";
    stage.run("app", &pod("app", "files", script));
    let log = || stage.try_kubectl(&["logs", "app", "--container", "app", "--tail=5"]);
    soon("requests are answered", || {
        let log = log()?;
        wait::expect(log.contains("No such file"), log)
    });
    // What the driver was told before it restarted counts too.
    restart_node_driver(&stage);
    let begin = Instant::now();
    kill_sidecar(&stage, "-STOP");
    // Nobody deletes the pod, and its sidecar's connection to the driver stays open: only the missing beats tell.
    stage.run("other", &pod("other", "other", "echo x > /data/x; sleep infinity"));
    node_is_ready(&stage);
    until("the waiting request fails", Duration::from_secs(120), || {
        let log = log()?;
        let ended = ["not connected", "connection abort"].iter().any(|error| log.contains(error));
        wait::expect(ended, log)
    });
    let waited = begin.elapsed().as_secs();
    assert!((50..=110).contains(&waited), "the deadline is 60 s, and it took {waited} s");
    soon("an event says why", || {
        let events = stage.events("app");
        wait::expect(events.contains("EncryptedVolumeServerHung"), events)
    });
    nothing_hangs(&stage);
    node_is_ready(&stage);
    // The driver ended the sidecar; the one that kubelet starts in its place says that the session is lost.
    until("the pod is evicted", Duration::from_secs(120), || {
        let pods = stage.try_kubectl(&["get", "pods", "--output", "name"])?;
        wait::expect(!pods.lines().any(|pod| pod == "pod/app"), pods)
    });
    stage.run("next", &pod("next", "files", "sleep infinity"));
    assert_eq!(stage.exec("next", "cat /data/kept").trim(), "kept");
}

#[test]
fn kubelet_and_the_node_driver_are_restarted_under_a_running_application() {
    let stage = Stage::new("restart");
    let key = RootKey::create();
    protect(&stage, &key);
    stage.claim("files", 64);
    stage.claim("other", 64);
    stage.run("app", &pod("app", "files", "exec workload journal /data/journal"));
    soon("the journal runs", || stage.last_event("app", "app", "ok"));

    stage.cluster.request("kubelet", Request::Restart).unwrap();
    restart_node_driver(&stage);

    stage.run("other", &pod("other", "other", "echo x > /data/x; sleep infinity"));
    node_is_ready(&stage);
    let events = stage.events_of("app", "app").unwrap();
    assert!(events.iter().all(|event| event["event"] == "begin" || event["event"] == "ok"), "{events:?}");
    assert_eq!(stage.restarts("app").unwrap(), 0);
    nothing_hangs(&stage);
    stage.delete("app");
}
