//! How a credential becomes a token, byte for byte.

use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use contract::config::{Credential, GoogleKms};
use secrecy::SecretString;
use serde_json::Value;

use super::{KEY, TOKEN, by_key, config, key_file, key_pair, kms, spec};
use crate::call::CallCtx;
use crate::config::ConfigError;
use crate::connect::{connect, connect_with_secret};
use crate::error::ErrorKind;
use crate::google::key_file;
use crate::http::fake::{Fake, JSON, Request, Say, bare, ok, status};
use crate::key::KeyRef;

const AUDIENCE: &str =
    "//iam.googleapis.com/projects/4711/locations/global/workloadIdentityPools/c/providers/main";
const REJECTED: &str = r#"{"error":"invalid_grant","error_description":"Invalid JWT"}"#;

fn described() -> Say {
    ok(format!(r#"{{"name":"{KEY}","purpose":"ENCRYPT_DECRYPT"}}"#))
}

fn form(request: &Request) -> Vec<(String, String)> {
    let url = reqwest::Url::parse(&format!("http://a/?{}", request.body)).unwrap();
    url.query_pairs().into_owned().collect()
}

fn json(part: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn at(second: i64) -> String {
    jiff::Timestamp::from_second(second).unwrap().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn federated(account: Option<&str>) -> Credential {
    Credential::GoogleWorkloadIdentity {
        audience: AUDIENCE.into(),
        service_account: account.map(str::to_owned),
        token_path: "/not/read".into(),
    }
}

#[tokio::test]
async fn an_assertion_is_signed_for_the_configured_service_alone() {
    let fake = Fake::raw(|request| if request.line == "POST /token" { ok(TOKEN) } else { described() }).await;
    kms(&fake).describe(&KeyRef(KEY.into()), &CallCtx::new()).await.unwrap();
    let sent = fake.requests()[0].clone();
    assert_eq!(sent.header("content-type"), Some("application/x-www-form-urlencoded"));
    let form = form(&sent);
    let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
    assert_eq!(form[0], ("grant_type".into(), grant.into()));
    let (name, assertion) = &form[1];
    assert_eq!((name.as_str(), form.len()), ("assertion", 2));
    let (signed, signature) = assertion.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    assert_eq!(json(header), serde_json::json!({"alg": "RS256", "typ": "JWT", "kid": "key-1"}));
    let claims = json(claims);
    let issued = claims["iat"].as_i64().unwrap();
    assert!((now() - issued).abs() <= 5);
    let expected = serde_json::json!({
        "iss": "sidecar@p.iam.gserviceaccount.com",
        "scope": "https://www.googleapis.com/auth/cloudkms",
        "aud": format!("http://{}/token", fake.at),
        "iat": issued,
        "exp": issued + 3600,
    });
    assert_eq!(claims, expected);
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key_pair().public_key().as_ref());
    public.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
}

#[tokio::test]
async fn a_key_file_is_read_however_its_key_is_escaped() {
    use secrecy::ExposeSecret as _;
    let fake = Fake::raw(|request| if request.line == "POST /token" { ok(TOKEN) } else { described() }).await;
    let file = key_file().expose_secret().to_owned();
    assert!(file.contains("\\n"), "there is something to escape");
    assert_eq!(key_file::plain(r"a\nbc\u003d").as_str(), "a bc= ");
    let indented = file.replace('{', "{\n  ").replace(',', ",\n  ");
    for file in [file.replace('=', "\\u003d"), indented] {
        let kms =
            connect_with_secret(&config(spec(&fake), by_key()), SecretString::from(file), &bare()).unwrap();
        kms.describe(&KeyRef(KEY.into()), &CallCtx::new()).await.unwrap();
    }
}

/// A service whose clock is `ahead` of ours, and that wants to see its own time.
async fn in_another_time(ahead: i64) -> Fake {
    Fake::raw(move |request| {
        if request.line != "POST /token" {
            return described();
        }
        let assertion = form(request).pop().unwrap().1;
        let issued = json(assertion.split('.').nth(1).unwrap())["iat"].as_i64().unwrap();
        let believed = (issued - now() - ahead).abs() < 300;
        Say::Answer {
            status: if believed { 200 } else { 400 },
            kind: JSON,
            headers: vec![("Date", at(now() + ahead))],
            body: if believed { TOKEN } else { REJECTED }.to_owned(),
        }
    })
    .await
}

#[tokio::test]
async fn a_clock_that_is_hours_off_keeps_nobody_out() {
    for ahead in [-5 * 3600, 4 * 3600] {
        let fake = in_another_time(ahead).await;
        let kms = kms(&fake);
        kms.describe(&KeyRef(KEY.into()), &CallCtx::new()).await.unwrap();
        let logins = fake.requests().iter().filter(|sent| sent.line == "POST /token").count();
        assert_eq!(logins, 2, "{ahead}: once more by the service's clock");
    }
}

#[tokio::test]
async fn a_rejection_that_no_clock_explains_is_one() {
    let fake = Fake::raw(|request| {
        if request.line != "POST /token" {
            return described();
        }
        let headers = vec![("Date", at(now()))];
        Say::Answer { status: 400, kind: JSON, headers, body: REJECTED.to_owned() }
    })
    .await;
    let error = kms(&fake).describe(&KeyRef(KEY.into()), &CallCtx::new()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::CredentialRejected, "{error}");
    assert_eq!(fake.requests().len(), 1);
}

#[tokio::test]
async fn a_projected_token_is_exchanged_as_the_vendor_documents() {
    let answer =
        r#"{"access_token":"federated","expires_in":3599,"issued_token_type":"x","token_type":"Bearer"}"#;
    let fake = Fake::raw(move |request| match request.line.as_str() {
        "POST /v1/token" => ok(answer),
        "POST /v1/projects/-/serviceAccounts/s@p.iam.gserviceaccount.com:generateAccessToken" => {
            ok(r#"{"accessToken":"ya29.account","expireTime":"2199-01-01T00:00:00Z"}"#)
        }
        _ => described(),
    })
    .await;
    for (account, scope, token) in [
        (None, "cloudkms", "Bearer federated"),
        (Some("s@p.iam.gserviceaccount.com"), "iam", "Bearer ya29.account"),
    ] {
        let before = fake.requests().len();
        let config = config(spec(&fake), federated(account));
        let kms = connect_with_secret(&config, SecretString::from("a.projected.token"), &bare()).unwrap();
        kms.describe(&KeyRef(KEY.into()), &CallCtx::new()).await.unwrap();
        let sent = fake.requests()[before..].to_vec();
        let expected = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange".to_owned()),
            ("audience", AUDIENCE.to_owned()),
            ("scope", format!("https://www.googleapis.com/auth/{scope}")),
            ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token".to_owned()),
            ("subject_token", "a.projected.token".to_owned()),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value));
        assert_eq!(form(&sent[0]), expected);
        assert_eq!(sent[0].header("authorization"), None);
        if account.is_some() {
            assert_eq!(sent[1].header("authorization"), Some("Bearer federated"));
            let body = r#"{"scope":["https://www.googleapis.com/auth/cloudkms"],"lifetime":"3600s"}"#;
            assert_eq!(sent[1].body, body);
        }
        assert_eq!(sent.last().unwrap().header("authorization"), Some(token));
    }
}

#[tokio::test]
async fn an_outage_of_any_of_the_three_services_is_an_outage() {
    for broken in ["/token", "/v1/token", ":generateAccessToken"] {
        let fake = Fake::raw(move |request| {
            if request.line.ends_with(&format!(" {broken}"))
                || (broken.starts_with(':') && request.line.ends_with(broken))
            {
                return status(503, "text/html", "<html>");
            }
            ok(TOKEN)
        })
        .await;
        let (credential, secret) = match broken {
            "/token" => (by_key(), key_file()),
            _ => (federated(Some("s@p.iam.gserviceaccount.com")), SecretString::from("a.projected.token")),
        };
        let kms = connect_with_secret(&config(spec(&fake), credential), secret, &bare()).unwrap();
        let error = kms.describe(&KeyRef(KEY.into()), &CallCtx::new()).await.unwrap_err();
        assert_eq!(error.reason(), "KmsServerError", "{broken}: {error}");
    }
}

#[tokio::test]
async fn a_credential_is_one_of_google_and_leads_nowhere_else() {
    let fake = Fake::raw(|_| unreachable!()).await;
    let refused = |credential| connect(&config(spec(&fake), credential), &bare()).err();
    let foreign = Credential::TokenFile { path: "/a".into() };
    assert_eq!(refused(foreign), Some(ConfigError::Credential));
    for wrong in ["", "iam.googleapis.com/x", &format!("{AUDIENCE}/more"), &AUDIENCE.replace("main", "")] {
        let credential = Credential::GoogleWorkloadIdentity {
            audience: wrong.into(),
            service_account: None,
            token_path: "/a".into(),
        };
        assert_eq!(refused(credential), Some(ConfigError::Field { field: "credential.audience" }), "{wrong}");
    }
    for wrong in ["", "a", "a@b@c", "a/../b@c", "a@b:generateAccessToken"] {
        let field = "credential.serviceAccount";
        assert_eq!(refused(federated(Some(wrong))), Some(ConfigError::Field { field }), "{wrong}");
    }
    let plain = GoogleKms { sts_endpoint: Some("http://sts.example".into()), ..spec(&fake) };
    let error = connect(&config(plain, federated(None)), &bare()).err();
    assert!(matches!(error, Some(ConfigError::Endpoint { field: "stsEndpoint", .. })), "{error:?}");
}
