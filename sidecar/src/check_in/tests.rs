//! Check-ins over real TLS.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use contract::check_in::Role;

use super::*;
use crate::testing::operator::{Authority, FakeOperator, files};

fn report() -> CheckIn {
    CheckIn { role: Role::Sidecar, volumes: vec![] }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_authority_and_a_new_token_are_taken_up_without_a_restart() {
    let (dir, first) = (tempfile::tempdir().unwrap(), Authority::new());
    let operator = FakeOperator::start(&first).await;
    files(dir.path(), &first);
    let (ca, token) = (dir.path().join("ca.crt"), dir.path().join("token"));
    let mut client = CheckInClient::with_files(&operator.url, &ca, &token).unwrap();
    client.send(&report()).await.unwrap();

    let second = Authority::new();
    operator.renew(&second).await;
    // Old connections live on; a client that was built anew has none.
    client.built = None;
    assert!(
        matches!(client.send(&report()).await, Err(CheckInError::Unreachable(_))),
        "the old CA alone is trusted"
    );
    tokio::time::sleep(Duration::from_millis(20)).await;
    files(dir.path(), &second);
    client.send(&report()).await.unwrap();

    std::fs::write(&token, "another").unwrap();
    assert!(matches!(client.send(&report()).await, Err(CheckInError::Status(code)) if code == 401));
    files(dir.path(), &second);
    client.send(&report()).await.unwrap();
    assert_eq!(operator.reports().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_operator_is_no_refusal_and_its_wish_is_kept_within_bounds() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let operator = FakeOperator::start(&authority).await;
    files(dir.path(), &authority);
    let (ca, token) = (dir.path().join("ca.crt"), dir.path().join("token"));
    let mut client = CheckInClient::with_files(&operator.url, &ca, &token).unwrap();
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    for (code, says, after) in [
        (503, None, None),
        (429, Some("5"), seconds(5)),
        (503, Some("5"), seconds(5)),
        (429, Some("0"), seconds(2)),
        (503, Some("86400"), seconds(30)),
        (503, Some("Thu, 26 Nov 2026 02:00:00 GMT"), None),
        (503, Some("-5"), None),
    ] {
        operator.busy(code, says);
        match client.send(&report()).await {
            Err(CheckInError::Busy { after: found }) => assert_eq!(found, after, "{code} {says:?}"),
            other => panic!("{code} {says:?}: {other:?}"),
        }
    }
    client.send(&report()).await.unwrap();
}

#[test]
fn without_an_operator_there_is_no_client() {
    assert!(CheckInClient::new("").is_none());
}

/// Answers one request with spaces for ever, in chunks, so that only what has come tells how much it is.
fn endless() -> String {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        let _ = peer.read(&mut vec![0; 65_536]).unwrap();
        peer.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
        let chunk = [&b"10000\r\n"[..], &vec![b' '; 65_536], b"\r\n"].concat();
        while peer.write_all(&chunk).is_ok() {}
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_does_not_end_is_not_taken_in() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    files(dir.path(), &authority);
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (ca, token) = (dir.path().join("ca.crt"), dir.path().join("token"));
    let mut client = CheckInClient::with_files(&endless(), &ca, &token).unwrap();
    let answer = client.send(&report()).await;
    assert!(matches!(answer, Err(CheckInError::Reply)), "{answer:?}");
}
