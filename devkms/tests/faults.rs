//! What the control port does to the server: faults, counters, the audit trail, rules and reset.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::time::{Duration, Instant};

use devkms::{Fault, FaultKind};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use support::{Caller, Got, KEY, control, start};

fn status(status: u16) -> FaultKind {
    FaultKind::Status { status, code: None, retry_after: Some(7) }
}

#[tokio::test]
async fn an_ordered_status_strikes_as_often_as_said_and_changes_nothing() {
    let server = start();
    let writer = Caller::new(&server, "writer").await;
    let before = writer.metadata().await["keyVersion"].clone();
    let order =
        json!({"operations": ["rotate"], "count": 2, "kind": "status", "status": 429, "retryAfter": 7});
    assert_eq!(control(&server, Method::POST, "/_emu/faults", Some(order)).await.status, 200);
    let path = format!("keys/{KEY}/actions/rotate");
    for _ in 0..2 {
        let response = writer.request(Method::POST, &path).send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), response.headers()["retry-after"].to_str().unwrap()),
            (429, "7")
        );
    }
    assert_eq!(writer.metadata().await["keyVersion"], before, "nothing was rotated");
    assert_eq!(writer.action("rotate", &json!({})).await.status, 204);
    let counters = control(&server, Method::GET, "/_emu/counters", None).await.ok();
    assert_eq!(counters["rotate"], json!({"requests": 3, "faults": 2, "statuses": {"204": 1, "429": 2}}));
}

#[tokio::test]
async fn a_misspelt_order_is_refused() {
    let server = start();
    for order in [
        json!({"operations": ["unwarp"], "kind": "hang"}),
        json!({"operations": ["unwrap"], "kind": "explode"}),
        json!({"probability": 3.0, "kind": "hang"}),
        json!({"probabilty": 0.5, "kind": "hang"}),
        json!({"operation": ["unwrap"], "kind": "status", "status": 500}),
    ] {
        let got = control(&server, Method::POST, "/_emu/faults", Some(order.clone())).await;
        assert!((400..500).contains(&got.status), "{order}");
    }
    assert_eq!(control(&server, Method::GET, "/_emu/faults", None).await.ok(), json!([]));
}

#[tokio::test]
async fn a_delay_answers_late_and_a_hang_not_at_all_until_it_is_removed() {
    let server = start();
    let reader = Caller::new(&server, "reader").await;
    server.add_fault(Fault::new(&["metadata"], FaultKind::Delay { millis: 300 }).times(1));
    let started = Instant::now();
    reader.metadata().await;
    assert!(started.elapsed() >= Duration::from_millis(300));

    server.add_fault(Fault::new(&["metadata"], FaultKind::Hang));
    let path = format!("keys/{KEY}/metadata");
    let hanging = tokio::spawn(reader.request(Method::GET, &path).send());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!hanging.is_finished());
    assert_eq!(reader.action("wrap", &json!({})).await.status, 200, "other operations are not met");
    server.clear_faults();
    let ended = tokio::time::timeout(Duration::from_secs(5), hanging).await.unwrap().unwrap();
    assert!(ended.is_err(), "the connection is reset");
    reader.metadata().await;
}

#[tokio::test]
async fn a_reset_before_does_nothing_and_a_reset_after_has_done_it() {
    let server = start();
    server.set_rules(|rules| rules.rotation_interval = 0);
    let writer = Caller::new(&server, "writer").await;
    let version = async || writer.metadata().await["keyVersion"]["id"].clone();
    let rotate = async || writer.request(Method::POST, &format!("keys/{KEY}/actions/rotate")).send().await;
    let first = version().await;
    server.add_fault(Fault::new(&["rotate"], FaultKind::Reset { after: false }).times(1));
    let cut = rotate().await.unwrap_err();
    assert!(!cut.is_connect() && !cut.is_timeout(), "{cut:?}");
    assert_eq!(version().await, first);
    server.add_fault(Fault::new(&["rotate"], FaultKind::Reset { after: true }).times(1));
    assert!(rotate().await.is_err());
    assert_ne!(version().await, first, "the answer was lost, the rotation was not");
}

