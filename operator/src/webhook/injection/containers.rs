//! The containers that injection adds, in the form that the API server would complete them to.
//!
//! Invariant: every field that a container inherits from its pod is said explicitly, so that the application's own settings do
//! not change ours; requests equal limits.

use contract::config::Ownership;
use contract::names::{
    CA_DIR, CA_VOLUME, CONFIG_ENV, CREDENTIALS_DIR, CTL_DIR, CTL_VOLUME, GATE_CONTAINER, PLAIN_DIR,
    POD_NAME_ENV, POD_NAMESPACE_ENV, POD_UID_ENV, RAW_DIR, RUN_DIR, RUN_VOLUME, SIDECAR_CONTAINER,
    SIDECAR_PROGRAM, TOKEN_FILE, TOKEN_VOLUME,
};
use serde_json::{Value, json};

use super::ownership::Runner;
use super::volumes::{credentials_name, plain_name};
use crate::settings::InjectionSettings;

/// Capabilities that a sidecar needs to give files the owners and modes that the application asks for; Pod Security
/// `baseline` allows each of them.
pub const NATIVE_CAPABILITIES: [&str; 6] = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETGID", "SETUID"];
/// What the gate needs to look at a directory that belongs to somebody else.
const GATE_CAPABILITIES: [&str; 1] = ["DAC_OVERRIDE"];
/// CPU and memory of the gate, which runs for a moment, or waits.
const GATE_RESOURCES: (&str, &str) = ("100m", "32Mi");

/// A protected volume, as our containers mount it.
#[derive(Clone, Debug)]
pub struct Mounted {
    /// The pod volume's name.
    pub name: String,
    /// The claim may not be written through this pod.
    pub read_only: bool,
}

/// What the containers have in common.
#[derive(Clone, Debug)]
pub struct Common<'a> {
    /// The image and how to pull it.
    pub settings: &'a InjectionSettings,
    /// The identity.
    pub runner: Runner,
    /// The value of the configuration's environment variable.
    pub config: &'a str,
    /// CPU and memory of the sidecar.
    pub resources: (String, String),
    /// Protected volumes.
    pub volumes: Vec<Mounted>,
    /// Number of profiles, each with a volume of credentials.
    pub profiles: usize,
    /// The pod names an AppArmor profile of its own.
    pub app_armor: bool,
}

/// The native sidecar.
pub fn sidecar(common: &Common<'_>) -> Value {
    let mut container = base(common, SIDECAR_CONTAINER, "serve", &NATIVE_CAPABILITIES);
    container["restartPolicy"] = json!("Always");
    // No startup probe: the gate waits for the FUSE servers itself, a second or two sooner than kubelet would look (ADR 0006).
    container["readinessProbe"] = probe("ready", 5, 5, 1);
    // Slow to judge: an end of the sidecar is an end of the application's files, and a starved node is no reason for it.
    container["livenessProbe"] = probe("alive", 30, 30, 3);
    container["resources"] = resources(&common.resources.0, &common.resources.1);
    let mut mounts = raw_mounts(common);
    mounts.push(mount(CTL_VOLUME, CTL_DIR, true));
    mounts.push(mount(RUN_VOLUME, RUN_DIR, false));
    mounts.extend(shared_mounts(common));
    container["volumeMounts"] = Value::Array(mounts);
    container
}

/// The gate.
pub fn gate(common: &Common<'_>) -> Value {
    let mut container = base(common, GATE_CONTAINER, "gate", &GATE_CAPABILITIES);
    container["resources"] = resources(GATE_RESOURCES.0, GATE_RESOURCES.1);
    let plain = common.volumes.iter();
    let mut mounts: Vec<_> = plain
        .map(|volume| mount(&plain_name(&volume.name), &format!("{PLAIN_DIR}/{}", volume.name), true))
        .collect();
    mounts.push(mount(RUN_VOLUME, RUN_DIR, true));
    container["volumeMounts"] = Value::Array(mounts);
    container
}

fn base(common: &Common<'_>, name: &str, command: &str, capabilities: &[&str]) -> Value {
    json!({
        "name": name,
        "image": common.settings.image,
        "imagePullPolicy": common.settings.image_pull_policy,
        "command": [SIDECAR_PROGRAM, command],
        "env": environment(common.config),
        "securityContext": security_context(common, capabilities),
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "FallbackToLogsOnError",
    })
}

fn environment(config: &str) -> Value {
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}});
    // The pod's name comes first, because the configuration may refer to it.
    json!([
        field(POD_NAME_ENV, "metadata.name"),
        field(POD_NAMESPACE_ENV, "metadata.namespace"),
        field(POD_UID_ENV, "metadata.uid"),
        {"name": CONFIG_ENV, "value": config},
    ])
}

fn security_context(common: &Common<'_>, capabilities: &[&str]) -> Value {
    let native = common.runner.ownership == Ownership::Native;
    let mut context = json!({
        "privileged": false,
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": !native,
        "runAsUser": common.runner.uid,
        "runAsGroup": common.runner.gid,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    if native {
        context["capabilities"]["add"] = json!(capabilities);
    }
    // Said only where the pod says something: a node without AppArmor refuses pods that name a profile.
    if common.app_armor {
        context["appArmorProfile"] = json!({"type": "RuntimeDefault"});
    }
    context
}

fn probe(command: &str, period_seconds: u32, timeout_seconds: u32, failure_threshold: u32) -> Value {
    json!({
        "exec": {"command": [SIDECAR_PROGRAM, command]},
        "periodSeconds": period_seconds,
        "timeoutSeconds": timeout_seconds,
        "successThreshold": 1,
        "failureThreshold": failure_threshold,
    })
}

fn resources(cpu: &str, memory: &str) -> Value {
    let amount = json!({"cpu": cpu, "memory": memory});
    json!({"requests": amount, "limits": amount})
}

fn raw_mounts(common: &Common<'_>) -> Vec<Value> {
    let raw = common.volumes.iter();
    raw.map(|volume| mount(&volume.name, &format!("{RAW_DIR}/{}", volume.name), volume.read_only)).collect()
}

fn shared_mounts(common: &Common<'_>) -> Vec<Value> {
    let (token_dir, _) = TOKEN_FILE.rsplit_once('/').expect("an absolute path");
    let mut mounts = vec![mount(TOKEN_VOLUME, token_dir, true), mount(CA_VOLUME, CA_DIR, true)];
    let credentials = |index| mount(&credentials_name(index), &format!("{CREDENTIALS_DIR}/{index}"), true);
    mounts.extend((0..common.profiles).map(credentials));
    mounts
}

fn mount(name: &str, path: &str, read_only: bool) -> Value {
    if read_only {
        return json!({"name": name, "mountPath": path, "readOnly": true});
    }
    json!({"name": name, "mountPath": path})
}
