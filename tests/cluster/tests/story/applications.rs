//! Applications whose manifests know nothing of encryption.

use anyhow::Context;
use stage::manifests::{CONTAINER_SECURITY, IMAGE, POD_SECURITY, pod, protect};
use stage::{RootKey, Stage, soon, wait};

/// A writer with an init container, subPath, a second readOnly mount and a non-root user.
fn template(claim_volume: &str, script: &str, restart: &str) -> String {
    format!(
        r#"
      restartPolicy: {restart}
      terminationGracePeriodSeconds: 2
      securityContext: {POD_SECURITY}
      initContainers:
        - name: prepare
          image: {IMAGE}
          imagePullPolicy: Never
          command: [bash, -c, "echo prepared > /seed/prepared && id -u > /seed/uid"]
          securityContext: {CONTAINER_SECURITY}
          volumeMounts: [{{name: data, mountPath: /seed, subPath: seeds}}]
      containers:
        - name: app
          image: {IMAGE}
          imagePullPolicy: Never
          command: [bash, -c, {script:?}]
          securityContext: {CONTAINER_SECURITY}
          volumeMounts:
            - {{name: data, mountPath: /data}}
            - {{name: data, mountPath: /seed, subPath: seeds, readOnly: true}}
{claim_volume}"#
    )
}

/// `set -e` takes no notice of a command behind `!`, hence the `if`.
const SCRIPT: &str = "set -e; test \"$(cat /seed/prepared)\" = prepared; test \"$(cat /seed/uid)\" = 1000; \
     if touch /seed/refused 2>/dev/null; then exit 1; fi; echo hello > /data/greeting; sync /data/greeting; sleep infinity";

#[test]
fn a_statefulset_runs_unchanged_and_its_controller_stays_quiet() {
    let stage = Stage::new("statefulset");
    let key = RootKey::create();
    protect(&stage, &key);
    let volumes = [stage.volume("a", 48), stage.volume("b", 48)];
    let template = template("", SCRIPT, "Always");
    stage.apply(&format!(
        r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: db}}
spec:
  serviceName: db
  replicas: 2
  selector: {{matchLabels: {{app: db}}}}
  template:
    metadata: {{labels: {{app: db}}}}
    spec:{template}
  volumeClaimTemplates:
    - metadata: {{name: data, labels: {{protect: "yes"}}}}
      spec:
        accessModes: [ReadWriteOnce]
        storageClassName: {class}
        resources: {{requests: {{storage: 1Mi}}}}
"#,
        class = stage.name
    ));
    soon("two ready replicas", || {
        let set = stage.get("statefulset", "db")?;
        wait::expect(set["status"]["readyReplicas"] == 2, &set["status"])
    });
    let both = "until test -s /data/greeting; do sleep 0.1; done; cat /data/greeting /seed/prepared";
    assert_eq!(stage.exec("db-1", both), "hello\nprepared\n");
    // A controller that finds its pods changed tries to update them, again and again, and says that it cannot.
    let events = stage.events("db");
    let reasons = events.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    assert!(
        reasons.clone().count() > 0 && reasons.clone().all(|reason| reason == "SuccessfulCreate"),
        "{events}"
    );
    for volume in volumes {
        assert!(stage.raw_files(&volume).iter().all(|file| file.key_version().is_ok()));
    }
}

#[test]
fn a_deployment_with_a_named_claim_runs_unchanged() {
    let stage = Stage::new("deployment");
    let key = RootKey::create();
    protect(&stage, &key);
    let volume = stage.claim("files", 48);
    let volumes = "      volumes: [{name: data, persistentVolumeClaim: {claimName: files}}]\n";
    let template = template(volumes, SCRIPT, "Always");
    stage.apply(&format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 1
  strategy: {{type: Recreate}}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:{template}
"#
    ));
    stage.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    soon("both containers have written", || {
        let names: Vec<String> = stage.raw_files(&volume).into_iter().map(|file| file.name).collect();
        let all = ["greeting", "seeds/prepared"].iter().all(|name| names.iter().any(|other| other == name));
        wait::expect(all, format!("{names:?}"))
    });
}

#[test]
fn a_job_that_never_restarts_completes() {
    let stage = Stage::new("job");
    let key = RootKey::create();
    protect(&stage, &key);
    stage.claim("files", 48);
    let volumes = "      volumes: [{name: data, persistentVolumeClaim: {claimName: files}}]\n";
    let template = template(volumes, &SCRIPT.replace("; sleep infinity", ""), "Never");
    stage.apply(&format!(
        r#"
apiVersion: batch/v1
kind: Job
metadata: {{name: once}}
spec:
  backoffLimit: 0
  template:
    metadata: {{labels: {{app: once}}}}
    spec:{template}
"#
    ));
    stage.kubectl(&["wait", "--for=condition=Complete", "job/once", "--timeout=90s"]);
}

#[test]
fn a_second_pod_for_a_volume_in_use_waits_and_says_why() {
    let stage = Stage::new("second");
    let key = RootKey::create();
    protect(&stage, &key);
    stage.claim("files", 48);
    stage.run("first", &pod("first", "files", "echo one > /data/file; sleep infinity"));
    stage.exec("first", "until test -s /data/file; do sleep 0.1; done");
    stage.apply(&pod("second", "files", "cat /data/file; sleep infinity"));
    soon("the second pod says why it waits", || {
        let (status, reason, message) = stage.condition("pod", "second", "cofferdam.io/Served")?;
        wait::expect(status == "False" && reason == "VolumeInUse", format!("{status} {reason} {message}"))?;
        wait::expect(message.contains("first"), message)
    });
    let phase = stage.get("pod", "second").unwrap()["status"]["phase"].clone();
    assert_eq!(phase, "Pending");
    stage.delete("first");
    stage.ready("second");
    assert_eq!(stage.exec("second", "cat /data/file"), "one\n");
}

#[test]
fn a_pod_applied_before_its_claim_exists_is_not_started_open() {
    let stage = Stage::new("early");
    let key = RootKey::create();
    protect(&stage, &key);
    let refusal = stage.refusal(&pod("early", "later", "sleep infinity"));
    assert!(refusal.contains("later") && refusal.contains("does not exist"), "{refusal}");
    stage.claim("later", 48);
    stage.run("early", &pod("early", "later", "echo x > /data/x; sleep infinity"));
    let pod = stage.get("pod", "early").unwrap();
    let first =
        pod["spec"]["initContainers"][0]["name"].as_str().context("no init container").unwrap().to_owned();
    assert_eq!(first, contract::names::SIDECAR_CONTAINER);
}
