//! Keys of real volumes, against a real KMS in process.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use contract::config::Wrapping;
use devkms::{Fault, FaultKind};

use super::group_records::GroupRecords;
use super::*;
use crate::profile::Lifetimes;
use crate::testing::{LIFETIMES, Opened, TestKms, header, open, open_with};
use crate::volume::names;

/// Records of open groups in the volume.
fn records(opened: &Opened) -> usize {
    let dir = opened.path.join(names::DIR).join(names::GROUPS);
    std::fs::read_dir(dir).unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_has_its_own_dek_and_its_header_alone_opens_it() {
    for wrapping in [Wrapping::Grouped, Wrapping::Direct] {
        let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
        let opened = open(&kms, dir.path(), wrapping).await;
        opened.write("one", b"same contents").await;
        opened.write("two", b"same contents").await;
        let one = opened.keys.open(&opened.header("one")).await.unwrap();
        let two = opened.keys.open(&opened.header("two")).await.unwrap();
        assert!(!one.dek.dek().same_as(two.dek.dek()));
        assert!(one.upgrade.is_none() && two.upgrade.is_none());
        drop(opened);
        // A new process knows nothing but the volume and the KMS.
        std::fs::remove_dir_all(dir.path().join(names::DIR).join(names::GROUPS)).unwrap();
        let again = open(&kms, dir.path(), wrapping).await;
        assert!(again.keys.open(&again.header("one")).await.unwrap().dek.dek().same_as(one.dek.dek()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_new_files_cost_two_wraps_and_none_of_them_waits() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    let opened = open(&kms, dir.path(), Wrapping::Grouped).await;
    opened.write("first", b"x").await;
    kms.server.reset_tallies();
    kms.fail();
    for _ in 0..3000 {
        assert!(opened.keys.create_now().unwrap().is_some());
    }
    assert_eq!(kms.server.tally("wrap").requests, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_of_direct_keys_is_filled_ahead() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    let opened = open(&kms, dir.path(), Wrapping::Direct).await;
    let keys = std::sync::Arc::clone(&opened.keys);
    let filling = tokio::spawn(async move { keys.run().await });
    tokio::time::sleep(Duration::from_millis(700)).await;
    kms.fail();
    let mut made = 0;
    while let Some(key) = opened.keys.create_now().unwrap() {
        assert!(matches!(key.wrapped.wrapping, envelope::Wrapping::Direct));
        made += 1;
    }
    assert_eq!(made, 16);
    filling.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_sidecar_resumes_the_open_group() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    let opened = open(&kms, dir.path(), Wrapping::Grouped).await;
    opened.write("one", b"1").await;
    let group = |name: &str| match &header(&dir.path().join(name)).current().unwrap().1.keys()[0].wrapping {
        envelope::Wrapping::Grouped(local) => local.group(),
        envelope::Wrapping::Direct => panic!("grouped"),
    };
    let count = records(&opened);
    drop(opened);
    kms.server.reset_tallies();
    let again = open(&kms, dir.path(), Wrapping::Grouped).await;
    again.write("two", b"2").await;
    assert_eq!(group("one"), group("two"));
    assert_eq!(kms.server.tally("wrap").requests, 0, "no new group was needed");
    assert_eq!(records(&again), count);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_group_record_costs_a_group_and_no_file() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    let opened = open(&kms, dir.path(), Wrapping::Grouped).await;
    opened.write("one", b"1").await;
    drop(opened);
    let groups = dir.path().join(names::DIR).join(names::GROUPS);
    for entry in std::fs::read_dir(&groups).unwrap() {
        crate::testing::damage(&entry.unwrap().path(), 150);
    }
    let again = open(&kms, dir.path(), Wrapping::Grouped).await;
    again.write("two", b"2").await;
    again.keys.open(&again.header("one")).await.unwrap();
    again.keys.open(&again.header("two")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_rotation_an_open_brings_a_verified_slot_and_new_files_leave_the_old_group() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    let opened = open(&kms, dir.path(), Wrapping::Grouped).await;
    opened.write("old", b"1").await;
    let before = opened.version("old");
    let opened_at = std::time::Instant::now();
    let new = kms.rotate().await;
    opened.watch.look_once().await;
    assert_eq!(opened.watch.current(), Some(new.clone()));
    assert!(opened.watch.renewed().is_some_and(|renewed| opened_at <= renewed));

    let header = opened.header("old");
    let upgrade = opened.keys.open(&header).await.unwrap().upgrade.expect("a retired version");
    assert!(upgrade.verified());
    assert_eq!((before != new, upgrade.keys()[0].version.clone()), (true, new.clone()));
    header.replacement(&upgrade).unwrap();
    assert_eq!(opened.keys.lazy_rewraps(), 1);

    opened.keys.close_others(&new).await.unwrap();
    opened.write("new", b"2").await;
    assert_eq!(opened.version("new"), new);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_nobody_noticed_does_not_stop_new_files() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    for wrapping in [Wrapping::Grouped, Wrapping::Direct] {
        let opened = open(&kms, &dir.path().join(format!("{wrapping:?}")).tap_dir(), wrapping).await;
        kms.rotate().await;
        tokio::time::timeout(Duration::from_secs(10), opened.write("new", b"2")).await.unwrap();
    }
}

/// Makes the directory.
trait TapDir {
    fn tap_dir(self) -> Self;
}

impl TapDir for std::path::PathBuf {
    fn tap_dir(self) -> Self {
        std::fs::create_dir(&self).unwrap();
        self
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_key_suspends_at_the_next_look_and_an_enabled_one_resumes() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    let opened = open(&kms, dir.path(), Wrapping::Grouped).await;
    opened.write("file", b"1").await;
    let header = opened.header("file");
    kms.set_enabled(false).await;
    opened.watch.look_once().await;
    let seen = opened.watch.seen();
    assert!(matches!(&seen.access, Access::Suspended(why) if why.reason == "KeyDisabled"), "{seen:?}");
    assert_eq!(seen.state, Some("Disabled"));
    assert!(opened.keys.open(&header).await.unwrap_err().is_refusal());
    assert!(opened.keys.create().await.unwrap_err().is_refusal());
    kms.set_enabled(true).await;
    opened.watch.look_once().await;
    assert!(opened.watch.seen().access.serves());
    opened.keys.open(&header).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_permission_is_noticed_by_the_next_proof_within_the_ttl() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    let lifetimes = Lifetimes { ttl: Duration::from_secs(11), ..LIFETIMES };
    let opened = open_with(&kms, dir.path(), Wrapping::Grouped, lifetimes).await;
    opened.write("file", b"1").await;
    assert!(kms.server.revoke_role("data"));
    kms.server.revoke_tokens(None);
    tokio::time::sleep(Duration::from_secs(1)).await;
    opened.watch.look_once().await;
    let seen = opened.watch.seen();
    assert!(matches!(&seen.access, Access::Suspended(why) if why.reason == "KeyAccessDenied"), "{seen:?}");
    kms.server.restore_role("data");
    opened.watch.look_once().await;
    assert!(opened.watch.seen().access.serves());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_serves_until_the_ttl_and_is_never_called_a_wrong_key() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    let lifetimes = Lifetimes { ttl: Duration::from_secs(4), ..LIFETIMES };
    let opened = open_with(&kms, dir.path(), Wrapping::Grouped, lifetimes).await;
    opened.write("file", b"1").await;
    let header = opened.header("file");
    opened.keys.open(&header).await.unwrap();
    kms.fail();
    opened.watch.look_once().await;
    assert!(opened.watch.seen().access.serves(), "not before its time");
    assert!(opened.watch.seen().trouble.is_some());
    opened.keys.open(&header).await.unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    // Even before the watch looks again.
    let error = opened.keys.open(&header).await.unwrap_err();
    assert!(error.is_outage() && !error.is_refusal(), "{error:?}");
    opened.watch.look_once().await;
    assert!(matches!(opened.watch.seen().access, Access::Unreachable(_)));
    kms.recover();
    opened.watch.look_once().await;
    opened.keys.open(&header).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_another_volume_opens_only_where_its_origin_is_accepted() {
    let kms = TestKms::start();
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let theirs = open(&kms, there.path(), Wrapping::Grouped).await;
    theirs.write("file", b"1").await;
    let ours = open(&kms, here.path(), Wrapping::Grouped).await;
    let header = theirs.header("file");
    assert!(matches!(ours.keys.open(&header).await, Err(KeyError::Origin(_))));
    let accepting = VolumeKeys::new(KeySetup {
        root: std::sync::Arc::clone(&ours.root),
        watch: std::sync::Arc::clone(&ours.watch),
        volume: ours.keys.volume(),
        accepted: vec![theirs.keys.volume()],
        wrapping: Wrapping::Grouped,
        groups: std::fs::File::open(here.path()).unwrap().into(),
    });
    accepting.open(&header).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_file_in_the_slot_is_a_mismatch_and_not_an_outage() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    for wrapping in [Wrapping::Grouped, Wrapping::Direct] {
        let opened = open(&kms, &dir.path().join(format!("{wrapping:?}")).tap_dir(), wrapping).await;
        opened.write("one", b"1").await;
        opened.write("two", b"2").await;
        let (one, two) = (opened.header("one"), opened.header("two"));
        let slot = envelope::KeySlot::first(two.current().unwrap().1.keys().to_vec(), true).unwrap();
        let crossed = envelope::HeaderRegion::create(one.preamble().clone(), slot);
        let error = opened.keys.open(&crossed).await.unwrap_err();
        assert!(!error.is_outage() && !error.is_refusal(), "{error:?}");
        assert!(opened.watch.seen().access.serves());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_current_slot_falls_back_to_the_other_one_without_writing_over_it() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    let opened = open(&kms, dir.path(), Wrapping::Grouped).await;
    opened.write("one", b"1").await;
    opened.write("two", b"2").await;
    let (one, two) = (opened.header("one"), opened.header("two"));
    let bad = one.current().unwrap().1.successor(two.current().unwrap().1.keys().to_vec(), false).unwrap();
    let write = one.replacement(&bad).unwrap();
    let region = one.clone().replaced(&write, bad);
    kms.rotate().await;
    opened.watch.look_once().await;
    let found = opened.keys.open(&region).await.unwrap();
    assert!(found.upgrade.is_none());
    assert!(found.dek.dek().same_as(opened.keys.open(&one).await.unwrap().dek.dek()));
}

/// A watch of its own over an open volume, with calls as long as real ones.
async fn watch(kms: &TestKms, opened: &Opened, lifetimes: Lifetimes) -> std::sync::Arc<KeyWatch> {
    let watch = std::sync::Arc::new(KeyWatch::new(kms.patient(), lifetimes));
    watch.set_marker(opened.volume.region.clone());
    watch.look_once().await;
    assert!(watch.seen().access.serves());
    watch
}

/// Runs the watch until it says that keys may not be used; how long that took.
async fn until_withheld(watch: &std::sync::Arc<KeyWatch>) -> Duration {
    let (start, looking) = (std::time::Instant::now(), std::sync::Arc::clone(watch));
    let looking = tokio::spawn(async move { looking.run().await });
    let mut seen = watch.subscribe();
    let withheld = seen.wait_for(|seen| !seen.access.serves());
    tokio::time::timeout(Duration::from_secs(30), withheld).await.unwrap().unwrap();
    looking.abort();
    start.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_end_with_their_ttl_although_a_look_still_waits_for_the_kms() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    let opened = open(&kms, dir.path(), Wrapping::Grouped).await;
    let watch = watch(&kms, &opened, Lifetimes { ttl: Duration::from_secs(2), ..LIFETIMES }).await;
    kms.server.add_fault(Fault::new(&[], FaultKind::Hang));
    let took = until_withheld(&watch).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    kms.recover();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_credential_has_no_grace() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    let opened = open(&kms, dir.path(), Wrapping::Grouped).await;
    let lifetimes = Lifetimes { ttl: Duration::from_secs(2), grace: Duration::from_secs(600), ..LIFETIMES };
    let watch = watch(&kms, &opened, lifetimes).await;
    let kind = FaultKind::Reply {
        status: 400,
        headers: [("content-type".to_owned(), "application/json".to_owned())].into(),
        body: r#"{"errorCode":"BXNIM0415E"}"#.into(),
    };
    kms.server.add_fault(Fault::new(&["token"], kind));
    kms.server.revoke_tokens(None);
    until_withheld(&watch).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ttl_shorter_than_the_poll_never_ends_while_the_kms_is_well() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    let opened = open(&kms, dir.path(), Wrapping::Grouped).await;
    let lifetimes =
        Lifetimes { ttl: Duration::from_secs(4), poll: Duration::from_secs(30), grace: Duration::ZERO };
    let watch = watch(&kms, &opened, lifetimes).await;
    kms.server.add_fault(Fault::new(&[], FaultKind::Delay { millis: 200 }));
    let looking = std::sync::Arc::clone(&watch);
    let looking = tokio::spawn(async move { looking.run().await });
    for _ in 0..1000 {
        watch.check().unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    looking.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_at_one_version_forgets_none_of_the_others() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    let lifetimes = Lifetimes { ttl: Duration::from_secs(10), ..LIFETIMES };
    let opened = open_with(&kms, dir.path(), Wrapping::Direct, lifetimes).await;
    for name in ["one", "two", "three"] {
        let current = kms.rotate().await;
        opened.watch.look_once().await;
        opened.keys.close_others(&current).await.unwrap();
        opened.write(name, b"1").await;
        opened.keys.open(&opened.header(name)).await.unwrap();
    }
    // The marker's unwrap is under way already when the outage begins.
    kms.server.add_fault(Fault::new(&["unwrap"], FaultKind::Delay { millis: 500 }).times(1));
    let looking = std::sync::Arc::clone(&opened.watch);
    let looking = tokio::spawn(async move { looking.look_once().await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    kms.fail();
    looking.await.unwrap();
    assert!(opened.watch.seen().access.serves() && opened.watch.seen().trouble.is_some());
    kms.recover();
    kms.server.reset_tallies();
    opened.watch.look_once().await;
    assert_eq!(kms.server.tally("unwrap").requests, 1 + 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn looks_come_one_after_the_other() {
    const SLOW: Duration = Duration::from_millis(300);
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    let opened = open(&kms, dir.path(), Wrapping::Grouped).await;
    kms.server.add_fault(Fault::new(&["metadata"], FaultKind::Delay { millis: SLOW.as_millis() as u64 }));
    let start = std::time::Instant::now();
    tokio::join!(opened.watch.look_once(), opened.watch.look_once());
    // An answer from before a refusal can so never be read after it.
    assert!(start.elapsed() >= 2 * SLOW, "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_came_after_keys_were_withheld_does_not_stand_ready() {
    for wrapping in [Wrapping::Grouped, Wrapping::Direct] {
        let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
        let lifetimes = Lifetimes { ttl: Duration::from_secs(1), ..LIFETIMES };
        let opened = open_with(&kms, dir.path(), wrapping, lifetimes).await;
        kms.server.add_fault(Fault::new(&["wrap"], FaultKind::Delay { millis: 600 }));
        opened.watch.look_once().await;
        assert!(opened.keys.create().await.unwrap_err().is_outage(), "the ttl ends before two wraps do");
        kms.recover();
        opened.watch.look_once().await;
        assert!(opened.keys.create_now().unwrap().is_none(), "{wrapping:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn storage_that_hangs_under_the_group_records_holds_up_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let records = GroupRecords::new(std::fs::File::open(dir.path()).unwrap().into());
    let (answer, hung) = std::sync::mpsc::channel();
    let listing = tokio::spawn(async move {
        let list = move |records: &GroupRecords| {
            hung.recv().unwrap();
            records.list()
        };
        records.in_background(list).await
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let other = tokio::time::timeout(Duration::from_secs(2), tokio::spawn(async {})).await;
    assert!(!listing.is_finished() && other.is_ok());
    answer.send(()).unwrap();
    assert!(listing.await.unwrap().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_a_group_records_place_and_is_no_file_is_removed() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    drop(open(&kms, dir.path(), Wrapping::Grouped).await);
    let groups = dir.path().join(names::DIR).join(names::GROUPS);
    nix::unistd::mkfifo(&groups.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::os::unix::fs::symlink("/dev/null", groups.join("link")).unwrap();
    let again = open(&kms, dir.path(), Wrapping::Grouped).await;
    let written = tokio::time::timeout(Duration::from_secs(20), again.write("one", b"1")).await;
    assert!(written.is_ok(), "it waits for the other end of the pipe");
    assert!(!groups.join("pipe").exists() && std::fs::symlink_metadata(groups.join("link")).is_err());
}
