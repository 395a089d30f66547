//! Each thing that the decision rests on, with the one answer that it must lead to.
#![allow(clippy::unwrap_used, clippy::panic)]

use kms::{KeyInfo, KeyVersion, Op, Outage, VersionInfo};
use serde_json::{Value, json};

use super::*;
use crate::controllers::conditions::put;

const DAY: i64 = 86_400;
/// The day that counts as day 0.
const START: i64 = 1_800_000_000;

fn day(days: i64) -> Timestamp {
    Timestamp::from_second(START + days * DAY).unwrap()
}

fn profile(rotation: &Value) -> KmsProfile {
    let credential = json!({"apiKeySecret": {"name": "s"}});
    serde_json::from_value(json!({
        "apiVersion": "cofferdam.io/v1alpha1", "kind": "KmsProfile",
        "metadata": {"name": "main", "namespace": "shop", "generation": 1},
        "spec": {
            "keyProtect": {"endpoint": "https://kms", "instance": "i", "rootKey": "alias"},
            "credentials": {"data": credential, "admin": credential},
            "rotation": rotation,
        },
    }))
    .unwrap()
}

/// Rotated by the operator once a month of 30 days.
fn operated() -> KmsProfile {
    profile(&json!({"managed": true, "by": "Operator", "intervalMonths": 1}))
}

/// Rotated by the KMS once a month of 30 days.
fn by_kms() -> KmsProfile {
    profile(&json!({"managed": true, "intervalMonths": 1}))
}

/// An enabled key whose current version was made on day 0.
fn look() -> Look {
    let version = |id: &str, days| {
        let created_at = Some(day(days).into());
        VersionInfo { version: KeyVersion(id.into()), created_at }
    };
    let info = KeyInfo {
        id: KeyRef("key-id".into()),
        state: KeyState::Enabled,
        current: Some(KeyVersion("v2".into())),
        rotated_at: None,
        expires_at: None,
        origin: Origin::Generated,
        auto_rotation: None,
    };
    Look { info, versions: Some(vec![version("v2", 0), version("v1", -400)]) }
}

fn with_policy(days: u64) -> Look {
    let mut look = look();
    look.info.auto_rotation = Some(Duration::from_hours(24 * days));
    look
}

fn step(profile: &KmsProfile, look: Look, status: &KmsProfileStatus, now: Timestamp) -> Step {
    decide(profile, status, &Ok(look), now)
}

fn first(profile: &KmsProfile, look: Look, now: Timestamp) -> Step {
    step(profile, look, &KmsProfileStatus::default(), now)
}

fn act(step: Step) -> Act {
    match step {
        Step::Act(act) => act,
        other => panic!("nothing is changed: {other:?}"),
    }
}

fn said(step: Step) -> Said {
    match step {
        Step::Say(said) => said,
        other => panic!("nothing is said: {other:?}"),
    }
}

fn words(step: Step) -> (&'static str, String) {
    let Said { verdict, .. } = said(step);
    (verdict.status, verdict.reason)
}

/// The status once this was said of it.
fn status_of(profile: &KmsProfile, said: &Said) -> KmsProfileStatus {
    let mut status = KmsProfileStatus { rotation: Some(said.status.clone()), ..KmsProfileStatus::default() };
    let generation = profile.metadata.generation;
    put(&mut status.conditions, types::ROTATION_MANAGED, &said.verdict, generation, &Time(day(0)));
    status
}

fn kms(kind: ErrorKind) -> ProfileProblem {
    ProfileProblem::Kms(KmsError::new(kind, "keyProtect", Op::Rotate))
}

#[test]
fn without_managed_nothing_is_said_and_nothing_done() {
    assert_eq!(first(&profile(&json!({"managed": false})), look(), day(999)), Step::Observe);
    assert_eq!(first(&profile(&Value::Null), look(), day(999)), Step::Observe);
}

#[test]
fn the_operator_rotates_only_once_the_current_version_is_older_than_the_interval() {
    let young = said(first(&operated(), look(), day(29)));
    assert_eq!(young.verdict.status, "True", "{young:?}");
    assert_eq!(young.status.next_rotation, Some(Time(day(30))));
    let due = act(first(&operated(), look(), day(30)));
    assert_eq!((due.change, due.key), (Change::Rotate, KeyRef("key-id".into())));
}

