//! A KMS with one root key, beside the cluster, and the hands of the security team on it.
//!
//! Invariant: changes of the key go through the KMS's real API with an admin credential of their own; only time and
//! faults go behind its back.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use contract::config::{Credential, KeyProtect, Provider};
use devkms::{Config, Event, Grant, Role, Rules, Seed, Tls};
use envelope::{Dek, GroupKey, HeaderRegion, Wrapping};
use kms::admin::KmsAdmin;

use kms::{CaSource, CallCtx, KeyRef, Kms, ProviderConfig};
use secrecy::SecretString;

/// The node's address, where pods reach processes of the machine.
const NODE: &str = "10.99.0.1";
/// API key of the Reader that sidecars use.
pub const DATA_API_KEY: &str = "story-data-api-key";
/// API key of the custom role that may read metadata and rewrap, nothing else.
pub const REWRAP_API_KEY: &str = "story-rewrap-api-key";
/// API key of the owner, who may do everything with the key.
pub const ADMIN_API_KEY: &str = "story-admin-api-key";
/// The KMS instance.
pub const INSTANCE: &str = "5c6a1f0e-7d0b-4a55-9f3e-2b8d0c9e4a10";

/// A KMS of the test's own with one root key.
pub struct RootKey {
    /// The KMS.
    pub kms: devkms::Server,
    /// The key's id.
    pub id: String,
    admin: Arc<dyn KmsAdmin>,
    provider: ProviderConfig,
    runtime: tokio::runtime::Runtime,
}

impl RootKey {
    /// Starts a KMS with a new root key.
    pub fn create() -> Self {
        Self::made_on(None)
    }

    /// Starts a KMS with a root key that was made at this time (RFC 3339).
    #[allow(clippy::panic, reason = "this is how a test fails")]
    pub fn made_on(date: Option<&str>) -> Self {
        Self::try_create(date).unwrap_or_else(|error| panic!("start a KMS: {error:#}"))
    }

    fn try_create(date: Option<&str>) -> Result<Self> {
        let (mut seed, id) = Self::seed();
        seed = seed.api_key("data", DATA_API_KEY, Grant::role(Role::Reader)).api_key(
            "rewrap",
            REWRAP_API_KEY,
            Self::rewrap_only(),
        );
        for key in seed.instances.iter_mut().flat_map(|instance| &mut instance.keys) {
            key.creation_date = date.map(str::to_owned);
        }
        Self::start(seed, id, 0)
    }

    /// One new key, and its owner.
    pub(crate) fn seed() -> (Seed, String) {
        let id = uuid::Uuid::new_v4().to_string();
        let seed = Seed::one_key(INSTANCE, &id);
        (seed.api_key("admin", ADMIN_API_KEY, Grant::role(Role::Manager)), id)
    }

    /// The custom role of those who rewrap.
    pub(crate) fn rewrap_only() -> Grant {
        Grant::actions(&["kms.secrets.readmetadata", "kms.secrets.rewrap"])
    }

    /// Starts a KMS; port 0: any that is free.
    pub(crate) fn start(seed: Seed, id: String, port: u16) -> Result<Self> {
        let config = Config {
            http: None,
            https: Some(SocketAddr::new(NODE.parse()?, port)),
            tls: Tls::SelfMade { dir: None, names: vec![NODE.into()] },
            // A test rotates more than once in an hour; the delay before enabling stays, as an owner meets it.
            rules: Rules { rotation_interval: 0, ..Rules::default() },
            ..Config::ephemeral(seed)
        };
        let kms = devkms::Server::start(config).context("start devkms")?;
        let root_key = Provider::KeyProtect(KeyProtect::at(&kms.https_url(), INSTANCE, &id));
        let credential = Credential::ApiKeyFile { path: "/nonexistent".into() };
        let ca = kms.ca_pem().map(|pem| CaSource::Pem { pem: pem.to_owned() });
        let provider = ProviderConfig { ca, ..ProviderConfig::new(root_key, credential) };
        let secret = SecretString::from(ADMIN_API_KEY.to_owned());
        let admin = kms::connect_admin(&provider, Some(secret), &kms::Options::default())?;
        Ok(Self { kms, id, admin, provider, runtime: tokio::runtime::Runtime::new()? })
    }

