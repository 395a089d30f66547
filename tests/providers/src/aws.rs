//! The bench of AWS KMS: the emulator, in this process, with a relay in front.
//!
//! Invariant: the callers have the policies of `examples/aws`, which are the ones that people are told to use, and the emulator
//! evaluates them. Its clock stands in the bench's hand.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use contract::config::{AwsKms, Credential, Provider};
use emulator_aws::{ACCOUNT, Policy, REGION, Role, Server, User, World};
use kms::admin::KmsAdmin;
use kms::{
    CaSource, KeyRef, Kms, Op, Options, ProviderConfig, SecretString, Wrapped, connect, connect_admin,
    connect_with_secret,
};

use crate::bench::{Bench, Caller, Trouble};
use crate::checks::CTX;
use crate::issuer::Issuer;
use crate::relay::{Dialect, Relay};
use crate::subjects::{AWS, Subject};

/// The root key, as the policies of the examples name it.
pub const KEY: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";
/// Another one.
pub const OTHER: &str = "22222222-2222-4222-8222-222222222222";
const MISSING: &str = "99999999-9999-4999-8999-999999999999";
const ROLES: [&str; 4] = ["data", "rewrap", "nobody", "owner"];

/// Whom the trust policy of the examples trusts.
const ISSUER: &str = "https://oidc.cluster.example";
const AUDIENCE: &str = "sts.amazonaws.com";
const SUBJECT: &str = "system:serviceaccount:shop:default";

/// All that the owner of a key does in the checks; the example `admin.json` is what the operator needs of it.
const OWNER: &str =
    r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "kms:*", "Resource": "*"}]}"#;

/// AWS KMS, as the emulator plays it.
pub struct Aws {
    /// The emulator.
    pub server: Server,
    relay: Relay,
}

fn role(caller: Caller) -> &'static str {
    match caller {
        Caller::Data => "data",
        Caller::Rewrap => "rewrap",
        Caller::Nobody => "nobody",
    }
}

/// A document of the examples.
pub fn example(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../examples/aws/{name}.json"));
    std::fs::read_to_string(file).unwrap()
}

/// The policies of a role or user, for the keys of a check.
pub fn policies(role: &str) -> Vec<Policy> {
    match role {
        "nobody" => vec![],
        "owner" => vec![Policy::parse(OWNER).unwrap()],
        _ => {
            let text = example(role);
            assert!(text.contains(KEY));
            let of = |key: &str| Policy::parse(&text.replace(KEY, key)).unwrap();
            [KEY, OTHER, MISSING].into_iter().map(of).collect()
        }
    }
}

/// The secret access key of a user.
pub fn user_secret(role: &str) -> String {
    format!("secret-access-key-of-{role}-that-nobody-may-see")
}

/// The id of it.
pub fn access_key(role: &str) -> String {
    format!("AKIA{}", role.to_uppercase())
}

/// The ARN of a role.
pub fn role_arn(role: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:role/{role}")
}

/// A shared credentials file of a user.
pub fn keys_file(role: &str) -> String {
    let (id, secret) = (access_key(role), user_secret(role));
    format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n")
}

/// The issuer of this process, whose keys cost time to make.
fn issuer() -> &'static Issuer {
    static ISSUER: OnceLock<Issuer> = OnceLock::new();
    ISSUER.get_or_init(|| Issuer::new("k1"))
}

/// A service account token for the hours of a check.
pub fn token(audience: &str, subject: &str) -> String {
    issuer().sign("k1", ISSUER, audience, subject, 60 * 60 * 24 * 30)
}

/// The token that the trust policy trusts.
pub fn trusted_token() -> String {
    token(AUDIENCE, SUBJECT)
}

fn world() -> World {
    let trust = Policy::parse(&example("trust")).unwrap();
    let seeded = World::new().key(KEY).key(OTHER).issuer(ISSUER, issuer().jwks.clone());
    ROLES.into_iter().fold(seeded, |world, name| {
        let (role, trust) = (name.to_owned(), trust.clone());
        world.role(Role { name: role.clone(), trust, policies: policies(name) }).user(User {
            name: role,
            access_key: access_key(name),
            secret: user_secret(name),
            policies: policies(name),
        })
    })
}

fn op(head: &str) -> Option<Op> {
    let target = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("x-amz-target").then_some(value)
    });
    match target.map(|target| target.trim().trim_start_matches("TrentService.")) {
        None => Some(Op::Authenticate),
        Some("DescribeKey") => Some(Op::Describe),
        Some("GenerateDataKey") => Some(Op::Generate),
        Some("Encrypt") => Some(Op::Wrap),
        Some("Decrypt") => Some(Op::Unwrap),
        Some("ReEncrypt") => Some(Op::Rewrap),
        Some(_) => None,
    }
}

