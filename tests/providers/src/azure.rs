//! The bench of Azure Key Vault: an emulator in this process, which the vendor's own client passes too, and a relay in front.
//!
//! Invariant: the clock of the emulator stands in the bench's hand; nothing waits for real time.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use contract::config::{AzureKeyVault, Credential, Provider};
use emulator_azure::{Application, Config, Emulator, Material, Permission, Product, SeedKey};
use kms::admin::KmsAdmin;
use kms::{
    CaSource, KeyRef, Kms, Op, Options, ProviderConfig, SecretString, Wrapped, connect, connect_admin,
    connect_with_secret,
};
use serde_json::Value;

use crate::bench::{Bench, Caller, Trouble};
use crate::relay::{Dialect, Relay, request_line};
use crate::subjects::{AZURE, Subject};

/// The tenant.
pub const TENANT: &str = "72f988bf-0000-4000-8000-0c1d2e3f4a5b";
/// The root key.
pub const KEY: &str = "storage";
/// Who may do everything.
pub const OWNER: &str = "owner";
const OTHER: &str = "other";
const EXPIRING: &str = "expiring";
const MISSING: &str = "missing";

/// Azure Key Vault, or Managed HSM.
pub struct Azure {
    /// The service.
    pub emulator: Emulator,
    product: Product,
    applications: Vec<Application>,
    relay: Relay,
}

/// The application that a caller is.
pub fn client_id(caller: Caller) -> &'static str {
    match caller {
        Caller::Data => "data",
        Caller::Rewrap => "rewrap",
        Caller::Nobody => "nobody",
    }
}

fn secret(client_id: &str) -> String {
    format!("client-secret-of-{client_id}-that-nobody-may-see")
}

/// What people are told to give: no more than the role of service encryption.
fn permissions(caller: Caller) -> &'static [Permission] {
    match caller {
        Caller::Data | Caller::Rewrap => &Permission::SERVICE_ENCRYPTION,
        Caller::Nobody => &[],
    }
}

fn applications() -> Vec<Application> {
    let mut all = vec![Application::new(OWNER, &secret(OWNER), &Permission::ALL)];
    for caller in [Caller::Data, Caller::Rewrap, Caller::Nobody] {
        let id = client_id(caller);
        all.push(Application::new(id, &secret(id), permissions(caller)));
    }
    all
}

fn keys(product: Product) -> Vec<SeedKey> {
    // Generated once for all checks: they take a while.
    static RSA: OnceLock<[Material; 3]> = OnceLock::new();
    let rsa = || RSA.get_or_init(|| [0; 3].map(|_| Material::rsa(2048).unwrap())).clone();
    let (kty, material) = match product {
        Product::KeyVault => ("RSA-HSM", rsa()),
        Product::ManagedHsm => ("oct-HSM", [0; 3].map(|_| Material::aes())),
    };
    let seeds = [(KEY, None), (OTHER, None), (EXPIRING, Some(24 * 3600))].into_iter().zip(material);
    let seed = |((name, expires_in), material): ((&str, _), _)| SeedKey {
        name: name.into(),
        kty,
        material,
        expires_in,
    };
    seeds.map(seed).collect()
}

fn op(head: &str) -> Option<Op> {
    let (method, target) = request_line(head)?.split_once(" /")?;
    let parts: Vec<&str> = target.split('?').next()?.split('/').collect();
    match (method, parts.as_slice()) {
        ("POST", [_, "oauth2", "v2.0", "token"]) => Some(Op::Authenticate),
        ("GET", ["keys", _]) => Some(Op::Describe),
        ("POST", ["keys", _, _, "wrapkey"]) => Some(Op::Wrap),
        ("POST", ["keys", _, _, "unwrapkey"]) => Some(Op::Unwrap),
        _ => None,
    }
}

const DIALECT: Dialect = Dialect {
    op,
    token: "authorization:",
    error: r#"{"error":{"code":"InternalServerError","message":"An error occurred."}}"#,
    throttled: (
        "429 Too Many Requests",
        r#"{"error":{"code":"Throttled","message":"Request was not processed because too many requests were received."}}"#,
    ),
};

impl Azure {
    /// A service of this kind.
    pub async fn of(product: Product) -> Self {
        Self::with(product, applications(), keys(product), None).await
    }

    /// A vault that knows one more application.
    pub async fn knowing(application: Application) -> Self {
        let applications = [applications(), vec![application]].concat();
        Self::with(Product::KeyVault, applications, keys(Product::KeyVault), None).await
    }

    async fn with(
        product: Product,
        applications: Vec<Application>,
        keys: Vec<SeedKey>,
        snapshot: Option<Value>,
    ) -> Self {
        let emulator = Emulator::start(Config {
            tenant: TENANT.into(),
            product,
            // At a loopback address nobody can tell which of the two it is.
            any_audience: true,
            applications: applications.clone(),
            keys,
            snapshot,
        });
        let relay = Relay::start(emulator.address(), DIALECT).await;
        Self { emulator, product, applications, relay }
    }

