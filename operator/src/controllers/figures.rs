//! What the metrics say of profiles and rewrap Jobs.
//!
//! Invariant: one series for each profile and one of three groups of versions; a volume or a version is never a label. Only
//! the leader sets them.

use std::sync::Arc;

use api::KmsProfileStatus;
use kms::KeyState;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

type Labels = Vec<(&'static str, Arc<str>)>;

/// The gauges and counters.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    files: Family<Labels, Gauge>,
    unknown_volumes: Family<Labels, Gauge>,
    usable: Family<Labels, Gauge>,
    jobs_started: Counter,
    jobs_stopped: Counter,
}

impl Figures {
    /// Figures that the registry shows.
    pub fn register(all: &mut Registry) -> Self {
        let new = Self::default();
        let help = "Files by profile and by whether the current key version wraps them, as last counted";
        all.register("cofferdam_files", help, new.files.clone());
        let help = "Volumes of a profile whose files were not counted";
        all.register("cofferdam_unknown_volumes", help, new.unknown_volumes.clone());
        all.register(
            "cofferdam_root_key_usable",
            "1 if the root key is enabled, as last seen",
            new.usable.clone(),
        );
        all.register("cofferdam_rewrap_jobs_started", "Rewrap Jobs started", new.jobs_started.clone());
        all.register(
            "cofferdam_rewrap_jobs_stopped",
            "Rewrap Jobs stopped before their end",
            new.jobs_stopped.clone(),
        );
        new
    }

    /// What is known of a profile now.
    pub fn profile(&self, namespace: &str, name: &str, status: &KmsProfileStatus) {
        let current = status.current_version.as_deref();
        let (wrapped, older): (Vec<_>, Vec<_>) =
            status.versions.iter().partition(|version| Some(version.id.as_str()) == current);
        for (group, versions) in [("current", wrapped), ("older", older)] {
            let files: u64 = versions.iter().map(|version| version.files).sum();
            self.files.get_or_create(&labels(namespace, name, Some(group))).set(files as i64);
        }
        let unknown = status.versions.iter().map(|version| version.unknown_volumes).max().unwrap_or(0);
        self.unknown_volumes.get_or_create(&labels(namespace, name, None)).set(unknown as i64);
        let usable = status.key_state.as_deref() == Some(KeyState::Enabled.as_str());
        self.usable.get_or_create(&labels(namespace, name, None)).set(i64::from(usable));
    }

    /// A profile is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        for group in ["current", "older"] {
            self.files.remove(&labels(namespace, name, Some(group)));
        }
        self.unknown_volumes.remove(&labels(namespace, name, None));
        self.usable.remove(&labels(namespace, name, None));
    }

    /// A Job was started.
    pub fn job_started(&self) {
        self.jobs_started.inc();
    }

    /// A Job was deleted while it ran.
    pub fn job_stopped(&self) {
        self.jobs_stopped.inc();
    }
}

fn labels(namespace: &str, name: &str, group: Option<&str>) -> Labels {
    let mut labels: Labels = vec![("namespace", namespace.into()), ("profile", name.into())];
    labels.extend(group.map(|group| ("version", group.into())));
    labels
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use api::profile::VersionStatus;

    use super::*;

    #[test]
    fn files_are_shown_by_current_and_older_versions_and_go_with_the_profile() {
        let all = crate::metrics::Metrics::default();
        let figures = all.with_registry(Figures::register);
        let version = |id: &str, files| VersionStatus { id: id.into(), files, ..VersionStatus::default() };
        let status = KmsProfileStatus {
            key_state: Some("Enabled".into()),
            current_version: Some("v3".into()),
            versions: vec![version("v3", 7), version("v2", 2), version("v1", 1)],
            ..KmsProfileStatus::default()
        };
        figures.profile("shop", "main", &status);
        let text = all.text().unwrap();
        assert!(
            text.contains(r#"cofferdam_files{namespace="shop",profile="main",version="current"} 7"#),
            "{text}"
        );
        assert!(
            text.contains(r#"cofferdam_files{namespace="shop",profile="main",version="older"} 3"#),
            "{text}"
        );
        figures.forget("shop", "main");
        assert!(!all.text().unwrap().contains("shop"));
    }
}
