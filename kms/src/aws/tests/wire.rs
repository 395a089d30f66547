//! Golden requests and answers of every operation, and answers that AWS does not give.

use std::sync::Mutex;
use std::time::{Duration, UNIX_EPOCH};

use contract::config::{AwsKms, Credential};
use secrecy::SecretString;

use super::fixture::*;
use crate::admin::NewKey;
use crate::call::CallCtx;
use crate::config::ConfigError;
use crate::connect::connect_with_secret;
use crate::error::ErrorKind;
use crate::http::fake::{Fake, bare};
use crate::key::{ContextScheme, KeyRef, KeyState, KeyVersion, Origin, PlainKey, Wrapped};

const PLAIN: [u8; 32] = *b"\xff\xfe\xfdthirty-two bytes of plaintext";
const PLAIN_TEXT: &str = "//79dGhpcnR5LXR3byBieXRlcyBvZiBwbGFpbnRleHQ=";
const CTX: [u8; 32] = [0xfb; 32];
const CONTEXT: &str = r#"{"cofferdam-context":"-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s"}"#;

fn crypt() -> String {
    format!(
        r#"{{"KeyId":"{ARN}","SourceKeyId":"{ARN}","CiphertextBlob":"{BLOB_TEXT}","Plaintext":"{PLAIN_TEXT}",
        "KeyMaterialId":"{MATERIAL}","SourceKeyMaterialId":"{OLDER}","DestinationKeyMaterialId":"{MATERIAL}"}}"#
    )
}

fn moves() -> String {
    format!(
        r#"{{"CiphertextBlob":"{BLOB_TEXT}","SourceKeyId":"{ARN}","SourceEncryptionContext":{CONTEXT},"DestinationKeyId":"{ARN}","DestinationEncryptionContext":{CONTEXT}}}"#
    )
}

fn sent(fake: &Fake) -> (String, String) {
    let request = last(fake);
    assert_eq!(request.line, "POST /");
    (action(&request), request.body)
}

