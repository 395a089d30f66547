//! The table of return values, row by row.
#![allow(clippy::unwrap_used, clippy::panic)]

use cryptoki::error::RvError as R;

use super::*;
use crate::call::Op;
use crate::error::KmsError;

fn outage(why: Outage) -> ErrorKind {
    ErrorKind::Unavailable { why, retry_after: None }
}

#[test]
fn every_return_value_has_its_meaning() {
    let (server, away) = (outage(Outage::ServerError), outage(Outage::Unreachable));
    let throttled = ErrorKind::Throttled { retry_after: None };
    let denied = ErrorKind::Denied { confirmed: false };
    let rows = [
        (R::UserNotLoggedIn, server.clone(), Cure::LogIn),
        (R::SessionHandleInvalid, server.clone(), Cure::Session),
        (R::SessionClosed, server.clone(), Cure::Session),
        (R::ObjectHandleInvalid, server.clone(), Cure::Session),
        (R::KeyHandleInvalid, server.clone(), Cure::Session),
        (R::OperationActive, server.clone(), Cure::Session),
        (R::VendorDefined(0x8000_0001), server.clone(), Cure::Session),
        (R::CryptokiNotInitialized, server.clone(), Cure::Restart),
        (R::DeviceError, server.clone(), Cure::Restart),
        (R::GeneralError, server.clone(), Cure::Restart),
        (R::FunctionFailed, server.clone(), Cure::Restart),
        (R::DeviceRemoved, away.clone(), Cure::Restart),
        (R::TokenNotPresent, away.clone(), Cure::Restart),
        (R::SlotIdInvalid, away, Cure::Restart),
        (R::SessionCount, throttled.clone(), Cure::None),
        (R::DeviceMemory, throttled.clone(), Cure::None),
        (R::HostMemory, throttled, Cure::None),
        (R::PinIncorrect, ErrorKind::CredentialRejected, Cure::None),
        (R::PinLocked, ErrorKind::CredentialRejected, Cure::None),
        (R::PinExpired, ErrorKind::CredentialRejected, Cure::None),
        (R::PinLenRange, ErrorKind::CredentialRejected, Cure::None),
        (R::UserPinNotInitialized, ErrorKind::CredentialRejected, Cure::None),
        (R::KeyFunctionNotPermitted, denied.clone(), Cure::None),
        (R::AttributeReadOnly, denied.clone(), Cure::None),
        (R::ActionProhibited, denied.clone(), Cure::None),
        (R::TokenWriteProtected, denied, Cure::None),
        (R::MechanismInvalid, ErrorKind::Unsupported, Cure::None),
        (R::FunctionNotSupported, ErrorKind::Unsupported, Cure::None),
        (R::ArgumentsBad, ErrorKind::Invalid, Cure::None),
        (R::TemplateInconsistent, ErrorKind::Invalid, Cure::None),
        (R::UserAnotherAlreadyLoggedIn, server.clone(), Cure::None),
        (R::UnknownErrorCode(0x999), server, Cure::None),
    ];
    for (rv, kind, cure) in rows {
        assert_eq!(judge(&Failure::Returned(rv)), (kind, cure), "{rv:?}");
    }
    for rv in [R::MechanismParamInvalid, R::CantLock, R::NeedToCreateThreads] {
        assert!(matches!(judge(&Failure::Returned(rv)), (ErrorKind::Config(_), Cure::None)), "{rv:?}");
    }
}

/// All values below those of vendors, as the bindings read them.
fn all() -> impl Iterator<Item = R> {
    (1..0x1000).filter_map(|value| match cryptoki::error::Rv::from(value) {
        cryptoki::error::Rv::Error(rv) => Some(rv),
        cryptoki::error::Rv::Ok => None,
    })
}

#[test]
fn no_return_value_alone_is_a_refusal_or_a_wrong_blob() {
    for rv in all() {
        let (kind, _) = judge(&Failure::Returned(rv));
        let error = KmsError::new(kind, "pkcs11", Op::Unwrap);
        assert!(!error.is_refusal() && error.kind != ErrorKind::CiphertextInvalid, "{rv:?}: {error}");
    }
}

#[test]
fn a_ciphertext_is_blamed_where_the_token_says_so_and_nowhere_else() {
    let of = |rv| blame(&Failure::Returned(rv));
    for rv in [R::EncryptedDataInvalid, R::EncryptedDataLenRange, R::UnknownErrorCode(0x35)] {
        assert_eq!(of(rv), Blame::Ciphertext, "{rv:?}");
    }
    for rv in [R::GeneralError, R::FunctionFailed, R::VendorDefined(0x8000_0001), R::UnknownErrorCode(0x999)]
    {
        assert_eq!(of(rv), Blame::Open, "{rv:?}");
    }
    let clear = all().filter(|rv| of(*rv) == Blame::Ciphertext).count();
    assert!((6..8).contains(&clear), "{clear}");
    for rv in [R::DeviceError, R::DeviceRemoved, R::SessionHandleInvalid, R::UserNotLoggedIn, R::HostMemory] {
        assert_eq!(of(rv), Blame::Other, "{rv:?}");
    }
    assert_eq!(blame(&Failure::NoToken), Blame::Other);
}

#[test]
fn codes_are_spelled_as_the_standard_does() {
    let of = |rv| code(&Failure::Returned(rv)).unwrap();
    assert_eq!(of(R::PinIncorrect), "CKR_PIN_INCORRECT");
    assert_eq!(of(R::CryptokiNotInitialized), "CKR_CRYPTOKI_NOT_INITIALIZED");
    assert_eq!(of(R::RandomNoRng), "CKR_RANDOM_NO_RNG");
    assert_eq!(of(R::VendorDefined(0x8000_0001)), "CKR_VENDOR_DEFINED:0x80000001");
    assert_eq!(of(R::UnknownErrorCode(0x35)), "CKR:0x35");
}
