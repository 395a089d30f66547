//! Whether a profile may be used by pods and Jobs now, by what the operator has found out about it.
//!
//! Invariant: what was found out about an earlier form of the profile counts for nothing, so that a change that the operator would
//! refuse is never used before it does.

use api::KmsProfile;
use api::condition::{reasons, types};

/// Declarations that cannot work, whatever the KMS says.
const DECLARED: [&str; 5] = [
    reasons::INVALID_SPEC,
    reasons::PROVIDER_NOT_SUPPORTED,
    reasons::SECRET_MISSING,
    reasons::SECRET_INCOMPLETE,
    reasons::CA_MISSING,
];

/// Why nothing may start with a profile. A KMS that refuses or does not answer is no reason once the profile has been seen
/// working: the pod starts, its gate waits and says why. A declaration that cannot work is one.
pub fn problem(profile: &KmsProfile) -> Option<String> {
    let current = |generation: Option<i64>| generation == profile.metadata.generation;
    let status = profile.status.as_ref().filter(|status| current(status.observed_generation));
    let ready = status.and_then(|status| status.conditions.iter().find(|c| c.type_ == types::READY));
    let Some(ready) = ready else {
        return Some("has not been looked at yet: try again in a moment".into());
    };
    let seen = status.is_some_and(|status| status.current_version.is_some());
    if ready.status == "True" || (seen && !DECLARED.contains(&ready.reason.as_str())) {
        return None;
    }
    Some(format!("is not Ready ({}): {}", ready.reason, ready.message))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn profile(generation: i64, status: &str, reason: &str) -> KmsProfile {
        serde_json::from_value(json!({
            "apiVersion": "cofferdam.io/v1alpha1", "kind": "KmsProfile", "metadata": {"name": "main", "generation": generation},
            "spec": {"credentials": {"data": {"apiKeySecret": {"name": "s"}}}},
            "status": {"observedGeneration": 1, "currentVersion": "v1", "conditions": [{
                "type": "Ready", "status": status, "reason": reason, "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z",
            }]},
        }))
        .unwrap()
    }

    #[test]
    fn an_outage_stops_nothing_and_a_declaration_that_cannot_work_everything() {
        assert_eq!(problem(&profile(1, "True", "Ready")), None);
        assert_eq!(problem(&profile(1, "Unknown", "KmsTimeout")), None);
        assert!(problem(&profile(1, "False", "InvalidSpec")).unwrap().contains("InvalidSpec"));
    }

    #[test]
    fn a_changed_profile_is_not_used_before_it_was_looked_at() {
        let problem = problem(&profile(2, "True", "Ready")).unwrap();
        assert!(problem.contains("has not been looked at yet"), "{problem}");
    }
}
