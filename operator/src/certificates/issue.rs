//! Makes certificates (RFC 5280): ECDSA P-256, an authority without intermediate ones, and server certificates.
//!
//! Invariant: an authority's parameters follow from its serial alone, so that its key is enough to sign with it again.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use secrecy::{ExposeSecret, SecretString};

use super::material::{AUTHORITY_LIFE, Authority, SERVING_LIFE, Serving};

/// Certificates begin to be valid this much before they are made, in seconds, because clocks differ.
const CLOCK_SKEW: i64 = 3600;

/// A certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// No key.
    #[error("make a key")]
    Key(#[source] rcgen::Error),
    /// The authority's stored key is damaged.
    #[error("read the authority's key")]
    AuthorityKey(#[source] rcgen::Error),
    /// It has none any more.
    #[error("sign with an authority whose key is gone")]
    NoKey,
    /// No certificate.
    #[error("make a certificate")]
    Certificate(#[source] rcgen::Error),
}

/// A new authority, valid from `now` (seconds since 1970).
pub fn authority(now: i64) -> Result<Authority, IssueError> {
    let key = KeyPair::generate().map_err(IssueError::Key)?;
    let digest =
        sha2::Digest::finalize(<sha2::Sha256 as sha2::Digest>::new_with_prefix(key.public_key_raw()));
    let serial: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let mut parameters = authority_parameters(&serial);
    let not_after = now + AUTHORITY_LIFE;
    (parameters.not_before, parameters.not_after) = (at(now - CLOCK_SKEW).into(), at(not_after).into());
    let certificate = parameters.self_signed(&key).map_err(IssueError::Certificate)?;
    Ok(Authority {
        serial,
        certificate: certificate.pem(),
        key: Some(SecretString::from(key.serialize_pem())),
        created: now,
        not_after,
    })
}

/// A certificate for `names`, signed by `authority`, valid from `now`.
pub fn serving(authority: &Authority, names: &[String], now: i64) -> Result<Serving, IssueError> {
    let signing = authority.key.as_ref().ok_or(IssueError::NoKey)?;
    let signing = KeyPair::from_pem(signing.expose_secret()).map_err(IssueError::AuthorityKey)?;
    let issuer = Issuer::new(authority_parameters(&authority.serial), signing);
    let mut parameters = CertificateParams::new(names).map_err(IssueError::Certificate)?;
    parameters.distinguished_name.push(DnType::CommonName, "cofferdam-operator");
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    parameters.use_authority_key_identifier_extension = true;
    let not_after = (now + SERVING_LIFE).min(authority.not_after);
    (parameters.not_before, parameters.not_after) = (at(now - CLOCK_SKEW).into(), at(not_after).into());
    let key = KeyPair::generate().map_err(IssueError::Key)?;
    let certificate = parameters.signed_by(&key, &issuer).map_err(IssueError::Certificate)?;
    Ok(Serving {
        certificate: certificate.pem(),
        key: SecretString::from(key.serialize_pem()),
        issuer: authority.serial.clone(),
        names: names.to_vec(),
        not_after,
    })
}

fn authority_parameters(serial: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, format!("Cofferdam {serial}"));
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters
}

fn at(unix_seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(unix_seconds).unwrap_or_default())
}
