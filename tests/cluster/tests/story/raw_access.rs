//! Everybody but the application sees ciphertext, or is refused.

use stage::manifests::{CONTAINER_SECURITY, IMAGE, pod, protect};
use stage::{RootKey, Stage, soon};

const SECRET: &str = "the quick brown fox and its secret";

/// A protected volume with one secret in it, and the pod that holds it.
fn secret_on(stage: &Stage, key: &RootKey) -> String {
    protect(stage, key);
    let volume = stage.claim("files", 64);
    stage.run("app", &pod("app", "files", &format!("echo {SECRET:?} > /data/secret; sync; sleep infinity")));
    stage.exec("app", "until grep -q secret /data/secret; do sleep 0.1; done; sync");
    volume
}

/// A pod that mounts something at /look.
fn looker(name: &str, volume: &str, extra: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{terminationGracePeriodSeconds: 1, {extra} containers: \
         [{{name: app, image: {IMAGE}, imagePullPolicy: Never, command: [sleep, infinity], securityContext: \
         {CONTAINER_SECURITY}, volumeMounts: [{{name: look, mountPath: /look}}]}}], volumes: [{{name: look, {volume}}}]}}}}"
    )
}

#[test]
fn a_privileged_host_path_pod_a_second_volume_and_a_copy_show_ciphertext_only() {
    let stage = Stage::new("raw");
    let key = RootKey::create();
    let volume = secret_on(&stage, &key);
    let inside = xtask::cluster::Cluster::volume_inside(&volume);

    let open = Stage::with_labels("raw-open", "\"pod-security.kubernetes.io/enforce\": privileged");
    open.run(
        "host",
        &looker("host", &format!("hostPath: {{path: {inside}}}"), "")
            .replace(CONTAINER_SECURITY, "{privileged: true}"),
    );
    let seen = open.exec("host", "cat /look/secret | tr -c '[:print:]' .");
    assert!(seen.len() >= 8192 && !seen.contains("fox"), "{seen}");

    open.apply(&format!(
        "{{apiVersion: v1, kind: PersistentVolume, metadata: {{name: {name}}}, spec: {{capacity: {{storage: 1Mi}}, accessModes: \
         [ReadWriteOnce], storageClassName: {name}, local: {{path: {inside}}}, nodeAffinity: {{required: {{nodeSelectorTerms: \
         [{{matchExpressions: [{{key: kubernetes.io/os, operator: In, values: [linux]}}]}}]}}}}}}}}",
        name = open.name
    ));
    open.claim_of("twin", &open.name.clone());
    open.run(
        "twin",
        &looker("twin", "persistentVolumeClaim: {claimName: twin}", "")
            .replace(CONTAINER_SECURITY, "{runAsUser: 0}"),
    );
    let seen = open.exec("twin", "cat /look/secret | tr -c '[:print:]' .");
    assert!(seen.len() >= 8192 && !seen.contains("fox"), "{seen}");
    open.kubectl(&["delete", "pod", "twin", "host", "--timeout=60s"]);
    open.kubectl(&["delete", "pvc", "twin", "--timeout=60s"]);
    open.kubectl(&["delete", "pv", &open.name, "--timeout=60s"]);

    let copy: Vec<u8> = stage.raw_files(&volume).into_iter().flat_map(|file| file.bytes).collect();
    assert!(copy.len() >= 8192 && !copy.windows(3).any(|run| run == b"fox"));
}

#[test]
fn an_uninjected_pod_that_mounts_a_protected_claim_is_refused() {
    let stage = Stage::new("uninjected");
    let key = RootKey::create();
    secret_on(&stage, &key);
    // The namespace is opted out behind the volume's back: it stays protected.
    stage.kubectl(&["label", "namespace", &stage.name, "cofferdam.io/injection-"]);
    let refusal = soon("the opt-out is seen", || {
        let refusal = stage.try_apply(&pod("open", "files", "cat /data/secret")).err();
        let _ = stage.try_kubectl(&["delete", "pod", "open", "--now"]);
        refusal.ok_or_else(|| anyhow::anyhow!("the pod was accepted"))
    });
    assert!(format!("{refusal:#}").contains("files"), "{refusal:#}");
    stage.kubectl(&["label", "namespace", &stage.name, "cofferdam.io/injection=enabled"]);
}

