//! Sweeps over real directories, against a real KMS in process.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use contract::check_in::SweepReport;
use contract::config::Wrapping;

use super::*;
use crate::testing::{Opened, TestKms, damage, data_pages, open, request, version};
use crate::volume::{self, marker};

/// A volume with `files` files in two directories, closed.
async fn filled(kms: &TestKms, path: &Path, files: usize, wrapping: Wrapping) -> Vec<String> {
    let opened = open(kms, path, wrapping).await;
    std::fs::create_dir(path.join("deep")).unwrap();
    let mut names = Vec::new();
    for number in 0..files {
        let name = if number % 2 == 0 { format!("file-{number}") } else { format!("deep/file-{number}") };
        opened.write(&name, format!("contents of {number}").repeat(500).as_bytes()).await;
        names.push(name);
    }
    names
}

async fn job(kms: &TestKms, path: &Path, target: &str) -> (Result<(), SweepError>, SweepReport) {
    let volume = volume::open_without_key(&request(path)).await.unwrap();
    sweep(&volume, kms.rewrap_only(), target, |_| {}).await
}

async fn sweep(
    volume: &Volume,
    root: Arc<RootKey>,
    target: &str,
    change: impl FnOnce(&mut Sweep),
) -> (Result<(), SweepError>, SweepReport) {
    let progress = Progress::default();
    let pace = Pace::new(0, Box::new(|| false));
    let mut sweep = Sweep::alone(volume, root, Handle::current(), target, pace, progress.clone()).unwrap();
    change(&mut sweep);
    let result = tokio::task::spawn_blocking(move || sweep.run()).await.unwrap();
    (result, progress.report().unwrap())
}

