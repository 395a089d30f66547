//! The fake server as Key Protect and IAM.

pub(super) use crate::http::fake::*;

use contract::config::{Credential, KeyProtect, Provider};

use crate::config::ProviderConfig;
use crate::key::{ContextScheme, KeyRef, KeyVersion, Wrapped};

pub(super) const KEY: &str = "02fd6835-6001-4482-a892-13bd2085f75d";
pub(super) const INSTANCE: &str = "8cf0b1d4-0000-4000-8000-0c1d2e3f4a5b";
pub(super) const API_KEY: &str = "an-api-key-that-nobody-may-see";
pub(super) const ERROR_JSON: &str = "application/vnd.ibm.kms.error+json";

/// Key Protect's own error body.
pub(super) fn vendor_error(code: u16, word: &str) -> Say {
    let body = format!(
        r#"{{"metadata":{{"collectionType":"{ERROR_JSON}","collectionTotal":1}},"resources":[{{"errorMsg":"Error: see reasons","reasons":[{{"code":"{word}","message":"m","status":{code}}}]}}]}}"#
    );
    status(code, ERROR_JSON, body)
}

/// IAM's answer, with a lifetime in seconds.
pub(super) fn token(text: &str, lifetime: u64) -> Say {
    ok(format!(
        r#"{{"access_token":"{text}","refresh_token":"no","token_type":"Bearer","expires_in":{lifetime},"expiration":1}}"#
    ))
}

impl Fake {
    /// Answers logins with a token, and everything else by `script`.
    pub(super) async fn start(script: impl FnMut(&Request) -> Say + Send + 'static) -> Self {
        let mut script = script;
        Self::raw(move |request| if request.is_login() { token("token-0", 3600) } else { script(request) })
            .await
    }

    /// What was asked of the KMS.
    pub(super) fn calls(&self) -> Vec<Request> {
        self.requests().into_iter().filter(|request| !request.is_login()).collect()
    }

    /// How often IAM was asked.
    pub(super) fn logins(&self) -> usize {
        self.requests().iter().filter(|request| request.is_login()).count()
    }

    /// A configuration that leads here.
    pub(super) fn config(&self) -> ProviderConfig {
        config_of(self.root_key())
    }

    pub(super) fn root_key(&self) -> KeyProtect {
        KeyProtect {
            endpoint: format!("http://{}", self.at),
            iam_endpoint: format!("http://{}", self.at),
            instance: INSTANCE.into(),
            root_key: KEY.into(),
            key_ring: None,
        }
    }
}

/// A configuration that leads to a root key, wherever that is.
pub(super) fn config_of(root_key: KeyProtect) -> ProviderConfig {
    let credential = Credential::ApiKeyFile { path: "/not/read".into() };
    ProviderConfig::new(Provider::KeyProtect(root_key), credential).at_loopback()
}

impl Request {
    pub(super) fn is_login(&self) -> bool {
        self.line == "POST /identity/token"
    }
}

pub(super) fn key() -> KeyRef {
    KeyRef(KEY.into())
}

pub(super) fn wrapped() -> Wrapped {
    Wrapped {
        blob: b"eyJjaXBoZXJ0ZXh0IjoiLi4uIn0=".to_vec(),
        version: Some(KeyVersion("v-old".into())),
        scheme: ContextScheme::Aad,
    }
}
