//! The KMS for development as a process of this machine, with one root key. Invariant: it listens on the loopback alone, and
//! its keys outlive it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::pid_file::PidFile;
use crate::process;

const INSTANCE: &str = "9b6b1c2e-52c1-4f0e-8d0c-5d0f0f6c8a11";
const ROOT_KEY: &str = "c1b0f0a4-7a0e-4a53-9d5b-0a6c8f1e2d22";

/// The KMS of a folder.
#[derive(Debug)]
pub struct Kms {
    folder: PathBuf,
    process: PidFile,
}

impl Kms {
    /// The one whose keys lie in `folder`.
    pub fn at(folder: PathBuf) -> Self {
        let process = PidFile::in_folder(&folder);
        Self { folder, process }
    }

    /// The profile that names its root key.
    pub fn profile(&self) -> PathBuf {
        self.folder.join("profile.json")
    }

    /// Starts it unless it runs, and writes the profile with its address.
    pub fn start(&self, devkms: &Path) -> Result<()> {
        if self.process.running().is_some() && self.profile().exists() {
            return Ok(());
        }
        self.process.stop()?;
        fs::create_dir_all(&self.folder).with_context(|| format!("make {}", self.folder.display()))?;
        fs::write(self.file("api.key"), "a-key-for-development").context("write the API key")?;
        fs::write(self.file("seed.json"), self.seed().to_string()).context("write the KMS's seed")?;
        let log = File::create(self.file("log")).context("create the KMS's log")?;
        let mut command = Command::new(devkms);
        command.args(["--http", "127.0.0.1:0", "--control", "127.0.0.1:0", "--print-addresses"]);
        command.arg("--store").arg(self.file("store")).arg("--seed").arg(self.file("seed.json"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        // In a process group of its own it outlives this command.
        let mut child = command.process_group(0).spawn().context("start devkms")?;
        self.process.write(child.id())?;
        let output = child.stdout.take().context("read from devkms")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).context("read from devkms")?;
        let addresses: Value = serde_json::from_str(&line).with_context(|| {
            format!("devkms did not start; the end of its log:\n{}", process::tail(&self.file("log")))
        })?;
        let url = addresses["http"].as_str().context("read devkms's address")?;
        fs::write(self.profile(), self.profile_at(url).to_string()).context("write the profile")
    }

    /// Ends it; its keys stay.
    pub fn stop(&self) -> Result<()> {
        self.process.stop()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn seed(&self) -> Value {
        let data = json!({"name": "data", "keyFile": self.file("api.key"), "grants": [{"role": "Reader"}]});
        json!({"instances": [{"id": INSTANCE, "keys": [{"id": ROOT_KEY, "name": "mounts"}]}], "apiKeys": [data]})
    }

    fn profile_at(&self, url: &str) -> Value {
        json!({
            "endpoint": url, "iamEndpoint": url, "instance": INSTANCE, "rootKey": ROOT_KEY,
            "apiKeyFile": self.file("api.key"),
        })
    }
}
