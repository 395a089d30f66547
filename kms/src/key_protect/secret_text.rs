//! Secret text in a JSON body.
//!
//! Invariant: it is zeroized on drop and cannot be printed.

use std::fmt;

use secrecy::SecretString;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use zeroize::Zeroizing;

/// The base64 of a data key, or an access token.
pub(super) struct SecretText(Zeroizing<String>);

impl SecretText {
    pub(super) fn new(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl From<SecretText> for SecretString {
    fn from(mut text: SecretText) -> Self {
        Self::from(std::mem::take(&mut *text.0))
    }
}

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = SecretText;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<SecretText, E> {
                Ok(SecretText(Zeroizing::new(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}
