//! What the vault does: one function of state and request. Invariant: permission first, then the key, then its state, as in the
//! real one; a request that fails changes nothing.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock::Seconds;
use crate::failure::Failure;
use crate::key::{Key, Version};
use crate::material::Material;
use crate::principal::{Application, Permission};
use crate::server::Product;
use crate::token::Tokens;

/// Versions on a page.
const PAGE: usize = 25;

/// All that a snapshot keeps.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Vault {
    pub(crate) keys: BTreeMap<String, Key>,
    pub(crate) tokens: Tokens,
    pub(crate) ahead_by: Seconds,
}

/// A request whose token was accepted.
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a [&'a str],
    pub(crate) query: &'a BTreeMap<String, String>,
    pub(crate) body: &'a Value,
    pub(crate) caller: &'a Application,
    pub(crate) product: Product,
    /// `https://HOST` as the caller wrote it.
    pub(crate) base: &'a str,
    pub(crate) now: Seconds,
}

type Answer = Result<(u16, Value), Failure>;

impl Request<'_> {
    fn may(&self, permission: Permission) -> Result<(), Failure> {
        if self.caller.permissions.contains(&permission) {
            return Ok(());
        }
        let (caller, action) = (&self.caller.client_id, permission.action());
        let message = format!(
            "Caller is not authorized to perform action on resource.\r\nIf role assignments, deny assignments or role definitions \
             were changed recently, please observe propagation time.\r\nCaller: appid={caller}\r\nAction: '{action}'\r\n\
             Assignment: (not found)\r\nDecisionReason: null\r\n"
        );
        Err(Failure::forbidden("ForbiddenByRbac", message))
    }

    fn text(&self, member: &str) -> Result<&str, Failure> {
        self.body[member]
            .as_str()
            .ok_or_else(|| Failure::bad_parameter(&format!("Property {member} is missing.")))
    }
}

/// The operation as the diagnostic log names it.
pub(crate) fn operation(method: &str, path: &[&str]) -> &'static str {
    match (method, path) {
        ("POST", ["keys", .., "wrapkey"]) => "KeyWrap",
        ("POST", ["keys", .., "unwrapkey"]) => "KeyUnwrap",
        ("POST", ["keys", _, "create"]) => "KeyCreate",
        ("POST", ["keys", _, "rotate"]) => "KeyRotate",
        ("GET", ["keys", _, "rotationpolicy"]) => "KeyRotationPolicyGet",
        ("PUT", ["keys", _, "rotationpolicy"]) => "KeyRotationPolicySet",
        ("GET", ["keys", _, "versions"]) => "KeyListVersions",
        ("GET", ["keys"]) => "KeyList",
        ("GET", ["keys", ..]) => "KeyGet",
        ("PATCH", _) => "KeyUpdate",
        ("DELETE", ["keys", ..]) => "KeyDelete",
        ("POST", ["deletedkeys", ..]) => "KeyRecover",
        ("DELETE", ["deletedkeys", ..]) => "KeyPurge",
        ("GET", ["deletedkeys", ..]) => "KeyGetDeleted",
        _ => "Unknown",
    }
}

impl Vault {
    /// Carries a request out.
    pub(crate) fn answer(&mut self, ask: &Request<'_>) -> Answer {
        match (ask.method, ask.path) {
            ("GET", ["keys"]) => self.list(ask),
            ("POST", ["keys", name, "create"]) => self.create(ask, name),
            ("POST", ["keys", name, "rotate"]) => self.rotate(ask, name),
            (_, ["keys", name, "rotationpolicy"]) => self.policy(ask, name),
            ("GET", ["keys", name, "versions"]) => self.versions(ask, name),
            ("POST", ["keys", name, operation]) => self.use_key(ask, name, None, operation),
            ("POST", ["keys", name, version, operation]) => self.use_key(ask, name, Some(version), operation),
            ("GET", ["keys", name]) => self.show(ask, name, None),
            ("GET", ["keys", name, version]) => self.show(ask, name, Some(version)),
            ("PATCH", ["keys", name]) => self.update(ask, name, None),
            ("PATCH", ["keys", name, version]) => self.update(ask, name, Some(version)),
            ("DELETE", ["keys", name]) => self.delete(ask, name),
            (_, ["deletedkeys", rest @ ..]) => self.deleted(ask, rest),
            _ => Err(Failure::no_route()),
        }
    }

