//! Golden requests and answers of every operation, and answers that no real server gives.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{CTX, KEY, RING, admin, by_key, config, fake, is_login, kms, last, spec, wrapped};
use crate::admin::NewKey;
use crate::call::CallCtx;
use crate::config::ConfigError;
use crate::connect::connect;
use crate::error::ErrorKind;
use crate::http::fake::{Fake, JSON, bare, ok, status};
use crate::key::{ContextScheme, KeyRef, KeyState, KeyVersion, Origin, PlainKey, Wrapped};

const PLAIN: [u8; 32] = *b"\xff\xfe\xfdthirty-two bytes of plaintext";
const PLAIN_TEXT: &str = "//79dGhpcnR5LXR3byBieXRlcyBvZiBwbGFpbnRleHQ=";
const CONTEXT: &str = "+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/s=";
/// CRC32C of the plaintext, of the context, of `ABC` and of `DEF`; computed elsewhere.
const SUMS: [u32; 4] = [1_259_302_356, 528_719_191, 2_285_480_319, 4_231_676_482];

fn encrypted(version: &str) -> String {
    format!(
        r#"{{"name":"{KEY}/cryptoKeyVersions/{version}","ciphertext":"REVG","ciphertextCrc32c":"{}",
            "verifiedPlaintextCrc32c":true,"verifiedAdditionalAuthenticatedDataCrc32c":true,"protectionLevel":"HSM"}}"#,
        SUMS[3]
    )
}

fn decrypted(primary: &str) -> String {
    format!(r#"{{"plaintext":"{PLAIN_TEXT}","plaintextCrc32c":"{}"{primary}}}"#, SUMS[0])
}

fn version(id: &str, state: &str) -> String {
    format!(
        r#"{{"name":"{KEY}/cryptoKeyVersions/{id}","state":"{state}","createTime":"2023-11-14T22:13:20.5Z",
            "protectionLevel":"HSM","algorithm":"GOOGLE_SYMMETRIC_ENCRYPTION"}}"#
    )
}

