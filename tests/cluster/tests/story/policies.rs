//! The API server's policies hold without the webhook, as they must when another webhook changes a pod after ours.
//!
//! Invariant: each forgery differs from a pod that is accepted in one thing, and is refused in the words of the rule that it breaks.

use serde_json::{Value, json};
use stage::manifests::{IMAGE, pod, protect};
use stage::{RootKey, Stage, soon, wait};

/// The user that makes the pods of Jobs.
const JOB_CONTROLLER: &str = "system:serviceaccount:kube-system:job-controller";
/// A condition under which the webhook leaves a pod alone.
const PASS_BY: &str = "was-changed-by-another-webhook";

/// The change that makes a forgery.
type Change = fn(&mut Value);

/// Lets pods with the name `forged` pass by the webhook, until it is dropped.
struct PassedBy<'a>(&'a Stage);

impl<'a> PassedBy<'a> {
    fn new(stage: &'a Stage) -> Self {
        let condition =
            json!({"name": PASS_BY, "expression": "object.metadata.?name.orValue('') != 'forged'"});
        patch_webhook(stage, &condition).unwrap();
        Self(stage)
    }
}

impl Drop for PassedBy<'_> {
    fn drop(&mut self) {
        if let Err(error) = patch_webhook(self.0, &json!({"name": PASS_BY, "$patch": "delete"})) {
            eprintln!("the webhook still passes by pods with the name forged: {error:#}");
        }
    }
}

fn patch_webhook(stage: &Stage, condition: &Value) -> anyhow::Result<String> {
    let patch = json!({"webhooks": [{"name": "pods.cofferdam.io", "matchConditions": [condition]}]});
    let patch = patch.to_string();
    stage.try_kubectl(&["patch", "mutatingwebhookconfiguration", "cofferdam", "--patch", &patch])
}

/// Asks the API server, as a user, whether it would take a pod.
fn ask(stage: &Stage, pod: &str, user: Option<&str>) -> anyhow::Result<String> {
    let user = user.map(|user| format!("--as={user}"));
    let create = ["--namespace", &stage.name, "create", "--dry-run=server", "--output=json", "-f", "-"];
    let arguments = create.iter().copied().chain(user.as_deref());
    stage::namespace::output(&mut stage.cluster.kubectl(arguments)?, pod)
}

/// Every forgery is refused in the words of its rule; all that are not are told at once.
fn refused(stage: &Stage, user: Option<&str>, base: &Value, forgeries: &[(&str, &str, Change)]) {
    ask(stage, &base.to_string(), user).unwrap();
    let mut open = vec![];
    for (what, words, change) in forgeries {
        let mut forged = base.clone();
        change(&mut forged);
        assert_ne!(&forged, base, "{what} changes nothing");
        match ask(stage, &forged.to_string(), user) {
            Err(refusal) if format!("{refusal:#}").contains(words) => {}
            Err(refusal) => open.push(format!("{what}: refused for another reason: {refusal:#}")),
            Ok(_) => open.push(format!("{what}: accepted")),
        }
    }
    assert!(open.is_empty(), "{}", open.join("\n"));
}

/// What injection makes of a pod, as a person would write it.
fn injected(stage: &Stage) -> Value {
    let manifest = pod("forged", "files", "sleep infinity");
    let made = ask(stage, &manifest, None).unwrap();
    let made: Value = serde_json::from_str(&made).unwrap();
    let metadata = json!({"name": "forged", "annotations": made["metadata"]["annotations"], "labels": made["metadata"]["labels"]});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": made["spec"]})
}

fn sidecar(pod: &mut Value) -> &mut Value {
    &mut pod["spec"]["initContainers"][0]
}

fn gate(pod: &mut Value) -> &mut Value {
    &mut pod["spec"]["initContainers"][1]
}

fn security(pod: &mut Value) -> &mut Value {
    &mut sidecar(pod)["securityContext"]
}

fn add(list: &mut Value, item: Value) {
    match list.as_array_mut() {
        Some(items) => items.push(item),
        None => *list = json!([item]),
    }
}