#[test]
fn a_debug_container_cannot_mount_the_volume_nor_look_into_the_sidecar() {
    let stage = Stage::new("debug");
    let key = RootKey::create();
    secret_on(&stage, &key);
    let ephemeral = |fields: &str| {
        let patch = format!(
            "{{\"spec\":{{\"ephemeralContainers\":[{{\"name\":\"look\",\"image\":\"{IMAGE}\",\"imagePullPolicy\":\"Never\",\
             \"command\":[\"sleep\",\"60\"],{fields}}}]}}}}"
        );
        stage.try_kubectl(&[
            "patch",
            "pod",
            "app",
            "--subresource=ephemeralcontainers",
            "--type=strategic",
            "--patch",
            &patch,
        ])
    };
    let security =
        "\"securityContext\":{\"allowPrivilegeEscalation\":false,\"capabilities\":{\"drop\":[\"ALL\"]}}";
    for fields in [
        format!("{security},\"volumeMounts\":[{{\"name\":\"data\",\"mountPath\":\"/look\"}}]"),
        format!("{security},\"volumeMounts\":[{{\"name\":\"cofferdam-sys-run\",\"mountPath\":\"/look\"}}]"),
        format!("{security},\"targetContainerName\":\"cofferdam-sidecar\""),
    ] {
        let refusal = ephemeral(&fields).expect_err(&fields).to_string();
        assert!(refusal.to_lowercase().contains("cofferdam"), "{refusal}");
    }
    // A debug container that stays away from all that is nobody's business.
    ephemeral(security).unwrap();
}

#[test]
fn the_sidecar_of_a_live_pod_cannot_be_replaced_nor_entered() {
    let stage = Stage::new("live");
    let key = RootKey::create();
    secret_on(&stage, &key);
    let patch = format!(
        "{{\"spec\":{{\"initContainers\":[{{\"name\":\"cofferdam-sidecar\",\"image\":\"{IMAGE}\"}}]}}}}"
    );
    let refusal = stage.try_kubectl(&["patch", "pod", "app", "--patch", &patch]).unwrap_err().to_string();
    assert!(refusal.contains("cofferdam-sidecar"), "{refusal}");
    let small = r#"{"limits": {"memory": "8Mi"}, "requests": {"memory": "8Mi"}}"#;
    let patch = format!(
        "{{\"spec\":{{\"initContainers\":[{{\"name\":\"cofferdam-sidecar\",\"resources\":{small}}}]}}}}"
    );
    let resize = ["patch", "pod", "app", "--subresource=resize", "--patch", &patch];
    let refusal = stage.try_kubectl(&resize).unwrap_err().to_string();
    assert!(refusal.contains("the resources of cofferdam-sidecar"), "{refusal}");
    for container in ["cofferdam-sidecar", "cofferdam-gate"] {
        let command = ["exec", "app", "--container", container, "--", "cat", "/proc/1/environ"];
        let refusal = stage.try_kubectl(&command).unwrap_err().to_string();
        assert!(refusal.contains("denied") && refusal.to_lowercase().contains("cofferdam"), "{refusal}");
        let refusal =
            stage.try_kubectl(&["attach", "app", "--container", container]).unwrap_err().to_string();
        assert!(refusal.contains("denied") && refusal.to_lowercase().contains("cofferdam"), "{refusal}");
    }
}

#[test]
fn a_pod_cannot_ask_for_the_sidecars_volumes_nor_for_its_processes() {
    let stage = Stage::new("asking");
    let key = RootKey::create();
    protect(&stage, &key);
    stage.claim("files", 64);
    let plain = pod("app", "files", "sleep infinity");
    let mounted = "volumeMounts: [{name: cofferdam-sys-run, mountPath: /look}, ";
    for asking in [
        plain.replace("spec:\n", "spec:\n  shareProcessNamespace: true\n"),
        plain.replace("volumeMounts: [", mounted),
        plain.replace("volumes: [", "volumes: [{name: cofferdam-sys-run, emptyDir: {}}, "),
        plain.replace("name: app\n      image", "name: cofferdam-sidecar\n      image"),
    ] {
        let refusal = stage.refusal(&asking);
        assert!(refusal.to_lowercase().contains("cofferdam"), "{refusal}");
    }
}

#[test]
fn nobody_but_the_operator_makes_jobs_or_pods_that_rewrap() {
    let stage = Stage::new("forged");
    let key = RootKey::create();
    secret_on(&stage, &key);
    let labels = "labels: {cofferdam.io/rewrap: files}";
    let open = pod("cofferdam-rewrap-forged", "files", "cat /data/secret");
    let name = "metadata: {name: cofferdam-rewrap-forged";
    let refusal = stage.refusal(&open.replace(name, &format!("{name}, {labels}")));
    assert!(refusal.contains("cofferdam.io/rewrap"), "{refusal}");
    let job = format!(
        "{{apiVersion: batch/v1, kind: Job, metadata: {{name: cofferdam-rewrap-forged}}, spec: {{template: {{metadata: {{{labels}}}, \
         spec: {{restartPolicy: Never, containers: [{{name: cofferdam-rewrap, image: {IMAGE}}}]}}}}}}}}"
    );
    let refusal = stage.refusal(&job);
    assert!(refusal.contains("cofferdam.io/rewrap"), "{refusal}");
}

#[test]
fn our_driver_is_refused_in_a_pod_that_was_not_injected() {
    let stage = Stage::with_labels("driver", "\"pod-security.kubernetes.io/enforce\": restricted");
    let csi = "csi: {driver: node.cofferdam.io, volumeAttributes: {cofferdam.io/kind: ctl}}";
    let security =
        "securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}},";
    let refusal = stage.refusal(&looker("thief", csi, security));
    assert!(refusal.contains("node.cofferdam.io"), "{refusal}");
}
