//! The conformance suite against `devkms`, which IBM's own client passes too.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use devkms::{Config, Fault, FaultKind, Grant, Role, Seed, Server, StartError};
use secrecy::SecretString;

use super::fake::INSTANCE;
use crate::admin::KmsAdmin;
use crate::call::Op;
use crate::config::{CredentialSource, KeyProtectConfig, ProviderConfig};
use crate::conformance::{Backend, Caller, Trouble, conformance_suite};
use crate::connect::{Options, connect, connect_admin, connect_with_secret};
use crate::key::KeyRef;
use crate::service::Kms;

const KEY: &str = "11111111-1111-4111-8111-111111111111";
const OTHER: &str = "22222222-2222-4222-8222-222222222222";
const EXPIRING: &str = "33333333-3333-4333-8333-333333333333";
const MISSING: &str = "99999999-9999-4999-8999-999999999999";

struct DevKms {
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

impl DevKms {
    fn new() -> Self {
        let store = tempfile::tempdir().unwrap();
        Self { server: Some(start(store.path().into()).unwrap()), store }
    }

    fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    fn config(&self, path: &str) -> ProviderConfig {
        ProviderConfig::KeyProtect(KeyProtectConfig {
            endpoint: self.server().url(),
            iam_endpoint: self.server().url(),
            instance: INSTANCE.into(),
            root_key: KEY.into(),
            key_ring: None,
            credential: CredentialSource::ApiKeyFile { path: path.into() },
            ca: None,
            allow_loopback_http: true,
        })
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

impl Backend for DevKms {
    fn connect(&self, caller: Caller, options: &Options) -> Arc<dyn Kms> {
        connect_with_secret(&self.config("/not/read"), SecretString::from(secret(caller)), options).unwrap()
    }
    fn connect_by_file(&self, path: &str, options: &Options) -> Arc<dyn Kms> {
        connect(&self.config(path), options).unwrap()
    }
    fn secret(&self, caller: Caller) -> String {
        secret(caller)
    }
    fn owner(&self) -> Arc<dyn KmsAdmin> {
        let secret = Some(SecretString::from("owner-key"));
        connect_admin(&self.config("/not/read"), secret, &Options::default()).unwrap()
    }
    fn owner_as(&self, caller: Caller) -> Arc<dyn KmsAdmin> {
        let secret = Some(SecretString::from(secret(caller)));
        connect_admin(&self.config("/not/read"), secret, &Options::default()).unwrap()
    }
    fn key(&self) -> KeyRef {
        KeyRef(KEY.into())
    }
    fn other_key(&self) -> KeyRef {
        KeyRef(OTHER.into())
    }
    fn expiring_key(&self) -> Option<KeyRef> {
        Some(KeyRef(EXPIRING.into()))
    }
    fn missing_key(&self) -> KeyRef {
        KeyRef(MISSING.into())
    }
    fn count_keys(&self) -> usize {
        // A file for each key.
        let keys = self.store.path().join("instances").join(INSTANCE).join("keys");
        std::fs::read_dir(keys).unwrap().count()
    }
    fn advance(&self, time: Duration) {
        self.server().advance(u32::try_from(time.as_secs()).unwrap()).unwrap();
    }
    fn requests(&self, op: Op) -> u64 {
        self.server().tally(name(op)).requests
    }
    fn reset_requests(&self) {
        self.server().reset_tallies();
    }
    fn permit(&self, caller: Caller, permitted: bool) {
        let identity = format!("{caller:?}");
        let known = if permitted {
            self.server().restore_role(&identity)
        } else {
            self.server().revoke_role(&identity)
        };
        assert!(known);
    }
    fn revoke_tokens(&self) {
        assert!(self.server().revoke_tokens(None) > 0);
    }
    fn trouble(&self, op: Op, trouble: Trouble, times: Option<u64>) {
        let fault = Fault::new(&[name(op)], fault(trouble));
        self.server().add_fault(Fault { count: times, ..fault });
    }
    fn heal(&self) {
        self.server().clear_faults();
    }
    fn restart(&mut self) {
        drop(self.server.take());
        // The old one's threads end a moment later, and hold the store until then.
        let until = Instant::now() + Duration::from_secs(10);
        self.server = loop {
            match start(self.store.path().into()) {
                Ok(server) => break Some(server),
                Err(error) => assert!(Instant::now() < until, "{error:?}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        };
    }
}

conformance_suite!(DevKms::new());
