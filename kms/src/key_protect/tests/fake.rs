//! A server that says exactly what a test tells it to say, byte for byte, and remembers what it was asked.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::config::{CredentialSource, KeyProtectConfig, ProviderConfig};
use crate::connect::{BreakerPolicy, Options, RetryPolicy};
use crate::key::{ContextScheme, KeyRef, KeyVersion, Wrapped};

pub(super) const KEY: &str = "02fd6835-6001-4482-a892-13bd2085f75d";
pub(super) const INSTANCE: &str = "8cf0b1d4-0000-4000-8000-0c1d2e3f4a5b";
pub(super) const API_KEY: &str = "an-api-key-that-nobody-may-see";

/// A request as it was on the wire.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// `POST /path?query`.
    pub(super) line: String,
    /// Names in lower case.
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: String,
}

/// What the server does.
#[derive(Clone, Debug)]
pub(super) enum Say {
    /// A proper answer.
    Answer { status: u16, kind: &'static str, headers: Vec<(&'static str, String)>, body: String },
    /// These bytes, then the end of the connection.
    Bytes(Vec<u8>),
    /// These bytes, then nothing.
    BytesThenSilence(Vec<u8>),
    /// A reset.
    Reset,
}

pub(super) const JSON: &str = "application/json";
pub(super) const ERROR_JSON: &str = "application/vnd.ibm.kms.error+json";

pub(super) fn ok(body: impl Into<String>) -> Say {
    Say::Answer { status: 200, kind: JSON, headers: vec![], body: body.into() }
}

pub(super) fn status(status: u16, kind: &'static str, body: impl Into<String>) -> Say {
    Say::Answer { status, kind, headers: vec![], body: body.into() }
}

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

type Script = Box<dyn FnMut(&Request) -> Say + Send>;

/// The server.
pub(super) struct Fake {
    pub(super) at: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    script: Arc<Mutex<Script>>,
}

impl Fake {
    /// Answers logins with a token, and everything else by `script`.
    pub(super) async fn start(script: impl FnMut(&Request) -> Say + Send + 'static) -> Self {
        let mut script = script;
        Self::raw(move |request| if request.is_login() { token("token-0", 3600) } else { script(request) })
            .await
    }

    /// Answers everything by `script`.
    pub(super) async fn raw(script: impl FnMut(&Request) -> Say + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Box::new(script)));
        let fake = Self { at, requests: requests.clone(), script: script.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (requests, script) = (requests.clone(), script.clone());
                tokio::spawn(async move { serve(stream, &requests, &script).await });
            }
        });
        fake
    }

    /// Everything that was asked.
    pub(super) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// What was asked of the KMS.
    pub(super) fn calls(&self) -> Vec<Request> {
        self.requests().into_iter().filter(|request| !request.is_login()).collect()
    }

    /// How often IAM was asked.
    pub(super) fn logins(&self) -> usize {
        self.requests().iter().filter(|request| request.is_login()).count()
    }

    pub(super) fn rescript(&self, script: impl FnMut(&Request) -> Say + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    /// A configuration that leads here.
    pub(super) fn config(&self) -> KeyProtectConfig {
        KeyProtectConfig {
            endpoint: format!("http://{}", self.at),
            iam_endpoint: format!("http://{}", self.at),
            instance: INSTANCE.into(),
            root_key: KEY.into(),
            key_ring: None,
            credential: CredentialSource::ApiKeyFile { path: "/not/read".into() },
            ca: None,
            allow_loopback_http: true,
        }
    }

    pub(super) fn provider(&self) -> ProviderConfig {
        ProviderConfig::KeyProtect(self.config())
    }
}

impl Request {
    pub(super) fn is_login(&self) -> bool {
        self.line == "POST /identity/token"
    }
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

async fn serve(mut stream: TcpStream, requests: &Mutex<Vec<Request>>, script: &Mutex<Script>) {
    let Some(request) = read(&mut stream).await else { return };
    requests.lock().unwrap().push(request.clone());
    let say = (script.lock().unwrap())(&request);
    match say {
        Say::Answer { status, kind, headers, body } => {
            let mut head =
                format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
            if !kind.is_empty() {
                let _ = write!(head, "Content-Type: {kind}\r\n");
            }
            for (name, value) in headers {
                let _ = write!(head, "{name}: {value}\r\n");
            }
            let _ = stream.write_all(format!("{head}\r\n{body}").as_bytes()).await;
            let _ = stream.shutdown().await;
        }
        Say::Bytes(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
        Say::BytesThenSilence(bytes) => {
            let _ = stream.write_all(&bytes).await;
            tokio::time::sleep(Duration::from_mins(1)).await;
        }
        Say::Reset => {
            let _ = stream.set_zero_linger();
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let head_len = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..head_len].to_vec()).ok()?;
    let mut lines = head.lines();
    let line = lines.next()?.trim_end_matches(" HTTP/1.1").to_owned();
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let len: usize = headers.get("content-length").map_or(0, |len| len.parse().unwrap());
    while bytes.len() < head_len + len {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let body = String::from_utf8(bytes[head_len..].to_vec()).ok()?;
    Some(Request { line, headers, body })
}

/// No waiting, no second chances: what the provider says is what the test sees.
pub(super) fn bare() -> Options {
    Options {
        cache_ttl: Duration::ZERO,
        attempt_timeout: Duration::from_secs(2),
        connect_timeout: Duration::from_secs(2),
        retry: RetryPolicy { attempts: 1, ..RetryPolicy::default() },
        breaker: BreakerPolicy { failures: u32::MAX, ..BreakerPolicy::default() },
        denial_window: Duration::ZERO,
        ..Options::default()
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