fn only(version: &str, count: u64) -> BTreeMap<String, u64> {
    BTreeMap::from([(version.to_owned(), count)])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_cannot_unwrap_rewraps_a_volume_and_no_data_page_changes() {
    for wrapping in [Wrapping::Grouped, Wrapping::Direct] {
        let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
        let names = filled(&kms, dir.path(), 40, wrapping).await;
        let path = |name: &String| dir.path().join(name);
        let old = SystemTime::now() - Duration::from_secs(86_400);
        for name in &names {
            std::fs::File::options().write(true).open(path(name)).unwrap().set_modified(old).unwrap();
        }
        let before: Vec<_> = names.iter().map(|name| data_pages(&path(name))).collect();
        let target = kms.rotate().await;
        kms.server.reset_tallies();
        let (result, report) = job(&kms, dir.path(), &target).await;
        result.unwrap();
        assert!(report.complete && report.completed_at.is_some() && report.unknown == 0, "{report:?}");
        // The files, the marker, and with groups two records.
        let records = if wrapping == Wrapping::Grouped { 2 } else { 0 };
        assert_eq!(report.files_per_version, only(&target, 41 + records));
        assert_eq!(report.rewrapped, 41 + records);
        assert_eq!(kms.server.tally("unwrap").requests, 0);
        if wrapping == Wrapping::Grouped {
            assert_eq!(kms.server.tally("rewrap").requests, 3, "one for each blob");
        }
        for (name, before) in names.iter().zip(before) {
            assert_eq!(version(&path(name)), target);
            assert_eq!(data_pages(&path(name)), before);
            let modified = std::fs::metadata(path(name)).unwrap().modified().unwrap();
            assert_eq!(modified, old, "a rewrap is no change of the contents");
        }
        // The sidecar opens it all, and finds nothing to do.
        let opened = open(&kms, dir.path(), wrapping).await;
        assert_eq!(opened.volume.region.sweep_epoch().unwrap(), 1);
        for name in &names {
            assert!(opened.keys.open(&opened.header(name)).await.unwrap().upgrade.is_none());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_unknown_and_the_rest_is_swept() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    let names = filled(&kms, dir.path(), 6, Wrapping::Grouped).await;
    // The preamble; the slot; a header that claims the group but carries another blob; no header at all.
    damage(&dir.path().join(&names[0]), 50);
    damage(&dir.path().join(&names[1]), 1100);
    std::fs::write(dir.path().join("foreign"), b"not one of ours").unwrap();
    std::fs::write(dir.path().join("empty"), b"").unwrap();
    let target = kms.rotate().await;
    let (result, report) = job(&kms, dir.path(), &target).await;
    result.unwrap();
    assert_eq!((report.unknown, report.complete), (3, true));
    assert_eq!(report.files_per_version, only(&target, 4 + 1 + 2));
    assert_eq!(std::fs::read(dir.path().join("foreign")).unwrap(), b"not one of ours");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_a_header_only_claims_to_have_concerns_that_header_alone() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    let opened = open(&kms, dir.path(), Wrapping::Grouped).await;
    opened.write("good", b"1").await;
    opened.write("bad", b"2").await;
    let region = opened.header("bad");
    let key = &region.current().unwrap().1.keys()[0];
    let mut blob = key.blob.clone();
    let middle = blob.len() / 2;
    blob[middle] = if blob[middle] == b'A' { b'B' } else { b'A' };
    let forged = key.rewrapped(blob, key.version.clone()).unwrap();
    let slot = envelope::KeySlot::first(vec![forged], true).unwrap();
    let forged = envelope::HeaderRegion::create(region.preamble().clone(), slot);
    std::fs::write(dir.path().join("bad"), forged.encode().unwrap()).unwrap();
    let target = kms.rotate().await;
    // Beside a sidecar's other work the sweep walks until a walk changes nothing: this file must not keep it from its end.
    kms.server.reset_tallies();
    let (result, report) = sweep(&opened.volume, Arc::clone(&opened.root), &target, |sweep| {
        sweep.renames = Some(Box::new(|| 0));
    })
    .await;
    result.unwrap();
    assert!(report.complete, "{report:?}");
    assert_eq!(report.unknown, 1);
    assert_eq!(version(&dir.path().join("good")), target);
    assert_eq!(kms.server.tally("rewrap").requests, 3 + 1, "the bad blob is asked about once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_that_was_cut_short_is_finished_by_the_next_one() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    let names = filled(&kms, dir.path(), 30, Wrapping::Direct).await;
    let target = kms.rotate().await;
    let volume = volume::open_without_key(&request(dir.path())).await.unwrap();
    let (result, report) = sweep(&volume, kms.rewrap_only(), &target, |sweep| {
        let cancelled = Arc::clone(&sweep.cancelled);
        sweep.pace = Pace::new(50, Box::new(|| false));
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(250));
            cancelled.store(true, Ordering::Relaxed);
        });
    })
    .await;
    assert!(matches!(result, Err(SweepError::Cancelled)), "{result:?}");
    assert!(!report.complete && report.completed_at.is_none());
    let done = names.iter().filter(|name| version(&dir.path().join(name)) == target).count();
    assert!((1..30).contains(&done), "{done}");
    assert_eq!(marker::read(volume.dir()).unwrap().sweep_epoch().unwrap(), 0);
    drop(volume);
    let (result, report) = job(&kms, dir.path(), &target).await;
    result.unwrap();
    assert_eq!(report.files_per_version, only(&target, 31));
    assert_eq!(report.rewrapped, 31 - done as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_waited_for_and_a_refusal_ends_the_sweep() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    filled(&kms, dir.path(), 3, Wrapping::Grouped).await;
    let target = kms.rotate().await;
    let volume = volume::open_without_key(&request(dir.path())).await.unwrap();
    let root = kms.rewrap_only();
    kms.set_enabled(false).await;
    let (result, report) = sweep(&volume, Arc::clone(&root), &target, |_| {}).await;
    assert!(
        matches!(&result, Err(SweepError::Refused(error)) if error.reason() == "KeyDisabled"),
        "{result:?}"
    );
    assert!(!report.complete);
    kms.set_enabled(true).await;
    kms.fail();
    let running = sweep(&volume, root, &target, |_| {});
    let recovering = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        kms.recover();
    };
    let ((result, report), ()) = tokio::join!(running, recovering);
    result.unwrap();
    assert_eq!(report.files_per_version, only(&target, 3 + 1 + 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_renamed_from_before_the_walk_to_behind_it_is_still_swept() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    let opened: Opened = open(&kms, dir.path(), Wrapping::Direct).await;
    for name in ["a", "b"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
        for number in 0..5 {
            opened.write(&format!("{name}/{number}"), b"contents").await;
        }
    }
    let target = kms.rotate().await;
    let (path, fresh) = (dir.path().to_owned(), target.clone());
    let renames = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let (counter, looks) = (Arc::clone(&renames), std::sync::atomic::AtomicU64::new(0));
    // At the second file of the second directory, those of it that are still to come move to the first one.
    let moving = move || {
        if looks.fetch_add(1, Ordering::SeqCst) != 6 {
            return false;
        }
        let old = |dir: &str, number: i32| version(&path.join(format!("{dir}/{number}"))) != fresh;
        let (done, coming) = if (0..5).any(|number| old("a", number)) { ("b", "a") } else { ("a", "b") };
        for number in (0..5).filter(|number| old(coming, *number)) {
            let (from, to) = (format!("{coming}/{number}"), format!("{done}/moved-{number}"));
            std::fs::rename(path.join(from), path.join(to)).unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
        }
        false
    };
    let moved = Arc::clone(&renames);
    let (result, report) = sweep(&opened.volume, Arc::clone(&opened.root), &target, |sweep| {
        sweep.pace = Pace::new(0, Box::new(moving));
        sweep.renames = Some(Box::new(move || renames.load(Ordering::SeqCst)));
    })
    .await;
    result.unwrap();
    assert!(moved.load(Ordering::SeqCst) >= 3, "the test moved files");
    assert!(report.complete, "{report:?}");
    assert_eq!((report.unknown, report.files_per_version), (0, only(&target, 11)));
    for name in ["a", "b"] {
        for entry in std::fs::read_dir(dir.path().join(name)).unwrap() {
            assert_eq!(version(&entry.unwrap().path()), target);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hard_link_counts_once_and_an_orphan_counts() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    filled(&kms, dir.path(), 2, Wrapping::Direct).await;
    std::fs::hard_link(dir.path().join("file-0"), dir.path().join("deep/link")).unwrap();
    let orphan = dir.path().join(names::DIR).join(names::ORPHANS).join("orphan");
    std::fs::rename(dir.path().join("deep/file-1"), &orphan).unwrap();
    let target = kms.rotate().await;
    let (result, report) = job(&kms, dir.path(), &target).await;
    result.unwrap();
    assert_eq!(report.files_per_version, only(&target, 3));
    assert_eq!(version(&orphan), target);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_symlink_out_of_the_volume_is_not_followed() {
    let (kms, dir, outside) = (TestKms::start(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let names = filled(&kms, outside.path(), 1, Wrapping::Direct).await;
    filled(&kms, dir.path(), 1, Wrapping::Direct).await;
    let before = version(&outside.path().join(&names[0]));
    std::os::unix::fs::symlink(outside.path(), dir.path().join("out")).unwrap();
    std::os::unix::fs::symlink(outside.path().join(&names[0]), dir.path().join("deep/out")).unwrap();
    let target = kms.rotate().await;
    let (result, report) = job(&kms, dir.path(), &target).await;
    result.unwrap();
    assert_eq!(report.files_per_version, only(&target, 2));
    assert_eq!(version(&outside.path().join(&names[0])), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_marker_whose_epoch_is_the_last_number_there_is_does_not_stop_the_sweep() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    filled(&kms, dir.path(), 2, Wrapping::Direct).await;
    let target = kms.rotate().await;
    let volume = volume::open_without_key(&request(dir.path())).await.unwrap();
    let marker = dir.path().join(names::DIR).join(names::MARKER);
    let file = std::fs::File::options().read(true).write(true).open(marker).unwrap();
    // Nothing authenticates the number: whoever writes to the volume can have written this one.
    region_file::replace::<envelope::VolumeMarker>(
        &file,
        region_file::Durability::Here,
        &region_file::alone,
        |region| {
            let (_, slot) = region.current().ok()?;
            Some(slot.successor(slot.keys().to_vec(), slot.verified()).ok()?.with_sweep_epoch(u64::MAX))
        },
    )
    .unwrap()
    .unwrap();
    let (result, report) = sweep(&volume, kms.rewrap_only(), &target, |_| {}).await;
    result.unwrap();
    assert!(report.complete);
    assert_eq!(marker::read(volume.dir()).unwrap().sweep_epoch().unwrap(), u64::MAX);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_a_file_gets_just_before_its_slot_is_written_is_not_taken_back() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    let names = filled(&kms, dir.path(), 3, Wrapping::Direct).await;
    let target = kms.rotate().await;
    let volume = volume::open_without_key(&request(dir.path())).await.unwrap();
    let paths: Vec<_> = names.iter().map(|name| dir.path().join(name)).collect();
    let (files, last) = (paths.clone(), SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000));
    let (result, _) = sweep(&volume, kms.rewrap_only(), &target, |sweep| {
        sweep.undisturbed = Some(Box::new(move |(dev, ino), work| {
            // The last moment at which somebody else could write.
            let is_it = |path: &&std::path::PathBuf| {
                let stat = std::fs::metadata(path).unwrap();
                (stat.dev(), stat.ino()) == (dev, ino)
            };
            let path = files.iter().find(is_it).unwrap();
            std::fs::File::options().write(true).open(path).unwrap().set_modified(last).unwrap();
            work();
        }));
    })
    .await;
    result.unwrap();
    for path in paths {
        assert_eq!(
            (version(&path), std::fs::metadata(&path).unwrap().modified().unwrap()),
            (target.clone(), last)
        );
    }
}
