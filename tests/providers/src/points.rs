//! The thirty points that a provider is judged by, and the checks that judge each.
//!
//! Invariant: every check belongs to a point; a point without a check is answered by each provider's own declaration.

/// One point.
#[derive(Debug)]
pub struct Point {
    /// Its number.
    pub number: u8,
    /// What holds.
    pub what: &'static str,
    /// The checks that show it.
    pub checks: &'static [&'static str],
}

const fn point(number: u8, what: &'static str, checks: &'static [&'static str]) -> Point {
    Point { number, what, checks }
}

macro_rules! names {
    (; $($check:ident)*) => {
        /// The names of all checks.
        pub const CHECKS: &[&str] = &[$(stringify!($check)),*];
    };
}
crate::for_each_check!(names!());

/// All points.
pub const POINTS: &[Point] = &[
    point(
        1,
        "a generated key unwraps to itself; two differ",
        &["a_generated_key_unwraps_to_itself_and_two_differ"],
    ),
    point(
        2,
        "a given key unwraps to itself; two wraps of it differ",
        &["a_given_key_unwraps_to_itself_and_two_wraps_differ"],
    ),
    point(
        3,
        "wrong context, damage, another key's blob: `CiphertextInvalid`, not tried again",
        &[
            "a_wrong_context_is_invalid_and_never_tried_again",
            "a_damaged_blob_is_invalid_and_never_tried_again",
            "the_blob_of_another_root_key_is_invalid",
        ],
    ),
    point(
        4,
        "a blob survives a restart of the service and a round trip through JSON",
        &["a_blob_survives_a_restart_and_a_round_trip_through_json"],
    ),
    point(
        5,
        "rotation: new version, old blobs open, rewrap reaches the current version with the same key",
        &[
            "rotation_changes_the_version_and_old_blobs_go_on_unwrapping",
            "rewrap_reaches_the_current_version_with_the_same_key",
            "versions_are_listed_with_the_current_one_first",
        ],
    ),
    point(6, "the oldest blob opens after six rotations", &["the_oldest_blob_opens_after_six_rotations"]),
    point(
        7,
        "a disabled key is refused within one call; enabling brings it back",
        &["a_disabled_key_is_refused_at_once_and_enabling_brings_it_back"],
    ),
    point(8, "an expired key unwraps and wraps no more", &["an_expired_key_unwraps_and_wraps_no_more"]),
    point(9, "a deleted key stays refused", &["a_deleted_key_stays_refused"]),
    point(9, "a deleted key can be restored", &["a_deleted_key_can_be_restored"]),
    point(10, "a version is refused alone", &["a_version_is_refused_alone"]),
    point(
        11,
        "a missing key is not found and never created",
        &["a_missing_key_is_not_found_and_never_created"],
    ),
    point(
        12,
        "a removed permission is `Denied` after exactly one new token",
        &["a_removed_permission_is_denied_after_one_new_token"],
    ),
    point(
        13,
        "worthless tokens: one login for a hundred calls",
        &["revoked_tokens_cost_one_login_for_a_hundred_calls"],
    ),
    point(
        14,
        "throttling is waited out, for the time that is asked and within bounds",
        &["throttling_is_waited_out_within_bounds"],
    ),
    point(
        15,
        "ten kinds of trouble are outages and pass; deadlines hold",
        &["every_trouble_is_an_outage_and_passes", "a_deadline_holds_against_silence"],
    ),
    point(
        16,
        "TLS: authority, name and time are checked; own authorities work; no redirect is followed",
        &["a_certificate_counts_only_if_authority_name_and_time_are_right", "a_redirect_is_not_followed"],
    ),
    point(17, "checksums of the service are sent and compared", &[]),
    point(18, "a key is encoded exactly once on the wire", &["the_vendor_sees_the_same_thirty_two_bytes"]),
    point(19, "requests and answers byte for byte, for each operation", &[]),
    point(
        20,
        "a call that is given up leaves nothing behind",
        &["a_call_that_is_given_up_leaves_nothing_behind"],
    ),
    point(
        21,
        "a hundred callers of one blob make one call; a thousand keys come in bounded numbers",
        &["a_hundred_callers_of_one_blob_make_one_call", "a_thousand_keys_arrive_in_bounded_numbers"],
    ),
    point(22, "nothing secret in logs, errors and `Debug`", &["nothing_secret_is_logged_or_shown"]),
    point(23, "a replaced credential file is picked up", &["a_replaced_credential_file_is_picked_up"]),
    point(
        24,
        "a service ten minutes and three hours ahead is no matter",
        &["a_service_ten_minutes_ahead_is_no_matter"],
    ),
    point(
        25,
        "an outage: keys serve for their time; a refusal ends every grace; the breaker closes again",
        &[
            "keys_serve_through_an_outage_for_their_time_and_no_longer",
            "a_refusal_ends_every_grace",
            "an_outage_that_ends_closes_the_breaker",
        ],
    ),
    point(
        26,
        "a data credential cannot change the root key; a rewrap credential cannot unwrap",
        &["a_data_credential_cannot_change_the_root_key", "a_rewrap_credential_cannot_unwrap"],
    ),
    point(27, "a key moves to another provider", &["a_key_moves_to_another_provider"]),
    point(28, "what it says it can do is what it does", &["what_it_says_it_can_do_is_what_it_does"]),
    point(29, "the token is lost and found again", &[]),
    point(30, "the vendor's own client passes against the same service", &[]),
];
