//! What a version's refusal means for the key, with answers that an emulator gives only by chance: half of the details, or a key
//! that changed between two looks.

use super::{CTX, KEY, fake, key, kms, wrapped};
use crate::call::CallCtx;
use crate::error::ErrorKind;
use crate::http::fake::{JSON, Say, ok, status};
use crate::key::{KeyVersion, PlainKey, Wrapped};

fn version(id: &str, state: &str) -> String {
    format!(r#"{{"name":"{KEY}/cryptoKeyVersions/{id}","state":"{state}"}}"#)
}

fn refused(details: &str) -> Say {
    let body = format!(
        r#"{{"error":{{"code":400,"message":"x","status":"FAILED_PRECONDITION","details":[{details}]}}}}"#
    );
    status(400, JSON, body)
}

fn violation(kind: &str, id: &str) -> String {
    format!(
        r#"{{"@type":"type.googleapis.com/google.rpc.PreconditionFailure",
            "violations":[{{"type":"{kind}","subject":"{KEY}/cryptoKeyVersions/{id}"}}]}}"#
    )
}

/// How the key answers when it is looked at.
#[derive(Clone, Copy, Debug)]
enum Look {
    Key(&'static str),
    Denied,
    Down,
}

/// What comes of a refusal with these details, of a key whose primary version is 2.
async fn meaning(
    verb: &str,
    details: String,
    look: Look,
    old: &'static str,
    recorded: Option<&str>,
) -> ErrorKind {
    let fake = fake(move |request| {
        if request.line.starts_with("POST") {
            return refused(&details);
        }
        if request.line.ends_with("/cryptoKeyVersions/1") {
            return ok(version("1", old));
        }
        match look {
            Look::Key(state) => {
                let primary = version("2", state);
                ok(format!(r#"{{"name":"{KEY}","purpose":"ENCRYPT_DECRYPT","primary":{primary}}}"#))
            }
            Look::Denied => {
                status(403, JSON, r#"{"error":{"code":403,"message":"x","status":"PERMISSION_DENIED"}}"#)
            }
            Look::Down => status(503, JSON, "{}"),
        }
    })
    .await;
    let (kms, call) = (kms(&fake), CallCtx::new());
    let error = if verb == "wrap" {
        kms.wrap(&key(), &PlainKey::from_bytes(&[1; 32]), &CTX, &call).await.unwrap_err()
    } else {
        let version = recorded.map(|id| KeyVersion(id.into()));
        kms.unwrap(&key(), &Wrapped { version, ..wrapped() }, &CTX, &call).await.unwrap_err()
    };
    assert_eq!(error.context.http_status, Some(400), "{error}");
    error.kind
}

fn unavailable(id: &str) -> ErrorKind {
    ErrorKind::VersionUnavailable { version: Some(KeyVersion(id.into())) }
}

fn is_passing(kind: &ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unavailable { .. })
}

#[tokio::test]
async fn an_unwrap_is_refused_by_the_key_or_by_a_version() {
    let one = Some("1");
    let disabled = || violation("KEY_DISABLED", "1");
    for (state, expected) in [
        ("ENABLED", unavailable("1")),
        ("DISABLED", ErrorKind::KeyDisabled),
        ("DESTROY_SCHEDULED", ErrorKind::KeyPendingDeletion { until: None }),
        ("DESTROYED", ErrorKind::KeyDestroyed { recoverable_until: None }),
    ] {
        let said = meaning("unwrap", disabled(), Look::Key(state), "DISABLED", one).await;
        assert_eq!(said, expected, "named by the service, key {state}");
        let said = meaning("unwrap", String::new(), Look::Key(state), "DISABLED", one).await;
        assert_eq!(said, expected, "looked up, key {state}");
    }
    assert_eq!(meaning("unwrap", disabled(), Look::Key("ENABLED"), "", None).await, unavailable("1"));
    let nothing = meaning("unwrap", String::new(), Look::Key("ENABLED"), "", None).await;
    assert_eq!(nothing, ErrorKind::Invalid, "nobody knows which version it is");
}

#[tokio::test]
async fn what_is_certain_stays_a_refusal_though_nobody_can_look() {
    for look in [Look::Denied, Look::Down] {
        let disabled = violation("KEY_DISABLED", "1");
        let said = meaning("unwrap", disabled.clone(), look, "DISABLED", Some("1")).await;
        assert_eq!(said, unavailable("1"), "{look:?}");
        assert_eq!(meaning("wrap", disabled, look, "", None).await, ErrorKind::KeyDisabled, "{look:?}");
    }
    let unknown = meaning("unwrap", String::new(), Look::Down, "", Some("1")).await;
    assert!(is_passing(&unknown), "{unknown:?}");
    let unknown = meaning("wrap", String::new(), Look::Down, "", None).await;
    assert!(is_passing(&unknown), "{unknown:?}");
}

#[tokio::test]
async fn what_changed_meanwhile_is_asked_again() {
    let enabled = Look::Key("ENABLED");
    for (verb, details) in [
        ("wrap", violation("KEY_DISABLED", "2")),
        ("wrap", String::new()),
        ("unwrap", violation("KEY_DISABLED", "2")),
        ("unwrap", String::new()),
    ] {
        let said = meaning(verb, details, enabled, "ENABLED", Some("1")).await;
        assert!(is_passing(&said), "{verb}: {said:?}");
    }
}

#[tokio::test]
async fn a_key_without_a_primary_version_wraps_nothing() {
    let fake = fake(|request| {
        if request.line.starts_with("POST") {
            return refused("");
        }
        ok(format!(r#"{{"name":"{KEY}","purpose":"ENCRYPT_DECRYPT"}}"#))
    })
    .await;
    let plain = PlainKey::from_bytes(&[1; 32]);
    let error = kms(&fake).wrap(&key(), &plain, &CTX, &CallCtx::new()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::VersionUnavailable { version: None }, "{error}");
}
