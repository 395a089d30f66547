//! What each answer means, where no server need be asked for it.
#![allow(clippy::unwrap_used)]

use kms::ErrorKind as E;

use super::Verdict::{Failed, Ok as Well, Unknown, Warning};
use super::*;

const WAY: Way<'_> =
    Way { endpoint: "https://kms.example", identity_elsewhere: true, own_authorities: true, plain: false };
const DENIED: ErrorKind = E::Denied { confirmed: true };

fn error(kind: ErrorKind, op: Op) -> KmsError {
    KmsError::new(kind, "keyProtect", op)
}

fn outage(why: Outage) -> ErrorKind {
    E::Unavailable { why, retry_after: None }
}

/// Endpoint, TLS, identity, describe.
fn verdicts(way: Way<'_>, kind: ErrorKind, op: Op) -> [Verdict; 4] {
    let reach = reach(way, Err(&error(kind, op)));
    [reach.endpoint, reach.tls, reach.identity, reach.describe].map(|finding| finding.verdict)
}

#[test]
fn each_error_says_how_far_the_call_came_and_no_further() {
    for (kind, op, expected) in [
        (outage(Outage::Unreachable), Op::Describe, [Unknown; 4]),
        (outage(Outage::Timeout), Op::Authenticate, [Unknown; 4]),
        (outage(Outage::TlsFailed), Op::Describe, [Well, Failed, Unknown, Unknown]),
        (outage(Outage::TlsFailed), Op::Authenticate, [Unknown, Failed, Unknown, Unknown]),
        (outage(Outage::ServerError), Op::Describe, [Well, Well, Unknown, Unknown]),
        (outage(Outage::ServerError), Op::Authenticate, [Unknown; 4]),
        (E::Integrity("strange"), Op::Describe, [Well, Well, Unknown, Unknown]),
        (E::CredentialRejected, Op::Authenticate, [Unknown, Unknown, Failed, Unknown]),
        (DENIED, Op::Describe, [Well, Well, Well, Failed]),
        (E::KeyNotFound, Op::Describe, [Well, Well, Well, Failed]),
        (E::KeyDisabled, Op::Describe, [Well; 4]),
    ] {
        let name = format!("{kind:?} {op}");
        assert_eq!(verdicts(WAY, kind, op), expected, "{name}");
    }
    let same_server = Way { identity_elsewhere: false, ..WAY };
    let rejected = verdicts(same_server, E::CredentialRejected, Op::Authenticate);
    assert_eq!(rejected, [Well, Well, Failed, Unknown], "that server is the KMS");
}

#[test]
fn only_a_denial_shows_that_a_rewrap_credential_cannot_unwrap() {
    let judged = |done: Result<(), ErrorKind>, native| {
        let done = done.map_err(|kind| error(kind, Op::Unwrap));
        no_unwrap(done.as_ref().copied(), native).verdict
    };
    assert_eq!(judged(Ok(()), true), Failed);
    assert_eq!(judged(Ok(()), false), Warning, "it must, where the KMS does not rewrap");
    assert_eq!(judged(Err(DENIED), true), Well);
    for kind in [outage(Outage::Timeout), E::CiphertextInvalid, E::KeyDisabled, E::CredentialRejected] {
        assert_eq!(judged(Err(kind.clone()), true), Unknown, "{kind:?}");
    }
}

#[test]
fn a_right_that_must_be_absent_is_ok_only_where_the_kms_says_that_it_is() {
    let judged = |may| absent(Check::NoRotate, Role::Data, "transit", &may).verdict;
    assert_eq!(judged(Ok(Permission::Withheld)), Well);
    assert_eq!(judged(Ok(Permission::Granted)), Failed);
    assert_eq!(judged(Ok(Permission::Open)), Unknown);
    assert_eq!(judged(Ok(Permission::NotAsked)), Unknown);
    assert_eq!(judged(Err(error(outage(Outage::Unreachable), Op::Permissions))), Unknown);
}

#[test]
fn an_admin_credential_is_judged_by_what_the_profile_needs_of_it() {
    use Permission::{Granted, NotAsked, Withheld};
    for (need, rotate, policy, expected) in [
        (Need::Rotate, Granted, Withheld, [Well, Well]),
        (Need::Rotate, Withheld, Granted, [Failed, Well]),
        (Need::Policy, Withheld, Granted, [Well, Well]),
        (Need::Policy, Granted, Withheld, [Well, Failed]),
        (Need::Either, Granted, Withheld, [Well, Well]),
        (Need::Either, Withheld, Withheld, [Failed, Failed]),
        (Need::Either, Withheld, NotAsked, [Unknown, Unknown]),
        (Need::Nothing, Withheld, Withheld, [Well, Well]),
        (Need::Nothing, NotAsked, Withheld, [Unknown, Well]),
    ] {
        let (rotate_line, policy_line) = rotation(need, &Ok(rotate), &Ok(policy));
        assert_eq!([rotate_line.verdict, policy_line.verdict], expected, "{need:?} {rotate:?} {policy:?}");
    }
}

#[test]
fn a_key_that_came_back_as_another_one_is_a_failure() {
    let judged = |kind: Option<ErrorKind>| {
        let error = kind.map(|kind| error(kind, Op::Unwrap));
        round_trip(Check::Unwrap, Role::Data, Err(error.as_ref()), ContextScheme::Aad).verdict
    };
    assert_eq!(judged(None), Failed);
    assert_eq!(judged(Some(DENIED)), Failed);
    assert_eq!(judged(Some(outage(Outage::ServerError))), Unknown);
}

#[test]
fn what_is_known_of_a_key_that_cannot_be_looked_at_is_nothing() {
    assert_eq!(state(Err(&error(DENIED, Op::Describe))).verdict, Unknown);
    assert_eq!(state(Err(&error(E::KeyDisabled, Op::Describe))).verdict, Failed);
    assert_eq!(state(Err(&error(outage(Outage::Timeout), Op::Describe))).verdict, Unknown);
}