#[test]
fn where_versions_are_not_listed_the_date_of_the_last_rotation_counts() {
    let mut look = look();
    (look.versions, look.info.rotated_at) = (None, Some(day(10).into()));
    assert_eq!(said(first(&operated(), look, day(39))).status.next_rotation, Some(Time(day(40))));
}

#[test]
fn nothing_is_rotated_while_the_key_or_the_age_of_its_version_is_unknown() {
    let outage = kms(ErrorKind::Unavailable { why: Outage::Timeout, retry_after: None });
    let unknown = decide(&operated(), &KmsProfileStatus::default(), &Err(outage), day(999));
    assert_eq!(words(unknown), ("Unknown", "KeyUnknown".into()));
    let mut ageless = look();
    ageless.versions = None;
    assert_eq!(words(first(&operated(), ageless, day(999))), ("Unknown", "VersionAgeUnknown".into()));
    let mut listed_without_the_current_one = look();
    listed_without_the_current_one.versions.as_mut().unwrap().remove(0);
    let step = first(&operated(), listed_without_the_current_one, day(999));
    assert_eq!(words(step), ("Unknown", "VersionAgeUnknown".into()));
}

#[test]
fn a_key_that_is_not_enabled_is_left_alone() {
    for state in [KeyState::Disabled, KeyState::Expired, KeyState::PendingDeletion, KeyState::Destroyed] {
        for profile in [operated(), by_kms()] {
            let mut look = look();
            look.info.state = state;
            assert_eq!(words(first(&profile, look, day(999))), ("Unknown", format!("Key{state}")));
        }
    }
}

#[test]
fn an_imported_key_waits_for_its_owner() {
    for profile in [operated(), by_kms()] {
        let mut look = look();
        look.info.origin = Origin::Imported;
        assert_eq!(words(first(&profile, look, day(999))), ("False", "KeyMaterialNeeded".into()));
    }
}

#[test]
fn without_an_admin_credential_nothing_is_done_and_the_message_names_the_field() {
    for mut profile in [operated(), by_kms()] {
        profile.spec.credentials.admin = None;
        let Said { verdict, .. } = said(first(&profile, look(), day(999)));
        assert_eq!((verdict.status, verdict.reason.as_str()), ("False", "AdminCredentialMissing"));
        assert!(verdict.message.contains("credentials.admin"), "{}", verdict.message);
    }
}

#[test]
fn key_protect_gets_a_policy_unless_the_profile_says_otherwise() {
    let wanted = Duration::from_hours(24 * 30);
    assert_eq!(act(first(&by_kms(), look(), day(1))).change, Change::SetPolicy(wanted));
    let three = profile(&json!({"managed": true}));
    assert_eq!(act(first(&three, with_policy(30), day(1))).change, Change::SetPolicy(wanted * 3));
    let kept = said(first(&by_kms(), with_policy(30), day(1)));
    assert_eq!((kept.verdict.status, kept.verdict.reason.as_str()), ("True", "RotationPolicySet"));
    assert_eq!(kept.status.next_rotation, Some(Time(day(30))));
    assert_eq!(act(first(&operated(), with_policy(30), day(31))).change, Change::Rotate);
}

#[test]
fn a_policy_that_does_not_fire_is_overdue_and_one_set_just_now_is_not() {
    assert_eq!(said(first(&by_kms(), with_policy(30), day(32))).verdict.status, "True");
    assert_eq!(words(first(&by_kms(), with_policy(30), day(33))), ("False", "RotationOverdue".into()));
    // An old key whose policy is new: the KMS has a day.
    let profile = by_kms();
    let set = after(&act(first(&profile, look(), day(400))), Ok(()));
    let status = status_of(&profile, &set);
    assert_eq!(said(step(&profile, with_policy(30), &status, day(402))).verdict.status, "True");
    let late = step(&profile, with_policy(30), &status, day(403));
    assert_eq!(words(late), ("False", "RotationOverdue".into()));
}

#[test]
fn a_policy_that_somebody_changes_again_is_set_once_a_day_or_when_the_spec_changes() {
    let mut profile = by_kms();
    let status = status_of(&profile, &after(&act(first(&profile, look(), day(1))), Ok(())));
    let soon = Timestamp::from_second(START + 2 * DAY - 1).unwrap();
    let other = step(&profile, with_policy(60), &status, soon);
    assert_eq!(words(other), ("False", "RotationPolicyChanged".into()));
    assert!(matches!(step(&profile, with_policy(60), &status, day(2)), Step::Act(_)));
    profile.metadata.generation = Some(2);
    assert!(matches!(step(&profile, with_policy(60), &status, soon), Step::Act(_)));
}