fn key_body(primary: &str, more: &str) -> String {
    format!(r#"{{"name":"{KEY}","purpose":"ENCRYPT_DECRYPT","primary":{primary}{more}}}"#)
}

#[tokio::test]
async fn each_operation_sends_what_the_vendor_documents() {
    let fake =
        fake(|request| ok(if request.line.ends_with(":encrypt") { encrypted("2") } else { decrypted("") }))
            .await;
    let (kms, call) = (kms(&fake), CallCtx::new());
    let made = kms.wrap(&super::key(), &PlainKey::from_bytes(&PLAIN), &CTX, &call).await.unwrap();
    let [plain, context, blob, _] = SUMS;
    let sent = last(&fake);
    assert_eq!(sent.line, format!("POST /v1/{KEY}:encrypt"));
    let expected = format!(
        r#"{{"plaintext":"{PLAIN_TEXT}","additionalAuthenticatedData":"{CONTEXT}","plaintextCrc32c":"{plain}","additionalAuthenticatedDataCrc32c":"{context}"}}"#
    );
    assert_eq!(sent.body, expected);
    for (name, value) in [
        ("authorization", "Bearer ya29.token"),
        ("x-goog-request-reason", call.correlation_id.to_string().as_str()),
        ("content-type", "application/json"),
    ] {
        assert_eq!(sent.header(name), Some(value), "{name}");
    }
    let version = Some(KeyVersion("2".into()));
    assert_eq!(made, Wrapped { blob: b"DEF".to_vec(), version, scheme: ContextScheme::Aad });

    let (own, _) = kms.generate(&super::key(), &CTX, &call).await.unwrap();
    assert_ne!(own.expose(), &PLAIN, "made here");
    assert_eq!(last(&fake).line, format!("POST /v1/{KEY}:encrypt"));

    let opened = kms.unwrap(&super::key(), &wrapped(), &CTX, &call).await.unwrap();
    assert_eq!((opened.key.expose(), opened.used), (&PLAIN, Some(KeyVersion("1".into()))));
    let sent = last(&fake);
    assert_eq!(sent.line, format!("POST /v1/{KEY}:decrypt"));
    let expected = format!(
        r#"{{"ciphertext":"QUJD","additionalAuthenticatedData":"{CONTEXT}","ciphertextCrc32c":"{blob}","additionalAuthenticatedDataCrc32c":"{context}"}}"#
    );
    assert_eq!(sent.body, expected);

    let new = kms.rewrap(&super::key(), &wrapped(), &CTX, &call).await.unwrap();
    assert_eq!(new.blob, b"DEF");
    let lines: Vec<String> = fake.requests().iter().rev().take(2).map(|sent| sent.line.clone()).collect();
    assert_eq!(lines, [format!("POST /v1/{KEY}:encrypt"), format!("POST /v1/{KEY}:decrypt")]);
    assert_eq!(fake.requests().iter().filter(|sent| is_login(sent)).count(), 1);
}

#[tokio::test]
async fn metadata_are_read_as_they_are_meant() {
    let seconds = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let more = r#","rotationPeriod":"2592000.5s""#;
    let body = key_body(&version("3", "ENABLED"), more);
    let whole = fake(move |_| ok(body.clone())).await;
    let info = kms(&whole).describe(&super::key(), &CallCtx::new()).await.unwrap();
    assert_eq!(last(&whole).line, format!("GET /v1/{KEY}"));
    assert_eq!((info.id, info.state, info.origin), (super::key(), KeyState::Enabled, Origin::Generated));
    assert_eq!(info.current, Some(KeyVersion("3".into())));
    assert_eq!(info.auto_rotation, Some(Duration::from_hours(720)));
    assert_eq!(info.rotated_at.map(seconds), Some(1_700_000_000));

    for (primary, state, origin) in [
        (version("1", "DISABLED"), KeyState::Disabled, Origin::Generated),
        (version("1", "DESTROY_SCHEDULED"), KeyState::PendingDeletion, Origin::Generated),
        (version("1", "DESTROYED"), KeyState::Destroyed, Origin::Generated),
        (version("1", "PENDING_IMPORT"), KeyState::PendingImport, Origin::Generated),
        (version("1", "ENABLED").replace("HSM", "EXTERNAL_VPC"), KeyState::Enabled, Origin::External),
        (
            version("1", "ENABLED").replacen('{', r#"{"importJob":"j","#, 1),
            KeyState::Enabled,
            Origin::Imported,
        ),
    ] {
        let body = key_body(&primary, "");
        let fake = fake(move |_| ok(body.clone())).await;
        let info = kms(&fake).describe(&super::key(), &CallCtx::new()).await.unwrap();
        assert_eq!((info.state, info.origin, info.rotated_at), (state, origin, None), "{primary}");
    }
    let empty = format!(r#"{{"name":"{KEY}","purpose":"ENCRYPT_DECRYPT","importOnly":true}}"#);
    let fake = fake(move |_| ok(empty.clone())).await;
    let info = kms(&fake).describe(&super::key(), &CallCtx::new()).await.unwrap();
    assert_eq!((info.state, info.current), (KeyState::PendingImport, None));
}

#[tokio::test]
async fn versions_are_read_page_by_page() {
    let fake = fake(|request| {
        if request.line == format!("GET /v1/{KEY}") {
            return ok(key_body(&version("10", "ENABLED"), ""));
        }
        let (first, rest) = (["1", "2"], ["10", "11"]);
        if request.line.contains("pageToken") {
            let all = rest.map(|id| version(id, "ENABLED")).join(",");
            return ok(format!(r#"{{"cryptoKeyVersions":[{all}],"totalSize":4}}"#));
        }
        let all = format!("{},{}", version(first[0], "DESTROYED"), version(first[1], "DISABLED"));
        ok(format!(r#"{{"cryptoKeyVersions":[{all}],"nextPageToken":"more & more"}}"#))
    })
    .await;
    let listed = kms(&fake).versions(&super::key(), &CallCtx::new()).await.unwrap();
    let ids: Vec<&str> = listed.iter().map(|info| info.version.0.as_str()).collect();
    assert_eq!(
        ids,
        ["10", "11", "2"],
        "the primary first, then the newest; what is destroyed is none any more"
    );
    let lines: Vec<String> = fake.requests().iter().rev().take(2).map(|sent| sent.line.clone()).collect();
    let page = format!("GET /v1/{KEY}/cryptoKeyVersions?pageSize=100");
    assert_eq!(lines, [format!("{page}&pageToken=more+%26+more"), page]);

    let endless = super::fake(|request| {
        if request.line == format!("GET /v1/{KEY}") {
            return ok(key_body(&version("1", "ENABLED"), ""));
        }
        ok(r#"{"nextPageToken":"again"}"#)
    })
    .await;
    let error = kms(&endless).versions(&super::key(), &CallCtx::new()).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Integrity(_)), "{error}");
}

/// A key whose primary version is 2, with a newer one that is disabled.
async fn owned() -> Fake {
    fake(|request| {
        let line = request.line.split_once('?').map_or(request.line.as_str(), |(line, _)| line);
        match line.split_once(KEY) {
            Some(("GET /v1/", "")) => ok(key_body(&version("2", "ENABLED"), "")),
            Some(("GET /v1/", "/cryptoKeyVersions")) => {
                let all = [version("1", "ENABLED"), version("2", "ENABLED"), version("3", "DISABLED")];
                ok(format!(r#"{{"cryptoKeyVersions":[{}]}}"#, all.join(",")))
            }
            Some(("POST /v1/", "/cryptoKeyVersions")) => ok(version("4", "ENABLED")),
            _ => ok("{}"),
        }
    })
    .await
}

/// What was sent to change something since the last time.
fn changes(fake: &Fake, seen: &mut usize) -> Vec<(String, String)> {
    let all = fake.requests();
    let new = &all[std::mem::replace(seen, all.len())..];
    let new = new.iter().filter(|sent| !is_login(sent) && !sent.line.starts_with("GET"));
    new.map(|sent| (sent.line.replace(KEY, "KEY"), sent.body.clone())).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(line, body)| ((*line).to_owned(), (*body).to_owned())).collect()
}

#[tokio::test]
async fn a_key_is_made_and_rotated_as_the_vendor_documents() {
    let fake = owned().await;
    let (owner, call, mut seen) = (admin(&fake), CallCtx::new(), 0);
    let new = NewKey { name: "new".into(), description: None };
    assert_eq!(owner.create(&new, &call).await.unwrap(), KeyRef(format!("{RING}/cryptoKeys/new")));
    let line = format!("POST /v1/{RING}/cryptoKeys?cryptoKeyId=new");
    assert_eq!(changes(&fake, &mut seen), pairs(&[(&line, r#"{"purpose":"ENCRYPT_DECRYPT"}"#)]));
    owner.rotate(&super::key(), &call).await.unwrap();
    let expected = [
        ("POST /v1/KEY/cryptoKeyVersions", "{}"),
        ("POST /v1/KEY:updatePrimaryVersion", r#"{"cryptoKeyVersionId":"4"}"#),
    ];
    assert_eq!(changes(&fake, &mut seen), pairs(&expected));
}

#[tokio::test]
async fn the_key_as_a_whole_is_every_version_of_it() {
    let fake = owned().await;
    let (owner, call, key, mut seen) = (admin(&fake), CallCtx::new(), super::key(), 0);
    owner.set_enabled(&key, false, &call).await.unwrap();
    let off = r#"{"state":"DISABLED"}"#;
    let expected = [
        ("PATCH /v1/KEY/cryptoKeyVersions/2?updateMask=state", off),
        ("PATCH /v1/KEY/cryptoKeyVersions/1?updateMask=state", off),
    ];
    assert_eq!(changes(&fake, &mut seen), pairs(&expected), "the primary one first");
    owner.set_enabled(&key, true, &call).await.unwrap();
    let on = r#"{"state":"ENABLED"}"#;
    let expected = [
        ("PATCH /v1/KEY/cryptoKeyVersions/3?updateMask=state", on),
        ("PATCH /v1/KEY/cryptoKeyVersions/2?updateMask=state", on),
    ];
    assert_eq!(changes(&fake, &mut seen), pairs(&expected), "the primary one last, and always");
    owner.delete(&key, &call).await.unwrap();
    let expected = [
        ("POST /v1/KEY/cryptoKeyVersions/2:destroy", "{}"),
        ("POST /v1/KEY/cryptoKeyVersions/1:destroy", "{}"),
        ("POST /v1/KEY/cryptoKeyVersions/3:destroy", "{}"),
    ];
    assert_eq!(changes(&fake, &mut seen), pairs(&expected));
}

#[tokio::test]
async fn the_services_own_rotation_is_set_with_its_next_time_and_turned_off() {
    let fake = owned().await;
    let (owner, call, key, mut seen) = (admin(&fake), CallCtx::new(), super::key(), 0);
    let rotation = "PATCH /v1/KEY?updateMask=rotationPeriod%2CnextRotationTime";
    owner.set_auto_rotation(&key, None, &call).await.unwrap();
    assert_eq!(changes(&fake, &mut seen), pairs(&[(rotation, "{}")]));
    owner.set_auto_rotation(&key, Some(Duration::from_secs(1)), &call).await.unwrap();
    let (line, body) = changes(&fake, &mut seen).pop().unwrap();
    assert_eq!(line, rotation);
    let next = body.strip_prefix(r#"{"rotationPeriod":"86400s","nextRotationTime":""#).unwrap();
    let next: jiff::Timestamp = next.strip_suffix(r#""}"#).unwrap().parse().unwrap();
    let ahead = next.as_second() - jiff::Timestamp::now().as_second();
    assert!((86_390..=86_400).contains(&ahead), "a day at least: {ahead}");
}

#[tokio::test]
async fn what_waits_for_its_destruction_is_restored_and_enabled() {
    let fake =
        fake(|request| match request.line.split_once('?').map_or(request.line.as_str(), |(line, _)| line) {
            line if line == format!("GET /v1/{KEY}") => ok(key_body(&version("2", "DESTROY_SCHEDULED"), "")),
            line if line == format!("GET /v1/{KEY}/cryptoKeyVersions") => {
                let all =
                    [version("1", "DISABLED"), version("2", "DESTROY_SCHEDULED"), version("3", "DESTROYED")];
                ok(format!(r#"{{"cryptoKeyVersions":[{}]}}"#, all.join(",")))
            }
            _ => ok("{}"),
        })
        .await;
    admin(&fake).restore(&super::key(), &CallCtx::new()).await.unwrap();
    let all = fake.requests();
    let lines: Vec<&str> = all.iter().rev().take(3).map(|sent| sent.line.as_str()).collect();
    assert_eq!(lines[0], format!("PATCH /v1/{KEY}/cryptoKeyVersions/2?updateMask=state"));
    assert_eq!(lines[1], format!("POST /v1/{KEY}/cryptoKeyVersions/2:restore"));
    assert!(lines[2].starts_with("GET"), "what was disabled stays so: {lines:?}");
}

#[tokio::test]
async fn an_answer_that_says_half_of_it_or_something_else_is_unusable() {
    let whole = encrypted("2");
    for broken in [
        "{}".to_owned(),
        whole.replace(r#""verifiedPlaintextCrc32c":true,"#, ""),
        whole.replace(r#""verifiedAdditionalAuthenticatedDataCrc32c":true,"#, ""),
        whole.replace("REVG", "REVH"),
        whole.replace("REVG", "RE-G"),
        whole.replace(&SUMS[3].to_string(), "4231676483"),
        whole.replace(&SUMS[3].to_string(), "4294967296"),
        whole.replace("ciphertextCrc32c", "another"),
        whole.replace("cryptoKeys/k/", "cryptoKeys/other/"),
        whole.replace("cryptoKeyVersions/2", "cryptoKeyVersions/0"),
    ] {
        assert_ne!(broken, whole);
        let body = broken.clone();
        let fake = fake(move |_| ok(body.clone())).await;
        let plain = PlainKey::from_bytes(&PLAIN);
        let error = kms(&fake).wrap(&super::key(), &plain, &CTX, &CallCtx::new()).await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Integrity(_)), "{broken}: {error}");
        assert!(error.is_outage() && !error.is_refusal());
    }
    let whole = decrypted("");
    for broken in [
        "{}".to_owned(),
        whole.replace(&SUMS[0].to_string(), "1"),
        whole.replace("plaintextCrc32c", "another"),
        whole.replace("//79", "//78"),
    ] {
        assert_ne!(broken, whole);
        let body = broken.clone();
        let fake = fake(move |_| ok(body.clone())).await;
        let error = kms(&fake).unwrap(&super::key(), &wrapped(), &CTX, &CallCtx::new()).await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Integrity(_)), "{broken}: {error}");
    }
    for broken in [key_body(&version("1", "SOMETHING_NEW"), ""), key_body("null", "").replace("/k\"", "/l\"")]
    {
        let body = broken.clone();
        let fake = fake(move |_| ok(body.clone())).await;
        let error = kms(&fake).describe(&super::key(), &CallCtx::new()).await.unwrap_err();
        assert!(error.is_outage(), "{broken}: {error}");
    }
}

#[tokio::test]
async fn what_never_was_a_blob_is_not_sent() {
    let fake = fake(|_| unreachable!()).await;
    let empty = Wrapped { blob: Vec::new(), ..wrapped() };
    let unbound = Wrapped { scheme: ContextScheme::None, ..wrapped() };
    for wrong in [empty, unbound] {
        let error = kms(&fake).unwrap(&super::key(), &wrong, &CTX, &CallCtx::new()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::CiphertextInvalid);
    }
    assert!(fake.requests().is_empty());
}

#[tokio::test]
async fn a_key_that_cannot_wrap_is_said_so() {
    let body = key_body("null", "").replace("ENCRYPT_DECRYPT", "ASYMMETRIC_SIGN");
    let fake = fake(move |_| ok(body.clone())).await;
    let error = kms(&fake).describe(&super::key(), &CallCtx::new()).await.unwrap_err();
    assert!(error.to_string().contains("ASYMMETRIC_SIGN"), "{error}");
    assert!(!error.is_outage() && !error.is_refusal());
}

#[tokio::test]
async fn a_key_that_is_there_is_not_made() {
    let body = r#"{"error":{"code":409,"message":"exists","status":"ALREADY_EXISTS"}}"#;
    let fake = fake(move |_| status(409, JSON, body)).await;
    let new = NewKey { name: "k".into(), description: None };
    let error = admin(&fake).create(&new, &CallCtx::new()).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Config(_)), "{error}");
    let new = NewKey { name: "../k".into(), description: None };
    let error = admin(&fake).create(&new, &CallCtx::new()).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Config(_)), "{error}");
}

#[tokio::test]
async fn a_configuration_that_could_lead_elsewhere_is_wrong() {
    let fake = fake(|_| unreachable!()).await;
    let right = spec(&fake);
    let refused = |spec| connect(&config(spec, by_key()), &bare()).err();
    for wrong in ["", "k", "projects/p/locations/l/keyRings/r/cryptoKeys/../k"] {
        let spec = contract::config::GoogleKms { key: wrong.into(), ..right.clone() };
        assert_eq!(refused(spec), Some(ConfigError::Field { field: "key" }), "{wrong:?}");
    }
    for wrong in ["http://kms.example", "https://kms.example/v1", "https://u:p@kms.example"] {
        let spec = contract::config::GoogleKms { endpoint: Some(wrong.into()), ..right.clone() };
        assert!(matches!(refused(spec), Some(ConfigError::Endpoint { field: "endpoint", .. })), "{wrong}");
    }
    for wrong in ["https://tokens.example", "https://tokens.example/x/token", "http://tokens.example/token"] {
        let spec = contract::config::GoogleKms { token_endpoint: Some(wrong.into()), ..right.clone() };
        assert!(
            matches!(refused(spec), Some(ConfigError::Endpoint { field: "tokenEndpoint", .. })),
            "{wrong}"
        );
    }
}
