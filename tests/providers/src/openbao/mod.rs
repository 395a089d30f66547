//! The bench of Transit: a real OpenBao server, with a namespace for each check and a relay in front.
//!
//! Invariant: the callers have the policies of `examples/openbao`, which are the ones that people are told to use.

mod server;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use contract::config::{Credential, Provider, Transit};
use kms::admin::KmsAdmin;
use kms::{
    CaSource, KeyRef, Kms, Op, Options, ProviderConfig, SecretString, Wrapped, connect, connect_admin,
    connect_with_secret,
};
use reqwest::Method;
use serde_json::json;

use crate::bench::{Bench, Caller, Trouble};
use crate::checks::CTX;
use crate::relay::{Dialect, Relay, request_line};
use crate::subjects::{OPENBAO, Subject};

pub use server::Server;

/// The root key, as the policies of the examples name it.
pub const KEY: &str = "storage";
const OTHER: &str = "other";
const MISSING: &str = "missing";
const ROLES: [&str; 4] = ["data", "rewrap", "nobody", "owner"];

/// All that the owner of the engine does in the checks; the example `admin.hcl` is what the operator needs of it.
const OWNER: &str =
    r#"path "transit/keys/*" { capabilities = ["create", "read", "update", "delete", "list"] }"#;

/// An empty policy is none.
const NOTHING: &str = r#"path "nothing" { capabilities = ["deny"] }"#;

/// Transit of an OpenBao server.
pub struct OpenBao {
    /// The server.
    pub server: Arc<Server>,
    /// Its namespace for this check.
    pub namespace: String,
    relay: Relay,
    tokens: Vec<(Caller, String)>,
}

fn role(caller: Caller) -> &'static str {
    match caller {
        Caller::Data => "data",
        Caller::Rewrap => "rewrap",
        Caller::Nobody => "nobody",
    }
}

fn secret_id(role: &str) -> String {
    format!("secret-id-of-{role}-that-nobody-may-see")
}

/// A policy of the examples, for the keys of a check.
fn policy(role: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../examples/openbao/{role}.hcl"));
    match role {
        "nobody" => NOTHING.into(),
        "owner" => OWNER.into(),
        _ => {
            let text = std::fs::read_to_string(file).unwrap();
            let of = |key: &str| text.replace(&format!("/{KEY}"), &format!("/{key}"));
            [text.clone(), of(OTHER), of(MISSING)].join("\n")
        }
    }
}

fn op(head: &str) -> Option<Op> {
    let (method, path) = request_line(head)?.split_once(" /v1/")?;
    let parts: Vec<&str> = path.split('/').collect();
    match (method, parts.as_slice()) {
        (_, ["auth", ..]) => Some(Op::Authenticate),
        ("GET", ["transit", "keys", _]) => Some(Op::Describe),
        ("POST", ["transit", "datakey", ..]) => Some(Op::Generate),
        ("POST", ["transit", "encrypt", _]) => Some(Op::Wrap),
        ("POST", ["transit", "decrypt", _]) => Some(Op::Unwrap),
        ("POST", ["transit", "rewrap", _]) => Some(Op::Rewrap),
        _ => None,
    }
}

const DIALECT: Dialect = Dialect {
    op,
    token: "x-vault-token:",
    error: r#"{"errors":["internal error"]}"#,
    throttled: ("429 Wait", r#"{"errors":["internal error"]}"#),
};

impl OpenBao {
    /// A namespace with engine, keys, policies and roles.
    pub async fn on(server: Arc<Server>) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let namespace = format!("check-{}", COUNT.fetch_add(1, Ordering::SeqCst));
        server.done(Method::POST, "", &format!("sys/namespaces/{namespace}"), None).await;
        let relay = Relay::start(server.at, DIALECT).await;
        let mut bench = Self { server, namespace, relay, tokens: Vec::new() };
        bench.write("sys/mounts/transit", json!({"type": "transit"})).await;
        bench.write("sys/auth/approle", json!({"type": "approle"})).await;
        for key in [KEY, OTHER] {
            bench.write(&format!("transit/keys/{key}"), json!({"derived": true})).await;
            bench.write(&format!("transit/keys/{key}/config"), json!({"deletion_allowed": true})).await;
        }
        for role in ROLES {
            bench.set_policy(role, &policy(role)).await;
            let at = format!("auth/approle/role/{role}");
            bench.write(&at, json!({"token_policies": role, "token_ttl": "1h"})).await;
            bench.write(&format!("{at}/role-id"), json!({"role_id": role})).await;
            bench.write(&format!("{at}/custom-secret-id"), json!({"secret_id": secret_id(role)})).await;
        }
        for caller in [Caller::Data, Caller::Rewrap, Caller::Nobody] {
            let token = bench.token(role(caller), "1h", true).await;
            bench.tokens.push((caller, token));
        }
        bench
    }

    /// Writes something as the one who may do everything.
    pub async fn write(&self, path: &str, body: serde_json::Value) -> serde_json::Value {
        self.server.done(Method::POST, &self.namespace, path, Some(body)).await
    }

    /// Replaces a policy.
    pub async fn set_policy(&self, name: &str, text: &str) {
        self.write(&format!("sys/policies/acl/{name}"), json!({"policy": text})).await;
    }

    /// A new token of a policy.
    pub async fn token(&self, policy: &str, ttl: &str, renewable: bool) -> String {
        let body = json!({"policies": [policy], "ttl": ttl, "renewable": renewable, "no_parent": true});
        let made = self.write("auth/token/create", body).await;
        made["auth"]["client_token"].as_str().unwrap().into()
    }

    /// A configuration that leads here.
    pub fn config(&self, credential: Credential) -> ProviderConfig {
        self.config_at(&format!("http://{}", self.relay.at), None, credential)
    }

    fn config_at(&self, url: &str, ca: Option<CaSource>, credential: Credential) -> ProviderConfig {
        let provider = Provider::Transit(Transit {
            endpoint: url.into(),
            namespace: Some(self.namespace.clone()),
            mount: "transit".into(),
            key: KEY.into(),
        });
        ProviderConfig { ca, ..ProviderConfig::new(provider, credential).at_loopback() }
    }

    /// The token that passed last.
    pub fn last_token(&self) -> String {
        self.relay.tokens().pop().unwrap_or_default()
    }

    fn app_role(&self, role: &str) -> ProviderConfig {
        self.config(app_role(role))
    }
}

