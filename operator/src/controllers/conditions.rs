//! Lists of conditions, changed as the API conventions say.
//!
//! Invariant: `lastTransitionTime` moves only when a condition's status moves.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// What a condition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// A PascalCase word.
    pub reason: String,
    /// For a person.
    pub message: String,
}

impl Verdict {
    /// It is so.
    pub fn yes(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status: "True", reason: reason.into(), message: message.into() }
    }

    /// It is not so.
    pub fn no(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status: "False", reason: reason.into(), message: message.into() }
    }

    /// Nobody knows.
    pub fn unknown(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status: "Unknown", reason: reason.into(), message: message.into() }
    }
}

/// Puts a condition into the list; says whether its status or reason is another than before.
pub fn put(
    list: &mut Vec<Condition>,
    type_: &str,
    verdict: &Verdict,
    generation: Option<i64>,
    now: &Time,
) -> bool {
    let Verdict { status, reason, message } = verdict;
    let old = list.iter().position(|condition| condition.type_ == type_).map(|at| list.remove(at));
    let same_status = old.as_ref().is_some_and(|old| old.status == *status);
    let changed = !same_status || old.as_ref().is_none_or(|old| old.reason != *reason);
    let since = old.filter(|_| same_status).map_or_else(|| now.clone(), |old| old.last_transition_time);
    list.push(Condition {
        type_: type_.into(),
        status: (*status).into(),
        reason: reason.clone(),
        message: message.clone(),
        observed_generation: generation,
        last_transition_time: since,
    });
    list.sort_by(|one, other| one.type_.cmp(&other.type_));
    changed
}

/// The status of a condition, if it is in the list.
pub fn status<'a>(list: &'a [Condition], type_: &str) -> Option<&'a str> {
    list.iter().find(|condition| condition.type_ == type_).map(|condition| condition.status.as_str())
}

/// A condition of the list.
pub fn find<'a>(list: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    list.iter().find(|condition| condition.type_ == type_)
}

/// This moment.
pub fn now() -> Time {
    Time(k8s_openapi::jiff::Timestamp::now())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(second: i64) -> Time {
        Time(k8s_openapi::jiff::Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn the_transition_time_moves_with_the_status_only() {
        let mut list = vec![];
        assert!(put(&mut list, "Ready", &Verdict::no("A", ""), None, &at(1)));
        assert!(put(&mut list, "Ready", &Verdict::no("B", ""), None, &at(2)));
        assert_eq!(list[0].last_transition_time, at(1));
        assert!(!put(&mut list, "Ready", &Verdict::no("B", "said otherwise"), None, &at(3)));
        assert!(put(&mut list, "Ready", &Verdict::yes("C", ""), None, &at(4)));
        assert_eq!(list[0].last_transition_time, at(4));
        assert_eq!(list.len(), 1);
    }
}
