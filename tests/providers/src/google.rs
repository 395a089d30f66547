//! The bench of Google Cloud KMS: the emulator in this process, and a relay in front.
//!
//! Invariant: the callers have the roles that people are told to give, and the key files lead to another place than the service, so
//! that a provider which followed them would find nothing.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use contract::config::{Credential, GoogleKms, Provider};
use emulator_google::{ADMIN, AccountKey, ENCRYPTER_DECRYPTER, Server, VIEWER, World};
use kms::admin::KmsAdmin;
use kms::{
    CaSource, KeyRef, Kms, Op, Options, ProviderConfig, SecretString, Wrapped, connect, connect_admin,
    connect_with_secret,
};

use crate::bench::{Bench, Caller, Trouble};
use crate::checks::CTX;
use crate::relay::{Dialect, Relay, request_line};
use crate::subjects::{GOOGLE, Subject};

const RING: &str = "projects/example/locations/europe-west3/keyRings/storage";

/// Cloud KMS, as the emulator plays it.
pub struct Google {
    /// The emulator.
    pub server: Server,
    relay: Relay,
}

/// The name of a key in the bench's ring.
pub fn key(id: &str) -> String {
    format!("{RING}/cryptoKeys/{id}")
}

/// The service account of a role.
pub fn email(role: &str) -> String {
    format!("{role}@example.iam.gserviceaccount.com")
}

fn role(caller: Caller) -> &'static str {
    match caller {
        Caller::Data => "data",
        Caller::Rewrap => "rewrap",
        Caller::Nobody => "nobody",
    }
}

const ROLES: [&str; 4] = ["data", "rewrap", "nobody", "owner"];

/// The key of a service account; made once, because that takes long.
pub fn account_key(role: &str) -> &'static AccountKey {
    static KEYS: OnceLock<[AccountKey; 4]> = OnceLock::new();
    let keys = KEYS.get_or_init(|| ROLES.map(|_| AccountKey::new()));
    &keys[ROLES.iter().position(|known| *known == role).unwrap()]
}

fn file(role: &str) -> String {
    account_key(role).file(&email(role), "https://elsewhere.example/token")
}

/// What `docs/tasks/use-a-key-in-google-cloud.md` gives to whom. The right to use a key is one on the key, so that nobody may use
/// a key that is not there; the right to read metadata is one on the ring, so that it shows that it is not.
fn grant(world: &mut World, role: &str) {
    let member = format!("serviceAccount:{}", email(role));
    match role {
        "data" | "rewrap" => {
            world.grant(RING, VIEWER, &member);
            for id in ["storage", "other"] {
                world.grant(&key(id), ENCRYPTER_DECRYPTER, &member);
            }
        }
        "owner" => world.grant(RING, ADMIN, &member),
        _ => {}
    }
}

fn world() -> World {
    let mut world = World::default().with_key(&key("storage")).with_key(&key("other"));
    for role in ROLES {
        world = world.with_account(&email(role), account_key(role));
        grant(&mut world, role);
    }
    world
}

fn op(head: &str) -> Option<Op> {
    let (method, path) = request_line(head)?.split_once(' ')?;
    let path = path.split('?').next()?;
    let last = path.rsplit('/').next()?;
    match (method, last.split_once(':').map(|(_, verb)| verb)) {
        ("POST", None) if last == "token" => Some(Op::Authenticate),
        ("POST", Some("generateAccessToken")) => Some(Op::Authenticate),
        ("POST", Some("encrypt")) => Some(Op::Wrap),
        ("POST", Some("decrypt")) => Some(Op::Unwrap),
        ("GET", None) if last == "cryptoKeyVersions" => Some(Op::Versions),
        ("GET", None) if !path.contains("cryptoKeyVersions") => Some(Op::Describe),
        _ => None,
    }
}

const DIALECT: Dialect = Dialect {
    op,
    token: "authorization:",
    error: r#"{"error":{"code":500,"message":"Internal error encountered.","status":"INTERNAL"}}"#,
    throttled: (
        "429 Too Many Requests",
        r#"{"error":{"code":429,"message":"Quota exceeded.","status":"RESOURCE_EXHAUSTED"}}"#,
    ),
};

impl Google {
    async fn on(server: Server) -> Self {
        let relay = Relay::start(server.at, DIALECT).await;
        Self { server, relay }
    }

    /// A configuration that leads here.
    pub fn config(&self, credential: Credential) -> ProviderConfig {
        Self::config_at(&format!("http://{}", self.relay.at), None, credential)
    }