    fn key(&mut self, name: &str) -> Result<&mut Key, Failure> {
        let key = self.keys.get_mut(&name.to_ascii_lowercase()).filter(|key| key.deleted.is_none());
        key.ok_or_else(|| Failure::key_not_found(name))
    }

    fn version(&mut self, name: &str, id: Option<&str>) -> Result<(&Key, &Version), Failure> {
        let key = &*self.key(name)?;
        let version = match id {
            Some(id) => key.versions.iter().find(|version| version.id == id),
            None => key.versions.last(),
        };
        let missing = || Failure::key_not_found(&format!("{name}/{}", id.unwrap_or_default()));
        Ok((key, version.ok_or_else(missing)?))
    }

    fn list(&self, ask: &Request<'_>) -> Answer {
        ask.may(Permission::Read)?;
        let live = self.keys.values().filter(|key| key.deleted.is_none());
        let item = |key: &Key| {
            let mut item = key.item(key.current(), ask.base);
            item["kid"] = format!("{}/keys/{}", ask.base, key.name).into();
            item
        };
        Ok((200, json!({"value": live.map(item).collect::<Vec<_>>(), "nextLink": null})))
    }

    fn create(&mut self, ask: &Request<'_>, name: &str) -> Answer {
        ask.may(Permission::Create)?;
        let kty = ask.text("kty")?;
        let material = match (kty, ask.product) {
            ("RSA" | "RSA-HSM", _) => Material::rsa(ask.body["key_size"].as_u64().unwrap_or(2048)),
            ("oct-HSM", Product::ManagedHsm) => {
                (ask.body["key_size"].as_u64().unwrap_or(256) == 256).then(Material::aes)
            }
            _ => None,
        };
        let material =
            material.ok_or_else(|| Failure::bad_parameter("The key type or its size is not supported."))?;
        let all = || ["wrapKey", "unwrapKey"].map(String::from).to_vec();
        let named = ask.body["key_ops"].as_array();
        let ops =
            named.map_or_else(all, |ops| ops.iter().filter_map(|op| op.as_str().map(String::from)).collect());
        let mut version = Version::new(kty, ops, material, ask.now);
        version.attributes.change(&ask.body["attributes"], ask.now);
        version.tags = ask.body["tags"].as_object().cloned().unwrap_or_default();
        let lower = name.to_ascii_lowercase();
        match self.keys.get_mut(&lower) {
            Some(key) if key.deleted.is_some() => {
                let message = format!(
                    "Key {name} is currently in a deleted but recoverable state, and its name cannot be reused; in this state, \
                     the key can only be recovered or purged."
                );
                return Err(Failure::conflict("ObjectIsDeletedButRecoverable", message));
            }
            // A name that is taken gets another version.
            Some(key) => key.versions.push(version),
            None => {
                self.keys.insert(lower, Key::new(name, version));
            }
        }
        let (key, version) = self.version(name, None)?;
        Ok((200, key.bundle(version, ask.base)))
    }

    fn rotate(&mut self, ask: &Request<'_>, name: &str) -> Answer {
        ask.may(Permission::Rotate)?;
        let key = self.key(name)?;
        key.rotate(ask.now);
        Ok((200, key.bundle(key.current(), ask.base)))
    }

    fn policy(&mut self, ask: &Request<'_>, name: &str) -> Answer {
        let set = ask.method == "PUT";
        ask.may(if set { Permission::SetPolicy } else { Permission::ReadPolicy })?;
        let key = self.key(name)?;
        if set {
            key.set_policy(ask.body, ask.now)?;
        }
        Ok((200, key.policy(ask.base)))
    }

    fn show(&mut self, ask: &Request<'_>, name: &str, version: Option<&str>) -> Answer {
        ask.may(Permission::Read)?;
        let (key, version) = self.version(name, version)?;
        Ok((200, key.bundle(version, ask.base)))
    }

