//! A relay in front of a real service: it counts the calls of each operation, and makes the trouble that a check asks for.
//!
//! Invariant: without trouble, requests and answers pass unchanged but for `Connection: close`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kms::Op;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::bench::Trouble;

/// How a vendor's requests are told apart and how its troubles sound.
#[derive(Clone, Copy)]
pub(crate) struct Dialect {
    /// The operation of a request, by its line and headers.
    pub(crate) op: fn(&str) -> Option<Op>,
    /// The header with the token, in lower case and with its colon.
    pub(crate) token: &'static str,
    /// The body of an error.
    pub(crate) error: &'static str,
    /// Status and body of what tells a caller to wait.
    pub(crate) throttled: (&'static str, &'static str),
}

/// Method and target of a request.
pub(crate) fn request_line(head: &str) -> Option<&str> {
    Some(head.lines().next()?.trim_end_matches(" HTTP/1.1"))
}

struct State {
    dialect: Dialect,
    service: SocketAddr,
    counts: Mutex<HashMap<Op, u64>>,
    troubles: Mutex<Vec<(Op, Trouble, Option<u64>)>>,
    tokens: Mutex<Vec<String>>,
}

/// The relay.
pub(crate) struct Relay {
    pub(crate) at: SocketAddr,
    state: Arc<State>,
}

impl Relay {
    pub(crate) async fn start(service: SocketAddr, dialect: Dialect) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let state = Arc::new(State {
            dialect,
            service,
            counts: Mutex::default(),
            troubles: Mutex::default(),
            tokens: Mutex::default(),
        });
        let served = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&served);
                tokio::spawn(async move { serve(stream, &state).await });
            }
        });
        Self { at, state }
    }

    pub(crate) fn requests(&self, op: Op) -> u64 {
        self.state.counts.lock().unwrap().get(&op).copied().unwrap_or_default()
    }

    pub(crate) fn reset(&self) {
        self.state.counts.lock().unwrap().clear();
    }

    pub(crate) fn trouble(&self, op: Op, trouble: Trouble, times: Option<u64>) {
        self.state.troubles.lock().unwrap().push((op, trouble, times));
    }

    pub(crate) fn heal(&self) {
        self.state.troubles.lock().unwrap().clear();
    }

    /// Every token that passed, in this order.
    pub(crate) fn tokens(&self) -> Vec<String> {
        self.state.tokens.lock().unwrap().clone()
    }
}

impl State {
    /// Counts a request, and tells what happens to it.
    fn enter(&self, head: &str) -> Option<Trouble> {
        let header = head.lines().find(|line| line.to_ascii_lowercase().starts_with(self.dialect.token));
        if let Some(token) = header.and_then(|line| line.split_once(':')) {
            self.tokens.lock().unwrap().push(token.1.trim().to_owned());
        }
        let op = (self.dialect.op)(head)?;
        *self.counts.lock().unwrap().entry(op).or_default() += 1;
        let mut troubles = self.troubles.lock().unwrap();
        let found = troubles.iter_mut().find(|(of, _, times)| *of == op && *times != Some(0))?;
        found.2 = found.2.map(|times| times - 1);
        Some(found.1)
    }
}

async fn serve(mut client: TcpStream, state: &State) {
    let Some(request) = read_request(&mut client).await else { return };
    let head = String::from_utf8_lossy(&request).into_owned();
    let answer = match state.enter(&head) {
        None => forward(&request, state).await,
        Some(trouble) => match trouble {
            Trouble::ServerError => answer("500 Error", "application/json", "", state.dialect.error),
            Trouble::Throttled { retry_after } => {
                let wait = retry_after.map(|seconds| format!("Retry-After: {seconds}\r\n"));
                let (status, body) = state.dialect.throttled;
                answer(status, "application/json", &wait.unwrap_or_default(), body)
            }
            Trouble::Reset => return reset(&client),
            Trouble::ResetAfterwards => {
                forward(&request, state).await;
                return reset(&client);
            }
            Trouble::Truncated => {
                let whole = forward(&request, state).await;
                whole[..whole.len() - 20].to_vec()
            }
            Trouble::BadJson => answer("200 OK", "application/json", "", r#"{"data":{"#),
            Trouble::Oversized => answer("200 OK", "application/json", "", &"a".repeat(1 << 20)),
            Trouble::WrongType => answer("200 OK", "text/html", "", "<html>a portal</html>"),
            Trouble::Silence => {
                tokio::time::sleep(Duration::from_mins(1)).await;
                return;
            }
        },
    };
    let _ = client.write_all(&answer).await;
    let _ = client.shutdown().await;
}

fn reset(client: &TcpStream) {
    let _ = client.set_zero_linger();
}

fn answer(status: &str, kind: &str, headers: &str, body: &str) -> Vec<u8> {
    let len = body.len();
    format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {len}\r\n{headers}\r\n{body}"
    )
    .into_bytes()
}

/// The whole answer of the service; nothing where it does not listen.
async fn forward(request: &[u8], state: &State) -> Vec<u8> {
    let mut answer = Vec::new();
    let Ok(mut service) = TcpStream::connect(state.service).await else { return answer };
    let line = request.windows(2).position(|two| two == b"\r\n").unwrap() + 2;
    let close = b"Connection: close\r\n";
    let whole = [&request[..line], close, &request[line..]].concat();
    if service.write_all(&whole).await.is_ok() {
        let _ = service.read_to_end(&mut answer).await;
    }
    answer
}

async fn read_request(client: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if client.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        if !bytes[0].is_ascii_uppercase() {
            // Not HTTP: what a server says to TLS on a port without it.
            let _ = client.write_all(&answer("400 Bad Request", "text/plain", "", "http, please")).await;
            return None;
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let len = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    let len: usize = len.map_or(0, |len| len.trim().parse().unwrap());
    while bytes.len() < head + len {
        if client.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some(bytes)
}
