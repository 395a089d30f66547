//! The bench of Key Protect: `devkms`, in this process.
//!
//! Invariant: the clock of the emulator stands in the bench's hand; nothing waits for real time.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use contract::config::{Credential, Provider};
use devkms::{Config, Fault, FaultKind, Grant, Role, Seed, Server, StartError};
use kms::admin::KmsAdmin;
use kms::{
    CaSource, KeyRef, Kms, Op, Options, ProviderConfig, SecretString, Wrapped, connect, connect_admin,
    connect_with_secret,
};
use serde_json::{Value, json};

use crate::bench::{Bench, Caller, Trouble};
use crate::checks::CTX;
use crate::subjects::{KEY_PROTECT, Subject};

const INSTANCE: &str = "8cf0b1d4-0000-4000-8000-0c1d2e3f4a5b";
const KEY: &str = "11111111-1111-4111-8111-111111111111";
const OTHER: &str = "22222222-2222-4222-8222-222222222222";
const EXPIRING: &str = "33333333-3333-4333-8333-333333333333";
const MISSING: &str = "99999999-9999-4999-8999-999999999999";

/// Key Protect, as `devkms` plays it.
pub struct KeyProtect {
    server: Option<Server>,
    store: tempfile::TempDir,
}

fn seed() -> Seed {
    let tomorrow = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24);
    let mut seed = Seed::one_key(INSTANCE, KEY)
        .api_key("Data", &secret(Caller::Data), Grant::role(Role::Reader))
        .api_key(
            "Rewrap",
            &secret(Caller::Rewrap),
            Grant::actions(&["kms.secrets.readmetadata", "kms.secrets.rewrap"]),
        )
        .api_key("Nobody", &secret(Caller::Nobody), Grant::actions(&[]))
        .api_key("owner", "owner-key", Grant::role(Role::Manager));
    let keys = &mut seed.instances[0].keys;
    let mut other = keys[0].clone();
    other.id = OTHER.into();
    let mut expiring = keys[0].clone();
    expiring.id = EXPIRING.into();
    expiring.expiration_date = Some(tomorrow.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    keys.extend([other, expiring]);
    seed
}

fn secret(caller: Caller) -> String {
    format!("api-key-of-{caller:?}-that-nobody-may-see")
}

fn start(store: PathBuf) -> Result<Server, StartError> {
    Server::start(Config { store: Some(store), ..Config::ephemeral(seed()) })
}

impl KeyProtect {
    fn new() -> Self {
        let store = tempfile::tempdir().unwrap();
        Self { server: Some(start(store.path().into()).unwrap()), store }
    }

    fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    fn config(&self, path: &str) -> ProviderConfig {
        Self::config_at(&self.server().url(), path, None)
    }

    fn config_at(url: &str, path: &str, ca: Option<CaSource>) -> ProviderConfig {
        let provider = Provider::KeyProtect(contract::config::KeyProtect {
            endpoint: url.into(),
            iam_endpoint: url.into(),
            instance: INSTANCE.into(),
            root_key: KEY.into(),
            key_ring: None,
        });
        let credential = Credential::ApiKeyFile { path: path.into() };
        ProviderConfig { ca, ..ProviderConfig::new(provider, credential).at_loopback() }
    }
}

fn name(op: Op) -> &'static str {
    match op {
        Op::Describe => "metadata",
        Op::Generate | Op::Wrap => "wrap",
        Op::Authenticate => "token",
        other => other.as_str(),
    }
}

fn fault(trouble: Trouble) -> FaultKind {
    match trouble {
        Trouble::ServerError => FaultKind::Status { status: 500, code: None, retry_after: None },
        Trouble::Throttled { retry_after } => FaultKind::Status { status: 429, code: None, retry_after },
        Trouble::Reset => FaultKind::Reset { after: false },
        Trouble::ResetAfterwards => FaultKind::Reset { after: true },
        Trouble::Truncated => FaultKind::Truncate { bytes: 20 },
        Trouble::BadJson => FaultKind::BadJson,
        Trouble::Oversized => FaultKind::Oversized { bytes: 1 << 20 },
        Trouble::WrongType => FaultKind::Reply {
            status: 200,
            headers: [("content-type".to_owned(), "text/html".to_owned())].into(),
            body: "<html>a portal</html>".into(),
        },
        Trouble::Silence => FaultKind::Hang,
    }
}

