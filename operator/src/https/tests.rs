//! What slow, silent, large and many peers meet; without TLS, which has a time limit of its own.
#![allow(clippy::unwrap_used)]

use std::time::Instant;

use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::Method;
use axum::routing::post;
use axum_server::accept::DefaultAcceptor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use contract::names::CHECK_IN_PATH;

use super::*;
use crate::check_in::{self, CheckIns, sample};
use crate::controllers::sample::shared;
use crate::metrics::Metrics;
use crate::stores::Stores;
use crate::webhook;
use crate::webhook::facts::Source;
use crate::webhook::server::Webhook;
use fake_api::FakeApi;

const SHORT: Duration = Duration::from_millis(150);
const LONG: Duration = Duration::from_secs(20);

fn generous() -> Limits {
    Limits { connections: 8, of_one_peer: 8, streams: 4, header: LONG, idle: LONG, request: LONG }
}

async fn start(limits: Limits) -> SocketAddr {
    let handle = Handle::new();
    let echo = post(|body: Bytes| async move { body.len().to_string() });
    let router = Router::new().route("/", echo).layer(DefaultBodyLimit::max(100));
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    tokio::spawn(serve_over(DefaultAcceptor::new(), address, router, handle.clone(), limits));
    handle.listening().await.unwrap()
}

/// What comes until the server ends the connection, and after how long.
async fn rest(mut stream: TcpStream) -> (String, Duration) {
    let (mut text, begin) = (vec![], Instant::now());
    // A reset is an end too.
    let _ = stream.read_to_end(&mut text).await;
    (String::from_utf8_lossy(&text).into_owned(), begin.elapsed())
}

async fn say(address: SocketAddr, words: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(words.as_bytes()).await.unwrap();
    stream
}

fn request(length: usize, body: &str) -> String {
    format!(
        "POST / HTTP/1.1\r\nhost: operator\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn a_request_within_the_limits_is_answered() {
    let address = start(generous()).await;
    let (answer, _) = rest(say(address, &request(5, "hello")).await).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n5"), "{answer}");
}

#[tokio::test]
async fn a_handler_is_told_who_its_peer_is() {
    let handle = Handle::new();
    let tell = post(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() });
    let (router, address) = (Router::new().route("/", tell), SocketAddr::from(([127, 0, 0, 1], 0)));
    tokio::spawn(serve_over(DefaultAcceptor::new(), address, router, handle.clone(), generous()));
    let stream = say(handle.listening().await.unwrap(), &request(0, "")).await;
    let own = stream.local_addr().unwrap().to_string();
    let (answer, _) = rest(stream).await;
    assert!(answer.ends_with(&format!("\r\n\r\n{own}")), "{answer} {own}");
}

#[tokio::test]
async fn a_peer_that_is_slow_to_say_what_it_wants_is_not_waited_for() {
    let address = start(Limits { header: SHORT, ..generous() }).await;
    // Nothing, the beginning of HTTP/2's first words, and half of the headers.
    for words in ["", "PRI * HTT", "POST / HTTP/1.1\r\nhost: operator\r\n"] {
        let (_, waited) = rest(say(address, words).await).await;
        assert!(waited < LONG / 2, "{words:?}");
    }
}

