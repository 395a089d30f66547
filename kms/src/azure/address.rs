//! What a vault's host says of it: whose tokens it takes.
//!
//! Invariant: the audience of a token follows from the configured host and from nothing that the host answers, so that a token
//! is worth nothing at another service; a host that is no vault's gets none.

use crate::config::ConfigError;
use crate::http::endpoint::Endpoint;

/// The two services, as they stand in a host's name.
const SERVICES: [&str; 2] = ["vault", "managedhsm"];

/// What stands for a loopback address, where development was asked for: it does not tell which service it is.
const DEVELOPMENT: &str = "https://vault.azure.net/.default";

/// The scope of a token for the vault. `NAME.vault.azure.net` has its tokens from `vault.azure.net`; sovereign clouds are named
/// alike below another domain.
pub(super) fn scope(vault: &Endpoint, value: &str, development: bool) -> Result<String, ConfigError> {
    let url = vault.join(&[]);
    let host = url.host_str().unwrap_or_default();
    let loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|at| at.is_loopback());
    if development && loopback {
        return Ok(DEVELOPMENT.into());
    }
    let found = host.split_once('.').and_then(|(name, audience)| {
        let (service, cloud) = audience.split_once('.')?;
        let whole = !name.is_empty() && cloud.contains('.') && SERVICES.contains(&service);
        whole.then(|| format!("https://{audience}/.default"))
    });
    found.ok_or_else(|| ConfigError::Host { field: "vault", value: value.to_owned() })
}

/// It is a Managed HSM.
pub(super) fn is_managed_hsm(vault: &Endpoint) -> bool {
    vault.join(&[]).host_str().is_some_and(|host| host.contains(".managedhsm."))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(value: &str, development: bool) -> Result<String, ConfigError> {
        scope(&Endpoint::parse("vault", value, development).unwrap(), value, development)
    }

    #[test]
    fn the_scope_follows_from_the_host_in_every_cloud() {
        for (vault, resource) in [
            ("https://kv.vault.azure.net", "https://vault.azure.net"),
            ("https://KV.Vault.Azure.NET:443/", "https://vault.azure.net"),
            ("https://hsm.managedhsm.azure.net", "https://managedhsm.azure.net"),
            ("https://kv.vault.azure.cn", "https://vault.azure.cn"),
            ("https://hsm.managedhsm.usgovcloudapi.net", "https://managedhsm.usgovcloudapi.net"),
        ] {
            assert_eq!(of(vault, false).unwrap(), format!("{resource}/.default"), "{vault}");
        }
        assert_eq!(of("http://127.0.0.1:8080", true).unwrap(), DEVELOPMENT);
        assert_eq!(of("https://127.0.0.1:8080", true).unwrap(), DEVELOPMENT);
    }

    #[test]
    fn a_host_that_is_no_vaults_is_refused() {
        for wrong in [
            "https://vault.azure.net",
            "https://kv.blob.core.windows.net",
            "https://kv.privatelink.vaultcore.azure.net",
            "https://kv.vault.local",
            "https://10.0.0.7",
            "https://127.0.0.1",
            "https://kv",
        ] {
            assert!(matches!(of(wrong, false), Err(ConfigError::Host { field: "vault", .. })), "{wrong}");
        }
    }
}
