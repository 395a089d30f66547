//! AWS Signature Version 4 of a POST to `/`, the one form in which AWS KMS is asked.
//!
//! Source: the AWS documentation of the signature, and its published test vectors. Invariant: every header that is given is
//! signed; the key that signs is made for the one request and wiped.

use std::fmt::Write;

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::keys::AccessKeys;

/// Where a signature is good.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) region: &'a str,
    pub(super) service: &'a str,
}

/// A moment as the header `X-Amz-Date` has it.
pub(super) fn stamp(at: Timestamp) -> String {
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// The header `Authorization`. `headers` are all those that are signed, in lower case and sorted, `x-amz-date` among them with
/// `stamp`.
pub(super) fn authorization(
    keys: &AccessKeys,
    scope: Scope<'_>,
    stamp: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> String {
    let Scope { region, service } = scope;
    let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let mut canonical = Zeroizing::new(String::from("POST\n/\n\n"));
    for (name, value) in headers {
        canonical.extend([name, ":", value.trim(), "\n"]);
    }
    canonical.extend(["\n", &names, "\n", &hex(&Sha256::digest(body))]);
    let day = stamp.get(..8).unwrap_or_default();
    let place = format!("{day}/{region}/{service}/aws4_request");
    let hashed = hex(&Sha256::digest(canonical.as_bytes()));
    let signed = format!("AWS4-HMAC-SHA256\n{stamp}\n{place}\n{hashed}");

    let first = Zeroizing::new(format!("AWS4{}", &*keys.secret));
    let day_key = mac(first.as_bytes(), day);
    let key = mac(&*mac(&*mac(&*day_key, region), service), "aws4_request");
    let signature = hex(&*mac(&*key, &signed));
    format!("AWS4-HMAC-SHA256 Credential={}/{place}, SignedHeaders={names}, Signature={signature}", keys.id)
}

fn mac(key: &[u8], text: &str) -> Zeroizing<[u8; 32]> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key may have any length");
    mac.update(text.as_bytes());
    Zeroizing::new(mac.finalize().into_bytes().into())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
#[path = "tests/sign.rs"]
mod tests;
