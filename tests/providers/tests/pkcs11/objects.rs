//! What the objects of a root key are, and which objects are none.

use std::collections::BTreeSet;

use contract::config::Provider;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass};
use kms::{CallCtx, ErrorKind, KeyState, Origin};
use providers::checks::CTX;
use providers::softhsm::{KEY, Vendor};
use providers::{Bench, Caller};

use crate::{describe, once, unwrap, with_bench};

#[test]
fn a_root_key_never_leaves_the_token() {
    with_bench("objects::a_root_key_never_leaves_the_token", async |b| {
        b.owner().rotate(&b.key(), &CallCtx::new()).await.unwrap();
        let vendor = Vendor::new();
        let objects = vendor.objects(KEY);
        assert_eq!(objects.len(), 2);
        for object in objects {
            let asked = [
                AttributeType::Sensitive,
                AttributeType::AlwaysSensitive,
                AttributeType::NeverExtractable,
                AttributeType::Private,
                AttributeType::Token,
            ];
            let said = vendor.attributes(object, &asked);
            let expected = [
                Attribute::Sensitive(true),
                Attribute::AlwaysSensitive(true),
                Attribute::NeverExtractable(true),
                Attribute::Private(true),
                Attribute::Token(true),
            ];
            assert_eq!(format!("{said:?}"), format!("{expected:?}"));
            let value = vendor.0.get_attributes(object, &[AttributeType::Value]);
            assert!(value.is_ok_and(|value| value.is_empty()), "its value is not told");
        }
        let info = describe(&b.connect(Caller::Data, &once()), &b).await.unwrap();
        assert_eq!((info.state, info.origin), (KeyState::Enabled, Origin::Generated));
        assert!(info.rotated_at.is_some());
    });
}

#[test]
fn two_who_rotate_at_once_agree_on_the_current_version() {
    with_bench("objects::two_who_rotate_at_once_agree_on_the_current_version", async |b| {
        let (call, kms) = (CallCtx::new(), b.connect(Caller::Data, &once()));
        let (_, oldest) = kms.generate(&b.key(), &CTX, &call).await.unwrap();
        let (one, other) = (b.owner(), b.owner());
        let key = b.key();
        for round in 1..=5 {
            let (first, second) = futures::join!(one.rotate(&key, &call), other.rotate(&key, &call));
            first.and(second).unwrap();
            let versions = kms.versions(&key, &call).await.unwrap();
            let names: BTreeSet<_> = versions.iter().map(|version| &version.version).collect();
            assert_eq!((versions.len(), names.len()), (1 + 2 * round, 1 + 2 * round));
            for kms in [&kms, &b.connect(Caller::Data, &once())] {
                let current = describe(kms, &b).await.unwrap().current.unwrap();
                assert_eq!(current, versions[0].version);
                let (_, wrapped) = kms.generate(&key, &CTX, &call).await.unwrap();
                assert_eq!(wrapped.version.as_ref(), Some(&current));
                unwrap(kms, &b, &wrapped).await.unwrap();
            }
        }
        unwrap(&kms, &b, &oldest).await.unwrap();
    });
}

/// An object that would be current, if it counted.
fn planted(private: bool, sensitive: bool, extractable: bool, id: &[u8]) -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Token(true),
        Attribute::Private(private),
        Attribute::Sensitive(sensitive),
        Attribute::Extractable(extractable),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::Label(KEY.into()),
        Attribute::Id(id.into()),
        Attribute::Value(vec![7; 32]),
    ]
}

#[test]
fn an_object_that_could_be_planted_or_taken_away_is_no_version() {
    with_bench("objects::an_object_that_could_be_planted_or_taken_away_is_no_version", async |b| {
        let (vendor, kms, call) = (Vendor::new(), b.connect(Caller::Data, &once()), CallCtx::new());
        let before = describe(&kms, &b).await.unwrap().current;
        // Without a PIN anybody makes a public one; the others could leave the token, or have an id of some other kind.
        for template in [
            planted(false, true, false, &[0xff; 16]),
            planted(true, false, true, &[0xff; 16]),
            planted(true, true, true, &[0xff; 16]),
            planted(true, true, false, &[0xff; 2]),
        ] {
            vendor.0.create_object(&template).unwrap();
            assert_eq!(describe(&kms, &b).await.unwrap().current, before);
            let (_, wrapped) = kms.generate(&b.key(), &CTX, &call).await.unwrap();
            assert_eq!(wrapped.version, before);
        }
        // So that the test could fail: an imported one that does not leave the token counts.
        vendor.0.create_object(&planted(true, true, false, &[0xff; 16])).unwrap();
        let info = describe(&kms, &b).await.unwrap();
        assert_eq!((info.current.unwrap().0, info.origin), ("ff".repeat(16), Origin::Imported));
    });
}

#[test]
fn a_token_without_aes_gcm_says_so_at_the_first_call() {
    with_bench("objects::a_token_without_aes_gcm_says_so_at_the_first_call", async |b| {
        let path = std::env::var_os("SOFTHSM2_CONF").unwrap();
        let conf = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, conf + "slots.mechanisms = CKM_AES_KEY_GEN\n").unwrap();
        let kms = b.connect(Caller::Data, &once());
        b.finalize();
        // The call that meets the end of the library initialises it again, by the new configuration.
        let error = describe(&kms, &b).await.unwrap_err();
        let ErrorKind::Config(what) = &error.kind else { panic!("{error}") };
        assert!(what.contains("CKM_AES_GCM") && !error.is_refusal(), "{error}");
    });
}

#[test]
fn a_library_that_is_none_says_so() {
    with_bench("objects::a_library_that_is_none_says_so", async |b| {
        for file in ["/not/there.so", "/etc/passwd", "/lib/x86_64-linux-gnu/libm.so.6"] {
            let mut config = b.config("/not/read");
            let Provider::Pkcs11(spec) = &mut config.provider else { unreachable!() };
            spec.module = file.into();
            let kms = kms::connect_with_secret(&config, b.pin(), &once()).unwrap();
            let error = describe(&kms, &b).await.unwrap_err();
            assert!(matches!(error.kind, ErrorKind::Config(_)), "{file}: {error}");
            assert!(!error.is_refusal() && !error.is_outage());
        }
    });
}
