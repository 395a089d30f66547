//! Names of resources: `projects/P/locations/L/keyRings/R/cryptoKeys/K`, and a version below it.
//!
//! Invariant: a name that passes stands in an address without being escaped, and cannot leave its place there.

use crate::config::ConfigError;
use crate::key::{KeyRef, KeyVersion};

const COLLECTIONS: [&str; 4] = ["projects", "locations", "keyRings", "cryptoKeys"];
const VERSIONS: &str = "cryptoKeyVersions";

/// Checks the name of a key.
pub(super) fn check(field: &'static str, name: &str) -> Result<(), ConfigError> {
    let parts: Vec<&str> = name.split('/').collect();
    let fits = parts.len() == 2 * COLLECTIONS.len()
        && parts
            .chunks(2)
            .zip(COLLECTIONS)
            .all(|(pair, collection)| pair[0] == collection && is_id(collection, pair[1]));
    if fits { Ok(()) } else { Err(ConfigError::Field { field }) }
}

/// Checks the id of a key within its ring.
pub(super) fn check_id(field: &'static str, id: &str) -> Result<(), ConfigError> {
    if is_id("cryptoKeys", id) { Ok(()) } else { Err(ConfigError::Field { field }) }
}

/// A project of an own domain is `example.com:name`.
fn is_id(collection: &str, id: &str) -> bool {
    let of_project = |b: u8| collection == "projects" && (b == b'.' || b == b':');
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || of_project(b);
    (1..=128).contains(&id.len()) && id.bytes().all(allowed) && !id.starts_with('.')
}

/// The ring of a key.
pub(super) fn ring(key: &str) -> Option<&str> {
    key.rsplit_once("/cryptoKeys/").map(|(ring, _)| ring)
}

/// The name of a version.
pub(super) fn of_version(key: &KeyRef, version: &KeyVersion) -> String {
    format!("{}/{VERSIONS}/{}", key.0, version.0)
}

/// The version that `name` names, if it is one of `key`.
pub(super) fn version(name: &str, key: &KeyRef) -> Option<KeyVersion> {
    let (of, id) = name.rsplit_once(&format!("/{VERSIONS}/"))?;
    let version = KeyVersion(id.to_owned());
    (same_key(of, &key.0) && is_version(&version)).then_some(version)
}

/// It is a number as the service counts versions, so that it can stand in a name.
pub(super) fn is_version(version: &KeyVersion) -> bool {
    version.0.parse::<u64>().is_ok_and(|number| number > 0 && number.to_string() == version.0)
}

/// The same key: the service may say the id of a project where its number was given.
pub(super) fn same_key(said: &str, asked: &str) -> bool {
    let split = |name: &str| {
        let (project, rest) = name.strip_prefix("projects/")?.split_once('/')?;
        Some((project.to_owned(), rest.to_owned()))
    };
    let (Some((said_project, said)), Some((project, asked))) = (split(said), split(asked)) else {
        return false;
    };
    said == asked && (said_project == project || project.bytes().all(|b| b.is_ascii_digit()))
}

/// What may stand in a message.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(char::is_ascii_graphic).take(32).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const KEY: &str = "projects/p/locations/europe-west3/keyRings/r/cryptoKeys/k";

    #[test]
    fn a_name_is_a_key_and_nothing_else() {
        for right in [KEY, "projects/example.com:p-1/locations/global/keyRings/R_1/cryptoKeys/k-1"] {
            assert_eq!(check("key", right), Ok(()), "{right}");
        }
        for wrong in [
            "",
            "k",
            "projects/p/locations/l/keyRings/r",
            "projects/p/locations/l/keyRings/r/cryptoKeys/",
            "projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1",
            "projects/p/locations/l/keyRings/r/cryptoKeys/..",
            "projects/p/locations/l/keyRings/r/cryptoKeys/k:decrypt",
            "projects/p/locations/l/keyRings/r/cryptoKeys/k?x=1",
            "projects/../locations/l/keyRings/r/cryptoKeys/k",
            "projects/p/locations/l/rings/r/cryptoKeys/k",
            "/projects/p/locations/l/keyRings/r/cryptoKeys/k",
        ] {
            assert_eq!(check("key", wrong), Err(ConfigError::Field { field: "key" }), "{wrong}");
        }
    }

    #[test]
    fn a_version_belongs_to_its_key() {
        let key = KeyRef(KEY.into());
        let named = |id: &str| version(&format!("{KEY}/cryptoKeyVersions/{id}"), &key);
        assert_eq!(named("12"), Some(KeyVersion("12".into())));
        for wrong in ["", "0", "01", "+1", "x", "1/2"] {
            assert_eq!(named(wrong), None, "{wrong}");
        }
        let other = "projects/p/locations/europe-west3/keyRings/r/cryptoKeys/k2/cryptoKeyVersions/1";
        assert_eq!(version(other, &key), None);
        let by_number = KeyRef(KEY.replace("projects/p/", "projects/4711/"));
        assert_eq!(version(&format!("{KEY}/cryptoKeyVersions/1"), &by_number), Some(KeyVersion("1".into())));
        let other_project = KeyRef(KEY.replace("projects/p/", "projects/q/"));
        assert_eq!(version(&format!("{KEY}/cryptoKeyVersions/1"), &other_project), None);
    }
}
