//! The example application of `examples/shop.yaml`, and what a person would look at. Invariant: every wait has a limit, and
//! every line under a `$` is the output of that command.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::kms::DevKms;
use crate::cluster::{Cluster, VolumeOptions};
use crate::{process, progress};

const NAMESPACE: &str = "shop";
const VOLUME: &str = "shop";
const LIMIT: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_millis(300);

/// The running example.
pub struct Shop<'a> {
    cluster: &'a Cluster,
    kms: &'a DevKms<'a>,
}

impl<'a> Shop<'a> {
    /// Makes namespace, credentials and volume, applies `examples/shop.yaml` and waits until the application runs.
    pub fn open(cluster: &'a Cluster, kms: &'a DevKms<'a>) -> Result<Self> {
        let shop = Self { cluster, kms };
        cluster.apply(&format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {NAMESPACE}, labels: {{cofferdam.io/injection: enabled, \
             pod-security.kubernetes.io/enforce: restricted}}}}}}"
        ))?;
        kms.credentials(NAMESPACE)?;
        if !cluster.volume_image(VOLUME).exists() {
            let options = VolumeOptions { storage_class: NAMESPACE.into(), ..VolumeOptions::default() };
            cluster.add_volume(VOLUME, 64, &options)?;
        }
        let example = cluster.places().repository.join("examples/shop.yaml");
        println!("\n$ kubectl apply -f examples/shop.yaml");
        process::shown(cluster.kubectl(["apply", "-f"])?.arg(example))?;
        shop.kubectl_until("the profile is Ready", &["get", "kmsprofile", "main"], "Enabled")?;
        shop.kubectl_until("the application runs", &["get", "pod", "shop-0"], "Running")?;
        process::output(&mut shop.kubectl(&[
            "wait",
            "--for=condition=Ready",
            "pod/shop-0",
            "--timeout=90s",
        ])?)?;
        shop.show(&["get", "kmsprofiles,storagebindings,pods"])?;
        Ok(shop)
    }

    /// The file in the pod, the bytes on the volume, the header.
    pub fn content(&self) -> Result<()> {
        heading("The application sees its file");
        self.application("cat /data/orders")?;
        heading("The volume holds ciphertext");
        self.command("od", &["-A", "d", "-t", "x1z", "-j", "4096", "-N", "96"])?;
        self.header()
    }

    /// Rotation under a running application.
    pub fn rotation(&self) -> Result<()> {
        heading("The root key is rotated: the sidecar rewraps every file, and moves no data");
        let before = self.header_text()?;
        self.kms.act("rotate")?;
        self.wait_for_new_version(&before)?;
        self.header()?;
        self.application("tail -n 1 /data/journal")
    }

    /// Rotation while no pod mounts the volume.
    pub fn detached_rotation(&self) -> Result<()> {
        heading("No pod mounts the volume: a Job rewraps it, with a credential that cannot unwrap");
        self.show(&["scale", "statefulset", "shop", "--replicas=0"])?;
        process::output(&mut self.kubectl(&["wait", "--for=delete", "pod/shop-0", "--timeout=90s"])?)?;
        let before = self.header_text()?;
        self.kms.act("rotate")?;
        self.wait_for_new_version(&before)?;
        self.show(&["get", "jobs,encryptedvolumes"])?;
        self.header()?;
        self.show(&["scale", "statefulset", "shop", "--replicas=1"])?;
        self.kubectl_until("the application runs again", &["get", "pod", "shop-0"], "Running")?;
        process::output(&mut self.kubectl(&[
            "wait",
            "--for=condition=Ready",
            "pod/shop-0",
            "--timeout=90s",
        ])?)
        .map(drop)
    }

    /// The key is disabled and enabled.
    pub fn suspension(&self) -> Result<()> {
        heading("The root key is disabled: access stops");
        let begin = Instant::now();
        self.kms.act("disable")?;
        let read = ["exec", "shop-0", "--container", "app", "--", "cat", "/data/orders"];
        progress::until("reads fail", LIMIT, PAUSE, || {
            ensure!(!self.kubectl(&read)?.output()?.status.success(), "the file can still be read");
            Ok(())
        })?;
        println!("after {:.1} s:", begin.elapsed().as_secs_f32());
        println!("$ kubectl exec shop-0 -- cat /data/orders");
        let refused = self.kubectl(&read)?.output()?;
        print!("{}", String::from_utf8_lossy(&refused.stderr));
        self.kubectl_until("the binding says so", &["get", "storagebinding", "shop"], "Refused|True")?;
        self.show(&["get", "storagebindings"])?;
        heading("The root key is enabled: the same processes go on");
        let begin = Instant::now();
        self.kms.act("enable")?;
        progress::until("reads work", LIMIT, PAUSE, || process::output(&mut self.kubectl(&read)?).map(drop))?;
        println!("after {:.1} s:", begin.elapsed().as_secs_f32());
        self.application("cat /data/orders")?;
        self.show(&["get", "pods"])
    }

    fn wait_for_new_version(&self, before: &str) -> Result<()> {
        progress::until("the header names the new version", LIMIT, PAUSE, || {
            ensure!(self.header_text()? != before, "the header is as it was");
            Ok(())
        })
    }

    fn raw_file(&self) -> Result<PathBuf> {
        Ok(self.cluster.volume_path(VOLUME)?.join("orders"))
    }

    fn header_text(&self) -> Result<String> {
        process::output(
            Command::new(self.cluster.places().program("cofferdam-sidecar"))
                .arg("inspect")
                .arg(self.raw_file()?),
        )
    }

    fn header(&self) -> Result<()> {
        println!("$ cofferdam-sidecar inspect orders        # on the raw volume, without any key");
        print!("{}", self.header_text()?);
        Ok(())
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Result<()> {
        println!("$ {program} {} orders        # on the raw volume", arguments.join(" "));
        process::shown(Command::new(program).args(arguments).arg(self.raw_file()?))
    }

    fn application(&self, script: &str) -> Result<()> {
        println!("$ kubectl exec shop-0 -- {script}");
        process::shown(&mut self.kubectl(&[
            "exec",
            "shop-0",
            "--container",
            "app",
            "--",
            "bash",
            "-c",
            script,
        ])?)
    }

    fn show(&self, arguments: &[&str]) -> Result<()> {
        println!("$ kubectl {}", arguments.join(" "));
        process::shown(&mut self.kubectl(arguments)?)
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<Command> {
        self.cluster.kubectl(["--namespace", NAMESPACE].iter().chain(arguments))
    }

    fn kubectl_until(&self, what: &str, arguments: &[&str], words: &str) -> Result<()> {
        progress::until(what, LIMIT, PAUSE, || {
            let text = process::output(&mut self.kubectl(arguments)?)?;
            ensure!(words.split('|').any(|word| text.contains(word)), "saw {text}");
            Ok(())
        })
    }
}

fn heading(text: &str) {
    println!("\n== {text}");
}
