//! The root key is disabled and enabled.

use std::time::Duration;

use stage::manifests::{CONTAINER_SECURITY, IMAGE, job, pod, protect};
use stage::{RootKey, Stage, soon, until, wait};

/// The bound of the promise.
const BOUND: Duration = Duration::from_secs(60);

/// The journal in `app`, a mapped page in `mapping`.
fn two_containers() -> String {
    let script = "echo cached > /data/cached; exec workload journal /data/journal";
    let second = format!(
        "    - {{name: mapping, image: {IMAGE}, imagePullPolicy: Never, command: [workload, mapping, /data/mapped], \
         securityContext: {CONTAINER_SECURITY}, volumeMounts: [{{name: data, mountPath: /data}}]}}\n  volumes:"
    );
    pod("app", "files", script).replacen("  volumes:", &second, 1)
}

#[test]
fn a_disabled_key_suspends_all_access_and_an_enabled_one_restores_it_with_nothing_lost() {
    let stage = Stage::new("suspend");
    let key = RootKey::create();
    protect(&stage, &key);
    stage.claim("files", 64);
    stage.run("app", &two_containers());
    soon("the journal runs", || stage.last_event("app", "app", "ok"));
    soon("the mapping is touched", || stage.last_event("app", "mapping", "ok"));
    assert_eq!(stage.exec("app", "cat /data/cached"), "cached\n");

    key.set_enabled(false);
    until("the journal fails with ENOKEY", BOUND, || stage.last_event("app", "app", "ENOKEY"));
    until("the mapped page gives SIGBUS", BOUND, || stage.last_event("app", "mapping", "SIGBUS"));
    let refused = stage.try_exec("app", "cat /data/cached").unwrap_err().to_string();
    assert!(refused.contains("Required key not available"), "{refused}");
    let (reason, message) = stage.wait_condition("storagebinding", "app", "Suspended", "True");
    assert!(message.contains("disabled") || message.contains("Disabled"), "{reason}: {message}");
    stage.wait_condition("pod", "app", "Ready", "False"); // so that it leaves its Services

    key.set_enabled(true);
    until("the journal goes on", BOUND, || stage.last_event("app", "app", "ok"));
    until("the page is back", BOUND, || stage.last_event("app", "mapping", "ok"));
    assert_eq!(stage.exec("app", "cat /data/cached"), "cached\n");
    stage.wait_condition("storagebinding", "app", "Suspended", "False");
    assert_eq!(stage.restarts("app").unwrap(), 0);
    let events = stage.events_of("app", "app").unwrap();
    let acknowledged = events.iter().filter_map(|event| event["acknowledged"].as_u64()).max().unwrap();
    stage.exec("app", &format!("workload check-journal /data/journal --at-least {acknowledged}"));
}

#[test]
fn an_outage_of_the_kms_is_not_a_suspension_and_a_job_waits_for_its_end() {
    use devkms::{Fault, FaultKind as Kind};

    let stage = Stage::new("outage");
    let key = RootKey::create();
    protect(&stage, &key);
    stage.claim("files", 64);
    stage.claim("job", 64);
    stage.run_journal();

    key.kms.add_fault(Fault::new(&[], Kind::Status { status: 503, code: None, retry_after: None }));
    stage.apply(&job("job", "job", "echo done > /data/done"));
    soon("the Job's pod says why it waits", || {
        let pod = stage.kubectl(&["get", "pods", "--selector", "job-name=job", "--output", "name"]);
        let pod = pod.trim().trim_start_matches("pod/");
        let (status, reason, message) = stage.condition("pod", pod, "cofferdam.io/Served")?;
        wait::expect(status == "False" && reason.starts_with("Kms"), format!("{status} {reason} {message}"))
    });
    let (_, _, message) = stage.condition("storagebinding", "app", "Suspended").unwrap();
    assert!(stage.condition("storagebinding", "app", "Suspended").unwrap().0 != "True", "{message}");
    stage.last_event("app", "app", "ok").unwrap();

    key.kms.clear_faults();
    stage.kubectl(&["wait", "--for=condition=Complete", "job/job", "--timeout=90s"]);
    stage.last_event("app", "app", "ok").unwrap();
}
