//! Who rotates a managed root key, and when: decided from what was declared, one look at the key, and the time.
//!
//! Invariant: pure; where the key's state or the age of its version is not known, nothing is done. A change follows a change by
//! the operator only after an interval, or where people changed the spec: a wrong clock cannot make it rotate on and on.

use std::time::Duration;

use api::condition::{reasons, types};
use api::profile::{RotatedBy, RotationStatus};
use api::{KmsProfile, KmsProfileStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kms::{ErrorKind, KeyRef, KeyState, KmsError, Origin};

use super::look::Look;
use crate::controllers::ProfileProblem;
use crate::controllers::conditions::{Verdict, find};

/// A month, as Key Protect's policies count it.
const MONTH: SignedDuration = SignedDuration::from_hours(30 * 24);
/// A policy fires within a day of the time that is due; a second day for late polls and clocks that differ.
const POLICY_GRACE: SignedDuration = SignedDuration::from_hours(48);
/// How long a policy that somebody else changes stays as it is. Each write may start the KMS's clock anew.
const POLICY_PAUSE: SignedDuration = SignedDuration::from_hours(24);
/// How soon a failed change is tried again.
const RETRY: SignedDuration = SignedDuration::from_mins(5);
/// The longest wait between two tries, whatever the KMS or a wrong clock says.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(24);

/// What follows from a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Rotation is only observed: nothing is said of it.
    Observe,
    /// The last try was a moment ago: what was said of it stays.
    Keep,
    /// There is nothing to do but to say this.
    Say(Said),
    /// Change something at the KMS.
    Act(Act),
}

/// What is said of the rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The condition `RotationManaged`.
    pub verdict: Verdict,
    /// The times beside it.
    pub status: RotationStatus,
}

/// A change at the KMS, with what must be known afterwards to speak of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// The key that was looked at, by its id: an alias may have moved on.
    pub key: KeyRef,
    /// Which change.
    pub change: Change,
    plan: Plan,
    made: Option<Timestamp>,
}

/// A change at the KMS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The KMS's own rotation policy.
    SetPolicy(Duration),
    /// A new key version.
    Rotate,
}

/// What was declared, and what the operator did about it before.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Plan {
    by: RotatedBy,
    months: u32,
    changed: Option<Timestamp>,
    retry_after: Option<Timestamp>,
    /// People changed the spec since anything was said: old waits count no more.
    respecified: bool,
    now: Timestamp,
}

/// Decides; `status` is the profile's status with all earlier words on the rotation.
pub fn decide(
    profile: &KmsProfile,
    status: &KmsProfileStatus,
    found: &Result<Look, ProfileProblem>,
    now: Timestamp,
) -> Step {
    let Some(plan) = Plan::of(profile, status, now) else { return Step::Observe };
    if profile.spec.credentials.admin.is_none() {
        let message = "rotation.managed needs credentials.admin: nothing is rotated; name a credential that may rotate the root key";
        return plan.say(Verdict::no(reasons::ADMIN_CREDENTIAL_MISSING, message), None);
    }
    let Ok(look) = found else {
        let message = "the root key could not be looked at: nothing is rotated until it can";
        return plan.say(Verdict::unknown(reasons::KEY_UNKNOWN, message), None);
    };
    if look.info.state != KeyState::Enabled {
        let state = look.info.state;
        let message = format!("the root key is {state}: nothing is rotated until it is enabled");
        return plan.say(Verdict::unknown(format!("Key{state}"), message), None);
    }
    if look.info.origin != Origin::Generated {
        let message =
            "the root key's material was not made in the KMS: only its owner can bring new material";
        return plan.say(Verdict::no(reasons::KEY_MATERIAL_NEEDED, message), None);
    }
    match plan.by {
        RotatedBy::Kms => by_policy(plan, look),
        RotatedBy::Operator => by_operator(plan, look),
    }
}

fn by_policy(plan: Plan, look: &Look) -> Step {
    let (made, wanted) = (made(look), plan.interval().unsigned_abs());
    if look.info.auto_rotation != Some(wanted) {
        return if plan.waits() {
            Step::Keep
        } else if plan.changed_within(POLICY_PAUSE) && !plan.respecified {
            let message = "the KMS does not show the rotation policy that the operator set within the last day; somebody else may \
                           have changed it. It is set again a day after that";
            plan.say(Verdict::no(reasons::ROTATION_POLICY_CHANGED, message), None)
        } else {
            plan.act(Change::SetPolicy(wanted), look, made)
        };
    }
    let due = made.map(|made| later(made, plan.interval()));
    let counted = due.map(|due| plan.changed.map_or(due, |set| due.max(set)));
    if let Some(counted) = counted
        && plan.now > later(counted, POLICY_GRACE)
    {
        let message = "the current version is older than the interval, and the KMS's rotation policy has not replaced it; rotate the \
                       root key by hand, or set rotation.by to Operator";
        return plan.say(Verdict::no(reasons::ROTATION_OVERDUE, message), due);
    }
    plan.say(plan.managed(), due)
}

fn by_operator(plan: Plan, look: &Look) -> Step {
    let Some(made) = made(look) else {
        let message = "the KMS did not tell when the current version was made: nothing is rotated until it does; the data \
                       credential must be allowed to list versions";
        return plan.say(Verdict::unknown(reasons::VERSION_AGE_UNKNOWN, message), None);
    };
    // What the operator itself rotated is as young as that, whatever the two clocks say.
    let own = plan.changed.filter(|changed| *changed <= plan.now);
    let due = later(own.map_or(made, |own| own.max(made)), plan.interval());
    if plan.now < due {
        return plan.say(plan.managed(), Some(due));
    }
    if plan.waits() { Step::Keep } else { plan.act(Change::Rotate, look, Some(made)) }
}