#[tokio::test]
async fn a_silent_connection_of_http_2_ends() {
    let address = start(Limits { idle: SHORT, ..generous() }).await;
    // The preface and an empty SETTINGS frame: a connection without a request.
    let stream = say(address, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    assert!(rest(stream).await.1 < LONG / 2);
}

#[tokio::test]
async fn a_body_that_does_not_come_or_is_too_large_is_refused() {
    let address = start(Limits { request: SHORT, ..generous() }).await;
    let (answer, waited) = rest(say(address, &request(50, "half")).await).await;
    assert!(answer.starts_with("HTTP/1.1 408") && waited < LONG / 2, "{answer}");
    let (answer, _) = rest(say(address, &request(101, &"x".repeat(101))).await).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn one_more_connection_than_there_are_places_is_closed_and_a_free_place_is_given_again() {
    let address = start(Limits { connections: 2, of_one_peer: 2, ..generous() }).await;
    let mut first = say(address, "POST").await;
    let _second = say(address, "POST").await;
    // It answers nothing; the two go on.
    let mut third = TcpStream::connect(address).await.unwrap();
    assert_eq!(third.read(&mut [0; 1]).await.unwrap_or(0), 0);
    let left = &request(5, "hello")["POST".len()..];
    first.write_all(left.as_bytes()).await.unwrap();
    assert!(rest(first).await.0.starts_with("HTTP/1.1 200"));
    for _ in 0..100 {
        let (answer, _) = rest(say(address, &request(5, "hello")).await).await;
        if answer.starts_with("HTTP/1.1 200") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    unreachable!("the place was never free again");
}

/// The status line of the answer to so many bytes.
async fn answer(router: Router, path: &str, bytes: usize) -> String {
    let handle = Handle::new();
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    tokio::spawn(serve_over(DefaultAcceptor::new(), address, router, handle.clone(), generous()));
    let address = handle.listening().await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: operator\r\nauthorization: Bearer token\r\ncontent-type: application/json\r\n\
         connection: close\r\ncontent-length: {bytes}\r\n\r\n"
    );
    let mut stream = say(address, &head).await;
    let _ = stream.write_all(&vec![b' '; bytes]).await;
    rest(stream).await.0.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn the_check_in_server_and_the_webhook_read_no_more_than_they_need() {
    let (_fake, client) = FakeApi::start().await;
    let check_ins = || check_in::router(CheckIns::new(client.clone(), check_in::Metrics::default()));
    let webhook = || {
        let (stores, _) = Stores::new(&client);
        let source = Source { client: client.clone(), stores };
        let (injection, metrics) = (shared(client.clone()).jobs, Metrics::default());
        webhook::server::router(Arc::new(Webhook { source, injection, metrics }))
    };
    // What is read is no report and no review: 400.
    assert_eq!(answer(check_ins(), CHECK_IN_PATH, 256 << 10).await, "HTTP/1.1 400 Bad Request");
    assert_eq!(answer(check_ins(), CHECK_IN_PATH, (256 << 10) + 1).await, "HTTP/1.1 413 Payload Too Large");
    assert_eq!(answer(webhook(), "/mutate-pods", 8 << 20).await, "HTTP/1.1 400 Bad Request");
    assert_eq!(answer(webhook(), "/mutate-pods", (8 << 20) + 1).await, "HTTP/1.1 413 Payload Too Large");
}

/// What the check-in server answers to somebody with this token.
async fn check_in(address: SocketAddr, token: &str) -> String {
    let body = r#"{"role":"Sidecar","volumes":[]}"#;
    let head = format!(
        "POST {CHECK_IN_PATH} HTTP/1.1\r\nhost: operator\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    rest(say(address, &head).await).await.0
}

#[tokio::test]
async fn who_invents_tokens_is_told_to_come_later_and_the_api_server_is_spared() {
    let (fake, client) = FakeApi::start().await;
    let handle = Handle::new();
    let metrics = Metrics::default();
    let check_ins = CheckIns::new(client, metrics.with_registry(check_in::Metrics::register));
    let (router, address) = (check_in::router(check_ins), SocketAddr::from(([127, 0, 0, 1], 0)));
    tokio::spawn(serve_over(DefaultAcceptor::new(), address, router, handle.clone(), generous()));
    let address = handle.listening().await.unwrap();

    let nonsense = check_in(address, "invented").await;
    assert!(nonsense.starts_with("HTTP/1.1 401") && !nonsense.contains("retry-after"), "{nonsense}");
    let reviews = || fake.asked(&Method::POST, "/tokenreviews").len();
    assert_eq!(reviews(), 0);
    let (mut limited, mut refused) = (String::new(), 0);
    // On a slow machine a few places come back meanwhile.
    while refused < 1000 {
        limited = check_in(address, &sample::token(&format!("app-{refused}"))).await;
        if !limited.starts_with("HTTP/1.1 401") {
            break;
        }
        refused += 1;
    }
    assert!(limited.starts_with("HTTP/1.1 429") && limited.contains("retry-after: 5\r\n"), "{limited}");
    assert!(refused >= 64 && reviews() == refused, "{refused} {}", reviews());
    let text = metrics.text().unwrap();
    for line in [
        r#"cofferdam_token_refusals_total{by="claims"} 1"#,
        r#"cofferdam_token_refusals_total{by="peer_limit"} 1"#,
        r#"cofferdam_check_ins_total{outcome="limited"} 1"#,
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}
