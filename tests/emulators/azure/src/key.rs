//! A key and its versions, and how the vendor writes them. Invariant: a version's material never changes, and the last version
//! is the current one.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::clock::{DAY, Seconds};
use crate::failure::Failure;
use crate::material::Material;

/// How long a deleted key can be recovered.
const RETENTION_DAYS: Seconds = 90;

/// What may be done with a version, and when.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Attributes {
    pub(crate) enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) nbf: Option<Seconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exp: Option<Seconds>,
    pub(crate) created: Seconds,
    pub(crate) updated: Seconds,
}

impl Attributes {
    pub(crate) fn new(now: Seconds) -> Self {
        Self { enabled: true, nbf: None, exp: None, created: now, updated: now }
    }

    /// Takes over what a request names, and leaves the rest.
    pub(crate) fn change(&mut self, wanted: &Value, now: Seconds) {
        if let Some(enabled) = wanted["enabled"].as_bool() {
            self.enabled = enabled;
        }
        if let Some(nbf) = wanted["nbf"].as_i64() {
            self.nbf = Some(nbf);
        }
        if let Some(exp) = wanted["exp"].as_i64() {
            self.exp = Some(exp);
        }
        self.updated = now;
    }

    fn json(&self) -> Value {
        let mut value = serde_json::to_value(self).unwrap();
        value["recoveryLevel"] = "Recoverable+Purgeable".into();
        value["recoverableDays"] = RETENTION_DAYS.into();
        value
    }
}

/// A version.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Version {
    pub(crate) id: String,
    pub(crate) attributes: Attributes,
    pub(crate) material: Material,
    kty: String,
    key_ops: Vec<String>,
    pub(crate) tags: Map<String, Value>,
}

impl Version {
    pub(crate) fn new(kty: &str, key_ops: Vec<String>, material: Material, now: Seconds) -> Self {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let attributes = Attributes::new(now);
        Self { id, attributes, material, kty: kty.into(), key_ops, tags: Map::new() }
    }

    fn renewed(&self, now: Seconds) -> Self {
        let (ops, material) = (self.key_ops.clone(), self.material.renewed());
        Self { tags: self.tags.clone(), ..Self::new(&self.kty, ops, material, now) }
    }

    /// Outside its time a version still unwraps: nobody shall lose data by that.
    pub(crate) fn check(&self, operation: &str, now: Seconds) -> Result<(), Failure> {
        let refuse = |inner, what: &str| {
            Err(Failure::forbidden(inner, format!("Operation {operation} is not allowed on {what} key.")))
        };
        let Attributes { enabled, nbf, exp, .. } = self.attributes;
        if !enabled {
            return refuse("KeyDisabled", "a disabled");
        }
        if operation == "wrapKey" && nbf.is_some_and(|nbf| now < nbf) {
            return refuse("KeyNotYetValid", "a not yet valid");
        }
        if operation == "wrapKey" && exp.is_some_and(|exp| now >= exp) {
            return refuse("KeyExpired", "an expired");
        }
        if !self.key_ops.iter().any(|allowed| allowed == operation) {
            return refuse("KeyOperationForbidden", "this");
        }
        Ok(())
    }
}

/// A deletion that can be taken back.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Deleted {
    at: Seconds,
}

/// A key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) versions: Vec<Version>,
    pub(crate) deleted: Option<Deleted>,
    policy: Option<Value>,
}

impl Key {
    pub(crate) fn new(name: &str, version: Version) -> Self {
        Self { name: name.into(), versions: vec![version], deleted: None, policy: None }
    }

    pub(crate) fn current(&self) -> &Version {
        self.versions.last().unwrap()
    }

    pub(crate) fn version_mut(&mut self, id: Option<&str>) -> Option<&mut Version> {
        match id {
            Some(id) => self.versions.iter_mut().find(|version| version.id == id),
            None => self.versions.last_mut(),
        }
    }

    pub(crate) fn rotate(&mut self, now: Seconds) {
        let mut version = self.current().renewed(now);
        let expiry =
            self.policy.as_ref().and_then(|policy| days(policy["attributes"]["expiryTime"].as_str()?));
        version.attributes.exp = expiry.map(|days| now + days * DAY);
        self.versions.push(version);
    }

    pub(crate) fn delete(&mut self, now: Seconds) {
        self.deleted = Some(Deleted { at: now });
    }

    /// The rotation policy, which is there even where nobody set one.
    pub(crate) fn policy(&self, base: &str) -> Value {
        let notify = json!({"trigger": {"timeBeforeExpiry": "P30D"}, "action": {"type": "Notify"}});
        let mut policy =
            self.policy.clone().unwrap_or_else(|| json!({"lifetimeActions": [notify], "attributes": {}}));
        policy["id"] = format!("{base}/keys/{}/rotationpolicy", self.name).into();
        policy
    }

    pub(crate) fn set_policy(&mut self, wanted: &Value, now: Seconds) -> Result<(), Failure> {
        for action in wanted["lifetimeActions"].as_array().into_iter().flatten() {
            let after = action["trigger"].get("timeAfterCreate").map(|after| after.as_str().and_then(days));
            if after.is_some_and(|after| after.is_none_or(|days| days < 7)) {
                return Err(Failure::bad_parameter("The time after creation must be at least seven days."));
            }
        }
        let mut policy =
            json!({"lifetimeActions": wanted["lifetimeActions"], "attributes": wanted["attributes"]});
        if policy["attributes"].is_null() {
            policy["attributes"] = json!({});
        }
        policy["attributes"]["created"] = now.into();
        policy["attributes"]["updated"] = now.into();
        self.policy = Some(policy);
        Ok(())
    }

    pub(crate) fn bundle(&self, version: &Version, base: &str) -> Value {
        let kid = self.kid(version, base);
        let mut key = json!({"kid": kid, "kty": version.kty, "key_ops": version.key_ops});
        let members = version.material.public_members();
        key.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        json!({"key": key, "attributes": version.attributes.json(), "tags": version.tags})
    }

    pub(crate) fn item(&self, version: &Version, base: &str) -> Value {
        json!({"kid": self.kid(version, base), "attributes": version.attributes.json(), "tags": version.tags})
    }

    pub(crate) fn deleted_bundle(&self, deleted: Deleted, base: &str) -> Value {
        let mut bundle = self.bundle(self.current(), base);
        bundle["recoveryId"] = format!("{base}/deletedkeys/{}", self.name).into();
        bundle["deletedDate"] = deleted.at.into();
        bundle["scheduledPurgeDate"] = (deleted.at + RETENTION_DAYS * DAY).into();
        bundle
    }

    pub(crate) fn kid(&self, version: &Version, base: &str) -> String {
        format!("{base}/keys/{}/{}", self.name, version.id)
    }
}

/// The days of a duration that is written in days, months or years.
fn days(text: &str) -> Option<Seconds> {
    let text = text.strip_prefix('P')?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: Seconds = number.parse().ok()?;
    match unit {
        "D" => Some(number),
        "M" => Some(number * 30),
        "Y" => Some(number * 365),
        _ => None,
    }
}
