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

#[test]
fn without_an_operator_there_is_no_client() {
    assert!(CheckInClient::new("").is_none());
}
