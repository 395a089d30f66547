//! Pods with a protected and with a plain volume, in turn. Invariant: they differ in the claim's label only.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::cluster::{Cluster, VolumeOptions};
use crate::demo::kms::DevKms;
use crate::{process, progress};

const NAMESPACE: &str = "bench";

/// Milliseconds of each start, pair by pair.
#[derive(Default)]
pub struct Starts {
    /// With a protected volume.
    pub protected: Vec<f64>,
    /// With a plain one.
    pub plain: Vec<f64>,
}

impl Starts {
    /// What protection added in each pair.
    pub fn added(&self) -> Vec<f64> {
        self.protected.iter().zip(&self.plain).map(|(protected, plain)| protected - plain).collect()
    }
}

/// A namespace with a profile, a binding and two claims.
pub struct Ground<'a> {
    cluster: &'a Cluster,
}

impl<'a> Ground<'a> {
    /// Makes it anew.
    pub fn prepare(cluster: &'a Cluster, kms: &DevKms<'_>) -> Result<Self> {
        let ground = Self { cluster };
        ground.clear()?;
        cluster.apply(&format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {NAMESPACE}, labels: {{cofferdam.io/injection: enabled}}}}}}"
        ))?;
        kms.credentials(NAMESPACE)?;
        let example = fs::read_to_string(cluster.places().repository.join("examples/shop.yaml"))
            .context("read the example")?;
        let declared: Vec<&str> = example.split("\n---\n").take(2).collect();
        cluster.apply(
            &declared.join("\n---\n").replace("namespace: shop", &format!("namespace: {NAMESPACE}")),
        )?;
        for (claim, label) in [("protected", "shop"), ("plain", "none")] {
            let volume = format!("{NAMESPACE}-{claim}");
            let options = VolumeOptions { storage_class: NAMESPACE.into(), ..VolumeOptions::default() };
            cluster.add_volume(&volume, 64, &options)?;
            cluster.apply(&format!(
                "{{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {{name: {claim}, namespace: {NAMESPACE}, labels: {{app: \
                 {label}}}}}, spec: {{accessModes: [ReadWriteOnce], storageClassName: {NAMESPACE}, volumeName: {volume}, resources: \
                 {{requests: {{storage: 1Mi}}}}}}}}"
            ))?;
        }
        let wait = ["wait", "--for=condition=Ready", "storagebinding/shop", "--timeout=60s"];
        ground.kubectl(&wait)?;
        Ok(ground)
    }

    /// Removes what it made, also after a run that was killed.
    pub fn clear(&self) -> Result<()> {
        let delete = ["delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s"];
        process::output(&mut self.cluster.kubectl(delete)?)?;
        for claim in ["protected", "plain"] {
            let volume = format!("{NAMESPACE}-{claim}");
            if self.cluster.volume_image(&volume).exists() {
                self.cluster.delete_volume(&volume)?;
            }
        }
        Ok(())
    }

    /// Starts pods in turn; one start of each kind before that is not counted.
    pub fn starts(&self, count: usize) -> Result<Starts> {
        let mut starts = Starts::default();
        for round in 0..=count {
            let (protected, plain) = (self.start("protected")?, self.start("plain")?);
            if round > 0 {
                starts.protected.push(protected);
                starts.plain.push(plain);
                progress::note(&format!("{round} of {count}: {protected:.0} ms and {plain:.0} ms"));
            }
        }
        Ok(starts)
    }

    /// Milliseconds from the request to Ready.
    fn start(&self, claim: &str) -> Result<f64> {
        let begin = Instant::now();
        self.run(claim)?;
        let took = begin.elapsed().as_secs_f64() * 1000.0;
        self.kubectl(&["delete", "pod", claim, "--now", "--timeout=60s"])?;
        Ok(took)
    }

    fn run(&self, claim: &str) -> Result<()> {
        self.cluster.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {claim}, namespace: {NAMESPACE}}}, spec: {{securityContext: {{runAsNonRoot: \
             true, runAsUser: 1000, fsGroup: 1000}}, containers: [{{name: app, image: localhost/apps:dev, imagePullPolicy: Never, command: \
             [sleep, infinity], volumeMounts: [{{name: data, mountPath: /data}}]}}], volumes: [{{name: data, persistentVolumeClaim: \
             {{claimName: {claim}}}}}]}}}}"
        ))?;
        self.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{claim}"), "--timeout=60s"]).map(drop)
    }

    /// Resident KiB of a sidecar that has served and is left alone for ten seconds.
    pub fn idle_memory(&self) -> Result<u64> {
        self.run("protected")?;
        std::thread::sleep(Duration::from_secs(10));
        let memory = self.sidecars()?;
        self.kubectl(&["delete", "pod", "protected", "--now", "--timeout=60s"])?;
        memory.into_iter().max().context("find a sidecar's process")
    }

    /// Resident KiB of every process of a serving sidecar of this namespace, added up for each sidecar.
    fn sidecars(&self) -> Result<Vec<u64>> {
        let mut found = vec![];
        for entry in fs::read_dir(self.cluster.path("/proc")?).context("list processes")?.flatten() {
            let read = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
            let serves = read("cmdline").starts_with("/usr/bin/cofferdam-sidecar\0serve");
            if serves && read("environ").contains(&format!("POD_NAMESPACE={NAMESPACE}\0")) {
                let status = read("status");
                let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
                found.push(line.split_whitespace().next().unwrap_or_default().parse().context("read VmRSS")?);
            }
        }
        ensure!(!found.is_empty(), "no sidecar runs in {NAMESPACE}");
        Ok(found)
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        process::output(&mut self.cluster.kubectl(["--namespace", NAMESPACE].iter().chain(arguments))?)
    }
}