    #[allow(clippy::panic, reason = "this is how a test fails")]
    fn must<T>(&self, what: &str, call: impl Future<Output = kms::Result<T>>) -> T {
        self.runtime.block_on(call).unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    /// Makes a new version the current one.
    pub fn rotate(&self) {
        self.must("rotate", self.admin.rotate(&KeyRef(self.id.clone()), &CallCtx::default()));
    }

    /// Disables or enables it; time passes, as the KMS wants 30 s between the two.
    pub fn set_enabled(&self, enabled: bool) {
        self.advance(Duration::from_secs(31));
        let call = CallCtx::default();
        self.must("enable or disable", self.admin.set_enabled(&KeyRef(self.id.clone()), enabled, &call));
    }

    /// Moves the KMS's clock.
    #[allow(clippy::panic, reason = "this is how a test fails")]
    pub fn advance(&self, time: Duration) {
        let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        self.kms.advance(seconds).unwrap_or_else(|error| panic!("move the clock: {error}"));
    }

    /// The certificate authority that signed the KMS's certificate.
    pub fn authority(&self) -> &str {
        self.kms.ca_pem().unwrap_or_default()
    }

    /// Whether the KMS refuses to unwrap for the rewrap credential, asked here and now.
    pub fn rewrap_credential_is_refused_an_unwrap(&self) -> bool {
        matches!(self.unwrap_by(self.connect(REWRAP_API_KEY).as_ref()), Err(error) if error.is_refusal())
    }

    /// What the KMS says when this connection asks it to unwrap a key.
    pub(crate) fn unwrap_by(&self, connection: &dyn Kms) -> kms::Result<()> {
        let (context, call, key) = ([7; 32], CallCtx::default(), KeyRef(self.id.clone()));
        let (_, wrapped) = self.must("wrap", self.connect(ADMIN_API_KEY).generate(&key, &context, &call));
        self.runtime.block_on(connection.unwrap(&key, &wrapped, &context, &call)).map(drop)
    }

    /// How to reach it, with a credential of somebody's choice.
    pub(crate) fn reached_with(&self, credential: Credential) -> ProviderConfig {
        ProviderConfig { credential, ..self.provider.clone() }
    }

    fn connect(&self, api_key: &str) -> Arc<dyn Kms> {
        connect(&self.provider, api_key)
    }

    /// What the owner of the key can do with a file's header alone: ask the KMS for the file's DEK.
    pub fn dek(&self, header: &HeaderRegion) -> Result<Dek> {
        let (_, slot) = header.current()?;
        let key = slot.keys().first().context("find a wrapped key")?;
        let (origin, file) = (header.preamble().origin(), header.preamble().file_id());
        let wrapped = kms::Wrapped {
            blob: key.blob.clone(),
            version: Some(kms::KeyVersion(key.version.clone())),
            scheme: kms::ContextScheme::Aad,
        };
        let context = key.file_context(origin, file);
        let (call, root_key, data) =
            (CallCtx::default(), KeyRef(self.id.clone()), self.connect(DATA_API_KEY));
        let unwrapped =
            self.runtime.block_on(data.unwrap(&root_key, &wrapped, context.as_bytes(), &call))?.key;
        match &key.wrapping {
            Wrapping::Direct => Dek::from_slice(unwrapped.expose()).context("read the key"),
            Wrapping::Grouped(local) => {
                let group = GroupKey::from_slice(unwrapped.expose()).context("read the group's key")?;
                Ok(envelope::unwrap_dek(&group, origin, file, local)?)
            }
        }
    }

    /// Audit events of an action by an identity (`data`, `rewrap`, `admin`).
    pub fn audit(&self, action: &str, identity: &str) -> Vec<Event> {
        let by = |event: &Event| event.initiator.as_deref() == Some(identity);
        self.kms.audit().into_iter().filter(|event| event.action == action && by(event)).collect()
    }
}

/// A connection that remembers no refusal.
#[allow(clippy::panic, reason = "this is how a test fails")]
pub(crate) fn connect(provider: &ProviderConfig, secret: &str) -> Arc<dyn Kms> {
    let options = kms::Options { denial_window: Duration::ZERO, ..kms::Options::default() };
    kms::connect_with_secret(provider, SecretString::from(secret.to_owned()), &options)
        .unwrap_or_else(|error| panic!("connect: {error}"))
}