/// What is said after a change was tried.
pub fn after(act: &Act, outcome: Result<(), &ProfileProblem>) -> Said {
    let plan = &act.plan;
    let since = match (outcome, act.change) {
        (Ok(()), Change::Rotate) => Some(plan.now),
        _ => act.made,
    };
    let due = since.map(|made| later(made, plan.interval()));
    match outcome {
        Ok(()) => {
            let status = RotationStatus { changed_at: Some(Time(plan.now)), ..plan.status(due) };
            Said { verdict: plan.managed(), status }
        }
        Err(problem) => {
            let retry = wait_after(problem).map(|wait| later(plan.now, wait));
            let status = RotationStatus { retry_after: retry.map(Time), ..plan.status(due) };
            Said { verdict: failed(act.change, problem, retry), status }
        }
    }
}

/// How long nothing is tried; none where the KMS was not even asked.
fn wait_after(problem: &ProfileProblem) -> Option<SignedDuration> {
    let ProfileProblem::Kms(error) = problem else { return None };
    let asked = error.retry_after().and_then(|wait| SignedDuration::try_from(wait).ok());
    Some(asked.unwrap_or_default().clamp(RETRY, LONGEST_WAIT))
}

fn failed(change: Change, problem: &ProfileProblem, retry: Option<Timestamp>) -> Verdict {
    let what = match change {
        Change::SetPolicy(_) => "set the KMS's rotation policy",
        Change::Rotate => "rotate the root key",
    };
    let again = retry.map_or_else(String::new, |at| format!("; the operator tries again after {at}"));
    match problem {
        ProfileProblem::Kms(KmsError { kind: ErrorKind::TooEarly { .. }, .. }) => {
            let message = format!("the KMS wants more time to pass between two rotations{again}");
            Verdict::yes(reasons::ROTATION_WAITS, message)
        }
        // Whether the KMS has done it, the next look tells.
        ProfileProblem::Kms(error) if error.is_outage() => {
            Verdict::unknown(error.reason(), format!("{what}: {error}{again}"))
        }
        ProfileProblem::Kms(error) => {
            let message = format!("{what} with the admin credential: {error}{again}");
            Verdict::no(error.reason(), message)
        }
        ProfileProblem::Declared { reason, message } => {
            Verdict::no(*reason, format!("{what} with the admin credential: {message}"))
        }
        ProfileProblem::Api(error) => {
            let message = format!("{what}: the API server did not answer: {error}");
            Verdict::unknown(reasons::UNKNOWN, message)
        }
    }
}

impl Plan {
    fn of(profile: &KmsProfile, status: &KmsProfileStatus, now: Timestamp) -> Option<Self> {
        let rotation = profile.spec.rotation.as_ref().filter(|rotation| rotation.managed)?;
        let has_policy = profile.spec.pkcs11.is_none();
        let by = rotation.by.unwrap_or(if has_policy { RotatedBy::Kms } else { RotatedBy::Operator });
        let said = find(&status.conditions, types::ROTATION_MANAGED);
        let before = status.rotation.as_ref();
        // What was done in the other's time says nothing about this one's.
        let changed = before.filter(|before| before.by == by).and_then(|before| before.changed_at.clone());
        Some(Self {
            by,
            months: rotation.interval_months,
            changed: changed.map(|at| at.0),
            retry_after: before.and_then(|before| before.retry_after.clone()).map(|at| at.0),
            respecified: said.is_none_or(|said| said.observed_generation != profile.metadata.generation),
            now: Timestamp::from_second(now.as_second()).unwrap_or(now),
        })
    }

    fn interval(&self) -> SignedDuration {
        MONTH * i32::try_from(self.months).unwrap_or(12).clamp(1, 12)
    }

    /// The last try was a moment ago. A time that no try can have led to, as a wrong clock leaves, does not count.
    fn waits(&self) -> bool {
        let still = |until: Timestamp| until > self.now && until <= later(self.now, LONGEST_WAIT);
        !self.respecified && self.retry_after.is_some_and(still)
    }

    fn changed_within(&self, time: SignedDuration) -> bool {
        self.changed.is_some_and(|at| at <= self.now && self.now < later(at, time))
    }

    fn managed(&self) -> Verdict {
        let every = match self.months {
            1 => "month of 30 days".to_owned(),
            months => format!("{months} months of 30 days"),
        };
        match self.by {
            RotatedBy::Kms => {
                let message =
                    format!("the KMS rotates the root key every {every}, by the policy that is set there");
                Verdict::yes(reasons::ROTATION_POLICY_SET, message)
            }
            RotatedBy::Operator => {
                let message = format!("the operator rotates the root key every {every}");
                Verdict::yes(reasons::ROTATION_SCHEDULED, message)
            }
        }
    }

    fn status(&self, due: Option<Timestamp>) -> RotationStatus {
        let (next_rotation, changed_at) = (due.map(Time), self.changed.map(Time));
        RotationStatus { by: self.by, next_rotation, changed_at, retry_after: None }
    }

    fn say(&self, verdict: Verdict, due: Option<Timestamp>) -> Step {
        Step::Say(Said { verdict, status: self.status(due) })
    }

    fn act(self, change: Change, look: &Look, made: Option<Timestamp>) -> Step {
        Step::Act(Act { key: look.info.id.clone(), change, plan: self, made })
    }
}

/// When the current version was made, if anybody knows.
fn made(look: &Look) -> Option<Timestamp> {
    let current = look.info.current.as_ref()?;
    let mut listed = look.versions.iter().flatten();
    let listed = listed.find(|info| info.version == *current).and_then(|info| info.created_at);
    Timestamp::try_from(listed.or(look.info.rotated_at)?).ok()
}

fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
#[path = "rotation_tests.rs"]
mod tests;
