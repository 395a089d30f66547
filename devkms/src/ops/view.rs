//! Keys as clients see them. Invariant: a root key's material is in no view.

use serde_json::{Map, Value, json};

use super::body::encode;
use crate::access::token::ACCOUNT;
use crate::clock::{Seconds, rfc3339};
use crate::config::Rules;
use crate::keys::{Key, KeyState, PolicyStamp};

/// The content type of keys.
pub const KEY: &str = "application/vnd.ibm.kms.key+json";
/// The content type of policies.
pub const POLICY: &str = "application/vnd.ibm.kms.policy+json";

/// A collection of resources.
pub fn collection(kind: &str, resources: Vec<Value>) -> Value {
    let metadata = json!({"collectionType": kind, "collectionTotal": resources.len()});
    json!({"metadata": metadata, "resources": Value::Array(resources)})
}

/// A page of resources; with the total where it was asked for.
pub fn page(kind: &str, resources: Vec<Value>, total: Option<usize>) -> Value {
    let mut out = collection(kind, resources);
    if let Some(total) = total {
        out["metadata"]["totalCount"] = json!(total);
    }
    out
}

/// The CRN of something in an instance.
pub fn crn(instance: &str, kind: &str, id: &str) -> String {
    format!("crn:v1:bluemix:public:kms:us-south:a/{ACCOUNT}:{instance}:{kind}:{id}")
}

/// Everything about a key but its material.
pub fn key(instance: &str, key: &Key, now: Seconds, rules: Rules) -> Map<String, Value> {
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            out.insert(name.to_owned(), value);
        }
    };
    put("type", json!(KEY));
    put("id", json!(key.id));
    put("name", json!(key.name));
    put("description", json!(key.description));
    put("aliases", json!(key.aliases.iter().map(|a| &a.name).collect::<Vec<_>>()));
    put("tags", json!(key.tags));
    put("state", json!(key.state(now) as u8));
    put("extractable", json!(key.extractable));
    put("crn", json!(crn(instance, "key", &key.id)));
    put("imported", json!(key.imported));
    put("keyRingID", json!(key.ring));
    put("creationDate", json!(rfc3339(key.created.at)));
    put("createdBy", json!(key.created.by));
    put("lastUpdateDate", json!(rfc3339(key.updated)));
    put("lastRotateDate", json!(key.rotated.map(rfc3339)));
    put("expirationDate", json!(key.expires.map(rfc3339)));
    put("algorithmType", json!("AES"));
    put("nonactiveStateReason", nonactive_reason(key, now));
    if let Some(version) = key.current() {
        let bits = (version.material.expose().len() * 8).to_string();
        put("algorithmMetadata", json!({"bitLength": bits, "mode": "CBC_PAD"}));
        put("algorithmBitSize", json!(version.material.expose().len() * 8));
        put("algorithmMode", json!("CBC_PAD"));
        if !key.extractable {
            put("keyVersion", json!({"id": version.id, "creationDate": rfc3339(version.created)}));
        }
    }
    put("dualAuthDelete", dual_auth(key, now));
    put("rotation", rotation(key));
    put("deleted", json!(key.deleted.is_some()));
    if let Some(deletion) = &key.deleted {
        put("deletionDate", json!(rfc3339(deletion.at)));
        put("deletedBy", json!(deletion.by));
        put("purgeAllowed", json!(deletion.at + rules.purge_delay <= now));
        put("purgeAllowedFrom", json!(rfc3339(deletion.at + rules.purge_delay)));
        put("purgeScheduledOn", json!(rfc3339(deletion.at + rules.purge_after)));
        put("restoreAllowed", json!(now < deletion.at + rules.restore_window));
        put("restoreExpirationDate", json!(rfc3339(deletion.at + rules.restore_window)));
    }
    out
}

/// The key and, for a standard key that is active, its payload.
pub fn key_with_payload(instance: &str, which: &Key, now: Seconds, rules: Rules) -> Value {
    let mut out = key(instance, which, now, rules);
    if which.extractable
        && which.state(now) == KeyState::Active
        && let Some(version) = which.current()
    {
        out.insert("payload".to_owned(), json!(encode(version.material.expose())));
    }
    Value::Object(out)
}

/// Who made and changed a policy.
pub fn stamp(stamp: &PolicyStamp) -> Map<String, Value> {
    let fields = [
        ("creationDate", rfc3339(stamp.created.at)),
        ("createdBy", stamp.created.by.clone()),
        ("updatedBy", stamp.updated.by.clone()),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect()
}

fn nonactive_reason(key: &Key, now: Seconds) -> Value {
    match key.state(now) {
        KeyState::Active => Value::Null,
        KeyState::Suspended => json!(1),
        KeyState::Deactivated => json!(2),
        KeyState::Destroyed => json!(3),
    }
}

fn dual_auth(key: &Key, now: Seconds) -> Value {
    if key.dual_auth.is_none() {
        return Value::Null;
    }
    let mut out = json!({"enabled": key.needs_dual_auth()});
    if key.needs_dual_auth() {
        let scheduled = key.deletion_authorized(now);
        out["keySetForDeletion"] = json!(scheduled.is_some());
        if let Some(scheduled) = scheduled {
            out["authExpiration"] = json!(rfc3339(scheduled.expires()));
        }
    }
    out
}

fn rotation(key: &Key) -> Value {
    key.rotation.as_ref().map_or(Value::Null, |r| json!({"enabled": r.enabled, "interval_month": r.months}))
}
