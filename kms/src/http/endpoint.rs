//! The address of a service: scheme, host and port, checked once.
//!
//! Invariant: it is https, or http to a loopback address where development was asked for; never a path or a user.

use crate::config::ConfigError;

/// A checked base address, such as `https://us-south.kms.cloud.ibm.com`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint(reqwest::Url);

impl Endpoint {
    /// Checks `value`, the configuration's field `field`.
    pub(crate) fn parse(
        field: &'static str,
        value: &str,
        allow_loopback_http: bool,
    ) -> Result<Self, ConfigError> {
        let wrong = || ConfigError::Endpoint { field, value: without_userinfo(value) };
        let url = reqwest::Url::parse(value).map_err(|_| wrong())?;
        let scheme_allowed = match url.scheme() {
            "https" => true,
            "http" => allow_loopback_http && is_loopback(&url),
            _ => false,
        };
        if is_bare(&url) && scheme_allowed { Ok(Self(url)) } else { Err(wrong()) }
    }

    /// It is not plain http to loopback.
    pub(crate) fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// The address of `segments` under this base; each segment is escaped.
    pub(crate) fn join(&self, segments: &[&str]) -> reqwest::Url {
        let mut url = self.0.clone();
        url.path_segments_mut()
            .expect("http and https addresses have path segments")
            .pop_if_empty()
            .extend(segments);
        url
    }
}

/// Checks the address of a proxy: http, host and port. Nothing secret passes it in clear, so that it needs no TLS of its own; a
/// password in it would stand in custom resources, and is refused.
pub(crate) fn proxy(value: &str) -> Result<reqwest::Url, ConfigError> {
    let url = reqwest::Url::parse(value).map_err(|_| ConfigError::Proxy)?;
    let bare = url.scheme() == "http" && is_bare(&url);
    if bare { Ok(url) } else { Err(ConfigError::Proxy) }
}

/// Nothing but scheme, host and port.
fn is_bare(url: &reqwest::Url) -> bool {
    url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none()
        && url.has_host()
}

/// A name is trusted to be loopback only as `localhost`; every other one could be resolved to anything.
fn is_loopback(url: &reqwest::Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback()),
        None => false,
    }
}

/// What may be shown of a wrong address: a password in it may not.
fn without_userinfo(value: &str) -> String {
    match value.rsplit_once('@') {
        Some((_, host)) => format!("..@{host}"),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(value: &str, dev: bool) -> Result<Endpoint, ConfigError> {
        Endpoint::parse("endpoint", value, dev)
    }

    #[test]
    fn only_https_passes_without_the_development_flag() {
        assert!(parse("https://us-south.kms.cloud.ibm.com", false).is_ok());
        assert!(parse("https://10.0.0.7:8443/", false).is_ok());
        for wrong in
            ["http://us-south.kms.cloud.ibm.com", "http://127.0.0.1:1", "http://localhost", "ftp://a", ""]
        {
            assert!(parse(wrong, false).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_development_flag_allows_http_to_loopback_addresses_only() {
        for right in ["http://127.0.0.1:8080", "http://127.9.9.9", "http://[::1]:80", "http://localhost:1"] {
            assert!(parse(right, true).is_ok(), "{right}");
        }
        for wrong in
            ["http://10.0.0.1", "http://localhost.example.com", "http://127.0.0.1.example.com", "http://a"]
        {
            assert!(parse(wrong, true).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_address_with_more_than_a_host_is_refused_and_its_password_not_shown() {
        for wrong in ["https://a/api", "https://a/?x=1", "https://a/#f", "https://u:secret@a/"] {
            let error = parse(wrong, true).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_proxy_is_a_host_and_a_port_and_no_password() {
        assert!(proxy("http://proxy.example:3128").is_ok() && proxy("http://10.0.0.1:3128/").is_ok());
        for wrong in
            ["https://proxy", "proxy:3128", "http://u:secret@proxy", "http://proxy/x", "socks5://proxy", ""]
        {
            assert_eq!(proxy(wrong), Err(ConfigError::Proxy), "{wrong}");
        }
    }

    #[test]
    fn a_segment_cannot_leave_its_place_in_the_path() {
        let endpoint = parse("https://a", false).unwrap();
        let url = endpoint.join(&["api", "v2", "keys", "../x?y#z/w"]);
        assert_eq!(url.as_str(), "https://a/api/v2/keys/..%2Fx%3Fy%23z%2Fw");
    }
}
