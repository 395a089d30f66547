//! A server that says exactly what a test tells it to say, byte for byte, and remembers what it was asked.
//!
//! Invariant: it knows no vendor.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::connect::{BreakerPolicy, Options, RetryPolicy};

/// A request as it was on the wire.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// `POST /path?query`.
    pub(crate) line: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

/// What the server does.
#[derive(Clone, Debug)]
pub(crate) enum Say {
    /// A proper answer.
    Answer { status: u16, kind: &'static str, headers: Vec<(&'static str, String)>, body: String },
    /// These bytes, then the end of the connection.
    Bytes(Vec<u8>),
    /// These bytes, then nothing.
    BytesThenSilence(Vec<u8>),
    /// A reset.
    Reset,
}

pub(crate) const JSON: &str = "application/json";

pub(crate) fn ok(body: impl Into<String>) -> Say {
    Say::Answer { status: 200, kind: JSON, headers: vec![], body: body.into() }
}

pub(crate) fn status(status: u16, kind: &'static str, body: impl Into<String>) -> Say {
    Say::Answer { status, kind, headers: vec![], body: body.into() }
}

type Script = Box<dyn FnMut(&Request) -> Say + Send>;

/// The server.
pub(crate) struct Fake {
    pub(crate) at: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    script: Arc<Mutex<Script>>,
}

impl Fake {
    /// Answers everything by `script`.
    pub(crate) async fn raw(script: impl FnMut(&Request) -> Say + Send + 'static) -> Self {
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
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub(crate) fn rescript(&self, script: impl FnMut(&Request) -> Say + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
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
pub(crate) fn bare() -> Options {
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
