//! The https certificate: given, or signed by an own CA. Invariant: a CA that exists is used again, so that clients which trust it keep trusting.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::Tls;

/// The certificate cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("read {0}")]
    Read(PathBuf, #[source] io::Error),
    #[error("write {0}")]
    Write(PathBuf, #[source] io::Error),
    #[error("understand {0} as PEM")]
    Pem(PathBuf, #[source] rustls::pki_types::pem::Error),
    #[error("make a certificate")]
    Make(#[source] rcgen::Error),
    #[error("use the certificate")]
    Use(#[source] rustls::Error),
}

/// What https is served with.
pub struct Material {
    pub server: Arc<ServerConfig>,
    /// The CA's certificate, PEM, where it is an own one.
    pub ca_pem: Option<String>,
}

struct Pems {
    chain: String,
    key: String,
    ca: Option<String>,
}

/// Reads or makes the certificate.
pub fn prepare(tls: &Tls) -> Result<Material, TlsError> {
    let pems = match tls {
        Tls::Files { cert, key } => Pems { chain: read(cert)?, key: read(key)?, ca: None },
        Tls::SelfMade { dir, names } => make(dir.as_deref(), names)?,
    };
    let source = match tls {
        Tls::Files { cert, .. } => cert.clone(),
        Tls::SelfMade { .. } => PathBuf::from("tls.crt"),
    };
    let pem = |e| TlsError::Pem(source.clone(), e);
    let chain =
        CertificateDer::pem_slice_iter(pems.chain.as_bytes()).collect::<Result<Vec<_>, _>>().map_err(pem)?;
    let key = PrivateKeyDer::from_pem_slice(pems.key.as_bytes()).map_err(pem)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Use)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(TlsError::Use)?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Material { server: Arc::new(server), ca_pem: pems.ca })
}

fn make(dir: Option<&Path>, names: &[String]) -> Result<Pems, TlsError> {
    let (ca, ca_key) = match kept_ca(dir)? {
        Some(kept) => kept,
        None => new_ca()?,
    };
    // The CA is always made from the same parameters, so that its key alone is enough to sign with.
    let issuer = Issuer::new(ca_params(), KeyPair::from_pem(&ca_key).map_err(TlsError::Make)?);
    let mut params = CertificateParams::new(names).map_err(TlsError::Make)?;
    params.distinguished_name.push(DnType::CommonName, "devkms");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().map_err(TlsError::Make)?;
    let leaf = params.signed_by(&key, &issuer).map_err(TlsError::Make)?;
    let pems = Pems { chain: leaf.pem(), key: key.serialize_pem(), ca: Some(ca.clone()) };
    if let Some(dir) = dir {
        fs::create_dir_all(dir).map_err(|e| TlsError::Write(dir.to_owned(), e))?;
        for (name, text, mode) in [
            ("ca.crt", &ca, 0o644),
            ("ca.key", &ca_key, 0o600),
            ("tls.crt", &pems.chain, 0o644),
            ("tls.key", &pems.key, 0o600),
        ] {
            write(&dir.join(name), text, mode)?;
        }
    }
    Ok(pems)
}

fn kept_ca(dir: Option<&Path>) -> Result<Option<(String, String)>, TlsError> {
    match dir {
        Some(dir) if dir.join("ca.crt").exists() => {
            Ok(Some((read(&dir.join("ca.crt"))?, read(&dir.join("ca.key"))?)))
        }
        _ => Ok(None),
    }
}

fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "devkms CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn new_ca() -> Result<(String, String), TlsError> {
    let key = KeyPair::generate().map_err(TlsError::Make)?;
    let ca = ca_params().self_signed(&key).map_err(TlsError::Make)?;
    Ok((ca.pem(), key.serialize_pem()))
}

fn read(path: &Path) -> Result<String, TlsError> {
    fs::read_to_string(path).map_err(|e| TlsError::Read(path.to_owned(), e))
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), TlsError> {
    fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|e| TlsError::Write(path.to_owned(), e))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_kept_ca_signs_the_next_certificate_too() {
        let dir = tempfile::tempdir().unwrap();
        let tls =
            |name: &str| Tls::SelfMade { dir: Some(dir.path().to_owned()), names: vec![name.to_owned()] };
        let first = prepare(&tls("one.example")).unwrap().ca_pem;
        let leaf = fs::read_to_string(dir.path().join("tls.crt")).unwrap();
        assert_eq!(prepare(&tls("10.99.0.1")).unwrap().ca_pem, first);
        assert_ne!(fs::read_to_string(dir.path().join("tls.crt")).unwrap(), leaf);
    }
}
