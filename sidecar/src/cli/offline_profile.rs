//! The root key of an offline command: from a file, from flags, or from both.
//!
//! Invariant: a flag wins over the file; no secret is given on the command line.

use std::path::PathBuf;

use clap::Args;
use contract::config::{Credential, KeyProtect, Profile, Provider};
use serde::Deserialize;
use thiserror::Error;

use crate::profile::Transport;

/// Where the root key lives. Each value comes from its flag, or else from the file.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Root key")]
pub struct ProfileArgs {
    /// A YAML or JSON file with caFile, proxy, keyTtlSeconds, outageGraceSeconds, pollSeconds, and the root key: provider and credential, or
    /// for Key Protect endpoint, iamEndpoint, instance, rootKey, keyRing, apiKeyFile.
    #[arg(long, value_name = "FILE")]
    pub profile: Option<PathBuf>,
    /// Address of Key Protect: https://REGION.kms.cloud.ibm.com
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// Address of IAM [default: https://iam.cloud.ibm.com]
    #[arg(long, value_name = "URL")]
    pub iam_endpoint: Option<String>,
    /// The instance's GUID.
    #[arg(long, value_name = "GUID")]
    pub instance: Option<String>,
    /// Id or alias of the root key.
    #[arg(long, value_name = "KEY")]
    pub root_key: Option<String>,
    /// Key ring of the root key.
    #[arg(long, value_name = "RING")]
    pub key_ring: Option<String>,
    /// A file with the API key.
    #[arg(long, value_name = "FILE")]
    pub api_key_file: Option<String>,
    /// PEM file with the certificate authorities of the KMS.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<String>,
    /// Take plain http at a loopback address too: for a KMS that is tried out on this machine.
    #[arg(long)]
    pub allow_loopback_http: bool,
}

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ProfileFile {
    provider: Option<Provider>,
    credential: Option<Credential>,
    endpoint: Option<String>,
    iam_endpoint: Option<String>,
    instance: Option<String>,
    root_key: Option<String>,
    key_ring: Option<String>,
    api_key_file: Option<String>,
    ca_file: Option<String>,
    key_ttl_seconds: Option<u32>,
    outage_grace_seconds: Option<u32>,
    poll_seconds: Option<u32>,
    proxy: Option<String>,
}

/// Why there is no profile.
#[derive(Debug, Error)]
pub enum ProfileError {
    /// The file.
    #[error("read the profile file")]
    Read(#[source] std::io::Error),
    /// The file.
    #[error("understand the profile file")]
    Parse(#[source] serde_saphyr::Error),
    /// The root key is named twice.
    #[error(
        "choose the root key: the profile file names its provider, so that flags of Key Protect name another one"
    )]
    Twice,
    /// One without the other.
    #[error(
        "understand the profile file: provider and credential go together, and with neither endpoint nor apiKeyFile"
    )]
    Half,
    /// A value.
    #[error("find --{0}, on the command line or in the profile file")]
    Missing(&'static str),
}

impl ProfileArgs {
    /// How the KMS may be reached.
    pub fn transport(&self) -> Transport {
        if self.allow_loopback_http { Transport::LoopbackHttp } else { Transport::Https }
    }

