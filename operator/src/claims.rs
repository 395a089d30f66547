//! What a service account token (a JWT, RFC 7519) says of itself.
//!
//! Invariant: nothing here is verified, so of somebody else's token it may only refuse: one that passes is still nobody's.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use contract::names::TOKEN_AUDIENCE;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The longest token that is looked at, in bytes. Those of service accounts have less than two thousand.
const LONGEST: usize = 16 * 1024;

/// The claims of a service account token (RFC 7519) that matter here.
#[derive(Deserialize)]
struct Claims {
    aud: Audiences,
    exp: i64,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Kubernetes,
}

#[derive(Deserialize)]
struct Audience {
    aud: Audiences,
}

/// RFC 7519 allows a list and a single one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Many(Vec<String>),
}

impl Audiences {
    fn list(self) -> Vec<String> {
        match self {
            Self::One(audience) => vec![audience],
            Self::Many(audiences) => audiences,
        }
    }
}

#[derive(Deserialize)]
struct Kubernetes {
    pod: Option<Pod>,
}

#[derive(Deserialize)]
struct Pod {
    name: String,
    uid: String,
}

/// When a token ends by its own word, in seconds since the Unix epoch, where it could be that of a pod for us; else what is
/// wrong with it.
pub fn ends_at(token: &str, now: i64) -> Result<i64, &'static str> {
    let claims: Claims = claims(token).ok_or("it is no token of a service account")?;
    if !claims.aud.list().iter().any(|audience| audience == TOKEN_AUDIENCE) {
        return Err("it is for another audience");
    }
    if claims.exp <= now {
        return Err("it has expired");
    }
    match claims.kubernetes.pod {
        Some(pod) if !pod.name.is_empty() && !pod.uid.is_empty() => Ok(claims.exp),
        _ => Err("it is not bound to a pod"),
    }
}

/// For whom the operator's own token is; none where it cannot be read.
pub fn audiences(token: &str) -> Vec<String> {
    claims::<Audience>(token.trim()).map(|claims| claims.aud.list()).unwrap_or_default()
}

fn claims<C: DeserializeOwned>(token: &str) -> Option<C> {
    if token.len() > LONGEST {
        return None;
    }
    let mut parts = token.split('.');
    let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || signature.is_empty() {
        return None;
    }
    URL_SAFE_NO_PAD.decode(signature).ok()?;
    serde_json::from_slice::<Map<String, Value>>(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::check_in::sample;

    const NOW: i64 = 1000;

    fn good() -> Value {
        sample::claims("app", 2000)
    }

    #[test]
    fn a_pods_token_for_us_is_worth_a_review() {
        assert_eq!(ends_at(&sample::signed(&good()), NOW), Ok(2000));
        let mut one = good();
        one["aud"] = json!(TOKEN_AUDIENCE);
        assert_eq!(ends_at(&sample::signed(&one), NOW), Ok(2000));
    }

    #[test]
    fn a_token_that_is_no_jwt_is_refused() {
        let token = sample::signed(&good());
        let (unsigned, _) = token.rsplit_once('.').unwrap_or_default();
        let (_, headless) = token.split_once('.').unwrap_or_default();
        let long = sample::signed(&json!({"aud": ["cofferdam"], "much": "x".repeat(LONGEST)}));
        let mangled = [
            unsigned.to_owned(),
            format!("{unsigned}."),
            format!("{token}.more"),
            format!("{token}="),
            format!("W10.{headless}"),
            format!("{{}}.{headless}"),
            sample::signed(&json!([good()])),
            long,
            "opaque".into(),
            "..".into(),
        ];
        for token in mangled {
            assert_eq!(ends_at(&token, NOW), Err("it is no token of a service account"), "{token}");
        }
    }

    #[test]
    fn a_token_for_others_of_no_pod_or_of_the_past_is_refused() {
        let refused = |key: &str, value: Value, why: &str| {
            let mut claims = good();
            claims[key] = value;
            assert_eq!(ends_at(&sample::signed(&claims), NOW).err(), Some(why), "{claims}");
        };
        refused("aud", json!(["https://kubernetes.default.svc"]), "it is for another audience");
        refused("aud", json!("cofferdams"), "it is for another audience");
        refused("aud", json!([]), "it is for another audience");
        refused("exp", json!(NOW), "it has expired");
        refused("exp", json!("2000"), "it is no token of a service account");
        refused("exp", Value::Null, "it is no token of a service account");
        refused("kubernetes.io", Value::Null, "it is no token of a service account");
        refused("kubernetes.io", json!({"namespace": "shop"}), "it is not bound to a pod");
        refused("kubernetes.io", json!({"pod": {"name": "", "uid": "u"}}), "it is not bound to a pod");
        refused("kubernetes.io", json!({"pod": {"name": "app", "uid": ""}}), "it is not bound to a pod");
    }

    #[test]
    fn one_audience_and_several_are_read() {
        assert_eq!(audiences(&sample::signed(&json!({"aud": "a"}))), ["a"]);
        assert_eq!(audiences(&format!("{}\n", sample::signed(&json!({"aud": ["a", "k3s"]})))), ["a", "k3s"]);
        for nothing in [sample::signed(&json!({})), "no token".into(), String::new()] {
            assert!(audiences(&nothing).is_empty(), "{nothing}");
        }
    }
}
