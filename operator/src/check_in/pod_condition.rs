//! The pod's condition `cofferdam.io/Served`, from what its sidecar reports.
//!
//! Invariant: pure; it is True only while every volume is served, and says the worst otherwise.

use api::condition::types;
use contract::check_in::{VolumePhase, VolumeReport};
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The condition for a sidecar's reports.
pub fn served(reports: &[VolumeReport], before: Option<&PodCondition>, now: &Time) -> PodCondition {
    let worst = reports.iter().max_by_key(|report| badness(report.phase));
    let all = !reports.is_empty() && reports.iter().all(|report| report.phase == VolumePhase::Serving);
    let status = if all { "True" } else { "False" };
    let message = if all { warnings(reports) } else { trouble(reports) };
    let since = before
        .filter(|before| before.status == status)
        .and_then(|before| before.last_transition_time.clone());
    PodCondition {
        type_: types::POD_SERVED.into(),
        status: status.into(),
        reason: worst.map(|report| report.reason.clone()),
        message: Some(message.chars().take(2000).collect()),
        last_transition_time: since.or_else(|| Some(now.clone())),
        ..PodCondition::default()
    }
}

/// The condition that the pod has now.
pub fn present(pod: &Pod) -> Option<&PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    conditions.iter().find(|condition| condition.type_ == types::POD_SERVED)
}

/// Whether a person would read something else.
pub fn differs(before: Option<&PodCondition>, next: &PodCondition) -> bool {
    before.is_none_or(|before| {
        (&before.status, &before.reason, &before.message) != (&next.status, &next.reason, &next.message)
    })
}

fn badness(phase: VolumePhase) -> u8 {
    match phase {
        VolumePhase::Serving | VolumePhase::Sweeping | VolumePhase::Swept => 0,
        VolumePhase::Waiting => 1,
        VolumePhase::Suspended => 2,
        VolumePhase::Failed => 3,
    }
}

fn trouble(reports: &[VolumeReport]) -> String {
    let bad = reports.iter().filter(|report| report.phase != VolumePhase::Serving);
    let said: Vec<_> = bad.map(|report| format!("volume {}: {}", report.name, why(report))).collect();
    if said.is_empty() { "the sidecar reports no volume".into() } else { said.join("; ") }
}

fn why(report: &VolumeReport) -> &str {
    if report.message.is_empty() { &report.reason } else { &report.message }
}

fn warnings(reports: &[VolumeReport]) -> String {
    let said =
        reports.iter().flat_map(|report| report.warnings.iter().map(|warning| (&report.name, warning)));
    let said: Vec<_> = said.map(|(name, warning)| format!("volume {name}: {warning}")).collect();
    if said.is_empty() { "every volume is encrypted and served".into() } else { said.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check_in::sample::report;
    use crate::controllers::conditions::now;

    #[test]
    fn it_is_true_only_while_every_volume_is_served() {
        let serving = report("data", VolumePhase::Serving, "Serving");
        let waiting = report("logs", VolumePhase::Waiting, "VolumeInUse");
        let failed = report("more", VolumePhase::Failed, "PlaintextFound");
        let of = |reports: &[VolumeReport]| {
            let condition = served(reports, None, &now());
            (condition.status, condition.reason.unwrap_or_default(), condition.message.unwrap_or_default())
        };
        assert_eq!(of(std::slice::from_ref(&serving)).0, "True");
        let (status, reason, message) = of(&[serving.clone(), waiting.clone()]);
        assert_eq!((status.as_str(), reason.as_str()), ("False", "VolumeInUse"));
        assert!(message.contains("logs") && !message.contains("data"), "{message}");
        assert_eq!(of(&[waiting, failed, serving]).1, "PlaintextFound");
        assert_eq!(of(&[]).0, "False");
    }

    #[test]
    fn the_same_words_are_not_written_again() {
        let reports = [report("data", VolumePhase::Serving, "Serving")];
        let first = served(&reports, None, &now());
        assert!(differs(None, &first));
        assert!(!differs(Some(&first), &served(&reports, Some(&first), &now())));
        let failed = served(&[report("data", VolumePhase::Failed, "SessionLost")], Some(&first), &now());
        assert!(differs(Some(&first), &failed));
    }
}
