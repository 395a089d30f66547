//! Opening volumes in temporary directories, against a real KMS in process.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use crate::testing::{TestKms, damage, request};

/// Names, contents and modes of everything below a directory.
fn snapshot(dir: &Path) -> Vec<(PathBuf, u32, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        let contents = if metadata.is_file() { std::fs::read(&path).unwrap() } else { vec![] };
        found.push((path.clone(), metadata.permissions().mode(), contents));
        if metadata.is_dir() {
            found.extend(snapshot(&path));
        }
    }
    found.sort();
    found
}

async fn reason(request: &Request, kms: &TestKms) -> (&'static str, String) {
    let error = open(request, &kms.data()).await.unwrap_err();
    (error.reason(), error.explain())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_volume_is_initialised_once_and_opens_again() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    std::fs::create_dir(dir.path().join("lost+found")).unwrap();
    let first = open(&request(dir.path()), &kms.data()).await.unwrap();
    let id = first.region.marker().volume_id();
    drop(first);
    let pinned = Request { pinned: Some(id.to_string()), ..request(dir.path()) };
    let second = open(&pinned, &kms.data()).await.unwrap();
    assert_eq!(second.region.marker().volume_id(), id);
    assert_eq!(second.lease.epoch(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_with_plaintext_is_refused_and_left_untouched() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    std::fs::create_dir(dir.path().join("lost+found")).unwrap();
    std::fs::create_dir(dir.path().join("somebody")).unwrap();
    std::fs::write(dir.path().join("somebody/file"), b"plaintext").unwrap();
    let before = snapshot(dir.path());
    let (reason, text) = reason(&request(dir.path()), &kms).await;
    assert_eq!(reason, reasons::PLAINTEXT_FOUND);
    assert!(text.contains("an entry") && !text.contains("somebody"), "{text}");
    assert_eq!(snapshot(dir.path()), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_of_the_storage_itself_are_no_plaintext() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    std::fs::create_dir(dir.path().join(".snapshot")).unwrap();
    assert_eq!(reason(&request(dir.path()), &kms).await.0, reasons::PLAINTEXT_FOUND);
    let knowing = Request { storage_entries: vec![".snapshot".into()], ..request(dir.path()) };
    open(&knowing, &kms.data()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_initialisation_that_was_cut_short_is_done_again() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    std::fs::create_dir(dir.path().join(names::DIR)).unwrap();
    std::fs::write(dir.path().join(names::DIR).join(names::MARKER_NEW), b"half a mar").unwrap();
    let volume = open(&request(dir.path()), &kms.data()).await.unwrap();
    marker::read(volume.dir()).unwrap();
    assert!(!exists(volume.dir(), names::MARKER_NEW).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_marker_is_made_while_the_kms_is_down() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    kms.fail();
    let error = open(&request(dir.path()), &kms.data()).await.unwrap_err();
    assert!(error.is_waiting() && !error.is_refusal(), "{error:?}");
    kms.recover();
    open(&request(dir.path()), &kms.data()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_marker_and_one_of_a_later_format_are_told_apart_and_left_alone() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    drop(open(&request(dir.path()), &kms.data()).await.unwrap());
    let path = dir.path().join(names::DIR).join(names::MARKER);
    let good = std::fs::read(&path).unwrap();
    damage(&path, 40);
    let before = std::fs::read(&path).unwrap();
    assert_eq!(reason(&request(dir.path()), &kms).await.0, reasons::MARKER_DAMAGED);
    assert_eq!(std::fs::read(&path).unwrap(), before);

    let mut later = good.clone();
    later[8] = 2;
    std::fs::write(&path, &later).unwrap();
    assert_eq!(reason(&request(dir.path()), &kms).await.0, reasons::UNKNOWN_FORMAT);
    assert_eq!(std::fs::read(&path).unwrap(), later);

    std::fs::write(&path, &good[..600]).unwrap();
    assert_eq!(reason(&request(dir.path()), &kms).await.0, reasons::MARKER_DAMAGED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_marker_is_not_replaced_by_a_new_one() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    let volume = open(&request(dir.path()), &kms.data()).await.unwrap();
    std::fs::write(dir.path().join(names::DIR).join(names::GROUPS).join("x"), b"").unwrap();
    drop(volume);
    std::fs::remove_file(dir.path().join(names::DIR).join(names::MARKER)).unwrap();
    assert_eq!(reason(&request(dir.path()), &kms).await.0, reasons::MARKER_DAMAGED);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_volume_than_the_pinned_one_is_refused_and_so_is_none() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    let pinned = Request { pinned: Some("a".repeat(32)), ..request(dir.path()) };
    assert_eq!(reason(&pinned, &kms).await.0, reasons::WRONG_VOLUME);
    assert_eq!(snapshot(dir.path()).len(), 0, "an empty volume in place of a known one stays empty");
    drop(open(&request(dir.path()), &kms.data()).await.unwrap());
    assert_eq!(reason(&pinned, &kms).await.0, reasons::WRONG_VOLUME);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_in_use_says_by_whom() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    let _held = open(&request(dir.path()), &kms.data()).await.unwrap();
    let second = Request { holder: "pod test/second".into(), ..request(dir.path()) };
    let (reason, text) = reason(&second, &kms).await;
    assert_eq!(reason, reasons::VOLUME_IN_USE);
    assert!(text.contains("pod test/writer"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_key_opens_nothing_and_is_called_disabled() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    drop(open(&request(dir.path()), &kms.data()).await.unwrap());
    kms.set_enabled(false).await;
    let error = open(&request(dir.path()), &kms.data()).await.unwrap_err();
    assert!(error.is_refusal() && !error.is_waiting());
    assert_eq!(error.reason(), "KeyDisabled");
}

#[test]
fn a_volume_that_may_not_be_written_names_both_identities() {
    let dir = tempfile::tempdir().unwrap();
    let raw = RawVolume::open(dir.path()).unwrap();
    raw.check_writable().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    if rustix::process::geteuid().is_root() {
        // Another thread would keep its identity: the raw system call concerns this one alone.
        std::thread::spawn(move || {
            // SAFETY: changes the identity of this short-lived thread only.
            let changed = unsafe { libc::syscall(libc::SYS_setresuid, 65532, 65532, 65532) };
            assert_eq!(changed, 0);
            let error = RawVolume::open(dir.path()).and_then(|raw| raw.check_writable()).unwrap_err();
            assert_eq!(error.reason(), reasons::NOT_WRITABLE);
            let text = error.to_string();
            assert!(text.contains("uid 0, gid 0, mode 0755") && text.contains("uid 65532"), "{text}");
        })
        .join()
        .unwrap();
    }
}

/// Fails instead of hanging, where `work` waits for a pipe's other end.
fn soon<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(std::time::Duration::from_secs(10)).expect("it waits for the other end of a pipe")
}

fn plant_pipe(path: &Path) {
    let _ = std::fs::remove_file(path);
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_in_the_place_of_a_marker_or_a_lease_is_an_error_and_no_wait() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    drop(open(&request(dir.path()), &kms.data()).await.unwrap());
    // The lease is taken first: it comes last here.
    for (name, what) in [(names::MARKER, "marker"), (names::LEASE, "lease")] {
        plant_pipe(&dir.path().join(names::DIR).join(name));
        let (request, data, runtime) = (request(dir.path()), kms.data(), tokio::runtime::Handle::current());
        let error = soon(move || runtime.block_on(open(&request, &data)).map(drop).unwrap_err());
        let text = error.explain();
        assert!(text.contains(what) && text.contains("No such device or address"), "{name}: {text}");
    }
}

#[test]
fn what_is_no_file_is_never_opened_as_one() {
    let dir = tempfile::tempdir().unwrap();
    plant_pipe(&dir.path().join("pipe"));
    std::fs::write(dir.path().join("file"), b"plain").unwrap();
    std::os::unix::fs::symlink("file", dir.path().join("link")).unwrap();
    let open = |name: &'static str| {
        let path = dir.path().join(name);
        soon(move || open_path(&path).map(drop).map_err(|error| error.raw_os_error()))
    };
    assert_eq!(open("file"), Ok(()));
    for (name, errno) in [("pipe", libc::ENXIO), ("link", libc::ELOOP), (".", libc::ENXIO)] {
        assert_eq!(open(name), Err(Some(errno)), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_that_a_crash_left_is_removed_when_the_volume_is_next_opened_for_writing() {
    let (kms, dir) = (TestKms::start(), tempfile::tempdir().unwrap());
    drop(open(&request(dir.path()), &kms.data()).await.unwrap());
    let orphan = dir.path().join(names::DIR).join(names::ORPHANS).join("00000000000000aa");
    std::fs::write(&orphan, b"what an open file without a name held").unwrap();
    let reader = Request { purpose: Purpose::Read, ..request(dir.path()) };
    drop(open(&reader, &kms.data()).await.unwrap());
    assert!(orphan.exists(), "a reader changes nothing");
    drop(open(&request(dir.path()), &kms.data()).await.unwrap());
    assert!(!orphan.exists());
}
