//! A session with a real token. Invariant: it is closed when it is dropped, unless the library was initialised anew since.

use std::collections::HashMap;
use std::sync::Arc;

use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session as Raw, SessionState, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use zeroize::Zeroizing;

use super::blob::IV;
use super::library::Module;
use super::token::{Failure, Outcome, Session, Standing};
use super::version::{Found, Handle, VersionId};
use crate::error::ErrorKind;

/// Objects that are remembered at most; more are looked for again.
const REMEMBERED: usize = 4096;
const TAG_BITS: u64 = 128;
const KEY_LEN: u64 = 32;

/// What is asked of each key.
const ASKED: [AttributeType; 8] = [
    AttributeType::Id,
    AttributeType::KeyType,
    AttributeType::ValueLen,
    AttributeType::Sensitive,
    AttributeType::Extractable,
    AttributeType::Encrypt,
    AttributeType::Decrypt,
    AttributeType::Local,
];

pub(super) struct OpenSession {
    module: Arc<Module>,
    epoch: u64,
    slot: Slot,
    token: String,
    raw: Option<Raw>,
    seen: HashMap<Handle, ObjectHandle>,
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        if let Some(raw) = self.raw.take() {
            // A session that is gone needs no closing.
            let _ = self.module.call(self.epoch, |_| raw.close());
        }
    }
}

impl OpenSession {
    pub(super) fn new(module: Arc<Module>, epoch: u64, slot: Slot, token: &str, raw: Raw) -> Self {
        Self { module, epoch, slot, token: token.into(), raw: Some(raw), seen: HashMap::new() }
    }

    fn call<T>(&self, call: impl FnOnce(&Raw) -> Result<T, Error>) -> Outcome<T> {
        let gone = || Error::Pkcs11(RvError::SessionHandleInvalid, cryptoki::context::Function::CloseSession);
        self.module.call(self.epoch, |_| self.raw.as_ref().map_or_else(|| Err(gone()), call))
    }

    fn object(&self, key: Handle) -> Outcome<ObjectHandle> {
        self.seen.get(&key).copied().ok_or(Failure::Returned(RvError::ObjectHandleInvalid))
    }
}

/// A key as its attributes describe it. What a token does not tell makes it no version of ours; but what it may do must be told,
/// because a key that may nothing is disabled.
fn found(handle: Handle, attributes: &[Attribute]) -> Outcome<Found> {
    let mut found =
        Found { handle, id: Vec::new(), fits: false, encrypts: false, decrypts: false, local: false };
    let (mut aes, mut long, mut sensitive, mut extractable) = (false, false, false, true);
    let mut told = 0;
    for attribute in attributes {
        match attribute {
            Attribute::Id(id) => found.id.clone_from(id),
            Attribute::KeyType(kind) => aes = *kind == KeyType::AES,
            Attribute::ValueLen(len) => long = **len == KEY_LEN,
            Attribute::Sensitive(is) => sensitive = *is,
            Attribute::Extractable(is) => extractable = *is,
            Attribute::Encrypt(may) => (found.encrypts, told) = (*may, told + 1),
            Attribute::Decrypt(may) => (found.decrypts, told) = (*may, told + 1),
            Attribute::Local(is) => found.local = *is,
            _ => {}
        }
    }
    found.fits = aes && long && sensitive && !extractable;
    if told < 2 {
        return Err(Failure::is(ErrorKind::Integrity("the token does not tell what a key may do")));
    }
    Ok(found)
}

impl Session for OpenSession {
    fn standing(&mut self) -> Outcome<Standing> {
        let info = self.module.call(self.epoch, |context| context.get_token_info(self.slot))?;
        if info.label() != self.token {
            return Err(Failure::Returned(RvError::TokenNotPresent));
        }
        Ok(Standing { final_try: info.user_pin_final_try(), locked: info.user_pin_locked() })
    }

    fn logged_in(&mut self) -> Outcome<bool> {
        let info = self.call(Raw::get_session_info)?;
        Ok(matches!(info.session_state(), SessionState::RoUser | SessionState::RwUser))
    }

    fn log_in(&mut self, pin: &str) -> Outcome<()> {
        let pin = AuthPin::from(pin);
        self.call(|raw| raw.login(UserType::User, Some(&pin)))
    }

    fn log_out(&mut self) -> Outcome<()> {
        self.call(Raw::logout)
    }

    /// Only private objects of the token itself count: others can be made by whoever reaches the token, without a PIN.
    fn find(&mut self, label: &str, id: Option<&VersionId>) -> Outcome<Vec<Found>> {
        let mut template = vec![
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Label(label.into()),
        ];
        template.extend(id.map(|id| Attribute::Id(id.bytes().to_vec())));
        let objects = self.call(|raw| raw.find_objects(&template))?;
        if self.seen.len() + objects.len() > REMEMBERED {
            self.seen.clear();
        }
        let mut all = Vec::new();
        for object in objects {
            let handle = Handle(object.handle());
            let attributes = self.call(|raw| raw.get_attributes(object, &ASKED))?;
            self.seen.insert(handle, object);
            all.push(found(handle, &attributes)?);
        }
        Ok(all)
    }

    fn encrypt(&mut self, key: Handle, iv: &mut [u8; IV], aad: &[u8], plain: &[u8]) -> Outcome<Vec<u8>> {
        let object = self.object(key)?;
        self.call(|raw| {
            let params = GcmParams::new(iv, aad, TAG_BITS.into())?;
            raw.encrypt(&Mechanism::AesGcm(params), object, plain)
        })
    }

    fn decrypt(
        &mut self,
        key: Handle,
        iv: &[u8; IV],
        aad: &[u8],
        sealed: &[u8],
    ) -> Outcome<Zeroizing<Vec<u8>>> {
        let object = self.object(key)?;
        let mut iv = *iv;
        self.call(|raw| {
            let params = GcmParams::new(&mut iv, aad, TAG_BITS.into())?;
            raw.decrypt(&Mechanism::AesGcm(params), object, sealed).map(Zeroizing::new)
        })
    }

    fn generate(&mut self, label: &str, id: &VersionId) -> Outcome<()> {
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::ValueLen(KEY_LEN.into()),
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Encrypt(true),
            Attribute::Decrypt(true),
            Attribute::Wrap(false),
            Attribute::Unwrap(false),
            Attribute::Label(label.into()),
            Attribute::Id(id.bytes().to_vec()),
        ];
        self.call(|raw| raw.generate_key(&Mechanism::AesKeyGen, &template)).map(drop)
    }

    fn permit(&mut self, key: Handle, encrypt: Option<bool>, decrypt: bool) -> Outcome<()> {
        let object = self.object(key)?;
        let mut template = vec![Attribute::Decrypt(decrypt)];
        template.extend(encrypt.map(Attribute::Encrypt));
        self.call(|raw| raw.update_attributes(object, &template))
    }

    fn destroy(&mut self, key: Handle) -> Outcome<()> {
        let object = self.object(key)?;
        self.call(|raw| raw.destroy_object(object))
    }
}

#[cfg(test)]
#[path = "tests/session.rs"]
mod tests;
