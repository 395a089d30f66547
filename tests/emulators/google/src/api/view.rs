//! Keys and versions as the API shows them.
//!
//! Invariant: what is false, zero or empty is left out, as the JSON form of protocol buffers has it.

use serde_json::{Value, json};

use crate::clock::rfc3339;
use crate::keys::{Key, State, Version};

/// A version.
pub fn version(key: &Key, version: &Version) -> Value {
    let mut shown = json!({
        "name": key.version_name(version.id),
        "state": version.state.as_str(),
        "protectionLevel": "SOFTWARE",
        "algorithm": "GOOGLE_SYMMETRIC_ENCRYPTION",
        "createTime": rfc3339(version.created_at),
        "generateTime": rfc3339(version.created_at),
    });
    if let Some(at) = version.destroy_at {
        shown["destroyTime"] = rfc3339(at).into();
    }
    if let Some(at) = version.destroyed_at {
        shown["destroyEventTime"] = rfc3339(at).into();
    }
    shown
}

/// A key.
pub fn key(key: &Key) -> Value {
    let mut shown = json!({
        "name": key.name,
        "purpose": "ENCRYPT_DECRYPT",
        "createTime": rfc3339(key.created_at),
        "versionTemplate": {"protectionLevel": "SOFTWARE", "algorithm": "GOOGLE_SYMMETRIC_ENCRYPTION"},
        "destroyScheduledDuration": "2592000s",
    });
    if let Some(primary) = key.primary.and_then(|id| key.version(id).ok()) {
        shown["primary"] = version(key, primary);
    }
    if let Some(period) = key.rotation {
        shown["rotationPeriod"] = format!("{period}s").into();
    }
    if let Some(at) = key.next_rotation {
        shown["nextRotationTime"] = rfc3339(at).into();
    }
    shown
}

/// The same with numbers for words.
pub fn number(value: &mut Value) {
    match value {
        Value::Array(all) => all.iter_mut().for_each(number),
        Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), value.as_str()) {
                    ("state", Some(word)) => *value = state_number(word).into(),
                    ("purpose" | "protectionLevel" | "algorithm", Some(_)) => *value = 1.into(),
                    _ => number(value),
                }
            }
        }
        _ => {}
    }
}

const NUMBERED: [(u64, State); 4] =
    [(1, State::Enabled), (2, State::Disabled), (3, State::Destroyed), (4, State::DestroyScheduled)];

fn state_number(word: &str) -> u64 {
    NUMBERED.iter().find(|(_, state)| state.as_str() == word).map_or(0, |(number, _)| *number)
}

/// A state by its word or its number.
pub fn state(word: &super::body::Word) -> Option<State> {
    use super::body::Word;
    let found = NUMBERED.iter().find(|(number, state)| match word {
        Word::Text(text) => state.as_str() == text,
        Word::Number(given) => given == number,
    });
    found.map(|(_, state)| *state)
}
