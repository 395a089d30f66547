//! Where the identity tokens of a profile may go: service account tokens of the operator, of pods and of Jobs, each of which an IAM
//! exchanges for its own.
//!
//! Invariant: pure. Whoever writes a profile chooses endpoint and audience; a token goes to listed endpoints only, and nobody in
//! this cluster accepts it.

use api::connection;
use api::profile::KmsProfileSpec;
use contract::config::Called;
use contract::names::TOKEN_AUDIENCE;

use super::allowed_endpoints::covered;
use crate::claims;

/// How the audience of an API server begins that says nothing else of itself.
const USUAL_API_AUDIENCE: &str = "https://kubernetes.default.svc";

/// What is allowed.
#[derive(Clone, Debug, Default)]
pub struct IdentityTokens {
    /// IAM endpoints.
    endpoints: Vec<String>,
    /// What this cluster's API server takes for itself.
    api_audiences: Vec<String>,
}

impl IdentityTokens {
    /// With the IAM endpoints that the chart lists, and the audiences of this cluster's API server.
    pub fn new(endpoints: Vec<String>, api_audiences: Vec<String>) -> Self {
        Self { endpoints, api_audiences }
    }

    /// The same, with the audiences that the operator's own token for the API server names: one that is asked for without an
    /// audience carries all of the API server's.
    pub fn of_cluster(endpoints: Vec<String>, own_token: &str) -> Self {
        Self::new(endpoints, claims::audiences(own_token))
    }

    /// What is wrong with a profile's credentials that are identity tokens.
    pub fn problem(&self, spec: &KmsProfileSpec) -> Option<String> {
        let credentials = &spec.credentials;
        let all = [
            ("data", Some(&credentials.data)),
            ("rewrap", credentials.rewrap.as_ref()),
            ("admin", credentials.admin.as_ref()),
        ];
        all.into_iter().find_map(|(name, credential)| {
            let credential = credential?;
            let (kind, audience) = credential.identity()?;
            let audience = self.bad_audience(&audience);
            let audience = audience.map(|why| format!("credentials.{name}.{kind}.audience {why}"));
            audience.or_else(|| self.bad_endpoint(spec))
        })
    }

    fn bad_audience(&self, audience: &str) -> Option<String> {
        if audience.is_empty() || audience == TOKEN_AUDIENCE {
            return Some(format!("must not be {audience:?}"));
        }
        let taken = self.api_audiences.iter().any(|one| one == audience);
        (taken || audience.starts_with(USUAL_API_AUDIENCE)).then(|| {
            format!(
                "{audience} is one of this cluster's API server: who gets such a token could act in the cluster as the pod; choose \
                 one that the KMS's identity service alone accepts"
            )
        })
    }

    fn bad_endpoint(&self, spec: &KmsProfileSpec) -> Option<String> {
        let Called { field, url } = connection::provider(spec)?.identity_endpoint()?;
        (!covered(&self.endpoints, &url)).then(|| {
            format!(
                "{field} {url} may not be shown identity tokens: whoever runs the operator lists it in \
                 operator.identityTokenEndpoints of the chart's values"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    fn spec(iam_endpoint: &str, credentials: &Value) -> KmsProfileSpec {
        let key_protect =
            json!({"endpoint": "https://kms", "iamEndpoint": iam_endpoint, "instance": "i", "rootKey": "k"});
        serde_json::from_value(json!({"keyProtect": key_protect, "credentials": credentials})).unwrap()
    }

    fn rules() -> IdentityTokens {
        let audiences = vec!["https://api.example".into(), "k3s".into()];
        IdentityTokens::new(vec!["https://iam.cloud.ibm.com".into()], audiences)
    }

    fn transit(endpoint: &str, audience: &str) -> KmsProfileSpec {
        let role = json!({"kubernetes": {"role": "shop", "audience": audience}});
        let credentials = json!({"data": {"tokenSecret": {"name": "s"}}, "rewrap": role});
        let transit = json!({"endpoint": endpoint, "key": "k"});
        serde_json::from_value(json!({"transit": transit, "credentials": credentials})).unwrap()
    }

    #[test]
    fn a_server_of_transit_keys_is_shown_tokens_only_where_it_is_listed() {
        let rules = IdentityTokens::new(vec!["https://bao.example:8200".into()], vec!["k3s".into()]);
        assert_eq!(rules.problem(&transit("https://bao.example:8200/", "openbao")), None);
        let elsewhere = rules.problem(&transit("https://evil.example", "openbao")).unwrap_or_default();
        assert!(elsewhere.contains("transit.endpoint https://evil.example"), "{elsewhere}");
        let of_cluster = rules.problem(&transit("https://bao.example:8200", "k3s")).unwrap_or_default();
        assert!(of_cluster.contains("credentials.rewrap.kubernetes.audience"), "{of_cluster}");
    }

    /// A profile in which one credential is a trusted profile with this audience.
    fn with_audience(credential: &str, audience: &str) -> KmsProfileSpec {
        let mut credentials = json!({"data": {"apiKeySecret": {"name": "s"}}});
        credentials[credential] = json!({"trustedProfile": {"id": "Profile-1", "audience": audience}});
        spec("https://iam.cloud.ibm.com", &credentials)
    }

    #[test]
    fn tokens_go_to_listed_endpoints_only() {
        let key = json!({"apiKeySecret": {"name": "s"}});
        let trusted = json!({"trustedProfile": {"id": "Profile-1"}});
        for credentials in [
            json!({"data": trusted}),
            json!({"data": key, "rewrap": trusted}),
            json!({"data": key, "admin": trusted}),
        ] {
            let problem = |endpoint: &str| rules().problem(&spec(endpoint, &credentials));
            assert_eq!(problem("https://iam.cloud.ibm.com"), None);
            assert_eq!(problem("https://iam.cloud.ibm.com/"), None);
            for other in [
                "https://iam.cloud.ibm.com.evil.example",
                "https://evil.example",
                "https://iam.cloud.ibm.com@evil",
            ] {
                let problem = problem(other).unwrap_or_default();
                assert!(problem.contains("operator.identityTokenEndpoints"), "{other}: {problem}");
            }
        }
        // A key of the profile's own namespace is nobody's identity token.
        assert_eq!(rules().problem(&spec("https://evil.example", &json!({"data": key}))), None);
    }

    #[test]
    fn nobody_in_the_cluster_accepts_a_token_that_a_kms_gets() {
        for credential in ["data", "rewrap", "admin"] {
            assert_eq!(rules().problem(&with_audience(credential, "iam")), None);
            for taken in [
                "",
                "cofferdam",
                "https://api.example",
                "k3s",
                "https://kubernetes.default.svc",
                "https://kubernetes.default.svc.cluster.local",
            ] {
                let problem = rules().problem(&with_audience(credential, taken)).unwrap_or_default();
                let field = format!("credentials.{credential}.trustedProfile.audience");
                assert!(problem.contains(&field), "{taken:?}: {problem}");
            }
        }
    }
}
