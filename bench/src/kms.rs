//! A KMS that takes 30 ms for each call, as one that is some network away. Invariant: keys end with the run.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use devkms::{Config, Fault, FaultKind, Grant, Role, Seed, Server};

const INSTANCE: &str = "11111111-1111-4111-8111-111111111111";
const KEY: &str = "22222222-2222-4222-8222-222222222222";
/// Milliseconds of each call.
const DELAY: u64 = 30;

/// The running KMS and the profile file that leads to it.
pub struct Kms {
    _server: Server,
    profile: PathBuf,
}

impl Kms {
    /// Starts it; its files go to `dir`.
    pub fn start(dir: &Path) -> Result<Self> {
        let seed = Seed::one_key(INSTANCE, KEY).api_key("data", "data-key", Grant::role(Role::Reader));
        let server = Server::start(Config::ephemeral(seed)).context("start the KMS")?;
        server.add_fault(Fault::new(&[], FaultKind::Delay { millis: DELAY }));
        let (secret, profile) = (dir.join("api.key"), dir.join("profile.yaml"));
        std::fs::write(&secret, "data-key")?;
        let url = server.url();
        let text = format!(
            "endpoint: {url}\niamEndpoint: {url}\ninstance: {INSTANCE}\nrootKey: {KEY}\napiKeyFile: {}\n",
            secret.display()
        );
        std::fs::write(&profile, text)?;
        Ok(Self { _server: server, profile })
    }

    /// The profile file.
    pub fn profile(&self) -> &Path {
        &self.profile
    }
}
