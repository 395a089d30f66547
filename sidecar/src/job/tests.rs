//! Jobs over real directories, with a KMS in process and an operator of these tests' own.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

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
    let places = Places {
        raw: dir.join("raw"),
        ctl: dir.join("s"),
        run: dir.join("run"),
        ca: dir.join("ca.crt"),
        token: dir.join("token"),
        port: 0,
    };
    (config, places)
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
    let wanted = request(&config.volumes[0], &places);
    let waiting = tokio::time::timeout(Duration::from_secs(5), lease(&wanted, &row)).await;
    assert!(waiting.is_err(), "it waits for a while");
    assert_eq!(row.state().reason, reasons::VOLUME_IN_USE);
    assert_eq!(volume_code(&VolumeError::InUse { holder: String::new() }), exit::UNAVAILABLE);
    drop(held);
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