#[async_trait]
impl Bench for KeyProtect {
    const SUBJECT: &'static Subject = &KEY_PROTECT;

    async fn start(_: bool) -> Option<Self> {
        Some(Self::new())
    }
    fn connect(&self, caller: Caller, options: &Options) -> Arc<dyn Kms> {
        connect_with_secret(&self.config("/not/read"), SecretString::from(secret(caller)), options).unwrap()
    }
    fn connect_at(&self, url: &str, ca: Option<CaSource>, options: &Options) -> Arc<dyn Kms> {
        let config = Self::config_at(url, "/not/read", ca);
        connect_with_secret(&config, SecretString::from(secret(Caller::Data)), options).unwrap()
    }
    fn connect_by_file(&self, path: &str, options: &Options) -> Arc<dyn Kms> {
        connect(&self.config(path), options).unwrap()
    }
    fn secret(&self, caller: Caller) -> String {
        secret(caller)
    }
    fn secrets(&self) -> Vec<String> {
        // The second is how every access token begins.
        vec![secret(Caller::Data), "eyJ".into()]
    }
    fn owner(&self) -> Arc<dyn KmsAdmin> {
        let secret = Some(SecretString::from("owner-key"));
        connect_admin(&self.config("/not/read"), secret, &Options::default()).unwrap()
    }
    fn owner_as(&self, caller: Caller) -> Arc<dyn KmsAdmin> {
        let secret = Some(SecretString::from(secret(caller)));
        connect_admin(&self.config("/not/read"), secret, &Options::default()).unwrap()
    }
    fn address(&self) -> SocketAddr {
        self.server().url().trim_start_matches("http://").parse().unwrap()
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
        // A file for each key.
        let keys = self.store.path().join("instances").join(INSTANCE).join("keys");
        std::fs::read_dir(keys).unwrap().count()
    }
    async fn unwrapped_by_vendor(&self, wrapped: &Wrapped) -> Vec<u8> {
        let (client, url) = (reqwest::Client::new(), self.server().url());
        let form = [("grant_type", "urn:ibm:params:oauth:grant-type:apikey"), ("apikey", "owner-key")];
        let login = client.post(format!("{url}/identity/token")).form(&form).send().await.unwrap();
        let token: Value = login.json().await.unwrap();
        let body = json!({
            "ciphertext": String::from_utf8(wrapped.blob.clone()).unwrap(),
            "aad": [URL_SAFE_NO_PAD.encode(CTX)],
        });
        let answer = client
            .post(format!("{url}/api/v2/keys/{KEY}/actions/unwrap"))
            .bearer_auth(token["access_token"].as_str().unwrap())
            .header("Bluemix-Instance", INSTANCE)
            .json(&body);
        let answer: Value = answer.send().await.unwrap().json().await.unwrap();
        STANDARD.decode(answer["plaintext"].as_str().unwrap()).unwrap()
    }
    async fn advance(&self, time: Duration) {
        self.server().advance(u32::try_from(time.as_secs()).unwrap()).unwrap();
    }
    fn requests(&self, op: Op) -> u64 {
        self.server().tally(name(op)).requests
    }
    fn reset_requests(&self) {
        self.server().reset_tallies();
    }
    async fn permit(&self, caller: Caller, permitted: bool) {
        let identity = format!("{caller:?}");
        let known = if permitted {
            self.server().restore_role(&identity)
        } else {
            self.server().revoke_role(&identity)
        };
        assert!(known);
    }
    async fn retire_old_versions(&self, _: bool) {
        unreachable!("declared absent");
    }
    async fn revoke_tokens(&self) {
        assert!(self.server().revoke_tokens(None) > 0);
    }
    fn trouble(&self, op: Op, trouble: Trouble, times: Option<u64>) {
        let fault = Fault::new(&[name(op)], fault(trouble));
        self.server().add_fault(Fault { count: times, ..fault });
    }
    fn heal(&self) {
        self.server().clear_faults();
    }
    async fn restart(&mut self) {
        drop(self.server.take());
        // The old one's threads end a moment later, and hold the store until then.
        let until = Instant::now() + Duration::from_secs(10);
        self.server = loop {
            match start(self.store.path().into()) {
                Ok(server) => break Some(server),
                Err(error) => assert!(Instant::now() < until, "{error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
    }
}
