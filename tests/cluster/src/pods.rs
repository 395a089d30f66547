//! Pods, as a person handles them.
//!
//! Invariant: a command in a pod runs in the application's container and sees what the application sees.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::manifests::pod;
use crate::namespace::Stage;
use crate::wait::{expect, soon};

impl Stage {
    /// Applies a pod's manifest and waits until it is Ready.
    pub fn run(&self, name: &str, manifest: &str) {
        soon(&format!("admission of pod {name}"), || self.try_apply(manifest));
        self.ready(name);
    }

    /// Runs a pod `app` that writes a journal into the claim `files`, and waits until the first record is acknowledged.
    pub fn run_journal(&self) {
        self.run("app", &pod("app", "files", "exec workload journal /data/journal"));
        soon("the journal runs", || self.last_event("app", "app", "ok"));
    }

    /// Waits until a pod is Ready.
    pub fn ready(&self, name: &str) {
        self.wait_condition("pod", name, "Ready", "True");
    }

    /// Waits until a pod has reached a phase.
    pub fn phase(&self, name: &str, phase: &str) {
        soon(&format!("pod {name} {phase}"), || {
            let pod = self.get("pod", name)?;
            expect(pod["status"]["phase"] == phase, &pod["status"])
        });
    }

    /// Runs a shell script in the application's container; its output, or its error text as the error.
    pub fn try_exec(&self, pod: &str, script: &str) -> Result<String> {
        self.try_kubectl(&["exec", pod, "--container", "app", "--", "bash", "-c", script])
    }

    /// Runs a shell script in the application's container.
    #[allow(clippy::panic, reason = "this is how a test fails")]
    pub fn exec(&self, pod: &str, script: &str) -> String {
        self.try_exec(pod, script).unwrap_or_else(|error| panic!("in {pod}: {script}: {error:#}"))
    }

    /// Deletes a pod and waits until it is gone.
    pub fn delete(&self, pod: &str) {
        self.kubectl(&["delete", "pod", pod, "--timeout=90s"]);
    }

    /// Restarts of all containers of a pod.
    pub fn restarts(&self, pod: &str) -> Result<u64> {
        let pod = self.get("pod", pod)?;
        let all = ["initContainerStatuses", "containerStatuses"];
        let statuses =
            all.iter().flat_map(|list| pod["status"][*list].as_array().cloned().unwrap_or_default());
        Ok(statuses.filter_map(|status| status["restartCount"].as_u64()).sum())
    }

    /// JSON lines that a container has printed.
    pub fn events_of(&self, pod: &str, container: &str) -> Result<Vec<Value>> {
        let log = self.try_kubectl(&["logs", pod, "--container", container])?;
        log.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }

    /// The last JSON line of a workload, if it is `outcome`; an error otherwise.
    pub fn last_event(&self, pod: &str, container: &str, outcome: &str) -> Result<Value> {
        match self.events_of(pod, container)?.last() {
            Some(event) if event["event"].as_str().is_some_and(|e| e.contains(outcome)) => Ok(event.clone()),
            other => bail!("{pod}/{container} last said {other:?}, not {outcome}"),
        }
    }
}
