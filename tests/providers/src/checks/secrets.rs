//! What must never be seen.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::{Bench, CTX, CallCtx, Caller, Op, Options, Trouble, unwrap};
use crate::log::Log;
use kms::{PlainKey, Wrapped};

/// Runs everything that can succeed and fail with logging at its loudest, then looks for secrets in all that was said.
pub async fn nothing_secret_is_logged_or_shown(b: impl Bench) {
    let log = Log::default();
    let guard = log.collect();
    let (kms, key, call) = (b.connect(Caller::Data, &Options::default()), b.key(), CallCtx::new());
    let given = PlainKey::from_bytes(b"thirty-two bytes of a secret key");
    let (made, wrapped) = kms.generate(&key, &CTX, &call).await.unwrap();
    let mut said = format!("{made:?} {wrapped:?} {given:?}");
    let own = kms.wrap(&key, &given, &CTX, &call).await.unwrap();
    write!(said, "{:?}", unwrap(&kms, &key, &own).await.unwrap()).unwrap();
    for trouble in [Trouble::Truncated, Trouble::BadJson, Trouble::Oversized] {
        b.trouble(Op::Unwrap, trouble, Some(1));
        let _ = kms.unwrap(&key, &wrapped, &CTX, &CallCtx::new().fresh()).await;
    }
    b.revoke_tokens().await;
    let cut = Wrapped { blob: wrapped.blob[..40].to_vec(), ..wrapped.clone() };
    for error in [
        unwrap(&kms, &key, &cut).await.unwrap_err(),
        unwrap(&kms, &b.missing_key(), &wrapped).await.unwrap_err(),
        kms.wrap(&b.missing_key(), &given, &CTX, &call).await.unwrap_err(),
    ] {
        write!(said, "{error} {error:?}").unwrap();
    }
    // Refused by services that bind the context.
    if let Err(error) = kms.unwrap(&key, &wrapped, &[0; 32], &call).await {
        write!(said, "{error} {error:?}").unwrap();
    }
    drop(guard);
    said.push_str(&log.text());
    assert!(said.contains("\"op\":\"unwrap\""), "the log was collected");
    let mut secrets = b.secrets();
    for bytes in [made.expose(), given.expose()] {
        secrets.push(STANDARD.encode(bytes));
        secrets.push(URL_SAFE_NO_PAD.encode(bytes));
        secrets.push(bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}")));
        secrets.push(format!("{bytes:?}"));
        secrets.push(String::from_utf8_lossy(bytes).into_owned());
    }
    for secret in secrets {
        assert!(!said.contains(&secret), "found {secret:?}");
    }
}
