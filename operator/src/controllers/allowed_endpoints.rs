//! Where the profiles of a cluster may lead: the operator, pods and Jobs call what a profile says, or load the library that it names, and
//! whoever may write one may not be somebody who may reach or run all that they can.
//!
//! Invariant: pure. Every address that is called for a profile is judged, the default ones too; a library is loaded only where whoever
//! runs the operator named it.

use api::connection;
use api::profile::KmsProfileSpec;
use contract::config::{Called, Provider};

/// What is allowed.
#[derive(Clone, Debug, Default)]
pub struct AllowedEndpoints {
    urls: Vec<String>,
    modules: Vec<String>,
}

impl AllowedEndpoints {
    /// With the URLs that the chart lists, in which `*` stands for one label of a host's name (none: all are allowed), and its libraries
    /// for PKCS#11 (none: none is).
    pub fn new(urls: Vec<String>, modules: Vec<String>) -> Self {
        Self { urls, modules }
    }

    /// What is wrong with the place that a profile leads to.
    pub fn problem(&self, spec: &KmsProfileSpec) -> Option<String> {
        let provider = connection::provider(spec)?;
        if let Provider::Pkcs11(token) = &provider {
            return (!self.modules.contains(&token.module)).then(|| {
                format!(
                    "pkcs11.module {} may not be loaded: whoever runs the operator lists it in operator.pkcs11Modules of the \
                     chart's values",
                    token.module
                )
            });
        }
        if self.urls.is_empty() {
            return None;
        }
        let proxy = spec.proxy.iter().map(|url| Called { field: "proxy", url: url.clone() });
        let called = provider.endpoints().into_iter().chain(proxy);
        let mut refused = called.filter(|one| !covered(&self.urls, &one.url));
        refused.next().map(|Called { field, url }| {
            format!(
                "{field} {url} is none of the endpoints that this cluster allows: whoever runs the operator lists it in \
                 operator.allowedEndpoints of the chart's values"
            )
        })
    }
}

/// Whether a URL is one of those listed.
pub(super) fn covered(listed: &[String], url: &str) -> bool {
    let plain = |url: &str| url.trim_end_matches('/').to_owned();
    listed.iter().any(|one| covers(&plain(one), &plain(url)))
}

/// Whether an address is the listed one, in which `*` stands for one label of a host's name, such as a region.
fn covers(listed: &str, url: &str) -> bool {
    let is_label = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    match listed.split_once('*') {
        None => listed == url,
        Some((before, after)) => {
            let rest = url.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
            rest.is_some_and(is_label)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn spec(endpoint: &str, proxy: Option<&str>) -> KmsProfileSpec {
        let key_protect = json!({"endpoint": endpoint, "instance": "i", "rootKey": "k"});
        let credentials = json!({"data": {"apiKeySecret": {"name": "s"}}});
        serde_json::from_value(json!({"keyProtect": key_protect, "credentials": credentials, "proxy": proxy}))
            .unwrap()
    }

    #[test]
    fn a_star_is_one_label_of_a_host_and_no_more() {
        let sts = "https://sts.*.amazonaws.com";
        assert!(covers(sts, "https://sts.eu-central-1.amazonaws.com"));
        for other in [
            "https://sts.amazonaws.com",
            "https://sts..amazonaws.com",
            "https://sts.evil.example/.amazonaws.com",
            "https://sts.evil@x.amazonaws.com",
            "https://sts.a.b.amazonaws.com",
            "https://sts.eu.amazonaws.com.evil.example",
        ] {
            assert!(!covers(sts, other), "{other}");
        }
    }

    #[test]
    fn a_library_is_loaded_only_where_it_is_listed() {
        let token = json!({"module": "/opt/hsm/lib.so", "token": "t", "key": "k"});
        let credentials = json!({"data": {"pinSecret": {"name": "s"}}});
        let spec = serde_json::from_value(json!({"pkcs11": token, "credentials": credentials})).unwrap();
        let refused = AllowedEndpoints::default().problem(&spec).unwrap_or_default();
        assert!(refused.contains("operator.pkcs11Modules"), "{refused}");
        assert_eq!(AllowedEndpoints::new(vec![], vec!["/opt/hsm/lib.so".into()]).problem(&spec), None);
    }

    #[test]
    fn every_address_of_a_profile_must_be_listed_where_any_is() {
        let (kms, iam) = ("https://*.kms.cloud.ibm.com", "https://iam.cloud.ibm.com");
        let rules = |listed: &[&str]| {
            AllowedEndpoints::new(listed.iter().map(|one| (*one).to_owned()).collect(), vec![])
        };
        let here = spec("https://eu-de.kms.cloud.ibm.com/", None);
        assert_eq!(rules(&[]).problem(&spec("https://169.254.169.254", None)), None);
        assert_eq!(rules(&[kms, iam]).problem(&here), None);
        let problem =
            |listed: &[&str], spec: &KmsProfileSpec| rules(listed).problem(spec).unwrap_or_default();
        assert!(
            problem(&[kms], &here).starts_with("keyProtect.iamEndpoint https://iam.cloud.ibm.com is none")
        );
        let inside = problem(&[kms, iam], &spec("https://169.254.169.254", None));
        assert!(
            inside.starts_with("keyProtect.endpoint") && inside.contains("operator.allowedEndpoints"),
            "{inside}"
        );
        let behind = spec("https://eu-de.kms.cloud.ibm.com", Some("http://proxy:3128"));
        assert!(problem(&[kms, iam], &behind).starts_with("proxy http://proxy:3128"));
        assert_eq!(rules(&[kms, iam, "http://proxy:3128"]).problem(&behind), None);
    }
}