fn volume<'a>(pod: &'a mut Value, name: &str) -> &'a mut Value {
    let volumes = pod["spec"]["volumes"].as_array_mut().unwrap();
    volumes.iter_mut().find(|volume| volume["name"] == name).unwrap()
}

const PLACE: &str = "names that begin with cofferdam- are for pods that Cofferdam injects";
const WHAT_RUNS: &str = "image, arguments and environment of cofferdam-sidecar";
const HOW_IT_RUNS: &str = "command, probes and restartPolicy of cofferdam-sidecar";
const SECURITY: &str = "the security context of cofferdam-sidecar";
const OWN_MOUNTS: &str = "the mounts of cofferdam-sidecar and cofferdam-gate";
const STANDS_FOR: &str = "stands for a volume with a claim of the same pod";
const RAW: &str = "only cofferdam-sidecar may mount a protected volume as it is";
const NAMES: &str = "what a volume of node.cofferdam.io is follows from its name";
const TOKEN: &str = "only cofferdam-sidecar may hold a token with the audience cofferdam";
const PROCESSES: &str = "would show the processes of cofferdam-sidecar";
const CLAIM: &str = "can be mounted through injection only";

const OF_CONTAINERS: &[(&str, &str, Change)] = &[
    ("the gate first", PLACE, |pod| pod["spec"]["initContainers"].as_array_mut().unwrap().swap(0, 1)),
    ("no gate", PLACE, |pod| drop(pod["spec"]["initContainers"].as_array_mut().unwrap().remove(1))),
    ("another container first", PLACE, |pod| {
        let early = json!({"name": "early", "image": IMAGE});
        pod["spec"]["initContainers"].as_array_mut().unwrap().insert(0, early);
    }),
    ("a rewrap container", PLACE, |pod| {
        add(&mut pod["spec"]["containers"], json!({"name": "cofferdam-rewrap", "image": IMAGE}));
    }),
    ("another image", WHAT_RUNS, |pod| sidecar(pod)["image"] = json!(IMAGE)),
    ("arguments", WHAT_RUNS, |pod| sidecar(pod)["args"] = json!(["--insecure"])),
    ("an environment of a ConfigMap", WHAT_RUNS, |pod| {
        gate(pod)["envFrom"] = json!([{"configMapRef": {"name": "theirs"}}]);
    }),
    ("LD_PRELOAD", WHAT_RUNS, |pod| {
        add(&mut sidecar(pod)["env"], json!({"name": "LD_PRELOAD", "value": "/x"}));
    }),
    ("a hook", WHAT_RUNS, |pod| {
        sidecar(pod)["lifecycle"] = json!({"postStart": {"exec": {"command": ["sh"]}}});
    }),
    ("a startup probe", WHAT_RUNS, |pod| sidecar(pod)["startupProbe"] = json!({"exec": {"command": ["sh"]}})),
    ("another command", HOW_IT_RUNS, |pod| sidecar(pod)["command"] = json!(["/bin/sh", "-c"])),
    ("a gate that proves nothing", HOW_IT_RUNS, |pod| gate(pod)["command"] = json!(["/bin/true"])),
    ("another readiness", HOW_IT_RUNS, |pod| {
        sidecar(pod)["readinessProbe"]["exec"]["command"] = json!(["/bin/true"]);
    }),
    ("another liveness", HOW_IT_RUNS, |pod| {
        sidecar(pod)["livenessProbe"]["exec"]["command"] = json!(["/bin/true"]);
    }),
    ("a gate that nobody waits for", HOW_IT_RUNS, |pod| gate(pod)["restartPolicy"] = json!("Always")),
    ("privileged", SECURITY, |pod| {
        security(pod)["privileged"] = json!(true);
        security(pod)["allowPrivilegeEscalation"] = json!(true);
    }),
    ("escalation", SECURITY, |pod| security(pod)["allowPrivilegeEscalation"] = json!(true)),
    ("a writable image", SECURITY, |pod| security(pod)["readOnlyRootFilesystem"] = json!(false)),
    ("the application's user", SECURITY, |pod| security(pod)["runAsUser"] = json!(1000)),
    ("no seccomp", SECURITY, |pod| security(pod)["seccompProfile"] = json!({"type": "Unconfined"})),
    ("kept capabilities", SECURITY, |pod| security(pod)["capabilities"]["drop"] = json!(["NET_RAW"])),
    ("a capability more", SECURITY, |pod| security(pod)["capabilities"]["add"] = json!(["SYS_PTRACE"])),
];