#[test]
fn what_the_operator_rotated_is_young_even_where_the_clocks_differ() {
    // Our clock is 400 days ahead of the KMS's: every version looks old to us.
    let profile = operated();
    let status = status_of(&profile, &after(&act(first(&profile, look(), day(400))), Ok(())));
    let waits = said(step(&profile, look(), &status, day(401)));
    assert_eq!(waits.status.next_rotation, Some(Time(day(430))));
    assert!(matches!(step(&profile, look(), &status, day(430)), Step::Act(_)));
    // Our clock was wrong and is right again.
    assert!(matches!(step(&profile, look(), &status, day(31)), Step::Act(_)));
}

#[test]
fn too_early_is_a_wait_and_no_failure() {
    let profile = operated();
    let early = kms(ErrorKind::TooEarly { retry_after: Duration::from_hours(1) });
    let said = after(&act(first(&profile, look(), day(31))), Err(&early));
    assert_eq!((said.verdict.status, said.verdict.reason.as_str()), ("True", "RotationWaits"));
    let again = day(31) + SignedDuration::from_hours(1);
    assert!(said.verdict.message.contains(&again.to_string()), "{}", said.verdict.message);
    assert_eq!(said.status.retry_after, Some(Time(again)));
    let status = status_of(&profile, &said);
    assert_eq!(step(&profile, look(), &status, day(31)), Step::Keep);
    assert!(matches!(step(&profile, look(), &status, again), Step::Act(_)));
}

#[test]
fn a_refused_credential_is_said_and_tried_again_later_or_when_the_spec_changes() {
    for mut profile in [operated(), by_kms()] {
        let tried = act(first(&profile, look(), day(31)));
        let refused = after(&tried, Err(&kms(ErrorKind::Denied { confirmed: true })));
        let verdict = &refused.verdict;
        assert_eq!((verdict.status, verdict.reason.as_str()), ("False", "KeyAccessDenied"));
        assert!(verdict.message.contains("admin credential"), "{}", verdict.message);
        assert_eq!(refused.status.changed_at, None);
        let status = status_of(&profile, &refused);
        assert_eq!(step(&profile, look(), &status, day(31) + SignedDuration::from_mins(4)), Step::Keep);
        assert!(matches!(step(&profile, look(), &status, day(31) + RETRY), Step::Act(_)));
        profile.metadata.generation = Some(2);
        assert!(matches!(step(&profile, look(), &status, day(31)), Step::Act(_)));
    }
}

#[test]
fn a_try_without_an_answer_is_unknown_and_an_unread_secret_is_looked_for_at_the_next_poll() {
    let tried = act(first(&operated(), look(), day(31)));
    let outage = after(&tried, Err(&kms(ErrorKind::Unavailable { why: Outage::Timeout, retry_after: None })));
    assert_eq!((outage.verdict.status, outage.verdict.reason.as_str()), ("Unknown", "KmsTimeout"));
    assert_eq!(outage.status.retry_after, Some(Time(day(31) + RETRY)));
    let missing =
        ProfileProblem::Declared { reason: reasons::SECRET_MISSING, message: "Secret shop/s".into() };
    let missing = after(&tried, Err(&missing));
    assert_eq!((missing.verdict.status, missing.verdict.reason.as_str()), ("False", "SecretMissing"));
    assert_eq!(missing.status.retry_after, None);
}

#[test]
fn no_wait_is_longer_than_a_day() {
    let profile = operated();
    let tried = act(first(&profile, look(), day(31)));
    let long = kms(ErrorKind::TooEarly { retry_after: Duration::from_hours(24 * 365) });
    assert_eq!(after(&tried, Err(&long)).status.retry_after, Some(Time(day(32))));
    // The clock went back by years since.
    let status = status_of(&profile, &after(&act(first(&profile, look(), day(999))), Err(&long)));
    assert!(matches!(step(&profile, look(), &status, day(31)), Step::Act(_)));
}

#[test]
fn a_rotation_is_reported_with_the_time_of_the_next_one() {
    let rotated = after(&act(first(&operated(), look(), day(31))), Ok(()));
    assert_eq!((rotated.verdict.status, rotated.verdict.reason.as_str()), ("True", "RotationScheduled"));
    assert_eq!(rotated.status.changed_at, Some(Time(day(31))));
    assert_eq!(rotated.status.next_rotation, Some(Time(day(61))));
}
