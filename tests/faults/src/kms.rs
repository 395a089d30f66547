//! A KMS in this process, which lives on while servers are killed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::kms::admin::KmsAdmin;
use ::kms::{CallCtx, KeyRef, Options, ProviderConfig, SecretString};
use anyhow::{Context, Result};
use contract::config::{Credential, KeyProtect, Provider};
use devkms::{Config, Grant, Role, Rules, Seed};
use sidecar::cli::ProfileArgs;
use sidecar::volume::Volume;

use crate::serving::{self, Make};

const INSTANCE: &str = "11111111-1111-4111-8111-111111111111";
const KEY: &str = "22222222-2222-4222-8222-222222222222";

/// See the module.
pub struct RootKey {
    server: devkms::Server,
    admin: Arc<dyn KmsAdmin>,
    runtime: tokio::runtime::Runtime,
    profile: PathBuf,
}

impl RootKey {
    /// A KMS with one root key; files by which servers find it are put into `dir`.
    pub fn new(dir: &Path) -> Result<Self> {
        let seed = Seed::one_key(INSTANCE, KEY)
            .api_key("data", "data-key", Grant::role(Role::Reader))
            .api_key("owner", "owner-key", Grant::role(Role::Manager));
        let rules = Rules { rotation_interval: 0, enable_delay: 0, ..Rules::default() };
        let server = devkms::Server::start(Config { rules, ..Config::ephemeral(seed) })?;
        let (url, credential) = (server.url(), dir.join("data.key"));
        std::fs::write(&credential, "data-key")?;
        let profile = dir.join("profile.yaml");
        let text = format!(
            "endpoint: {url}\niamEndpoint: {url}\ninstance: {INSTANCE}\nrootKey: {KEY}\napiKeyFile: {}\npollSeconds: 1\n",
            credential.display()
        );
        std::fs::write(&profile, text)?;
        let config = {
            let provider = Provider::KeyProtect(KeyProtect::at(&url, INSTANCE, KEY));
            let credential = Credential::ApiKeyFile { path: "/nowhere".into() };
            ProviderConfig::new(provider, credential).at_loopback()
        };
        let secret = Some(SecretString::from("owner-key".to_owned()));
        let admin = ::kms::connect_admin(&config, secret, &Options::default())?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self { server, admin, runtime, profile })
    }

    /// The profile file.
    pub fn profile(&self) -> PathBuf {
        self.profile.clone()
    }

    /// Opens the volume in `path` for writing, and initialises it if it is empty.
    pub fn open_volume(&self, path: &Path) -> Result<Volume> {
        let args = ProfileArgs {
            profile: Some(self.profile()),
            allow_loopback_http: true,
            ..ProfileArgs::default()
        };
        let told = sidecar::profile::Told::default();
        let root_key = sidecar::profile::connect(&args.profile()?, args.transport(), told)?;
        let make = Make { ownership: envelope::Ownership::Native, strict: false, seal: false };
        self.runtime.block_on(serving::open(path, &root_key, make))
    }

    /// Gives the root key a new version.
    pub fn rotate(&self) -> Result<()> {
        let rotated = self.runtime.block_on(self.admin.rotate(&KeyRef(KEY.into()), &CallCtx::new()));
        rotated.map(drop).with_context(|| format!("rotate the root key at {}", self.server.url()))
    }
}