const OF_VOLUMES: &[(&str, &str, Change)] = &[
    ("a mount over the sidecar's program", OWN_MOUNTS, |pod| {
        add(&mut sidecar(pod)["volumeMounts"], json!({"name": "cofferdam-sys-run", "mountPath": "/usr/bin"}));
    }),
    ("a gate that sees the raw volume", OWN_MOUNTS, |pod| {
        add(&mut gate(pod)["volumeMounts"], json!({"name": "data", "mountPath": "/cofferdam/raw/data"}));
    }),
    ("a raw volume that is none", STANDS_FOR, |pod| {
        *volume(pod, "data") = json!({"name": "data", "emptyDir": {}});
    }),
    ("the raw volume in the application", RAW, |pod| {
        add(&mut pod["spec"]["containers"][0]["volumeMounts"], json!({"name": "data", "mountPath": "/raw"}));
    }),
    ("the sidecar's run directory in the application", RAW, |pod| {
        let mount = json!({"name": "cofferdam-sys-run", "mountPath": "/run-of-the-sidecar"});
        add(&mut pod["spec"]["containers"][0]["volumeMounts"], mount);
    }),
    ("the token in the application", RAW, |pod| {
        let mount = json!({"name": "cofferdam-sys-token", "mountPath": "/token"});
        add(&mut pod["spec"]["containers"][0]["volumeMounts"], mount);
    }),
    ("a plain volume that is the driver's socket", NAMES, |pod| {
        volume(pod, "cofferdam-vol-data")["csi"]["volumeAttributes"]["cofferdam.io/kind"] = json!("ctl");
    }),
    ("a run directory that is none of the driver's", NAMES, |pod| {
        *volume(pod, "cofferdam-sys-run") = json!({"name": "cofferdam-sys-run", "emptyDir": {}});
    }),
    ("our driver under another name", NAMES, |pod| {
        let csi = json!({"driver": "node.cofferdam.io", "volumeAttributes": {"cofferdam.io/kind": "ctl"}});
        add(&mut pod["spec"]["volumes"], json!({"name": "theirs", "csi": csi}));
    }),
    ("a second token", TOKEN, |pod| {
        let token = json!({"serviceAccountToken": {"path": "token", "audience": "cofferdam"}});
        add(&mut pod["spec"]["volumes"], json!({"name": "theirs", "projected": {"sources": [token]}}));
    }),
    ("one process namespace", PROCESSES, |pod| pod["spec"]["shareProcessNamespace"] = json!(true)),
    ("the node's processes", PROCESSES, |pod| pod["spec"]["hostPID"] = json!(true)),
    ("no injection at all", CLAIM, |pod| {
        pod["spec"]["initContainers"] = json!([]);
        pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
        pod["spec"]["volumes"].as_array_mut().unwrap().retain(|volume| volume["name"] == "data");
    }),
];

#[test]
fn each_rule_for_injected_pods_refuses_its_own_forgery() {
    // Without Pod Security, so that nothing but the policies can refuse.
    let stage = Stage::with_labels("rules", "\"cofferdam.io/injection\": enabled");
    let key = RootKey::create();
    protect(&stage, &key);
    stage.claim("files", 48);
    let base = soon("the claim is recorded", || {
        stage.get("encryptedvolume", "files")?;
        let base = injected(&stage);
        wait::expect(base["spec"]["initContainers"].as_array().is_some(), &base).map(|()| base)
    });
    let _passed_by = PassedBy::new(&stage);
    soon("the webhook passes it by", || {
        let mut bare = base.clone();
        bare["spec"]["initContainers"] = json!([]);
        let refusal = format!(
            "{:#}",
            ask(&stage, &bare.to_string(), None).err().ok_or_else(|| anyhow::anyhow!("it did not"))?
        );
        wait::expect(refusal.contains(PLACE) || refusal.contains(CLAIM), refusal)
    });
    refused(&stage, None, &base, OF_CONTAINERS);
    refused(&stage, None, &base, OF_VOLUMES);
}

