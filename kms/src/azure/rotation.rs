//! The vault's own rotation policy of a key.
//!
//! Invariant: what somebody else put into a policy (a notification, an expiry) stays in it when our interval changes.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

const DAY: u64 = 86_400;

/// The service wants a week at least.
const SHORTEST: u64 = 7;

/// A policy, as it is read and as it is written.
#[derive(Deserialize, Serialize)]
pub(super) struct Policy {
    #[serde(default, rename = "lifetimeActions")]
    lifetime_actions: Vec<Value>,
    #[serde(default)]
    attributes: PolicyAttributes,
}

#[derive(Deserialize, Serialize, Default)]
struct PolicyAttributes {
    #[serde(default, rename = "expiryTime", skip_serializing_if = "Option::is_none")]
    expiry_time: Option<String>,
}

fn rotates(action: &Value) -> bool {
    action["action"]["type"].as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("rotate"))
}

impl Policy {
    /// The interval, where it is one that counts from a version's creation.
    pub(super) fn interval(&self) -> Option<Duration> {
        let action = self.lifetime_actions.iter().find(|action| rotates(action))?;
        duration(action["trigger"]["timeAfterCreate"].as_str()?)
    }

    /// The same policy with this interval, rounded up to days; `None`: without one.
    pub(super) fn with(mut self, interval: Option<Duration>) -> Self {
        self.lifetime_actions.retain(|action| !rotates(action));
        if let Some(interval) = interval {
            let days = interval.as_secs().div_ceil(DAY).max(SHORTEST);
            self.lifetime_actions.push(serde_json::json!({
                "trigger": {"timeAfterCreate": format!("P{days}D")},
                "action": {"type": "Rotate"},
            }));
        }
        self
    }
}

/// An ISO 8601 duration of days, weeks, months or years: a month counts 30 days, a year 365.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('P')?;
    let mut days = 0u64;
    while !rest.is_empty() {
        let at = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(at);
        let number: u64 = number.parse().ok()?;
        let unit = match tail.as_bytes().first()? {
            b'D' => 1,
            b'W' => 7,
            b'M' => 30,
            b'Y' => 365,
            _ => return None,
        };
        days = days.checked_add(number.checked_mul(unit)?)?;
        rest = &tail[1..];
    }
    (days > 0).then(|| days.checked_mul(DAY)).flatten().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SHOWN: &str = r#"{"id":"x","lifetimeActions":[
        {"trigger":{"timeAfterCreate":"P3M"},"action":{"type":"rotate"}},
        {"trigger":{"timeBeforeExpiry":"P30D"},"action":{"type":"Notify"}}],
        "attributes":{"expiryTime":"P1Y","created":1,"updated":2}}"#;

    #[test]
    fn an_interval_is_read_and_replaced_and_the_rest_stays() {
        let policy: Policy = serde_json::from_str(SHOWN).unwrap();
        assert_eq!(policy.interval(), Some(Duration::from_secs(90 * DAY)));
        let written = serde_json::to_string(&policy.with(Some(Duration::from_secs(20 * DAY + 1)))).unwrap();
        assert_eq!(
            written,
            r#"{"lifetimeActions":[{"action":{"type":"Notify"},"trigger":{"timeBeforeExpiry":"P30D"}},{"action":{"type":"Rotate"},"trigger":{"timeAfterCreate":"P21D"}}],"attributes":{"expiryTime":"P1Y"}}"#
        );
        let policy: Policy = serde_json::from_str(SHOWN).unwrap();
        assert_eq!(policy.with(None).interval(), None);
        let policy: Policy = serde_json::from_str("{}").unwrap();
        assert_eq!(policy.with(Some(Duration::from_secs(1))).interval(), Some(Duration::from_secs(7 * DAY)));
    }

    #[test]
    fn durations_that_are_no_number_of_days_are_not_guessed() {
        assert_eq!(duration("P1Y2M3D"), Some(Duration::from_secs((365 + 60 + 3) * DAY)));
        for wrong in ["", "P", "90D", "P90", "PT48H", "PxD", "P99999999999999999999D", "P0D"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }
}
