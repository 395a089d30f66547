//! The cluster's keys and certificates, new for each start. Invariant: no key leaves the run folder, which only its owner
//! may enter.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_RSA_SHA256,
};

use super::node;

/// The names that the API server is called by.
const API_NAMES: &[&str] = &[
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
    "127.0.0.1",
    node::ADDRESS,
    node::API_SERVICE,
];

/// The cluster's certificate authority, which lives only while the files are written.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

/// A key with its certificate, both as PEM.
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// Its private key (PKCS #8).
    pub key: String,
}

impl Authority {
    /// Makes an authority with a new key.
    pub fn new() -> Result<Self> {
        let mut parameters = named("cofferdam-cluster", None, &[])?;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().context("make the authority's key")?;
        let certificate = parameters.self_signed(&key).context("sign the authority")?.pem();
        Ok(Self { issuer: Issuer::new(parameters, key), certificate })
    }

    /// The authority's certificate as PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A client: `user` in `group`, as the API server reads common name and organisation.
    pub fn client(&self, user: &str, group: Option<&str>) -> Result<Identity> {
        self.issue(named(user, group, &[])?, ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// A server that is called by `names`, host names or IP addresses.
    pub fn server(&self, name: &str, names: &[&str]) -> Result<Identity> {
        self.issue(named(name, None, names)?, ExtendedKeyUsagePurpose::ServerAuth)
    }

    fn issue(&self, mut parameters: CertificateParams, usage: ExtendedKeyUsagePurpose) -> Result<Identity> {
        parameters.extended_key_usages = vec![usage];
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().context("make a key")?;
        let certificate = parameters.signed_by(&key, &self.issuer).context("sign a certificate")?.pem();
        Ok(Identity { certificate, key: key.serialize_pem() })
    }
}

/// Writes the keys that the parts read from files into `folder`.
pub fn write(authority: &Authority, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    private(&folder.join("ca.crt"), authority.certificate())?;
    let kubelet_names = &[node::NAME, node::ADDRESS, "127.0.0.1", "localhost"];
    for (file, identity) in [
        ("api", authority.server("kube-apiserver", API_NAMES)?),
        ("kubelet", authority.server(node::NAME, kubelet_names)?),
        ("api-to-kubelet", authority.client("kube-apiserver-kubelet-client", Some("system:masters"))?),
    ] {
        private(&folder.join(format!("{file}.crt")), &identity.certificate)?;
        private(&folder.join(format!("{file}.key")), &identity.key)?;
    }
    // RSA, as most clusters have it: verifiers of service account tokens meet RS256.
    let tokens = KeyPair::generate_for(&PKCS_RSA_SHA256).context("make the key of service account tokens")?;
    private(&folder.join("sa.key"), &tokens.serialize_pem())?;
    private(&folder.join("sa.pub"), &tokens.public_key_pem())
}

/// Writes a file that only its owner may read.
pub fn private(path: &Path, text: &str) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path).with_context(|| format!("create {}", path.display()))?;
    file.write_all(text.as_bytes()).with_context(|| format!("write {}", path.display()))
}

fn named(name: &str, group: Option<&str>, names: &[&str]) -> Result<CertificateParams> {
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let mut parameters = CertificateParams::new(names).context("read a certificate's names")?;
    parameters.distinguished_name.push(DnType::CommonName, name);
    if let Some(group) = group {
        parameters.distinguished_name.push(DnType::OrganizationName, group);
    }
    Ok(parameters)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn every_key_file_is_closed_to_others() {
        let folder = tempfile::tempdir().unwrap();
        write(&Authority::new().unwrap(), folder.path()).unwrap();
        let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(Result::unwrap).collect();
        assert_eq!(files.len(), 9);
        for file in files {
            let mode = file.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{}", file.path().display());
        }
    }
}