    /// The profile.
    pub fn profile(&self) -> Result<Profile, ProfileError> {
        let file = match &self.profile {
            None => ProfileFile::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(ProfileError::Read)?;
                serde_saphyr::from_str(&text).map_err(ProfileError::Parse)?
            }
        };
        let (provider, credential) = match (file.provider.clone(), file.credential.clone()) {
            (None, None) => self.key_protect(&file)?,
            (Some(_), Some(_)) if self.names_a_root_key() => return Err(ProfileError::Twice),
            (Some(provider), Some(credential)) if !file.names_key_protect() => (provider, credential),
            _ => return Err(ProfileError::Half),
        };
        Ok(Profile {
            namespace: String::new(),
            name: "offline".into(),
            provider,
            credential,
            ca_file: self.ca_file.clone().or(file.ca_file),
            proxy: file.proxy,
            poll_seconds: file.poll_seconds.unwrap_or(30),
            key_ttl_seconds: file.key_ttl_seconds.unwrap_or(300),
            outage_grace_seconds: file.outage_grace_seconds.unwrap_or(0),
        })
    }

    /// A root key in Key Protect, value by value.
    fn key_protect(&self, file: &ProfileFile) -> Result<(Provider, Credential), ProfileError> {
        let choose = |flag: &Option<String>, file: &Option<String>| flag.clone().or_else(|| file.clone());
        let need = |value: Option<String>, name| value.ok_or(ProfileError::Missing(name));
        let iam = choose(&self.iam_endpoint, &file.iam_endpoint);
        let root_key = KeyProtect {
            endpoint: need(choose(&self.endpoint, &file.endpoint), "endpoint")?,
            iam_endpoint: iam.unwrap_or_else(|| "https://iam.cloud.ibm.com".into()),
            instance: need(choose(&self.instance, &file.instance), "instance")?,
            root_key: need(choose(&self.root_key, &file.root_key), "root-key")?,
            key_ring: choose(&self.key_ring, &file.key_ring),
        };
        let path = need(choose(&self.api_key_file, &file.api_key_file), "api-key-file")?;
        Ok((Provider::KeyProtect(root_key), Credential::ApiKeyFile { path }))
    }

    /// A flag says something of the root key in Key Protect.
    fn names_a_root_key(&self) -> bool {
        let flags = [&self.endpoint, &self.iam_endpoint, &self.instance, &self.root_key, &self.key_ring];
        flags.into_iter().chain([&self.api_key_file]).any(Option::is_some)
    }
}

impl ProfileFile {
    fn names_key_protect(&self) -> bool {
        let fields = [&self.endpoint, &self.iam_endpoint, &self.instance, &self.root_key, &self.key_ring];
        fields.into_iter().chain([&self.api_key_file]).any(Option::is_some)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_flag_wins_over_the_file_and_what_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("profile.yaml");
        std::fs::write(&path, "endpoint: https://from-file\ninstance: i\napiKeyFile: /k\n").unwrap();
        let mut args = ProfileArgs { profile: Some(path), ..ProfileArgs::default() };
        assert!(matches!(args.profile(), Err(ProfileError::Missing("root-key"))));
        args.root_key = Some("r".into());
        args.endpoint = Some("https://from-flag".into());
        let Provider::KeyProtect(KeyProtect { endpoint, root_key, .. }) = args.profile().unwrap().provider
        else {
            unreachable!("offline commands speak to Key Protect")
        };
        assert_eq!((endpoint.as_str(), root_key.as_str()), ("https://from-flag", "r"));
    }

    #[test]
    fn a_file_may_name_any_provider_and_then_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("profile.yaml");
        let transit = "provider: {kind: transit, endpoint: 'https://bao:8200', mount: transit, key: k}\n";
        let token = "credential: {kind: tokenFile, path: /t}\n";
        let of = |text: String, root_key: Option<&str>| {
            std::fs::write(&path, text).unwrap();
            let root_key = root_key.map(str::to_owned);
            ProfileArgs { profile: Some(path.clone()), root_key, ..ProfileArgs::default() }.profile()
        };
        let profile = of(format!("{transit}{token}"), None).unwrap();
        assert_eq!((profile.provider.root_key(), profile.credential.path()), ("k", "/t"));
        assert!(matches!(of(format!("{transit}{token}"), Some("r")), Err(ProfileError::Twice)));
        assert!(matches!(of(transit.into(), None), Err(ProfileError::Half)));
        assert!(matches!(of(format!("{transit}{token}instance: i\n"), None), Err(ProfileError::Half)));
    }

    #[test]
    fn an_unknown_field_of_the_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("profile.yaml");
        std::fs::write(&path, "apiKey: secret\n").unwrap();
        let args = ProfileArgs { profile: Some(path), ..ProfileArgs::default() };
        assert!(matches!(args.profile(), Err(ProfileError::Parse(_))));
    }
}
