//! What every provider of root keys must show, whatever the vendor: one suite over a [`Bench`].
//!
//! A provider brings its bench: the vendor's service, real or emulated, with a hand on everything that a check must move.
//! Invariant: no check names a vendor. A point that a provider cannot have is declared with its reason, never left out.
#![allow(clippy::unwrap_used, clippy::panic, reason = "this is how a check fails")]

pub mod aws;
pub mod azure;
mod bench;
pub mod checks;
mod front;
pub mod google;
mod issuer;
mod key_protect;
mod log;
pub mod openbao;
pub mod page;
pub mod points;
mod relay;
pub mod softhsm;
mod subjects;

pub use aws::Aws;
pub use azure::Azure;
pub use bench::{Bench, Caller, Trouble};
pub use google::Google;
pub use key_protect::KeyProtect;
pub use openbao::OpenBao;
pub use softhsm::SoftHsm;
pub use subjects::{SUBJECTS, Standing, Subject};

/// The certificate of some authority, for what wants one.
pub fn authority_pem() -> String {
    front::some_authority()
}

/// The check that stops the service, which no other one may use then.
const ALONE: &str = "a_blob_survives_a_restart_and_a_round_trip_through_json";

/// Runs one check on a fresh bench, or says why the provider has no such point.
pub async fn run<B: Bench>(name: &str, check: impl AsyncFnOnce(B)) {
    if let Some(reason) = B::SUBJECT.absent(name) {
        println!("NOT APPLICABLE to {}: {name}: {reason}", B::SUBJECT.name);
        return;
    }
    let Some(bench) = B::start(name == ALONE).await else { return };
    check(bench).await;
}

/// Gives the names of all checks to a macro, after what that macro gets besides.
#[macro_export]
macro_rules! for_each_check {
    ($($then:ident)::+ ! ($($head:tt)*)) => {
        $($then)::+! { $($head)*;
            a_generated_key_unwraps_to_itself_and_two_differ
            a_given_key_unwraps_to_itself_and_two_wraps_differ
            a_wrong_context_is_invalid_and_never_tried_again
            a_damaged_blob_is_invalid_and_never_tried_again
            the_blob_of_another_root_key_is_invalid
            a_blob_survives_a_restart_and_a_round_trip_through_json
            rotation_changes_the_version_and_old_blobs_go_on_unwrapping
            rewrap_reaches_the_current_version_with_the_same_key
            versions_are_listed_with_the_current_one_first
            the_oldest_blob_opens_after_six_rotations
            a_disabled_key_is_refused_at_once_and_enabling_brings_it_back
            an_expired_key_unwraps_and_wraps_no_more
            a_deleted_key_stays_refused
            a_deleted_key_can_be_restored
            a_version_is_refused_alone
            a_missing_key_is_not_found_and_never_created
            a_removed_permission_is_denied_after_one_new_token
            revoked_tokens_cost_one_login_for_a_hundred_calls
            throttling_is_waited_out_within_bounds
            every_trouble_is_an_outage_and_passes
            a_deadline_holds_against_silence
            a_certificate_counts_only_if_authority_name_and_time_are_right
            a_redirect_is_not_followed
            the_vendor_sees_the_same_thirty_two_bytes
            a_call_that_is_given_up_leaves_nothing_behind
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
            a_key_moves_to_another_provider
            what_it_says_it_can_do_is_what_it_does
        }
    };
}

/// Makes a test of each check, over a bench.
#[macro_export]
macro_rules! conformance_tests {
    ($bench:ty; $($check:ident)*) => {
        $(
            #[tokio::test]
            async fn $check() {
                $crate::run::<$bench>(stringify!($check), $crate::checks::$check).await;
            }
        )*
    };
}
