//! Bodies of requests: the JSON form of protocol buffers, read as leniently as the service does and no more.
//!
//! Invariant: a field that the message does not have is an error, in either spelling of the others.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::status::Status;

/// Reads a message; nothing at all is an empty one.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Status> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body)
        .map_err(|error| Status::invalid(format!("Invalid JSON payload received. {error}")))
}

/// Bytes, as base64 in any of its alphabets, padded or not.
#[derive(Debug, Default)]
pub struct Base64(pub Vec<u8>);

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let text = text.trim_end_matches('=').replace('-', "+").replace('_', "/");
        STANDARD_NO_PAD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// A number of 64 bits, as text or as a number.
#[derive(Debug, PartialEq, Eq)]
pub struct Int64(pub i64);

impl<'de> Deserialize<'de> for Int64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Text(String),
            Number(i64),
        }
        match Either::deserialize(deserializer)? {
            Either::Text(text) => text.parse().map(Self).map_err(serde::de::Error::custom),
            Either::Number(number) => Ok(Self(number)),
        }
    }
}

/// A word of an enumeration, or its number.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Word {
    /// Spelled out.
    Text(String),
    /// Counted.
    Number(u64),
}

/// A time, as seconds since 1970.
pub fn time(text: &str) -> Result<i64, Status> {
    let parsed: Result<jiff::Timestamp, _> = text.parse();
    parsed.map(jiff::Timestamp::as_second).map_err(|_| Status::invalid(format!("{text} is not a time.")))
}

/// A duration, as seconds.
pub fn seconds(text: &str) -> Result<i64, Status> {
    let number = text.strip_suffix('s').and_then(|number| number.parse().ok());
    number.ok_or_else(|| Status::invalid(format!("{text} is not a duration.")))
}