const WHO: &str = "is for the pods of Jobs of the operator";
const REWRAP: &str = "a rewrap Job runs cofferdam-sidecar job, and nothing else";

/// A pod as the operator's Jobs make them, as far as rules speak of it.
fn rewrap_pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "cofferdam-rewrap-forged", "labels": {"cofferdam.io/rewrap": "files"},
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "cofferdam-rewrap-files", "controller": true,
                "uid": "00000000-0000-4000-8000-000000000000"}]
        },
        "spec": {"restartPolicy": "Never", "containers": [{
            "name": "cofferdam-rewrap", "image": "localhost/cofferdam:dev", "command": ["/usr/bin/cofferdam-sidecar", "job"],
            "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}}
        }]}
    })
}

fn rewraps(pod: &mut Value) -> &mut Value {
    &mut pod["spec"]["containers"][0]
}

const OF_REWRAPPING: &[(&str, &str, Change)] = &[
    ("another name", WHO, |pod| pod["metadata"]["name"] = json!("forged")),
    ("no owner", WHO, |pod| pod["metadata"]["ownerReferences"] = json!([])),
    ("another owner", WHO, |pod| pod["metadata"]["ownerReferences"][0]["name"] = json!("theirs")),
    ("another image", REWRAP, |pod| rewraps(pod)["image"] = json!(IMAGE)),
    ("another command", REWRAP, |pod| rewraps(pod)["command"] = json!(["/bin/sh"])),
    ("arguments", REWRAP, |pod| rewraps(pod)["args"] = json!(["-x"])),
    ("LD_PRELOAD", REWRAP, |pod| rewraps(pod)["env"] = json!([{"name": "LD_PRELOAD", "value": "/x"}])),
    ("an environment of a ConfigMap", REWRAP, |pod| {
        rewraps(pod)["envFrom"] = json!([{"configMapRef": {"name": "theirs"}}]);
    }),
    ("a hook", REWRAP, |pod| {
        rewraps(pod)["lifecycle"] = json!({"postStart": {"exec": {"command": ["sh"]}}});
    }),
    ("a probe", REWRAP, |pod| rewraps(pod)["livenessProbe"] = json!({"exec": {"command": ["sh"]}})),
    ("a mount over its program", REWRAP, |pod| {
        pod["spec"]["volumes"] = json!([{"name": "theirs", "emptyDir": {}}]);
        rewraps(pod)["volumeMounts"] = json!([{"name": "theirs", "mountPath": "/usr/bin"}]);
    }),
    ("escalation", REWRAP, |pod| rewraps(pod)["securityContext"]["allowPrivilegeEscalation"] = json!(true)),
    ("a writable image", REWRAP, |pod| {
        rewraps(pod)["securityContext"]["readOnlyRootFilesystem"] = json!(false);
    }),
    ("capabilities", REWRAP, |pod| rewraps(pod)["securityContext"]["capabilities"] = json!({"drop": []})),
    ("a second container", REWRAP, |pod| {
        add(&mut pod["spec"]["containers"], json!({"name": "theirs", "image": IMAGE}));
    }),
    ("an init container", REWRAP, |pod| {
        pod["spec"]["initContainers"] = json!([{"name": "theirs", "image": IMAGE}]);
    }),
    ("one process namespace", REWRAP, |pod| pod["spec"]["shareProcessNamespace"] = json!(true)),
];

#[test]
fn each_rule_for_pods_that_rewrap_refuses_its_own_forgery() {
    let stage = Stage::with_labels("rewraps", "\"cofferdam.io/injection\": enabled");
    let base = rewrap_pod();
    refused(&stage, Some(JOB_CONTROLLER), &base, OF_REWRAPPING);
    let refusal =
        ask(&stage, &base.to_string(), None).expect_err("a person is not the Job controller").to_string();
    assert!(refusal.contains(WHO), "{refusal}");
}
