//! A root key as the volume sees it: wrapped keys of the format in and out, calls to the KMS behind.
//!
//! Invariant: a wrapped key that names another root key or provider is never sent anywhere.

use std::sync::{Arc, OnceLock};

use contract::audit::Subject;
use envelope::{Dek, GroupKey, KmsContext, WrappedKey, Wrapping};
use kms::{CallCtx, ErrorKind, KeyInfo, KeyRef, Kms, KmsError, Op, PlainKey, Wrapped};

use super::error::KeyError;

/// The configured root key and its connection.
pub struct RootKey {
    kms: Arc<dyn Kms>,
    configured: KeyRef,
    /// The id behind a configured alias, once the KMS told it: what headers name.
    canonical: OnceLock<KeyRef>,
    provider: envelope::Provider,
}

/// An unwrapped key and what came with it.
#[derive(Debug)]
pub struct Unwrapped {
    /// The key in plaintext.
    pub key: PlainKey,
    /// The same key under the current version, where the KMS gave it for free.
    pub rewrapped: Option<WrappedKey>,
}

impl Unwrapped {
    /// The key as a file's DEK.
    pub fn dek(&self) -> Dek {
        Dek::from_slice(self.key.expose()).expect("both types hold 32 bytes")
    }

    /// The key as a group key.
    pub fn group_key(&self) -> GroupKey {
        GroupKey::from_slice(self.key.expose()).expect("both types hold 32 bytes")
    }
}

impl RootKey {
    /// The root key `configured` (id or alias) behind `kms`.
    pub fn new(kms: Arc<dyn Kms>, configured: KeyRef, provider: envelope::Provider) -> Self {
        Self { kms, configured, canonical: OnceLock::new(), provider }
    }

    /// The root key's state and current version, from the KMS.
    pub async fn describe(&self, call: &CallCtx) -> Result<KeyInfo, KmsError> {
        let info = self.kms.describe(&self.configured, call).await?;
        // An alias that moves to another key later must not make that key's wraps look like ours.
        let _ = self.canonical.set(info.id.clone());
        Ok(info)
    }

    /// Whether `key` was wrapped by this root key.
    pub fn wrapped(&self, key: &WrappedKey) -> bool {
        let named = |id: &KeyRef| id.0 == key.root_key;
        key.provider == self.provider && (named(&self.configured) || self.canonical.get().is_some_and(named))
    }

    /// Wraps `plain` with the current version.
    pub async fn wrap(
        &self,
        plain: &[u8; 32],
        context: &KmsContext,
        call: &CallCtx,
    ) -> Result<WrappedKey, KeyError> {
        let (id, call) = (self.canonical(call).await?, about(call, context));
        let wrapped = self.kms.wrap(&id, &PlainKey::from_bytes(plain), context.as_bytes(), &call).await?;
        let version = version_text(&wrapped);
        Ok(WrappedKey::new(
            self.provider,
            scheme_of(wrapped.scheme),
            id.0,
            version,
            wrapped.blob,
            Wrapping::Direct,
        )?)
    }

    /// Unwraps the KMS's blob of `key`, which must be [`RootKey::wrapped`] by this root key.
    pub async fn unwrap(
        &self,
        key: &WrappedKey,
        context: &KmsContext,
        call: &CallCtx,
    ) -> Result<Unwrapped, KeyError> {
        let (id, call) = (self.canonical(call).await?, about(call, context));
        let answer = self.kms.unwrap(&id, &to_kms(key), context.as_bytes(), &call).await?;
        let rewrapped = match answer.rewrapped {
            Some(wrapped) => Some(key.rewrapped(wrapped.blob.clone(), version_text(&wrapped))?),
            None => None,
        };
        Ok(Unwrapped { key: answer.key, rewrapped })
    }

    /// The same key under the current version, made by the KMS: nobody here sees the key.
    pub async fn rewrap(
        &self,
        key: &WrappedKey,
        context: &KmsContext,
        call: &CallCtx,
    ) -> Result<WrappedKey, KeyError> {
        let (id, call) = (self.canonical(call).await?, about(call, context));
        let wrapped = self.kms.rewrap(&id, &to_kms(key), context.as_bytes(), &call).await?;
        let version = version_text(&wrapped);
        Ok(key.rewrapped(wrapped.blob, version)?)
    }

    /// Forgets every plaintext key that the connection keeps.
    pub fn purge(&self) {
        self.kms.purge();
    }

    async fn canonical(&self, call: &CallCtx) -> Result<KeyRef, KmsError> {
        if let Some(id) = self.canonical.get() {
            return Ok(id.clone());
        }
        self.describe(call).await?;
        let unknown =
            || KmsError::new(ErrorKind::Integrity("no key id"), self.kms.caps().provider, Op::Describe);
        self.canonical.get().cloned().ok_or_else(unknown)
    }
}

/// The call, and what the audit trail says that it is about.
fn about(call: &CallCtx, context: &KmsContext) -> CallCtx {
    let (volume, object) = (Some(context.volume().to_string()), Some(context.object().to_string()));
    call.clone().about(Subject { volume, object, ..Subject::default() })
}

fn to_kms(key: &WrappedKey) -> Wrapped {
    let version = (!key.version.is_empty()).then(|| kms::KeyVersion(key.version.clone()));
    let scheme = match key.context {
        envelope::ContextScheme::None => kms::ContextScheme::None,
        envelope::ContextScheme::Aad => kms::ContextScheme::Aad,
        envelope::ContextScheme::Derived => kms::ContextScheme::Derived,
        envelope::ContextScheme::EncryptionContext => kms::ContextScheme::EncryptionContext,
    };
    Wrapped { blob: key.blob.clone(), version, scheme }
}

fn scheme_of(scheme: kms::ContextScheme) -> envelope::ContextScheme {
    match scheme {
        kms::ContextScheme::None => envelope::ContextScheme::None,
        kms::ContextScheme::Aad => envelope::ContextScheme::Aad,
        kms::ContextScheme::Derived => envelope::ContextScheme::Derived,
        kms::ContextScheme::EncryptionContext => envelope::ContextScheme::EncryptionContext,
    }
}

fn version_text(wrapped: &Wrapped) -> String {
    wrapped.version.as_ref().map_or_else(String::new, |version| version.0.clone())
}
