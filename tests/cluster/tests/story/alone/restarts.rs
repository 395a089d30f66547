//! Parts that everybody uses are restarted; applications go on, and what hangs still ends.

use std::time::{Duration, Instant};

use stage::manifests::{pod, protect};
use stage::{RootKey, Stage, soon, until, wait};
use xtask::cluster::Request;

use crate::faults::{kill_sidecar, node_is_ready, nothing_hangs};

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
    stage.run_journal();

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
