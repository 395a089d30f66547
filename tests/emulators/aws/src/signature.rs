//! AWS Signature Version 4, as the one who checks it.
//!
//! Written from the documentation for any request, apart from the provider's own signer on purpose: two mistakes would have to be
//! the same. Invariant: host, time and every `x-amz-` header are signed, or the request is refused.

use std::fmt::Write;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::clock::{Millis, stamp};
use crate::refusal::{Answer, refusal, refuse};
use crate::request::Request;
use crate::{REGION, refusal::Refusal};

const WINDOW: Millis = 5 * 60 * 1000;

/// What the header `Authorization` says.
pub(crate) struct Claim {
    /// Whose signature it says to be.
    pub(crate) access_key: String,
    date: String,
    stamp: String,
    signed: Vec<String>,
    signature: String,
}

fn incomplete(why: &str) -> Refusal {
    refusal("IncompleteSignatureException", format!("Authorization header is incomplete: {why}"))
}

impl Claim {
    /// Reads it, for `service` in our region.
    pub(crate) fn read(request: &Request, service: &str) -> Answer<Self> {
        let Some(text) = request.header("authorization") else {
            return refuse("MissingAuthenticationTokenException", "Missing Authentication Token");
        };
        let rest = text.strip_prefix("AWS4-HMAC-SHA256 ").ok_or_else(|| incomplete("its algorithm"))?;
        let part = |name: &str| {
            let mut parts = rest.split(',').filter_map(|part| part.trim().split_once('='));
            parts
                .find(|(of, _)| *of == name)
                .map(|(_, value)| value.to_owned())
                .ok_or_else(|| incomplete(name))
        };
        let (credential, signed, signature) =
            (part("Credential")?, part("SignedHeaders")?, part("Signature")?);
        let scope: Vec<&str> = credential.split('/').collect();
        let [access_key, date, region, of, "aws4_request"] = scope.as_slice() else {
            return Err(incomplete("its scope"));
        };
        if *region != REGION {
            return refuse(
                "InvalidSignatureException",
                format!("Credential should be scoped to a valid region, not '{region}'."),
            );
        }
        if *of != service {
            return refuse(
                "InvalidSignatureException",
                format!("Credential should be scoped to correct service: '{service}'."),
            );
        }
        let stamp = request.header("x-amz-date").ok_or_else(|| incomplete("X-Amz-Date"))?.to_owned();
        if !stamp.starts_with(date) {
            return refuse(
                "InvalidSignatureException",
                "Date in Credential scope does not match the request's.",
            );
        }
        let signed = signed.split(';').map(str::to_owned).collect();
        Ok(Self { access_key: (*access_key).into(), date: (*date).into(), stamp, signed, signature })
    }

    /// It was made with `secret`, for this request, about now.
    pub(crate) fn verify(&self, request: &Request, service: &str, secret: &str, now: Millis) -> Answer<()> {
        self.check_time(now)?;
        let must = |name: &str| name == "host" || name == "content-type" || name.starts_with("x-amz-");
        let unsigned = request.headers.iter().find(|(name, _)| must(name) && !self.signed.contains(name));
        if let Some((name, _)) = unsigned {
            return refuse("InvalidSignatureException", format!("'{name}' must be a signed header."));
        }
        if self.expected(request, service, secret)? == self.signature {
            return Ok(());
        }
        refuse(
            "InvalidSignatureException",
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and \
             signing method. Consult the service documentation for details.",
        )
    }

    fn check_time(&self, now: Millis) -> Answer<()> {
        // The form sorts as the time does.
        let (oldest, newest) = (stamp(now - WINDOW), stamp(now + WINDOW));
        let (signed, now) = (&self.stamp, stamp(now));
        if *signed < oldest {
            let why = format!("Signature expired: {signed} is now earlier than {oldest} ({now} - 5 min.)");
            return refuse("InvalidSignatureException", why);
        }
        if *signed > newest {
            let why =
                format!("Signature not yet current: {signed} is still later than {newest} ({now} + 5 min.)");
            return refuse("InvalidSignatureException", why);
        }
        Ok(())
    }

    fn expected(&self, request: &Request, service: &str, secret: &str) -> Answer<String> {
        let mut headers = String::new();
        for name in &self.signed {
            let value = request.header(name).ok_or_else(|| incomplete(name))?;
            let collapsed: Vec<&str> = value.split_whitespace().collect();
            let _ = writeln!(headers, "{name}:{}", collapsed.join(" "));
        }
        let mut query: Vec<&str> = request.query.split('&').filter(|pair| !pair.is_empty()).collect();
        query.sort_unstable();
        let canonical = [
            request.method.as_str(),
            request.path.as_str(),
            &query.join("&"),
            &headers,
            &self.signed.join(";"),
            &hex(&Sha256::digest(&request.body)),
        ]
        .join("\n");
        let scope = format!("{}/{REGION}/{service}/aws4_request", self.date);
        let hashed = hex(&Sha256::digest(canonical.as_bytes()));
        let signed = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{hashed}", self.stamp);
        let seed = format!("AWS4{secret}").into_bytes();
        let key = [self.date.as_str(), REGION, service, "aws4_request"]
            .iter()
            .fold(seed, |key, part| mac(&key, part));
        Ok(hex(&mac(&key, &signed)))
    }
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key may have any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
#[path = "signature_tests.rs"]
mod tests;