const DIALECT: Dialect = Dialect {
    op,
    token: "x-amz-security-token:",
    error: r#"{"__type":"KMSInternalException","message":""}"#,
    throttled: ("400 Bad Request", r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#),
};

fn web_identity(role: &str) -> Credential {
    Credential::AwsWebIdentity { role_arn: role_arn(role), token_path: "/not/read".into() }
}

impl Aws {
    /// A configuration that leads here.
    pub fn config(&self, credential: Credential) -> ProviderConfig {
        Self::config_at(&format!("http://{}", self.relay.at), None, credential)
    }

    fn config_at(url: &str, ca: Option<CaSource>, credential: Credential) -> ProviderConfig {
        let provider = Provider::Aws(AwsKms {
            region: REGION.into(),
            endpoint: Some(url.into()),
            sts_endpoint: Some(url.into()),
            key: KEY.into(),
        });
        ProviderConfig { ca, ..ProviderConfig::new(provider, credential).at_loopback() }
    }
}

#[async_trait]
impl Bench for Aws {
    const SUBJECT: &'static Subject = &AWS;

    async fn start(_: bool) -> Option<Self> {
        let server = Server::start(world()).await.unwrap();
        let relay = Relay::start(server.at, DIALECT).await;
        Some(Self { server, relay })
    }
    fn connect(&self, caller: Caller, options: &Options) -> Arc<dyn Kms> {
        let config = self.config(web_identity(role(caller)));
        connect_with_secret(&config, SecretString::from(trusted_token()), options).unwrap()
    }
    fn connect_at(&self, url: &str, ca: Option<CaSource>, options: &Options) -> Arc<dyn Kms> {
        let there = Self::config_at(url, ca, web_identity("data"));
        connect_with_secret(&there, SecretString::from(trusted_token()), options).unwrap()
    }
    fn connect_by_file(&self, path: &str, options: &Options) -> Arc<dyn Kms> {
        connect(&self.config(Credential::AwsKeysFile { path: path.into() }), options).unwrap()
    }
    fn secret(&self, caller: Caller) -> String {
        keys_file(role(caller))
    }
    fn secrets(&self) -> Vec<String> {
        let given = self.server.world().session_secrets();
        assert!(!given.is_empty(), "no session was had");
        // The second is how every service account token begins.
        [given, vec![user_secret("data"), "eyJ".into()]].concat()
    }
    fn owner(&self) -> Arc<dyn KmsAdmin> {
        let secret = Some(SecretString::from(trusted_token()));
        connect_admin(&self.config(web_identity("owner")), secret, &Options::default()).unwrap()
    }
    fn owner_as(&self, caller: Caller) -> Arc<dyn KmsAdmin> {
        let secret = Some(SecretString::from(trusted_token()));
        connect_admin(&self.config(web_identity(role(caller))), secret, &Options::default()).unwrap()
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
        unreachable!("declared absent")
    }
    fn missing_key(&self) -> KeyRef {
        KeyRef(MISSING.into())
    }
    async fn count_keys(&self) -> usize {
        self.server.world().keys().count()
    }
    async fn unwrapped_by_vendor(&self, wrapped: &Wrapped) -> Vec<u8> {
        let context = [("cofferdam-context".to_owned(), URL_SAFE_NO_PAD.encode(CTX))].into();
        self.server.world().opened(&wrapped.blob, &context).unwrap()
    }
    async fn advance(&self, time: Duration) {
        self.server.world().advance(u64::try_from(time.as_millis()).unwrap());
    }
    fn requests(&self, op: Op) -> u64 {
        self.relay.requests(op)
    }
    fn reset_requests(&self) {
        self.relay.reset();
    }
    async fn permit(&self, caller: Caller, permitted: bool) {
        let role = role(caller);
        let held = if permitted { policies(role) } else { vec![] };
        self.server.world().set_policies(role, &held);
    }
    async fn retire_old_versions(&self, _: bool) {
        unreachable!("declared absent");
    }
    async fn revoke_tokens(&self) {
        for role in ROLES {
            self.server.world().revoke_sessions(role);
        }
    }
    fn trouble(&self, op: Op, trouble: Trouble, times: Option<u64>) {
        self.relay.trouble(op, trouble, times);
    }
    fn heal(&self) {
        self.relay.heal();
    }
    async fn restart(&mut self) {
        self.server.restart().await.unwrap();
    }
}
