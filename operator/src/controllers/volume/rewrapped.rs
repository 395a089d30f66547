//! Whether every file of a volume is wrapped by the current key version.
//!
//! Invariant: pure; what was not counted by a complete sweep, or found empty by a Job, is unknown, and unknown is never yes.

use api::EncryptedVolumeStatus;
use api::condition::{reasons, types};

use crate::controllers::conditions::{Verdict, find};

/// The condition `Rewrapped`; `current` is the profile's current version, where it is known.
pub fn rewrapped(status: &EncryptedVolumeStatus, current: Option<&str>) -> Verdict {
    let version_unknown =
        || Verdict::unknown(reasons::UNKNOWN, "the root key's current version is not known");
    if status.marker.is_none() {
        return current.map_or_else(version_unknown, |current| unmarked(status, current));
    }
    let Some(current) = current else { return version_unknown() };
    let Some(sweep) = &status.last_sweep else {
        // Why it is so is not said again by anybody.
        let said = find(&status.conditions, types::REWRAPPED);
        let kept = [reasons::RESTORED, reasons::WRONG_VOLUME];
        if let Some(said) = said.filter(|said| kept.contains(&said.reason.as_str())) {
            return Verdict::unknown(said.reason.clone(), said.message.clone());
        }
        return Verdict::unknown(reasons::PENDING, "no sweep has been completed yet");
    };
    let swept = &sweep.target_version;
    if swept != current {
        let message = format!("the last sweep led to version {swept}; the current one is {current}");
        return Verdict::no(reasons::BEHIND, message);
    }
    let left: u64 =
        sweep.files_per_version.iter().filter(|(version, _)| *version != current).map(|(_, n)| n).sum();
    if left > 0 {
        let message = format!("{left} files are still wrapped by older versions than {current}");
        return Verdict::no(reasons::BEHIND, message);
    }
    if sweep.unknown > 0 {
        let message = format!("the key version of {} files could not be read", sweep.unknown);
        return Verdict::unknown(reasons::UNKNOWN, message);
    }
    let all: u64 = sweep.files_per_version.values().sum();
    Verdict::yes(reasons::READY, format!("all {all} files are wrapped by version {current}"))
}

/// Nobody has reported a marker: only a Job may have looked.
fn unmarked(status: &EncryptedVolumeStatus, current: &str) -> Verdict {
    if let Some(seen) = &status.not_counted {
        return Verdict::unknown(
            seen.reason.clone(),
            format!("a Job could not count its files: {}", seen.message),
        );
    }
    match &status.last_sweep {
        Some(look) if look.target_version == current && look.files_per_version.is_empty() => {
            let message = format!(
                "a Job found neither files nor a marker in it when version {current} was current: it needs no older one"
            );
            Verdict::yes(reasons::VOLUME_EMPTY, message)
        }
        Some(look) => {
            let seen = &look.target_version;
            let message =
                format!("a Job found it empty for version {seen}, and has not looked for version {current}");
            Verdict::unknown(reasons::PENDING, message)
        }
        None => Verdict::unknown(reasons::PENDING, "nobody has reported the volume's marker yet"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use api::volume::{Marker, NotCounted, Sweep};

    use super::*;
    use crate::controllers::conditions::{now, put};

    fn swept(target: &str, files: &[(&str, u64)], unknown: u64) -> EncryptedVolumeStatus {
        let files_per_version: BTreeMap<_, _> = files.iter().map(|(v, n)| ((*v).to_owned(), *n)).collect();
        EncryptedVolumeStatus {
            marker: Some(Marker::default()),
            last_sweep: Some(Sweep {
                target_version: target.into(),
                files_per_version,
                unknown,
                ..Sweep::default()
            }),
            ..EncryptedVolumeStatus::default()
        }
    }

    #[test]
    fn only_a_complete_count_under_the_current_version_is_a_yes() {
        let never = EncryptedVolumeStatus { last_sweep: None, ..swept("v2", &[], 0) };
        let nobody = EncryptedVolumeStatus { marker: None, ..swept("v2", &[("v2", 3)], 0) };
        for (status, current, expected) in [
            (swept("v2", &[("v2", 3)], 0), Some("v2"), ("True", reasons::READY)),
            (swept("v2", &[("v2", 3), ("v1", 0)], 0), Some("v2"), ("True", reasons::READY)),
            (swept("v2", &[("v2", 3)], 0), Some("v3"), ("False", reasons::BEHIND)),
            (swept("v2", &[("v2", 3), ("v1", 1)], 0), Some("v2"), ("False", reasons::BEHIND)),
            (swept("v2", &[("v2", 3)], 1), Some("v2"), ("Unknown", reasons::UNKNOWN)),
            (swept("v2", &[("v2", 3)], 0), None, ("Unknown", reasons::UNKNOWN)),
            (never, Some("v2"), ("Unknown", reasons::PENDING)),
            (nobody, Some("v2"), ("Unknown", reasons::PENDING)),
        ] {
            let verdict = rewrapped(&status, current);
            assert_eq!((verdict.status, verdict.reason.as_str()), expected, "{}", verdict.message);
        }
    }

    #[test]
    fn a_volume_without_a_marker_is_rewrapped_only_where_it_was_found_empty_for_the_current_version() {
        let empty = EncryptedVolumeStatus { marker: None, ..swept("v2", &[], 0) };
        let verdict = rewrapped(&empty, Some("v2"));
        assert_eq!((verdict.status, verdict.reason.as_str()), ("True", reasons::VOLUME_EMPTY));
        assert_eq!(rewrapped(&empty, Some("v3")).reason, reasons::PENDING);
        assert_eq!(rewrapped(&empty, None).status, "Unknown");
        let seen = NotCounted {
            reason: "PlaintextFound".into(),
            message: "it holds 3 entries".into(),
            ..NotCounted::default()
        };
        let verdict = rewrapped(&EncryptedVolumeStatus { not_counted: Some(seen), ..empty }, Some("v2"));
        assert_eq!((verdict.status, verdict.reason.as_str()), ("Unknown", "PlaintextFound"));
        assert!(verdict.message.contains("it holds 3 entries"), "{}", verdict.message);
    }

    #[test]
    fn a_restored_volume_stays_restored_until_it_is_swept() {
        let mut status = EncryptedVolumeStatus { last_sweep: None, ..swept("v2", &[], 0) };
        let why = Verdict::unknown(reasons::RESTORED, "put back");
        put(&mut status.conditions, types::REWRAPPED, &why, None, &now());
        assert_eq!(rewrapped(&status, Some("v2")).reason, reasons::RESTORED);
        status.last_sweep = swept("v2", &[("v2", 1)], 0).last_sweep;
        assert_eq!(rewrapped(&status, Some("v2")).status, "True");
    }
}
