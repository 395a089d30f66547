//! Where an operation stands: what every error of it says of provider, operation, key and correlation id.
//!
//! Invariant: an error that leaves a provider has its place.

use serde::de::DeserializeOwned;

use crate::call::{CallCtx, Op};
use crate::error::{ErrorKind, KmsError, Result};
use crate::http::Reply;
use crate::key::KeyRef;

/// One operation of a provider.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) provider: &'static str,
    pub(crate) op: Op,
    pub(crate) key: Option<&'a KeyRef>,
    pub(crate) call: &'a CallCtx,
}

impl Place<'_> {
    /// What a successful answer says.
    pub(crate) fn parse<T: DeserializeOwned>(&self, reply: &Reply) -> Result<T> {
        let parsed = if reply.status != 200 && reply.status != 201 {
            Err(ErrorKind::Integrity("its status is not one of this operation"))
        } else if reply.is_json() {
            serde_json::from_slice(&reply.body).map_err(|_| ErrorKind::Integrity("it cannot be parsed"))
        } else {
            Err(ErrorKind::Integrity("it is not json"))
        };
        parsed.map_err(|kind| self.failed(kind, Some(reply.status), None))
    }

    /// Gives a failure to decode its place.
    pub(crate) fn decode<T>(&self, decoded: std::result::Result<T, ErrorKind>) -> Result<T> {
        decoded.map_err(|kind| self.failed(kind, None, None))
    }

    /// A failure here.
    pub(crate) fn failed(&self, kind: ErrorKind, http_status: Option<u16>, code: Option<String>) -> KmsError {
        let mut error = KmsError::new(kind, self.provider, self.op);
        error.context.http_status = http_status;
        error.context.code = code;
        error.context.correlation_id = Some(self.call.correlation_id);
        self.concerning(error)
    }

    /// An error of another operation that this one rests on.
    pub(crate) fn concerning(&self, mut error: KmsError) -> KmsError {
        error.context.key = self.key.cloned();
        error
    }
}
