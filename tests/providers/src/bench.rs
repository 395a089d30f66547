//! A vendor's service as the checks see it.
//!
//! Invariant: what a bench does, it does at the service and not through the provider that is judged.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kms::admin::KmsAdmin;
use kms::{CaSource, KeyRef, Kms, Op, Options, Wrapped};

use crate::subjects::Subject;

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// May read metadata, wrap, unwrap and rewrap.
    Data,
    /// May read metadata and rewrap.
    Rewrap,
    /// May do nothing at all.
    Nobody,
}

/// What happens to the calls of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// A 500.
    ServerError,
    /// A 429.
    Throttled {
        /// Seconds that the answer asks to wait.
        retry_after: Option<u32>,
    },
    /// The connection is reset before the call is carried out.
    Reset,
    /// The connection is reset after it was.
    ResetAfterwards,
    /// The answer ends in its middle.
    Truncated,
    /// The answer is not what its content type says.
    BadJson,
    /// The answer is far too large.
    Oversized,
    /// Somebody else answers, with a page.
    WrongType,
    /// Nothing comes.
    Silence,
}

impl Trouble {
    /// Each of them.
    pub const ALL: [Self; 10] = [
        Self::ServerError,
        Self::Throttled { retry_after: None },
        Self::Throttled { retry_after: Some(1) },
        Self::Reset,
        Self::ResetAfterwards,
        Self::Truncated,
        Self::BadJson,
        Self::Oversized,
        Self::WrongType,
        Self::Silence,
    ];
}

/// A vendor's service, real or emulated, with one fresh root key and a hand on everything that a check must move.
#[async_trait]
pub trait Bench: Send + Sync + Sized {
    /// What is judged, and what it declares not to have.
    const SUBJECT: &'static Subject;

    /// A fresh one, `alone` where the check will restart the service; `None` where the machine cannot have it, which was said loudly then.
    async fn start(alone: bool) -> Option<Self>;
    /// A connection with the credential of `caller`.
    fn connect(&self, caller: Caller, options: &Options) -> Arc<dyn Kms>;
    /// A data connection to a service at another address.
    fn connect_at(&self, url: &str, ca: Option<CaSource>, options: &Options) -> Arc<dyn Kms>;
    /// A connection whose credential is read from a file.
    fn connect_by_file(&self, path: &str, options: &Options) -> Arc<dyn Kms>;
    /// What `caller` would have in that file.
    fn secret(&self, caller: Caller) -> String;
    /// Text of credentials, none of which may ever be seen.
    fn secrets(&self) -> Vec<String>;
    /// The owner's operations.
    fn owner(&self) -> Arc<dyn KmsAdmin>;
    /// The owner's operations with a data credential.
    fn owner_as(&self, caller: Caller) -> Arc<dyn KmsAdmin>;
    /// Where the service listens, for plain http.
    fn address(&self) -> SocketAddr;
    /// The fresh root key.
    fn key(&self) -> KeyRef;
    /// Another root key.
    fn other_key(&self) -> KeyRef;
    /// A key that will expire within two days.
    fn expiring_key(&self) -> KeyRef;
    /// A well-formed name that no key has.
    fn missing_key(&self) -> KeyRef;
    /// Root keys that exist.
    async fn count_keys(&self) -> usize;
    /// What the service itself finds in a key that was wrapped with the context of the checks.
    async fn unwrapped_by_vendor(&self, wrapped: &Wrapped) -> Vec<u8>;
    /// Lets time pass at the service, where there is a rule about time and a hand on its clock.
    async fn advance(&self, time: Duration);
    /// How often an operation reached the service since the last reset.
    fn requests(&self, op: Op) -> u64;
    /// Counts from zero.
    fn reset_requests(&self);
    /// Takes all permissions of `caller` away, or gives them back.
    async fn permit(&self, caller: Caller, permitted: bool);
    /// Refuses every version but the current one, or none.
    async fn retire_old_versions(&self, retired: bool);
    /// Makes every token issued so far worthless.
    async fn revoke_tokens(&self);
    /// Troubles the calls of `op`, `times` often, or until [`Bench::heal`].
    fn trouble(&self, op: Op, trouble: Trouble, times: Option<u64>);
    /// Ends all trouble.
    fn heal(&self);
    /// The service stops and starts again with what it keeps.
    async fn restart(&mut self);
}