    fn config_at(url: &str, ca: Option<CaSource>, credential: Credential) -> ProviderConfig {
        let provider = Provider::Google(GoogleKms {
            endpoint: Some(url.into()),
            token_endpoint: Some(format!("{url}/token")),
            sts_endpoint: Some(url.into()),
            iam_endpoint: Some(url.into()),
            key: key("storage"),
        });
        ProviderConfig { ca, ..ProviderConfig::new(provider, credential).at_loopback() }
    }

    fn by_key(path: &str) -> Credential {
        Credential::GoogleKeyFile { path: path.into() }
    }

    /// The owner's operations with the key of a role.
    fn admin(&self, role: &str) -> Arc<dyn KmsAdmin> {
        let config = self.config(Self::by_key("/not/read"));
        connect_admin(&config, Some(SecretString::from(file(role))), &Options::default()).unwrap()
    }
}

#[async_trait]
impl Bench for Google {
    const SUBJECT: &'static Subject = &GOOGLE;

    async fn start(_: bool) -> Option<Self> {
        Some(Self::on(Server::start(world()).await).await)
    }
    fn connect(&self, caller: Caller, options: &Options) -> Arc<dyn Kms> {
        let config = self.config(Self::by_key("/not/read"));
        connect_with_secret(&config, SecretString::from(file(role(caller))), options).unwrap()
    }
    fn connect_at(&self, url: &str, ca: Option<CaSource>, options: &Options) -> Arc<dyn Kms> {
        let config = Self::config_at(url, ca, Self::by_key("/not/read"));
        connect_with_secret(&config, SecretString::from(file("data")), options).unwrap()
    }
    fn connect_by_file(&self, path: &str, options: &Options) -> Arc<dyn Kms> {
        connect(&self.config(Self::by_key(path)), options).unwrap()
    }
    fn secret(&self, caller: Caller) -> String {
        file(role(caller))
    }
    fn secrets(&self) -> Vec<String> {
        let seen = self.relay.tokens();
        assert!(!seen.is_empty(), "no token passed");
        let tokens = seen.iter().map(|header| header.trim_start_matches("Bearer ").to_owned());
        let lines = account_key("data").pem.lines().filter(|line| line.len() == 64).map(str::to_owned);
        // The last is how every assertion begins.
        tokens.chain(lines).chain(["eyJ".to_owned()]).collect()
    }
    fn owner(&self) -> Arc<dyn KmsAdmin> {
        self.admin("owner")
    }
    fn owner_as(&self, caller: Caller) -> Arc<dyn KmsAdmin> {
        self.admin(role(caller))
    }
    fn address(&self) -> SocketAddr {
        self.relay.at
    }
    fn key(&self) -> KeyRef {
        KeyRef(key("storage"))
    }
    fn other_key(&self) -> KeyRef {
        KeyRef(key("other"))
    }
    fn expiring_key(&self) -> KeyRef {
        unreachable!("declared absent")
    }
    fn missing_key(&self) -> KeyRef {
        KeyRef(key("missing"))
    }
    async fn count_keys(&self) -> usize {
        self.server.world().count_keys()
    }
    async fn unwrapped_by_vendor(&self, wrapped: &Wrapped) -> Vec<u8> {
        self.server.world().opened(&key("storage"), &wrapped.blob, &CTX).unwrap()
    }
    async fn advance(&self, time: Duration) {
        self.server.world().advance(u32::try_from(time.as_secs()).unwrap());
    }
    fn requests(&self, op: Op) -> u64 {
        self.relay.requests(op)
    }
    fn reset_requests(&self) {
        self.relay.reset();
    }
    async fn permit(&self, caller: Caller, permitted: bool) {
        let mut world = self.server.world();
        if permitted {
            grant(&mut world, role(caller));
        } else {
            assert!(world.revoke(&format!("serviceAccount:{}", email(role(caller)))) > 0);
        }
    }
    async fn retire_old_versions(&self, retired: bool) {
        self.server.world().retire_old_versions(&key("storage"), retired);
    }
    async fn revoke_tokens(&self) {
        self.server.world().revoke_tokens();
    }
    fn trouble(&self, op: Op, trouble: Trouble, times: Option<u64>) {
        self.relay.trouble(op, trouble, times);
    }
    fn heal(&self) {
        self.relay.heal();
    }
    async fn restart(&mut self) {
        let left = self.server.snapshot();
        *self = Self::on(Server::restore(&left).await).await;
    }
}
