//! Reports and tokens for tests.
//!
//! Invariant: a sample is valid; a test changes what it is about.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use contract::check_in::{VolumePhase, VolumeReport};
use contract::names::TOKEN_AUDIENCE;
use serde_json::{Value, json};

/// A report on a volume of claim `files`.
pub fn report(name: &str, phase: VolumePhase, reason: &str) -> VolumeReport {
    VolumeReport {
        name: name.into(),
        claim: "files".into(),
        phase,
        reason: reason.into(),
        message: format!("said as {reason}"),
        marker: None,
        key: None,
        sweep: None,
        look: None,
        lazy_rewraps: 0,
        integrity_errors: 0,
        warnings: vec![],
    }
}

/// Claims of a token of a pod of namespace `shop`, as the API server writes them.
pub fn claims(pod: &str, exp: i64) -> Value {
    json!({
        "iss": "https://kubernetes.default.svc", "aud": [TOKEN_AUDIENCE], "exp": exp,
        "sub": "system:serviceaccount:shop:default",
        "kubernetes.io": {"namespace": "shop", "pod": {"name": pod, "uid": format!("uid-{pod}")}},
    })
}

/// A token with these claims; nobody verifies its signature.
pub fn signed(claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2lnbmF0dXJl", part(&json!({"alg": "RS256"})), part(claims))
}

/// A token of a pod that will not expire while tests run.
pub fn token(pod: &str) -> String {
    signed(&claims(pod, i64::MAX))
}
