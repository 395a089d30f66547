//! What a return value means: one table over all of them, and what may cure it.
//!
//! Invariant: a refusal comes from the state of objects, never from a return value alone; whatever is not understood is an outage.

use cryptoki::error::RvError;

use super::token::Failure;
use crate::error::{ErrorKind, Outage};

/// What may help, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cure {
    /// Log in again.
    LogIn,
    /// Another session.
    Session,
    /// Initialise the library again.
    Restart,
    /// Nothing.
    None,
}

/// `CKR_AEAD_DECRYPT_FAILED` of PKCS#11 3.0, which the bindings do not name.
const AEAD_DECRYPT_FAILED: u64 = 0x35;

/// What a failed decryption says of the ciphertext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// It is at fault.
    Ciphertext,
    /// It or the token, the code leaves that open (SoftHSM says `CKR_GENERAL_ERROR` of a wrong tag).
    Open,
    /// Something else is.
    Other,
}

pub(super) fn blame(failure: &Failure) -> Blame {
    use RvError as R;
    let Failure::Returned(rv) = failure else { return Blame::Other };
    match rv {
        R::EncryptedDataInvalid
        | R::EncryptedDataLenRange
        | R::DataInvalid
        | R::DataLenRange
        | R::SignatureInvalid
        | R::UnknownErrorCode(AEAD_DECRYPT_FAILED) => Blame::Ciphertext,
        R::GeneralError
        | R::FunctionFailed
        | R::ArgumentsBad
        | R::BufferTooSmall
        | R::VendorDefined(_)
        | R::UnknownErrorCode(_) => Blame::Open,
        _ => Blame::Other,
    }
}

/// What a failure is, and what may cure it.
pub(super) fn judge(failure: &Failure) -> (ErrorKind, Cure) {
    let outage = |why| ErrorKind::Unavailable { why, retry_after: None };
    match failure {
        Failure::Returned(rv) => returned(*rv),
        Failure::NoToken => (outage(Outage::Unreachable), Cure::Restart),
        Failure::Busy => (outage(Outage::Timeout), Cure::None),
        Failure::Is(kind, _) => (kind.clone(), Cure::None),
    }
}

fn returned(rv: RvError) -> (ErrorKind, Cure) {
    use RvError as R;
    let outage = |why, cure| (ErrorKind::Unavailable { why, retry_after: None }, cure);
    match rv {
        R::UserNotLoggedIn => outage(Outage::ServerError, Cure::LogIn),
        R::SessionClosed
        | R::SessionHandleInvalid
        | R::OperationActive
        | R::OperationNotInitialized
        | R::KeyHandleInvalid
        | R::ObjectHandleInvalid
        | R::Cancel
        | R::FunctionCanceled
        | R::KeyChanged
        | R::VendorDefined(_) => outage(Outage::ServerError, Cure::Session),
        R::CryptokiNotInitialized
        | R::DeviceError
        | R::GeneralError
        | R::FunctionFailed
        | R::LibraryLoadFailed
        | R::FipsSelfTestFailed
        | R::MutexBad
        | R::MutexNotLocked => outage(Outage::ServerError, Cure::Restart),
        R::DeviceRemoved | R::TokenNotPresent | R::TokenNotRecognized | R::SlotIdInvalid => {
            outage(Outage::Unreachable, Cure::Restart)
        }
        R::SessionCount | R::HostMemory | R::DeviceMemory => {
            (ErrorKind::Throttled { retry_after: None }, Cure::None)
        }
        R::PinIncorrect
        | R::PinInvalid
        | R::PinLenRange
        | R::PinExpired
        | R::PinLocked
        | R::PinTooWeak
        | R::UserPinNotInitialized
        | R::NewPinMode
        | R::NextOtp => (ErrorKind::CredentialRejected, Cure::None),
        R::KeyFunctionNotPermitted
        | R::TokenWriteProtected
        | R::SessionReadOnly
        | R::AttributeReadOnly
        | R::ActionProhibited
        | R::FunctionRejected => (ErrorKind::Denied { confirmed: false }, Cure::None),
        R::MechanismInvalid | R::FunctionNotSupported => (ErrorKind::Unsupported, Cure::None),
        R::MechanismParamInvalid => {
            (config("the token takes no AES-GCM with a given IV of 12 bytes"), Cure::None)
        }
        R::CantLock | R::NeedToCreateThreads => {
            (config("the library cannot be used from several threads"), Cure::None)
        }
        other => (rest(other), Cure::None),
    }
}

/// What says that the request was wrong, and what should never come here.
fn rest(rv: RvError) -> ErrorKind {
    use RvError as R;
    let outage = ErrorKind::Unavailable { why: Outage::ServerError, retry_after: None };
    match rv {
        R::ArgumentsBad
        | R::AttributeTypeInvalid
        | R::AttributeValueInvalid
        | R::TemplateIncomplete
        | R::TemplateInconsistent
        | R::DataInvalid
        | R::DataLenRange
        | R::EncryptedDataInvalid
        | R::EncryptedDataLenRange
        | R::KeySizeRange
        | R::KeyTypeInconsistent
        | R::CurveNotSupported
        | R::DomainParamsInvalid
        | R::PublicKeyInvalid
        | R::KeyNotNeeded
        | R::KeyNeeded
        | R::KeyIndigestible
        | R::KeyNotWrappable
        | R::KeyUnextractable
        | R::AttributeSensitive
        | R::InformationSensitive
        | R::SessionParallelNotSupported
        | R::FunctionNotParallel
        | R::SignatureInvalid
        | R::SignatureLenRange
        | R::UnwrappingKeyHandleInvalid
        | R::UnwrappingKeySizeRange
        | R::UnwrappingKeyTypeInconsistent
        | R::WrappedKeyInvalid
        | R::WrappedKeyLenRange
        | R::WrappingKeyHandleInvalid
        | R::WrappingKeySizeRange
        | R::WrappingKeyTypeInconsistent
        | R::RandomSeedNotSupported
        | R::RandomNoRng
        | R::SavedStateInvalid
        | R::StateUnsaveable => ErrorKind::Invalid,
        _ => outage,
    }
}

fn config(what: &str) -> ErrorKind {
    ErrorKind::Config(what.into())
}

/// The name that the standard gives a return value, for errors and the audit stream.
pub(super) fn code(failure: &Failure) -> Option<String> {
    match failure {
        Failure::Returned(RvError::VendorDefined(rv)) => Some(format!("CKR_VENDOR_DEFINED:{rv:#x}")),
        Failure::Returned(RvError::UnknownErrorCode(rv)) => Some(format!("CKR:{rv:#x}")),
        Failure::Returned(rv) => Some(spelled(&format!("{rv:?}"))),
        Failure::NoToken => Some("no token of this label".into()),
        Failure::Busy => None,
        Failure::Is(_, code) => code.clone(),
    }
}

/// `PinIncorrect` is `CKR_PIN_INCORRECT`.
fn spelled(name: &str) -> String {
    name.chars().fold(String::from("CKR"), |mut text, c| {
        if c.is_ascii_uppercase() {
            text.push('_');
        }
        text.push(c.to_ascii_uppercase());
        text
    })
}

#[cfg(test)]
#[path = "tests/verdict.rs"]
mod tests;