#[tokio::test]
async fn a_reset_is_a_reset_on_the_socket() {
    use std::io::{Read, Write};
    let server = start();
    server.add_fault(Fault::new(&[], FaultKind::Reset { after: false }));
    let address = server.url().trim_start_matches("http://").to_owned();
    let mut socket = std::net::TcpStream::connect(address).unwrap();
    socket.write_all(b"GET /api/v2/keys HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let error = socket.read(&mut [0; 16]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn truncated_broken_oversized_and_foreign_answers_come_as_ordered() {
    let server = start();
    let reader = Caller::new(&server, "reader").await;
    let send = async || reader.request(Method::GET, &format!("keys/{KEY}/metadata")).send().await.unwrap();

    server.add_fault(Fault::new(&["metadata"], FaultKind::Truncate { bytes: 10 }).times(1));
    let response = send().await;
    assert!(response.content_length().unwrap() > 100);
    assert!(response.bytes().await.is_err(), "the body breaks off");

    server.add_fault(Fault::new(&["metadata"], FaultKind::BadJson).times(1));
    let response = send().await;
    assert_eq!(response.status(), 200);
    let text = response.text().await.unwrap();
    assert!(!text.is_empty() && serde_json::from_str::<Value>(&text).is_err());

    server.add_fault(Fault::new(&["metadata"], FaultKind::Oversized { bytes: 5 << 20 }).times(1));
    assert_eq!(send().await.bytes().await.unwrap().len(), 5 << 20);

    server.add_fault(Fault::new(&["metadata"], FaultKind::Trickle { millis: 1 }).times(1));
    let started = Instant::now();
    let whole = send().await.bytes().await.unwrap();
    assert!(serde_json::from_slice::<Value>(&whole).is_ok());
    assert!(started.elapsed() >= Duration::from_millis(whole.len() as u64));

    let headers = [("content-type".to_owned(), "text/html".to_owned())].into();
    let foreign = FaultKind::Reply { status: 200, headers, body: "<html>".into() };
    server.add_fault(Fault::new(&["metadata"], foreign).times(1));
    let response = send().await;
    assert_eq!(response.headers()["content-type"], "text/html");
    assert_eq!(response.text().await.unwrap(), "<html>");
}

#[tokio::test]
async fn the_token_endpoint_can_fail_too() {
    let server = start();
    server.add_fault(Fault::new(&["token"], status(503)).times(1));
    let client = Client::new();
    assert_eq!(support::token(&client, &server.url(), "reader").await.status, 503);
    assert_eq!(support::token(&client, &server.url(), "reader").await.status, 200);
    assert_eq!(server.tally("token").requests, 2);
}

#[tokio::test]
async fn the_audit_trail_has_who_did_what_with_which_version_and_correlation_id() {
    let server = start();
    let (reader, writer) = (Caller::new(&server, "reader").await, Caller::new(&server, "writer").await);
    let wrapped = reader.wrap(&[]).await;
    writer.action("rotate", &json!({})).await.ok();
    let request = reader.request(Method::POST, &format!("keys/{KEY}/actions/unwrap"));
    let body = json!({"ciphertext": wrapped["ciphertext"]});
    let response = request.header("Correlation-Id", "my-id-1").json(&body).send().await.unwrap();
    assert_eq!(response.headers()["correlation-id"], "my-id-1");
    let opened = Got::of(response).await.ok();
    assert_eq!(reader.action("disable", &json!({})).await.status, 401);

    let events = control(&server, Method::GET, "/_emu/audit?correlationId=my-id-1", None).await.ok();
    let event = &events[0];
    assert_eq!(events.as_array().unwrap().len(), 1);
    assert_eq!((&event["action"], &event["status"]), (&json!("kms.secrets.unwrap"), &json!(200)));
    assert_eq!(
        (&event["initiator"], &event["key"], &event["keyState"]),
        (&json!("reader"), &json!(KEY), &json!(1))
    );
    assert_eq!(event["keyVersionId"], opened["keyVersion"]["id"]);
    assert_eq!(event["rewrappedKeyVersionId"], opened["rewrappedKeyVersion"]["id"]);
    let refused = control(&server, Method::GET, "/_emu/audit?operation=disable", None).await.ok();
    assert_eq!(refused[0]["reason"], "UNAUTHORIZED_ERR");

    let all = json!(server.audit()).to_string();
    let secrets =
        [&wrapped["plaintext"], &wrapped["ciphertext"], &opened["ciphertext"], &json!(reader.token)];
    for secret in secrets {
        assert!(!all.contains(secret.as_str().unwrap()), "the trail holds no secret");
    }
    let last = server.audit().last().unwrap().sequence;
    let none = control(&server, Method::GET, &format!("/_emu/audit?since={last}"), None).await.ok();
    assert_eq!(none, json!([]));
}

#[tokio::test]
async fn a_caller_that_hangs_up_is_on_the_trail_too() {
    let server = start();
    let reader = Caller::new(&server, "reader").await;
    server.add_fault(Fault::new(&["metadata"], FaultKind::Hang));
    let request =
        reader.request(Method::GET, &format!("keys/{KEY}/metadata")).timeout(Duration::from_millis(100));
    assert!(request.send().await.is_err());
    let deadline = Instant::now() + Duration::from_secs(5);
    while server.audit().iter().all(|e| e.operation != "metadata") {
        assert!(Instant::now() < deadline, "no event");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let events = server.audit();
    let event = events.iter().find(|e| e.operation == "metadata").unwrap();
    assert_eq!((event.status, event.fault), (None, Some("hang")));
}

#[tokio::test]
async fn rules_clock_and_reset_are_control_calls() {
    let server = start();
    let writer = Caller::new(&server, "writer").await;
    let rules = control(&server, Method::PUT, "/_emu/rules", Some(json!({"rotationInterval": 0}))).await.ok();
    assert_eq!((&rules["rotationInterval"], &rules["enableDelay"]), (&json!(0), &json!(30)));
    assert_eq!(control(&server, Method::PUT, "/_emu/rules", Some(json!({"rotation": 0}))).await.status, 400);
    writer.action("rotate", &json!({})).await.ok();
    writer.action("rotate", &json!({})).await.ok();
    let moved =
        control(&server, Method::POST, "/_emu/clock/advance", Some(json!({"seconds": 100}))).await.ok();
    assert_eq!(moved["offsetSeconds"], 100);
    server.add_fault(Fault::new(&[], status(500)));
    assert_eq!(control(&server, Method::POST, "/_emu/reset", None).await.status, 204);
    assert_eq!(writer.action("rotate", &json!({})).await.refusal(), (409, "KEY_ROTATION_NOT_PERMITTED"));
    let versions = writer.get(&format!("keys/{KEY}/versions")).await.ok();
    assert_eq!(versions["resources"].as_array().unwrap().len(), 3, "a reset keeps keys");
    assert_eq!(control(&server, Method::GET, "/_emu/clock", None).await.ok()["offsetSeconds"], 100);
    assert_eq!(control(&server, Method::POST, "/_emu/reset", Some(json!({"keys": true}))).await.status, 204);
    let writer = Caller::new(&server, "writer").await;
    let versions = writer.get(&format!("keys/{KEY}/versions")).await.ok();
    assert_eq!(versions["resources"].as_array().unwrap().len(), 1, "unless told to");
    assert_eq!(control(&server, Method::GET, "/_emu/clock", None).await.ok()["offsetSeconds"], 0);
}

#[tokio::test]
async fn health_and_metrics_are_on_the_control_port() {
    let server = start();
    Caller::new(&server, "reader").await.wrap(&[]).await;
    let get =
        async |path: &str| Client::new().get(format!("{}{path}", server.control_url())).send().await.unwrap();
    assert_eq!(get("/healthz").await.status(), 200);
    let text = get("/metrics").await.text().await.unwrap();
    assert!(text.contains("cofferdam_devkms_calls_total{operation=\"wrap\",status=\"200\"} 1"), "{text}");
    assert!(text.contains("cofferdam_devkms_keys{state=\"active\"} 1"), "{text}");
}
