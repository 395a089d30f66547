//! 401 means "bad token" or "no permission": a new token tells which.

use secrecy::SecretString;

use super::fake::*;
use crate::call::CallCtx;
use crate::connect::{Options, connect_with_secret};
use crate::error::{ErrorKind, KmsError};
use crate::key::Unwrapped;

const CTX: [u8; 32] = [1; 32];

async fn unwrap(fake: &Fake, options: &Options) -> Result<Unwrapped, KmsError> {
    let kms = connect_with_secret(&fake.config(), SecretString::from(API_KEY), options).unwrap();
    kms.unwrap(&key(), &wrapped(), &CTX, &CallCtx::new()).await
}

/// Each login gives another token; `say` answers a call with the token's number.
async fn numbered(mut say: impl FnMut(usize) -> Say + Send + 'static) -> Fake {
    let mut logins = 0;
    Fake::raw(move |request| {
        if request.is_login() {
            logins += 1;
            return token(&format!("token-{logins}"), 3600);
        }
        let number = request.header("authorization").unwrap().rsplit_once('-').unwrap().1;
        say(number.parse().unwrap())
    })
    .await
}

#[tokio::test]
async fn a_token_that_is_refused_is_replaced_once_and_the_call_succeeds() {
    let plain = "A".repeat(43) + "=";
    for code in [(401, "UNAUTHORIZED_ERR"), (400, "BEARER_SUB_EXTRACTION_ERR")] {
        let plain = plain.clone();
        let fake = numbered(move |number| match number {
            1 => vendor_error(code.0, code.1),
            _ => ok(format!(r#"{{"plaintext":"{plain}","keyVersion":{{"id":"v"}}}}"#)),
        })
        .await;
        unwrap(&fake, &bare()).await.unwrap();
        assert_eq!((fake.logins(), fake.calls().len()), (2, 2));
        let ids: Vec<_> =
            fake.calls().iter().map(|call| call.header("correlation-id").unwrap().to_owned()).collect();
        assert_eq!(ids[0], ids[1], "both belong to one call");
    }
}

#[tokio::test]
async fn a_permission_that_is_missing_is_denied_after_exactly_one_new_token() {
    let fake = numbered(|_| vendor_error(401, "UNAUTHORIZED_ERR")).await;
    let error = unwrap(&fake, &bare()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied { confirmed: true });
    assert!(error.is_refusal());
    assert_eq!((fake.logins(), fake.calls().len()), (2, 2));
    assert_eq!(error.context.http_status, Some(401));
    assert_eq!(error.context.code.as_deref(), Some("UNAUTHORIZED_ERR"));

    let fake = numbered(|_| vendor_error(403, "FEATURE_RESTRICTED_ERR")).await;
    assert!(unwrap(&fake, &bare()).await.unwrap_err().is_refusal());
    assert_eq!((fake.logins(), fake.calls().len()), (1, 1), "403 is not about the token");
}

#[tokio::test]
async fn a_401_that_key_protect_did_not_write_is_no_denial() {
    let fake = numbered(|_| status(401, "text/html", "<html>log in to the proxy</html>")).await;
    let error = unwrap(&fake, &bare()).await.unwrap_err();
    assert!(error.is_outage() && !error.is_refusal(), "{error}");
}

#[tokio::test]
async fn when_no_new_token_can_be_had_nothing_is_known() {
    let mut logins = 0;
    let fake = Fake::raw(move |request| {
        if !request.is_login() {
            return vendor_error(401, "UNAUTHORIZED_ERR");
        }
        logins += 1;
        if logins == 1 { token("a-1", 3600) } else { status(503, JSON, "{}") }
    })
    .await;
    let error = unwrap(&fake, &bare()).await.unwrap_err();
    assert!(error.is_outage() && !error.is_refusal(), "{error}");
    assert_eq!(error.context.op, crate::Op::Authenticate);
    assert_eq!(error.context.key, Some(key()));
}
