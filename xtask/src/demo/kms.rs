//! devkms as a process of the cluster's node, where pods reach it. Invariant: it ends with the cluster, and a second start
//! finds the one that runs.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use crate::cluster::{Cluster, Within};
use crate::{process, progress};

const NODE: &str = "10.99.0.1";
const PORT: u16 = 8643;
const CONTROL_PORT: u16 = 8699;
/// The instance and the root key of `examples/shop.yaml`.
const INSTANCE: &str = "5c6a1f0e-7d0b-4a55-9f3e-2b8d0c9e4a10";
const ROOT_KEY: &str = "3f0c9f53-9b1d-4d0c-8a58-0d6a8d1c7e21";

/// A running devkms.
pub struct DevKms<'a> {
    cluster: &'a Cluster,
    folder: PathBuf,
}

impl<'a> DevKms<'a> {
    /// Starts it, unless it runs; returns when it answers.
    pub fn start(cluster: &'a Cluster) -> Result<Self> {
        let kms = Self { cluster, folder: cluster.places().run.join("devkms") };
        if kms.answers().is_ok() {
            return Ok(kms);
        }
        fs::create_dir_all(&kms.folder).with_context(|| format!("make {}", kms.folder.display()))?;
        for who in ["data", "rewrap", "admin"] {
            fs::write(kms.api_key_file(who), format!("demo-{who}-api-key")).context("write an API key")?;
        }
        fs::write(kms.folder.join("seed.json"), kms.seed().to_string()).context("write the seed")?;
        let log = File::create(kms.folder.join("log")).context("create devkms's log")?;
        let mut command = cluster.command(Within::Everything, cluster.places().program("devkms"))?;
        command.arg("--https").arg(format!("{NODE}:{PORT}")).args(["--tls-name", NODE]);
        command.arg("--control").arg(format!("{NODE}:{CONTROL_PORT}"));
        command.arg("--tls-dir").arg(kms.folder.join("tls")).arg("--store").arg(kms.folder.join("store"));
        command.arg("--seed").arg(kms.folder.join("seed.json")).args(["--rotation-interval", "0"]);
        command.args(["--enable-delay", "0"]).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // In the cluster's namespaces it ends with them; in a process group of its own it outlives this command.
        command.process_group(0).spawn().context("start devkms")?;
        progress::until("devkms answers", Duration::from_secs(20), Duration::from_millis(100), || {
            kms.answers()
        })?;
        Ok(kms)
    }

    fn seed(&self) -> serde_json::Value {
        let identity = |who: &str, grant: serde_json::Value| json!({"name": who, "keyFile": self.api_key_file(who), "grants": [grant]});
        json!({
            "instances": [{"id": INSTANCE, "keys": [{"id": ROOT_KEY, "name": "shop"}]}],
            "apiKeys": [
                identity("data", json!({"role": "Reader"})),
                identity("rewrap", json!({"actions": ["kms.secrets.readmetadata", "kms.secrets.rewrap"]})),
                identity("admin", json!({"role": "Manager"})),
            ],
        })
    }

    fn answers(&self) -> Result<()> {
        let connect = format!("exec 3<>/dev/tcp/{NODE}/{PORT}");
        process::output(self.cluster.command(Within::Network, "bash")?.args(["-c", &connect])).map(drop)
    }

    /// The file with the API key of `data`, `rewrap` or `admin`.
    pub fn api_key_file(&self, who: &str) -> PathBuf {
        self.folder.join(format!("{who}.key"))
    }

    /// The certificate authority of its certificate.
    pub fn authority_file(&self) -> PathBuf {
        self.folder.join("tls/ca.crt")
    }

    /// Puts the credentials of sidecars and Jobs, and the certificate authority, into a namespace.
    pub fn credentials(&self, namespace: &str) -> Result<()> {
        let read =
            |path: PathBuf| fs::read_to_string(&path).with_context(|| format!("read {}", path.display()));
        let metadata = |name: String| json!({"name": name, "namespace": namespace});
        for who in ["data", "rewrap"] {
            let data = json!({"apiKey": read(self.api_key_file(who))?});
            let metadata = metadata(format!("kms-{who}"));
            let secret =
                json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data});
            self.cluster.apply(&secret.to_string())?;
        }
        let data = json!({"ca.crt": read(self.authority_file())?});
        let metadata = metadata("kms-ca".into());
        let authority = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data});
        self.cluster.apply(&authority.to_string()).map(drop)
    }

    /// Acts on the root key as the security team: `rotate`, `disable`, `enable` or `state`.
    pub fn act(&self, action: &str) -> Result<()> {
        println!("$ root-key {action}        # the security team, at the KMS");
        let mut command: Command =
            self.cluster.command(Within::Network, self.cluster.places().program("root-key"))?;
        command.env("KMS_URL", format!("https://{NODE}:{PORT}")).env("KMS_INSTANCE", INSTANCE);
        command.env("KMS_API_KEY_FILE", self.api_key_file("admin")).env("KMS_CA_FILE", self.authority_file());
        process::shown(command.args([ROOT_KEY, action]))
    }
}
