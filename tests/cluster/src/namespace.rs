//! A namespace of the test's own, with the volumes that it made; both are gone when the test ends.
//!
//! Invariant: when the test failed, what a person would look at first is printed before anything is deleted.

use std::process::Command;
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use xtask::cluster::{Cluster, VolumeOptions};

use crate::wait::{expect, soon};

/// A test's own corner of the cluster.
pub struct Stage {
    /// The cluster.
    pub cluster: Cluster,
    /// The namespace; also the storage class of its volumes.
    pub name: String,
    volumes: Mutex<Vec<String>>,
}

impl Stage {
    /// A namespace that is opted in and enforces Pod Security `restricted`.
    pub fn new(name: &str) -> Self {
        Self::with_labels(
            name,
            r#""cofferdam.io/injection": enabled, "pod-security.kubernetes.io/enforce": restricted"#,
        )
    }

    /// A namespace with labels of the test's choice, as the inside of a YAML flow mapping.
    #[allow(clippy::panic, reason = "this is how a test fails")]
    pub fn with_labels(name: &str, labels: &str) -> Self {
        let cluster = Cluster::from_environment().unwrap_or_else(|error| panic!("{error:#}"));
        if let Err(error) = cluster.first_process() {
            panic!("the story needs the real cluster, as `cargo xtask test` starts it: {error:#}");
        }
        let suffix = &uuid::Uuid::new_v4().simple().to_string()[..5];
        let stage = Self { cluster, name: format!("{name}-{suffix}"), volumes: Mutex::default() };
        stage.apply(&format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {}, labels: {{{labels}}}}}}}",
            stage.name
        ));
        soon("the default service account", || stage.try_kubectl(&["get", "serviceaccount", "default"]));
        stage
    }

    /// Runs kubectl in the namespace; its output, or its error text as the error.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut all = vec!["--namespace", &self.name];
        all.extend(arguments);
        output(&mut self.cluster.kubectl(all)?, "")
    }

    /// Runs kubectl in the namespace.
    #[allow(clippy::panic, reason = "this is how a test fails")]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl(arguments)
            .unwrap_or_else(|error| panic!("kubectl {}: {error:#}", arguments.join(" ")))
    }

    /// Applies manifests in the namespace, as a person would.
    pub fn try_apply(&self, manifests: &str) -> Result<String> {
        output(&mut self.cluster.kubectl(["--namespace", &self.name, "apply", "-f", "-"])?, manifests)
    }

    /// Applies manifests in the namespace.
    #[allow(clippy::panic, reason = "this is how a test fails")]
    pub fn apply(&self, manifests: &str) {
        self.try_apply(manifests).unwrap_or_else(|error| panic!("apply: {error:#}\n{manifests}"));
    }

    /// What a person is told when the manifests are refused.
    #[allow(clippy::panic, reason = "this is how a test fails")]
    pub fn refusal(&self, manifests: &str) -> String {
        match self.try_apply(manifests) {
            Ok(output) => panic!("it was not refused: {output}\n{manifests}"),
            Err(error) => format!("{error:#}"),
        }
    }

    /// An object of the namespace.
    pub fn get(&self, kind: &str, name: &str) -> Result<Value> {
        let text = self.try_kubectl(&["get", kind, name, "--output", "json"])?;
        serde_json::from_str(&text).context("read kubectl's JSON")
    }

    /// A condition of an object as `(status, reason, message)`.
    pub fn condition(&self, kind: &str, name: &str, condition: &str) -> Result<(String, String, String)> {
        let object = self.get(kind, name)?;
        let all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let Some(found) = all.iter().find(|c| c["type"] == condition) else {
            bail!("{kind} {name} has no condition {condition}: {}", object["status"])
        };
        let field = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
        Ok((field("status"), field("reason"), field("message")))
    }

    /// Waits until a condition has a status; its reason and message.
    pub fn wait_condition(&self, kind: &str, name: &str, condition: &str, status: &str) -> (String, String) {
        soon(&format!("{kind} {name} {condition}={status}"), || {
            let (is, reason, message) = self.condition(kind, name, condition)?;
            expect(is == status, format!("{condition}={is} {reason}: {message}"))?;
            Ok((reason, message))
        })
    }

    /// Makes an ext4 volume of `megabytes` MiB whose PersistentVolume only claims of this namespace find; its name.
    pub fn volume(&self, name: &str, megabytes: u64) -> String {
        self.volume_with(name, megabytes, &VolumeOptions::default())
    }

    /// The same, with options; the storage class is the namespace's.
    #[allow(clippy::panic, reason = "this is how a test fails")]
    pub fn volume_with(&self, name: &str, megabytes: u64, options: &VolumeOptions) -> String {
        let volume = format!("{}-{name}", self.name);
        let options = VolumeOptions { storage_class: self.name.clone(), ..options.clone() };
        let made = self.cluster.add_volume(&volume, megabytes, &options);
        made.unwrap_or_else(|error| panic!("make volume {volume}: {error:#}"));
        if let Ok(mut volumes) = self.volumes.lock() {
            volumes.push(volume.clone());
        }
        volume
    }

    /// Makes a volume and a claim `name` bound to it.
    pub fn claim(&self, name: &str, megabytes: u64) -> String {
        let volume = self.volume(name, megabytes);
        self.claim_of(name, &volume);
        volume
    }

    /// Makes a claim for a PersistentVolume that exists.
    pub fn claim_of(&self, name: &str, volume: &str) {
        self.apply(&format!(
            "{{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {{name: {name}, labels: {{protect: \"yes\"}}}}, spec: \
             {{accessModes: [ReadWriteOnce], storageClassName: {}, volumeName: {volume}, resources: {{requests: {{storage: \
             1Mi}}}}}}}}",
            self.name
        ));
    }

    /// Events of the namespace that speak of an object, as `reason: message` lines.
    pub fn events(&self, object: &str) -> String {
        let filter = format!("involvedObject.name={object}");
        let columns = "custom-columns=REASON:.reason,MESSAGE:.message";
        self.kubectl(&["get", "events", "--field-selector", &filter, "--output", columns])
    }

    fn describe_failure(&self) {
        for what in [
            &["get", "pods,claims,events,kmsprofiles,storagebindings,encryptedvolumes", "--output", "wide"][..],
            &["get", "pods", "--output", "jsonpath={.items[*].status.conditions}"],
        ] {
            let what: Vec<&str> = what
                .iter()
                .map(
                    |word| {
                        if word.contains("claims") { "pods,pvc,jobs,events,kmsp,sbind,evol" } else { word }
                    },
                )
                .collect();
            eprintln!("{}", self.try_kubectl(&what).unwrap_or_else(|error| format!("{error:#}")));
        }
        let pods = self.try_kubectl(&["get", "pods", "--output", "name"]).unwrap_or_default();
        for pod in pods.lines() {
            let logs = self.try_kubectl(&["logs", pod, "--all-containers", "--tail=40", "--prefix"]);
            eprintln!("{}", logs.unwrap_or_else(|error| format!("{pod}: {error:#}")));
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if thread::panicking() {
            self.describe_failure();
        }
        let gone = self.cluster.kubectl(["delete", "namespace", &self.name, "--timeout=120s"]);
        if let Err(error) = gone.and_then(|mut command| output(&mut command, "")) {
            eprintln!("delete namespace {}: {error:#}", self.name);
            // A namespace that cannot be deleted is a failure of its own, but must not hide an earlier one.
            assert!(thread::panicking(), "namespace {} could not be deleted: {error:#}", self.name);
        }
        for volume in self.volumes.lock().map(|volumes| volumes.clone()).unwrap_or_default() {
            if let Err(error) = self.cluster.delete_volume(&volume) {
                eprintln!("delete volume {volume}: {error:#}");
            }
        }
    }
}

/// Runs a command with input; its standard output, or an error with its standard error.
pub fn output(command: &mut Command, input: &str) -> Result<String> {
    xtask::process::output_with_input(command, input)
}