    /// A configuration that leads here.
    pub fn config(&self, credential: Credential) -> ProviderConfig {
        config_at(&format!("http://{}", self.relay.at), None, credential)
    }

    /// A connection of the owner.
    pub fn owner_with(&self, client_id: &str) -> Arc<dyn KmsAdmin> {
        let config = self.config(client_secret(client_id, "/not/read"));
        let secret = Some(SecretString::from(secret(client_id)));
        connect_admin(&config, secret, &Options::default()).unwrap()
    }
}

fn config_at(url: &str, ca: Option<CaSource>, credential: Credential) -> ProviderConfig {
    let root_key = AzureKeyVault { vault: url.into(), login_endpoint: url.into(), key: KEY.into() };
    ProviderConfig { ca, ..ProviderConfig::new(Provider::Azure(root_key), credential).at_loopback() }
}

fn client_secret(client_id: &str, path: &str) -> Credential {
    Credential::AzureClientSecretFile {
        tenant_id: TENANT.into(),
        client_id: client_id.into(),
        path: path.into(),
    }
}

#[async_trait]
impl Bench for Azure {
    const SUBJECT: &'static Subject = &AZURE;

    async fn start(_: bool) -> Option<Self> {
        Some(Self::of(Product::KeyVault).await)
    }
    fn connect(&self, caller: Caller, options: &Options) -> Arc<dyn Kms> {
        let id = client_id(caller);
        let config = self.config(client_secret(id, "/not/read"));
        connect_with_secret(&config, SecretString::from(secret(id)), options).unwrap()
    }
    fn connect_at(&self, url: &str, ca: Option<CaSource>, options: &Options) -> Arc<dyn Kms> {
        let id = client_id(Caller::Data);
        let config = config_at(url, ca, client_secret(id, "/not/read"));
        connect_with_secret(&config, SecretString::from(secret(id)), options).unwrap()
    }
    fn connect_by_file(&self, path: &str, options: &Options) -> Arc<dyn Kms> {
        // Which application it is stands in the configuration: a secret of another one is a wrong one.
        connect(&self.config(client_secret(client_id(Caller::Data), path)), options).unwrap()
    }
    fn secret(&self, caller: Caller) -> String {
        secret(client_id(caller))
    }
    fn secrets(&self) -> Vec<String> {
        let seen = self.relay.tokens().into_iter().map(|header| header.replace("Bearer ", ""));
        let seen: Vec<String> = seen.collect();
        assert!(!seen.is_empty(), "no token passed");
        [vec![secret(client_id(Caller::Data))], seen].concat()
    }
    fn owner(&self) -> Arc<dyn KmsAdmin> {
        self.owner_with(OWNER)
    }
    fn owner_as(&self, caller: Caller) -> Arc<dyn KmsAdmin> {
        self.owner_with(client_id(caller))
    }
    fn address(&self) -> SocketAddr {
        self.relay.at
    }
    fn key(&self) -> KeyRef {
        KeyRef(KEY.into())
    }
    fn other_key(&self) -> KeyRef {
        KeyRef(OTHER.into())
    }
    fn expiring_key(&self) -> KeyRef {
        KeyRef(EXPIRING.into())
    }
    fn missing_key(&self) -> KeyRef {
        KeyRef(MISSING.into())
    }
    async fn count_keys(&self) -> usize {
        self.emulator.count_keys()
    }
    async fn unwrapped_by_vendor(&self, wrapped: &Wrapped) -> Vec<u8> {
        // Two bytes of ours and the version, then what the vendor gave.
        let (head, sealed) = wrapped.blob.split_at(18);
        let version: String = head[2..].iter().map(|byte| format!("{byte:02x}")).collect();
        self.emulator.unwrapped(KEY, &version, "RSA-OAEP-256", sealed).unwrap()
    }
    async fn advance(&self, time: Duration) {
        self.emulator.advance(time);
    }
    fn requests(&self, op: Op) -> u64 {
        self.relay.requests(op)
    }
    fn reset_requests(&self) {
        self.relay.reset();
    }
    async fn permit(&self, caller: Caller, permitted: bool) {
        let given = if permitted { permissions(caller) } else { &[] };
        self.emulator.permit(client_id(caller), given);
    }
    async fn retire_old_versions(&self, retired: bool) {
        self.emulator.enable_old_versions(KEY, !retired);
    }
    async fn revoke_tokens(&self) {
        self.emulator.revoke_tokens();
    }
    fn trouble(&self, op: Op, trouble: Trouble, times: Option<u64>) {
        self.relay.trouble(op, trouble, times);
    }
    fn heal(&self) {
        self.relay.heal();
    }
    async fn restart(&mut self) {
        let snapshot = self.emulator.snapshot();
        *self = Self::with(self.product, self.applications.clone(), Vec::new(), Some(snapshot)).await;
    }
}
