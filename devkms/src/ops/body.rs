//! Request bodies. Invariant: strict as the service is: one resource, no unknown field, base64 in its one canonical form.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::error::{ApiError, Reason};

/// Text that is wiped when dropped.
#[derive(Default)]
pub struct SecretText(Zeroizing<String>);

impl std::ops::Deref for SecretText {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

/// `metadata` of a collection.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    #[serde(rename = "collectionType")]
    _collection_type: String,
    collection_total: u64,
}

/// A collection: metadata and resources.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collection<T> {
    metadata: Metadata,
    resources: Vec<T>,
}

/// A body that must be there.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    if body.is_empty() {
        return Err(Reason::NoBody.into());
    }
    serde_json::from_slice(body).map_err(|_| Reason::BadBody.into())
}

/// A body that may be absent.
pub fn parse_or_default<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, ApiError> {
    if body.is_empty() { Ok(T::default()) } else { parse(body) }
}

/// The resources of a collection whose count is right; at least one.
pub fn resources<T: DeserializeOwned>(body: &[u8]) -> Result<Vec<T>, ApiError> {
    let collection: Collection<T> = parse(body)?;
    if collection.metadata.collection_total != collection.resources.len() as u64 {
        return Err(Reason::CollectionTotal.into());
    }
    if collection.resources.is_empty() {
        return Err(Reason::BadBody.into());
    }
    Ok(collection.resources)
}

/// The resource of a collection that holds exactly one.
pub fn one_resource<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let mut resources = resources(body)?;
    match (resources.pop(), resources.is_empty()) {
        (Some(one), true) => Ok(one),
        _ => Err(Reason::BadBody.into()),
    }
}

/// Standard base64 with padding; the field is named in the refusal.
pub fn base64(field: &'static str, text: &str) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    STANDARD.decode(text).map(Zeroizing::new).map_err(|_| ApiError::field(field))
}

/// Bytes for the wire.
pub fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// At most this long is each authenticated string.
const AAD_LENGTH: usize = 255;

/// The caller's authenticated strings.
pub fn check_aad(aad: &[String]) -> Result<(), ApiError> {
    if aad.iter().all(|part| part.chars().count() <= AAD_LENGTH) {
        Ok(())
    } else {
        Err(ApiError::field("aad"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn code(result: Result<impl Sized, ApiError>) -> &'static str {
        result.err().map_or("OK", |e| e.code())
    }

    #[test]
    fn a_collection_must_be_complete_and_hold_one_resource() {
        let body = |total: u32, list: &str| {
            format!(r#"{{"metadata":{{"collectionType":"x","collectionTotal":{total}}},"resources":{list}}}"#)
        };
        assert_eq!(one_resource::<u8>(body(1, "[7]").as_bytes()).unwrap(), 7);
        assert_eq!(code(one_resource::<u8>(body(2, "[7,8]").as_bytes())), "BAD_BODY_ERR");
        assert_eq!(code(one_resource::<u8>(body(2, "[7]").as_bytes())), "COLLECTION_TOTAL_MISMATCH_ERR");
        assert_eq!(code(one_resource::<u8>(br#"{"metadata":{},"resources":[7]}"#)), "BAD_BODY_ERR");
        assert_eq!(code(one_resource::<u8>(b"")), "NO_BODY_ERR");
    }

    #[test]
    fn only_canonical_base64_is_taken() {
        assert_eq!(base64("plaintext", "AAE=").unwrap().as_slice(), [0, 1]);
        for wrong in ["AAE", "AAF=", "AA E=", "AAE=\n", "_-8="] {
            assert_eq!(code(base64("plaintext", wrong)), "INVALID_FIELD_ERR", "{wrong}");
        }
    }
}