#[tokio::test]
async fn each_operation_sends_what_the_vendor_documents() {
    let fake = Fake::raw(|_| said(crypt())).await;
    let (kms, call) = (kms(&fake), CallCtx::new());

    let (plain, made) = kms.generate(&key(), &CTX, &call).await.unwrap();
    let body = format!(r#"{{"KeyId":"{ARN}","KeySpec":"AES_256","EncryptionContext":{CONTEXT}}}"#);
    assert_eq!(sent(&fake), ("GenerateDataKey".into(), body));
    assert_eq!((plain.expose(), made.blob.as_slice()), (&PLAIN, BLOB.as_slice()));
    assert_eq!(
        (made.version, made.scheme),
        (Some(KeyVersion(MATERIAL.into())), ContextScheme::EncryptionContext)
    );

    let agent = format!("cofferdam/{} correlation/{}", env!("CARGO_PKG_VERSION"), call.correlation_id);
    let request = last(&fake);
    for (name, value) in [
        ("content-type", JSON),
        ("x-amz-security-token", "a-session-token"),
        ("user-agent", agent.as_str()),
        ("host", fake.at.to_string().as_str()),
    ] {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
    let day = &request.header("x-amz-date").unwrap()[..8];
    let signed = request.header("authorization").unwrap();
    let start = format!(
        "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/{day}/eu-central-1/kms/aws4_request, \
         SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target, Signature="
    );
    assert_eq!(signed.strip_prefix(&start).map(str::len), Some(64), "{signed}");

    let opened = kms.unwrap(&key(), &wrapped(), &CTX, &call).await.unwrap();
    let body = format!(r#"{{"KeyId":"{ARN}","CiphertextBlob":"{BLOB_TEXT}","EncryptionContext":{CONTEXT}}}"#);
    assert_eq!(sent(&fake), ("Decrypt".into(), body));
    assert_eq!((opened.key.expose(), opened.used), (&PLAIN, Some(KeyVersion(MATERIAL.into()))));

    let moved = kms.rewrap(&key(), &wrapped(), &CTX, &call).await.unwrap();
    assert_eq!(sent(&fake), ("ReEncrypt".into(), moves()));
    assert_eq!(moved.version, Some(KeyVersion(MATERIAL.into())));
}

#[tokio::test]
async fn what_encrypt_wrapped_is_rewrapped_at_once_because_only_that_tells_the_version() {
    let fake = Fake::raw(|request| match action(request).as_str() {
        "Encrypt" => said(format!(r#"{{"KeyId":"{ARN}","CiphertextBlob":"{BLOB_TEXT}"}}"#)),
        _ => said(format!(
            r#"{{"KeyId":"{ARN}","CiphertextBlob":"AQIE","DestinationKeyMaterialId":"{MATERIAL}"}}"#
        )),
    })
    .await;
    let made = kms(&fake).wrap(&key(), &PlainKey::from_bytes(&PLAIN), &CTX, &CallCtx::new()).await.unwrap();
    let requests = fake.requests();
    let body = format!(r#"{{"KeyId":"{ARN}","Plaintext":"{PLAIN_TEXT}","EncryptionContext":{CONTEXT}}}"#);
    assert_eq!((action(&requests[0]).as_str(), requests[0].body.as_str()), ("Encrypt", body.as_str()));
    assert_eq!(sent(&fake), ("ReEncrypt".into(), moves()));
    assert_eq!(requests.len(), 2);
    assert_eq!(
        (made.blob.as_slice(), made.version),
        ([1, 2, 4].as_slice(), Some(KeyVersion(MATERIAL.into())))
    );
}

#[tokio::test]
async fn the_owners_operations_send_what_the_vendor_documents() {
    let fake = Fake::raw(usual).await;
    let (owner, call) = (admin(&fake), CallCtx::new());
    let of_key = format!(r#"{{"KeyId":"{ARN}"}}"#);
    let expect = |action: &str, body: &str| assert_eq!(sent(&fake), (action.into(), body.into()));
    let new = NewKey { name: "shop".into(), description: Some("its volumes".into()) };
    assert_eq!(owner.create(&new, &call).await.unwrap(), key());
    expect("CreateKey", r#"{"Description":"shop: its volumes"}"#);
    owner.rotate(&key(), &call).await.unwrap();
    expect("RotateKeyOnDemand", &of_key);
    owner.set_enabled(&key(), false, &call).await.unwrap();
    expect("DisableKey", &of_key);
    owner.set_enabled(&key(), true, &call).await.unwrap();
    expect("EnableKey", &of_key);
    owner.delete(&key(), &call).await.unwrap();
    expect("ScheduleKeyDeletion", &format!(r#"{{"KeyId":"{ARN}","PendingWindowInDays":30}}"#));
    let before = fake.requests().len();
    owner.restore(&key(), &call).await.unwrap();
    let restored: Vec<String> = fake.requests()[before..].iter().map(action).collect();
    assert_eq!(restored, ["CancelKeyDeletion", "EnableKey"]);
    owner.set_auto_rotation(&key(), Some(Duration::from_hours(24 * 180)), &call).await.unwrap();
    expect("EnableKeyRotation", &format!(r#"{{"KeyId":"{ARN}","RotationPeriodInDays":180}}"#));
    owner.set_auto_rotation(&key(), None, &call).await.unwrap();
    expect("DisableKeyRotation", &of_key);

    let before = fake.requests().len();
    for days in [89, 2561] {
        let wrong = owner.set_auto_rotation(&key(), Some(Duration::from_hours(24 * days)), &call).await;
        assert!(matches!(wrong.unwrap_err().kind, ErrorKind::Config(_)), "{days}");
    }
    assert_eq!(fake.requests().len(), before, "AWS is not asked for what it does not have");
    owner.rotate(&KeyRef("alias/storage".into()), &call).await.unwrap();
    expect("RotateKeyOnDemand", &of_key);
    assert_eq!(action(&fake.requests()[before]), "DescribeKey", "rotation takes no alias");
}

#[tokio::test]
async fn metadata_are_read_as_they_are_meant() {
    let fake = Fake::raw(usual).await;
    let (kms, call) = (kms(&fake), CallCtx::new());
    let at = |seconds| Some(UNIX_EPOCH + Duration::from_secs_f64(seconds));
    for _ in 0..2 {
        let info = kms.describe(&KeyRef("alias/storage".into()), &call).await.unwrap();
        assert_eq!((info.id, info.state, info.origin), (key(), KeyState::Enabled, Origin::Generated));
        assert_eq!((info.current, info.rotated_at), (Some(KeyVersion(MATERIAL.into())), at(1_700_086_400.0)));
        assert_eq!(info.auto_rotation, Some(Duration::from_hours(24 * 180)));
    }
    let asked: Vec<String> = fake.requests().iter().map(action).collect();
    let once =
        ["DescribeKey", "GetKeyRotationStatus", "ListKeyRotations", "DescribeKey", "GetKeyRotationStatus"];
    assert_eq!(asked, once, "when a version was made is asked once");
    let versions = kms.versions(&key(), &call).await.unwrap();
    let said: Vec<_> = versions.iter().map(|one| (one.version.0.as_str(), one.created_at)).collect();
    assert_eq!(said, [(MATERIAL, at(1_700_086_400.0)), (OLDER, at(1_700_000_000.5))]);
    let body = format!(r#"{{"KeyId":"{ARN}","IncludeKeyMaterial":"ALL_KEY_MATERIAL"}}"#);
    assert_eq!(sent(&fake), ("ListKeyRotations".into(), body));
}

#[tokio::test]
async fn rotations_that_one_may_not_ask_for_hide_no_state_and_cost_no_other_keys() {
    let fake = Fake::raw(|request| match action(request).as_str() {
        "GetKeyRotationStatus" | "ListKeyRotations" => refused("AccessDeniedException"),
        _ => usual(request),
    })
    .await;
    let kms = kms_of_role(&fake);
    for _ in 0..2 {
        let info = kms.describe(&key(), &CallCtx::new()).await.unwrap();
        assert_eq!((info.state, info.auto_rotation, info.rotated_at), (KeyState::Enabled, None, None));
    }
    assert_eq!(fake.requests().iter().filter(|request| action(request) == "STS").count(), 1);
}

#[tokio::test]
async fn versions_come_in_pages_and_a_list_without_end_is_unusable() {
    let pages = Mutex::new(0);
    let fake = Fake::raw(move |request| {
        if action(request) != "ListKeyRotations" {
            return usual(request);
        }
        let mut page = pages.lock().unwrap();
        *page += 1;
        match *page {
            1 => said(format!(
                r#"{{"Rotations":[{{"KeyMaterialId":"{OLDER}","KeyMaterialState":"NON_CURRENT"}}],"Truncated":true,"NextMarker":"m 2"}}"#
            )),
            _ => said(format!(
                r#"{{"Rotations":[{{"KeyMaterialId":"{MATERIAL}","KeyMaterialState":"CURRENT","RotationDate":1.0}},{{"KeyMaterialId":"x","KeyMaterialState":"PENDING_ROTATION"}}]}}"#
            )),
        }
    })
    .await;
    let listed = kms(&fake).versions(&key(), &CallCtx::new()).await.unwrap();
    assert_eq!(listed.iter().map(|one| one.version.0.as_str()).collect::<Vec<_>>(), [MATERIAL, OLDER]);
    assert!(last(&fake).body.contains(r#""Marker":"m 2""#));

    let endless = r#"{"Rotations":[],"Truncated":true,"NextMarker":"m"}"#;
    fake.rescript(
        move |request| if action(request) == "ListKeyRotations" { said(endless) } else { usual(request) },
    );
    let error = kms(&fake).versions(&key(), &CallCtx::new()).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Integrity(_)), "{error}");
}

#[tokio::test]
async fn a_key_that_cannot_rotate_has_one_version_named_as_itself() {
    let fake = Fake::raw(|request| match action(request).as_str() {
        "DescribeKey" => said(
            metadata("Enabled")
                .replace("\"CurrentKeyMaterialId\"", "\"Nothing\"")
                .replace("AWS_KMS", "AWS_CLOUDHSM"),
        ),
        "ListKeyRotations" => refused("UnsupportedOperationException"),
        _ => {
            said(format!(r#"{{"KeyId":"{ARN}","CiphertextBlob":"{BLOB_TEXT}","Plaintext":"{PLAIN_TEXT}"}}"#))
        }
    })
    .await;
    let (kms, call, version) = (kms(&fake), CallCtx::new(), Some(KeyVersion(ARN.into())));
    let info = kms.describe(&key(), &call).await.unwrap();
    assert_eq!((info.current, info.origin), (version.clone(), Origin::External));
    assert_eq!(kms.generate(&key(), &CTX, &call).await.unwrap().1.version, version);
    assert_eq!(kms.wrap(&key(), &PlainKey::from_bytes(&PLAIN), &CTX, &call).await.unwrap().version, version);
    assert_eq!(kms.unwrap(&key(), &wrapped(), &CTX, &call).await.unwrap().used, version);
    let listed = kms.versions(&key(), &call).await.unwrap();
    assert_eq!(listed.into_iter().map(|one| Some(one.version)).collect::<Vec<_>>(), [version]);
}

#[tokio::test]
async fn the_state_of_a_key_says_why_it_refuses() {
    let until = Some(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    for (state, expected, outage) in [
        ("PendingDeletion", Some(ErrorKind::KeyPendingDeletion { until }), false),
        ("PendingReplicaDeletion", Some(ErrorKind::KeyPendingDeletion { until }), false),
        ("PendingImport", Some(ErrorKind::KeyDisabled), false),
        ("Disabled", Some(ErrorKind::KeyDisabled), false),
        ("Enabled", None, true),
        ("Creating", None, true),
        ("Unavailable", None, true),
    ] {
        let fake = Fake::raw(move |request| match action(request).as_str() {
            "Decrypt" => refused("KMSInvalidStateException"),
            _ => said(metadata(state)),
        })
        .await;
        let error = kms(&fake).unwrap(&key(), &wrapped(), &CTX, &CallCtx::new()).await.unwrap_err();
        assert_eq!((error.is_refusal(), error.is_outage()), (!outage, outage), "{state}: {error}");
        if let Some(expected) = expected {
            assert_eq!(error.kind, expected, "{state}");
        }
        assert_eq!(error.context.op, crate::call::Op::Unwrap);
    }
}

#[tokio::test]
async fn a_key_that_cannot_wrap_is_said_so() {
    let asymmetric = metadata("Enabled").replace("SYMMETRIC_DEFAULT", "RSA_4096");
    let fake = Fake::raw(move |_| said(asymmetric.clone())).await;
    let error = kms(&fake).describe(&key(), &CallCtx::new()).await.unwrap_err();
    assert!(error.to_string().contains("RSA_4096"), "{error}");
    assert!(!error.is_outage() && !error.is_refusal());
}

#[tokio::test]
async fn a_blob_that_cannot_be_of_aws_is_not_sent() {
    let fake = Fake::raw(|_| unreachable!()).await;
    let (kms, call) = (kms(&fake), CallCtx::new());
    for wrong in [
        Wrapped { blob: vec![], ..wrapped() },
        Wrapped { blob: vec![1; 6145], ..wrapped() },
        Wrapped { scheme: ContextScheme::Aad, ..wrapped() },
    ] {
        for error in [
            kms.unwrap(&key(), &wrong, &CTX, &call).await.unwrap_err(),
            kms.rewrap(&key(), &wrong, &CTX, &call).await.unwrap_err(),
        ] {
            assert_eq!(error.kind, ErrorKind::CiphertextInvalid, "{wrong:?}");
        }
    }
    assert!(fake.requests().is_empty());
}

#[tokio::test]
async fn an_answer_that_says_half_of_it_is_unusable() {
    for body in [
        "{}".to_owned(),
        "null".into(),
        format!(r#"{{"CiphertextBlob":"{BLOB_TEXT}"}}"#),
        format!(r#"{{"KeyId":"{ARN}"}}"#),
        format!(r#"{{"KeyId":"{ARN}","CiphertextBlob":""}}"#),
        format!(r#"{{"KeyId":"{ARN}","CiphertextBlob":"%%"}}"#),
        format!(r#"{{"KeyId":"","CiphertextBlob":"{BLOB_TEXT}"}}"#),
        format!(r#"{{"KeyId":"{ARN}","CiphertextBlob":"{BLOB_TEXT}","DestinationKeyMaterialId":"a\nb"}}"#),
    ] {
        let answer = body.clone();
        let fake = Fake::raw(move |_| said(answer.clone())).await;
        let error = kms(&fake).rewrap(&key(), &wrapped(), &CTX, &CallCtx::new()).await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Integrity(_)), "{body}: {error}");
        assert!(error.is_outage() && !error.is_refusal());
    }
}

#[tokio::test]
async fn a_wrong_configuration_shows_without_a_call() {
    let fake = Fake::raw(|_| unreachable!()).await;
    let right = root_key(&fake);
    let with = |of: AwsKms, credential: Credential| {
        connect_with_secret(&config(of, credential), SecretString::from(FILE), &bare()).err()
    };
    for wrong in ["", "eu-central-1.evil.example/", "EU", "a b"] {
        let of = AwsKms { region: wrong.into(), ..right.clone() };
        assert_eq!(with(of, keys_file()), Some(ConfigError::Field { field: "region" }), "{wrong:?}");
    }
    let elsewhere = ARN.replace("eu-central-1", "us-east-1");
    for wrong in ["", "a b", "k\"", elsewhere.as_str(), "arn:aws"] {
        let of = AwsKms { key: wrong.into(), ..right.clone() };
        assert_eq!(with(of, keys_file()), Some(ConfigError::Field { field: "key" }), "{wrong:?}");
    }
    for (field, of) in [
        ("endpoint", AwsKms { endpoint: Some("http://kms.example".into()), ..right.clone() }),
        ("stsEndpoint", AwsKms { sts_endpoint: Some("https://sts.example/path".into()), ..right.clone() }),
    ] {
        let refused = with(of, web_identity());
        assert!(
            matches!(refused, Some(ConfigError::Endpoint { field: named, .. }) if named == field),
            "{field}"
        );
    }
    let other = Credential::ApiKeyFile { path: "/not/read".into() };
    assert_eq!(with(right.clone(), other), Some(ConfigError::Credential));
    let role = Credential::AwsWebIdentity { role_arn: String::new(), token_path: "/not/read".into() };
    assert_eq!(with(right, role), Some(ConfigError::Field { field: "credential.roleArn" }));
}