fn app_role(role: &str) -> Credential {
    Credential::AppRole { mount: "approle".into(), role_id: role.into(), secret_id_path: "/not/read".into() }
}

#[async_trait]
impl Bench for OpenBao {
    const SUBJECT: &'static Subject = &OPENBAO;

    async fn start(alone: bool) -> Option<Self> {
        let server = if alone { Server::start().await.map(Arc::new) } else { Server::shared().await };
        Some(Self::on(server?).await)
    }
    fn connect(&self, caller: Caller, options: &Options) -> Arc<dyn Kms> {
        let role = role(caller);
        connect_with_secret(&self.app_role(role), SecretString::from(secret_id(role)), options).unwrap()
    }
    fn connect_at(&self, url: &str, ca: Option<CaSource>, options: &Options) -> Arc<dyn Kms> {
        let there = self.config_at(url, ca, app_role("data"));
        connect_with_secret(&there, SecretString::from(secret_id("data")), options).unwrap()
    }
    fn connect_by_file(&self, path: &str, options: &Options) -> Arc<dyn Kms> {
        let config = self.config(Credential::TokenFile { path: path.into() });
        connect(&config, options).unwrap()
    }
    fn secret(&self, caller: Caller) -> String {
        self.tokens.iter().find(|(of, _)| *of == caller).unwrap().1.clone()
    }
    fn secrets(&self) -> Vec<String> {
        let seen = self.relay.tokens();
        assert!(!seen.is_empty(), "no token passed");
        [vec![secret_id("data")], seen].concat()
    }
    fn owner(&self) -> Arc<dyn KmsAdmin> {
        let secret = Some(SecretString::from(secret_id("owner")));
        connect_admin(&self.app_role("owner"), secret, &Options::default()).unwrap()
    }
    fn owner_as(&self, caller: Caller) -> Arc<dyn KmsAdmin> {
        let role = role(caller);
        let secret = Some(SecretString::from(secret_id(role)));
        connect_admin(&self.app_role(role), secret, &Options::default()).unwrap()
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
        let listed = self.server.done(Method::GET, &self.namespace, "transit/keys?list=true", None).await;
        listed["data"]["keys"].as_array().unwrap().len()
    }
    async fn unwrapped_by_vendor(&self, wrapped: &Wrapped) -> Vec<u8> {
        let blob = String::from_utf8(wrapped.blob.clone()).unwrap();
        let body = json!({"ciphertext": blob, "context": STANDARD.encode(CTX)});
        let opened = self.write(&format!("transit/decrypt/{KEY}"), body).await;
        STANDARD.decode(opened["data"]["plaintext"].as_str().unwrap()).unwrap()
    }
    async fn advance(&self, _: Duration) {
        // No rule of Transit is about time.
    }
    fn requests(&self, op: Op) -> u64 {
        self.relay.requests(op)
    }
    fn reset_requests(&self) {
        self.relay.reset();
    }
    async fn permit(&self, caller: Caller, permitted: bool) {
        let role = role(caller);
        let text = if permitted { policy(role) } else { NOTHING.into() };
        self.set_policy(role, &text).await;
    }
    async fn retire_old_versions(&self, retired: bool) {
        let key = format!("transit/keys/{KEY}");
        let known = self.server.done(Method::GET, &self.namespace, &key, None).await;
        let oldest = if retired { known["data"]["latest_version"].as_u64().unwrap() } else { 1 };
        self.write(&format!("{key}/config"), json!({"min_decryption_version": oldest})).await;
    }
    async fn revoke_tokens(&self) {
        let all = "sys/leases/revoke-prefix/auth/approle/login";
        self.server.done(Method::PUT, &self.namespace, all, Some(json!({"sync": true}))).await;
    }
    fn trouble(&self, op: Op, trouble: Trouble, times: Option<u64>) {
        self.relay.trouble(op, trouble, times);
    }
    fn heal(&self) {
        self.relay.heal();
    }
    async fn restart(&mut self) {
        Arc::get_mut(&mut self.server).expect("a server of its own").restart().await;
        // Namespaces come a moment after the server itself.
        let login = json!({"role_id": "data", "secret_id": secret_id("data")});
        let path = "auth/approle/login";
        self.server
            .until("its namespace serves", || {
                self.server.ask(Method::POST, &self.namespace, path, Some(login.clone()))
            })
            .await;
    }
}
