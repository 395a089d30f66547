//! What every provider must show, whatever the vendor: one suite over a [`Backend`].
//!
//! Invariant: nothing here names a vendor. What is a matter of the wire (request bytes, answers that are no answers,
//! certificates) is tested beside each provider.
#![allow(clippy::unwrap_used, clippy::panic)]

mod connection;
mod keys;
mod lifecycle;
mod secrets;

use std::sync::Arc;
use std::time::Duration;

use crate::admin::KmsAdmin;
use crate::call::{CallCtx, EncCtx, Op};
use crate::connect::{BreakerPolicy, Options, RetryPolicy};
use crate::error::KmsError;
use crate::key::{KeyRef, Unwrapped, Wrapped};
use crate::service::Kms;

pub(crate) use {connection::*, keys::*, lifecycle::*, secrets::*};

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// May read metadata, wrap, unwrap and rewrap.
    Data,
    /// May read metadata and rewrap.
    Rewrap,
    /// May do nothing at all.
    Nobody,
}

/// What happens to the calls of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    ServerError,
    Throttled { retry_after: Option<u32> },
    Reset,
    ResetAfterwards,
    Truncated,
    BadJson,
    Oversized,
    WrongType,
    Silence,
}

impl Trouble {
    pub(crate) const ALL: [Self; 10] = [
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

/// A vendor's service, real or emulated, with one fresh root key and a hand on everything that a test must move.
pub(crate) trait Backend: Send {
    /// A connection with the credential of `caller`.
    fn connect(&self, caller: Caller, options: &Options) -> Arc<dyn Kms>;
    /// A connection whose credential is read from a file.
    fn connect_by_file(&self, path: &str, options: &Options) -> Arc<dyn Kms>;
    /// What `caller` would have in that file.
    fn secret(&self, caller: Caller) -> String;
    fn owner(&self) -> Arc<dyn KmsAdmin>;
    /// The owner's operations with a data credential.
    fn owner_as(&self, caller: Caller) -> Arc<dyn KmsAdmin>;
    /// The fresh root key.
    fn key(&self) -> KeyRef;
    /// Another root key.
    fn other_key(&self) -> KeyRef;
    /// A key that unwraps but no longer wraps, and a key wrapped by it before; `None` where the vendor has no such.
    fn expiring_key(&self) -> Option<KeyRef>;
    /// A well-formed name that no key has.
    fn missing_key(&self) -> KeyRef;
    /// Root keys that exist.
    fn count_keys(&self) -> usize;
    /// Lets time pass at the service.
    fn advance(&self, time: Duration);
    /// How often an operation reached the service since the last reset.
    fn requests(&self, op: Op) -> u64;
    fn reset_requests(&self);
    /// Takes all permissions of `caller` away, or gives them back.
    fn permit(&self, caller: Caller, permitted: bool);
    /// Makes every token issued so far worthless.
    fn revoke_tokens(&self);
    /// Troubles the calls of `op`, `times` often, or until [`Backend::heal`].
    fn trouble(&self, op: Op, trouble: Trouble, times: Option<u64>);
    fn heal(&self);
    /// The service stops and starts again with what it keeps.
    fn restart(&mut self);
}

pub(crate) const CTX: EncCtx = [0x5a; 32];

/// A minute of the owner's patience, which the vendor's rules may want between two changes.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// No cache, no second chances.
pub(crate) fn bare() -> Options {
    Options {
        cache_ttl: Duration::ZERO,
        attempt_timeout: Duration::from_secs(5),
        retry: RetryPolicy { attempts: 1, ..RetryPolicy::default() },
        breaker: BreakerPolicy { failures: u32::MAX, ..BreakerPolicy::default() },
        denial_window: Duration::ZERO,
        ..Options::default()
    }
}

pub(crate) async fn unwrap(
    kms: &Arc<dyn Kms>,
    key: &KeyRef,
    wrapped: &Wrapped,
) -> Result<Unwrapped, KmsError> {
    kms.unwrap(key, wrapped, &CTX, &CallCtx::new()).await
}

/// Rotates after as long a pause as the vendor wants.
pub(crate) async fn rotate(backend: &impl Backend) {
    backend.advance(Duration::from_hours(2));
    backend.owner().rotate(&backend.key(), &CallCtx::new()).await.unwrap();
}

/// Makes one test of each named point of the suite, over what `$backend` makes.
macro_rules! conformance {
    ($backend:expr; $($point:ident)*) => {
        $(
            #[tokio::test]
            async fn $point() {
                crate::conformance::$point($backend).await;
            }
        )*
    };
}
pub(crate) use conformance;

/// Makes a test of every point of the suite.
macro_rules! conformance_suite {
    ($backend:expr) => {
        crate::conformance::conformance! { $backend;
            a_generated_key_unwraps_to_itself_and_two_differ
            a_given_key_unwraps_to_itself_and_two_wraps_differ
            a_wrong_context_or_a_damaged_blob_is_invalid_and_never_tried_again
            the_blob_of_another_root_key_is_invalid
            a_blob_survives_a_restart_and_a_round_trip_through_json
            rotation_changes_the_version_and_old_blobs_go_on_unwrapping
            the_oldest_blob_opens_after_six_rotations
            rewrap_reaches_the_current_version_with_the_same_key
            versions_are_listed_with_the_current_one_first
            a_disabled_key_is_refused_at_once_and_enabling_brings_it_back
            an_expired_key_unwraps_and_wraps_no_more
            a_deleted_key_stays_refused_until_it_is_restored
            a_missing_key_is_not_found_and_never_created
            a_removed_permission_is_denied_after_one_new_token
            revoked_tokens_cost_one_login_for_a_hundred_calls
            throttling_is_waited_out_within_bounds
            every_trouble_is_an_outage_and_passes
            a_deadline_holds_against_silence
            a_hundred_callers_of_one_blob_make_one_call
            a_thousand_keys_arrive_in_bounded_numbers
            nothing_secret_is_logged_or_shown
            a_replaced_credential_file_is_picked_up
            a_service_ten_minutes_ahead_is_no_matter
            keys_serve_through_an_outage_for_their_time_and_no_longer
            a_refusal_ends_every_grace
            an_outage_that_ends_closes_the_breaker
            a_data_credential_cannot_change_the_root_key
            a_rewrap_credential_cannot_unwrap
        }
    };
}
pub(crate) use conformance_suite;
