//! Secret text in a JSON body, and data keys as such text.
//!
//! Invariant: it is zeroized on drop and cannot be printed; base64 is applied to a data key here, exactly once, in the alphabet
//! of the vendor.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD, URL_SAFE_NO_PAD};
use secrecy::SecretString;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::error::ErrorKind;
use crate::key::PlainKey;

/// The base64 of a data key, or an access token.
pub(crate) struct SecretText(Zeroizing<String>);

impl SecretText {
    /// The base64 of a data key.
    pub(crate) fn of_key(key: &PlainKey) -> Self {
        Self::encoded(key, &STANDARD)
    }

    /// The base64url of a data key, without padding.
    pub(crate) fn of_key_url_safe(key: &PlainKey) -> Self {
        Self::encoded(key, &URL_SAFE_NO_PAD)
    }

    fn encoded(key: &PlainKey, alphabet: &GeneralPurpose) -> Self {
        let mut text = Zeroizing::new(String::with_capacity(44));
        alphabet.encode_string(key.expose(), &mut text);
        Self(text)
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

/// The data key that an answer holds as base64.
pub(crate) fn plain_key(text: Option<&SecretText>) -> Result<PlainKey, ErrorKind> {
    decoded(text, &STANDARD)
}

/// The data key that an answer holds as base64url without padding.
pub(crate) fn plain_key_url_safe(text: Option<&SecretText>) -> Result<PlainKey, ErrorKind> {
    decoded(text, &URL_SAFE_NO_PAD)
}

fn decoded(text: Option<&SecretText>, alphabet: &GeneralPurpose) -> Result<PlainKey, ErrorKind> {
    let text = text.ok_or(ErrorKind::Integrity("it lacks the data key"))?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.expose().len()));
    alphabet
        .decode_vec(text.expose().as_bytes(), &mut bytes)
        .map_err(|_| ErrorKind::Integrity("its data key is not base64"))?;
    PlainKey::from_slice(&bytes).ok_or(ErrorKind::Integrity("its data key is not 32 bytes long"))
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
