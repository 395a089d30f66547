//! Jobs over real directories, with a KMS in process and an operator of these tests' own.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use contract::check_in::CheckIn;
use contract::config::{CONFIG_VERSION, Wrapping};

use super::*;
use crate::testing::operator::{Authority, FakeOperator, files};
use crate::testing::{TestKms, open, version, volume_config};

fn config(kms: &TestKms, dir: &Path, operator_url: &str) -> (SidecarConfig, Places) {
    let config = SidecarConfig {
        version: CONFIG_VERSION,
        operator_url: operator_url.into(),
        profiles: vec![kms.profile(dir, "rewrap-key")],
        volumes: vec![volume_config()],
    };
    (config, places(dir))
}

fn places(dir: &Path) -> Places {
    Places {
        raw: dir.join("raw"),
        ctl: dir.join("s"),
        run: dir.join("run"),
        ca: dir.join("ca.crt"),
        token: dir.join("token"),
        port: 0,
    }
}

async fn filled(kms: &TestKms, dir: &Path) {
    let raw = dir.join("raw/data");
    std::fs::create_dir_all(&raw).unwrap();
    let opened = open(kms, &raw, Wrapping::Grouped).await;
    for number in 0..5 {
        opened.write(&format!("file-{number}"), b"contents").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_waits_through_an_outage_then_completes_and_its_counts_reach_the_operator() {
    let (kms, dir, authority) = (TestKms::start(), tempfile::tempdir().unwrap(), Authority::new());
    let operator = FakeOperator::start(&authority).await;
    files(dir.path(), &authority);
    filled(&kms, dir.path()).await;
    let target = kms.rotate().await;
    kms.fail();
    let (config, places) = config(&kms, dir.path(), &operator.url);
    let running = tokio::spawn(run(config, places));
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(!running.is_finished());
    kms.recover();
    tokio::time::timeout(Duration::from_secs(60), running).await.unwrap().unwrap().unwrap();
    let last = operator.reports().pop().unwrap();
    assert_eq!(last.role, Role::Job);
    let report = &last.volumes[0];
    assert_eq!(report.phase, VolumePhase::Swept);
    let sweep = report.sweep.as_ref().unwrap();
    assert!(sweep.complete && sweep.files_per_version.keys().eq([&target]), "{sweep:?}");
    assert_eq!(report.marker.as_ref().unwrap().sweep_epoch, 1);
    assert_eq!(version(&dir.path().join("raw/data/file-3")), target);
    assert_eq!(
        kms.server
            .audit()
            .iter()
            .filter(|event| event.initiator.as_deref() == Some("rewrap"))
            .filter(|event| event.action.contains("unwrap"))
            .count(),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_gives_way_to_a_sidecar() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    filled(&kms, dir.path()).await;
    let held = open(&kms, &dir.path().join("raw/data"), Wrapping::Grouped).await;
    let row = Board::new([("data".to_owned(), "data-0".to_owned())]).rows()[0].clone();
    let (config, places) = config(&kms, dir.path(), "");
    let wanted = Request::of(&config.volumes[0], &places.raw, Purpose::Write, holder());
    let waiting = tokio::time::timeout(Duration::from_secs(5), lease(&wanted, &row)).await;
    assert!(waiting.is_err(), "it waits for a while");
    assert_eq!(row.state().reason, reasons::VOLUME_IN_USE);
    assert_eq!(volume_code(&VolumeError::InUse { holder: String::new() }), exit::UNAVAILABLE);
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_credential_is_rejected_waits_and_says_why() {
    let (kms, dir, authority) = (TestKms::start(), tempfile::tempdir().unwrap(), Authority::new());
    let operator = FakeOperator::start(&authority).await;
    files(dir.path(), &authority);
    filled(&kms, dir.path()).await;
    let (mut config, places) = config(&kms, dir.path(), &operator.url);
    config.profiles = vec![kms.profile(dir.path(), "no-such-key")];
    let running = tokio::spawn(run(config, places));
    let said = |report: &CheckIn| {
        let volume = &report.volumes[0];
        volume.phase == VolumePhase::Waiting && volume.reason == "CredentialRejected"
    };
    let told = async {
        loop {
            match operator.reports().into_iter().find(said) {
                Some(report) => break report.volumes[0].message.clone(),
                None => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    };
    let message = tokio::time::timeout(Duration::from_secs(60), told).await.unwrap();
    assert!(message.contains("credential rejected"), "{message}");
    assert!(!running.is_finished());
    running.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_ends_a_job_with_the_code_for_it() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    filled(&kms, dir.path()).await;
    kms.rotate().await;
    kms.set_enabled(false).await;
    let (config, places) = config(&kms, dir.path(), "");
    let error = run(config, places).await.unwrap_err();
    assert_eq!(error.code(), exit::REFUSED, "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_was_never_initialised_is_left_untouched() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    std::fs::create_dir_all(dir.path().join("raw/data")).unwrap();
    let (config, places) = config(&kms, dir.path(), "");
    let error = run(config, places).await.unwrap_err();
    assert_eq!(error.code(), exit::DATA, "{error:?}");
    assert_eq!(std::fs::read_dir(dir.path().join("raw/data")).unwrap().count(), 0);
}

/// What a look at `raw/data` reports, with no KMS and no credential; names and contents of the volume are compared.
async fn look(dir: &Path) -> contract::check_in::VolumeReport {
    let authority = Authority::new();
    let operator = FakeOperator::start(&authority).await;
    files(dir, &authority);
    let mut volume = volume_config();
    volume.look_for = Some("v7".into());
    volume.storage_entries = vec![".snapshot".into()];
    let config = SidecarConfig {
        version: CONFIG_VERSION,
        operator_url: operator.url.clone(),
        profiles: vec![],
        volumes: vec![volume],
    };
    let (before, places) = (tree(&dir.join("raw")), places(dir));
    run(config, places).await.unwrap();
    assert_eq!(tree(&dir.join("raw")), before, "it wrote");
    operator.reports().pop().unwrap().volumes.pop().unwrap()
}

fn tree(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = vec![];
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let is_dir = entry.file_type().unwrap().is_dir();
        found.push((entry.path(), if is_dir { vec![] } else { std::fs::read(entry.path()).unwrap() }));
        if is_dir {
            found.extend(tree(&entry.path()));
        }
    }
    found.sort();
    found
}

fn counted(report: &contract::check_in::VolumeReport) -> (bool, &str, &str) {
    let look = report.look.as_ref().unwrap();
    assert!(report.phase == VolumePhase::Swept && report.sweep.is_none(), "{report:?}");
    (look.empty, &look.target_version, &report.reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_empty_only_where_nothing_but_the_storages_own_entries_lies_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("raw/data");
    for own in ["lost+found", ".snapshot"] {
        std::fs::create_dir_all(raw.join(own)).unwrap();
        assert_eq!(counted(&look(dir.path()).await), (true, "v7", reasons::VOLUME_EMPTY));
    }
    // Our directory without a marker: somebody may be about to make one.
    std::fs::create_dir(raw.join(".cofferdam")).unwrap();
    assert_eq!(counted(&look(dir.path()).await), (false, "v7", reasons::INITIALISATION_UNFINISHED));
    std::fs::create_dir_all(raw.join(".cofferdam/groups/some")).unwrap();
    assert_eq!(counted(&look(dir.path()).await), (false, "v7", reasons::MARKER_DAMAGED));
    std::fs::remove_dir_all(raw.join(".cofferdam")).unwrap();
    std::fs::write(raw.join("accounts"), b"plain").unwrap();
    let report = look(dir.path()).await;
    assert_eq!(counted(&report), (false, "v7", reasons::PLAINTEXT_FOUND));
    assert!(report.message.contains("an entry") && report.marker.is_none(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_at_a_volume_with_a_marker_reports_the_marker_while_another_one_has_it() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    filled(&kms, dir.path()).await;
    let held = open(&kms, &dir.path().join("raw/data"), Wrapping::Grouped).await;
    let report = look(dir.path()).await;
    assert_eq!(counted(&report), (false, "v7", reasons::MARKER_FOUND));
    let marker = report.marker.unwrap();
    assert_eq!(marker.volume_id, held.volume.region.marker().volume_id().to_string());
    assert_eq!((marker.sweep_epoch, Some((marker.uid, marker.gid))), (0, held.volume.owner().ok()));
}

#[test]
fn what_a_look_may_not_read_is_not_counted_and_what_the_storage_does_not_give_is_no_answer() {
    let read = |errno: rustix::io::Errno| look::found(Err(VolumeError::Read(errno.into())));
    let found = read(rustix::io::Errno::ACCESS).unwrap();
    assert_eq!((found.empty, found.reason), (false, reasons::VOLUME_UNREADABLE));
    assert!(found.message.contains("may not read all of it"), "{}", found.message);
    assert!(matches!(read(rustix::io::Errno::IO), Err(VolumeError::Read(_))));
}
