//! What a service account token (a JWT, RFC 7519) says of itself.
//!
//! Invariant: nothing is verified here: it is for tokens that the API server has accepted, or that are the operator's own.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// For whom it is; none where it cannot be read.
pub fn audiences(token: &str) -> Vec<String> {
    let claim = all(token).and_then(|mut all| all.get_mut("aud").map(Value::take));
    match claim {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => vec![],
    }
}

fn all(token: &str) -> Option<Value> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn token(claims: &Value) -> String {
        format!("e30.{}.sig\n", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    #[test]
    fn one_audience_and_several_are_read() {
        assert_eq!(audiences(&token(&json!({"aud": "a"}))), ["a"]);
        assert_eq!(audiences(&token(&json!({"aud": ["a", "k3s"]}))), ["a", "k3s"]);
        for nothing in [token(&json!({})), "no token".into(), String::new()] {
            assert!(audiences(&nothing).is_empty(), "{nothing}");
        }
        }
}