    /// In no order that means anything: by id.
    fn versions(&mut self, ask: &Request<'_>, name: &str) -> Answer {
        ask.may(Permission::Read)?;
        let key = self.key(name)?;
        let number = |name: &str| ask.query.get(name).and_then(|text| text.parse().ok());
        let size: usize = number("maxresults").unwrap_or(PAGE).clamp(1, PAGE);
        let skip: usize = number("$skiptoken").unwrap_or_default();
        let mut sorted: Vec<&Version> = key.versions.iter().collect();
        sorted.sort_by(|a, b| a.id.cmp(&b.id));
        let page: Vec<Value> =
            sorted.iter().skip(skip).take(size).map(|version| key.item(version, ask.base)).collect();
        let next = (skip + size < sorted.len()).then(|| {
            let api = &ask.query["api-version"];
            let (base, name, next) = (ask.base, &key.name, skip + size);
            format!("{base}/keys/{name}/versions?api-version={api}&$skiptoken={next}&maxresults={size}")
        });
        Ok((200, json!({"value": page, "nextLink": next})))
    }

    fn use_key(&mut self, ask: &Request<'_>, name: &str, version: Option<&str>, operation: &str) -> Answer {
        let (permission, operation) = match operation.to_ascii_lowercase().as_str() {
            "wrapkey" => (Permission::Wrap, "wrapKey"),
            "unwrapkey" => (Permission::Unwrap, "unwrapKey"),
            _ => return Err(Failure::no_route()),
        };
        ask.may(permission)?;
        let (key, version) = self.version(name, version)?;
        version.check(operation, ask.now)?;
        let (algorithm, value) = (ask.text("alg")?, ask.text("value")?);
        let value = URL_SAFE_NO_PAD
            .decode(value)
            .map_err(|_| Failure::bad_parameter("Property value is not base64url."))?;
        let result = if permission == Permission::Wrap {
            version.material.wrap(algorithm, &value)
        } else {
            version.material.unwrap(algorithm, &value)
        };
        let result = result.ok_or_else(|| Failure::bad_parameter("The parameter is incorrect."))?;
        Ok((200, json!({"kid": key.kid(version, ask.base), "value": URL_SAFE_NO_PAD.encode(result)})))
    }

    fn update(&mut self, ask: &Request<'_>, name: &str, id: Option<&str>) -> Answer {
        ask.may(Permission::Update)?;
        let missing = || Failure::key_not_found(&format!("{name}/{}", id.unwrap_or_default()));
        let version = self.key(name)?.version_mut(id).ok_or_else(missing)?;
        version.attributes.change(&ask.body["attributes"], ask.now);
        if let Some(tags) = ask.body["tags"].as_object() {
            version.tags.clone_from(tags);
        }
        let (key, version) = self.version(name, id)?;
        Ok((200, key.bundle(version, ask.base)))
    }

    fn delete(&mut self, ask: &Request<'_>, name: &str) -> Answer {
        ask.may(Permission::Delete)?;
        self.key(name)?.delete(ask.now);
        self.show_deleted(ask, name)
    }

    fn show_deleted(&self, ask: &Request<'_>, name: &str) -> Answer {
        let key = self.keys.get(&name.to_ascii_lowercase());
        let deleted = key.and_then(|key| key.deleted.map(|deleted| key.deleted_bundle(deleted, ask.base)));
        deleted.map(|bundle| (200, bundle)).ok_or_else(|| Failure::deleted_key_not_found(name))
    }

    fn deleted(&mut self, ask: &Request<'_>, rest: &[&str]) -> Answer {
        match (ask.method, rest) {
            ("GET", [name]) => {
                ask.may(Permission::Read)?;
                self.show_deleted(ask, name)
            }
            ("POST", [name, "recover"]) => {
                ask.may(Permission::Recover)?;
                self.show_deleted(ask, name)?;
                self.keys.get_mut(&name.to_ascii_lowercase()).unwrap().deleted = None;
                let (key, version) = self.version(name, None)?;
                Ok((200, key.bundle(version, ask.base)))
            }
            ("DELETE", [name]) => {
                ask.may(Permission::Purge)?;
                self.show_deleted(ask, name)?;
                self.keys.remove(&name.to_ascii_lowercase());
                Ok((204, Value::Null))
            }
            _ => Err(Failure::no_route()),
        }
    }
}
