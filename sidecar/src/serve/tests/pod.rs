//! A whole sidecar with a real mount, a KMS in process, and a node driver of these tests' own.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs::File;
use std::io::{IoSlice, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use contract::check_in::{CheckInReply, VolumeOrder, VolumePhase};
use contract::config::{CONFIG_VERSION, Ownership, Profile, Volume};
use contract::control::{Refusal, Reply, Request};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, accept, bind, listen,
    recv, sendmsg, socket,
};
use tokio::sync::oneshot;

use super::*;
use crate::gate::{Mount, Verdict, look};
use crate::mount::open_and_mount;
use crate::serve::status_file;
use crate::testing::operator::{Authority, FakeOperator, files};
use crate::testing::{TestKms, can_mount, version, volume_config};

/// What the driver was asked, and the end of its listener.
struct FakeDriver {
    asked: Arc<Mutex<Vec<Request>>>,
    peers: Arc<Mutex<Vec<i32>>>,
    lost: Arc<AtomicBool>,
    /// The mount is gone when the sidecar resumes it: it must attach again.
    again: Arc<AtomicBool>,
}

impl FakeDriver {
    /// Listens at `path`, mounts at `target` for each `Attach`.
    fn start(path: &Path, target: PathBuf) -> Self {
        let listener =
            socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(listener.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
        listen(&listener, Backlog::new(4).unwrap()).unwrap();
        let driver = Self {
            asked: Arc::default(),
            peers: Arc::default(),
            lost: Arc::default(),
            again: Arc::default(),
        };
        let (asked, peers) = (Arc::clone(&driver.asked), Arc::clone(&driver.peers));
        let (lost, again) = (Arc::clone(&driver.lost), Arc::clone(&driver.again));
        std::thread::spawn(move || {
            while let Ok(peer) = accept(listener.as_raw_fd()) {
                peers.lock().unwrap().push(peer);
                // SAFETY: accept has just made it, and only this thread closes it.
                let peer = unsafe { OwnedFd::from_raw_fd(peer) };
                while let Some(request) = next(&peer) {
                    asked.lock().unwrap().push(request.clone());
                    answer(&peer, &request, &target, lost.load(SeqCst), again.swap(false, SeqCst));
                }
            }
        });
        driver
    }

    fn asked(&self, wanted: &Request) -> bool {
        self.asked.lock().unwrap().contains(wanted)
    }

    fn beats(&self) -> usize {
        self.asked.lock().unwrap().iter().filter(|request| matches!(request, Request::Beat { .. })).count()
    }

    /// As if the driver restarted: the connection breaks, the socket stays.
    fn hang_up(&self) {
        let peer = self.peers.lock().unwrap().pop().unwrap();
        nix::sys::socket::shutdown(peer, nix::sys::socket::Shutdown::Both).unwrap();
    }
}

fn next(peer: &OwnedFd) -> Option<Request> {
    let mut buffer = vec![0; 65_536];
    let len = recv(peer.as_raw_fd(), &mut buffer, MsgFlags::empty()).ok().filter(|len| *len > 0)?;
    serde_json::from_slice(&buffer[..len]).ok()
}

fn answer(peer: &OwnedFd, request: &Request, target: &Path, lost: bool, again: bool) {
    let (reply, device) = match request {
        Request::Beat { .. } => return,
        Request::Serving { beats: true, .. } => (Reply::Counting { seconds: 1 }, None),
        Request::Attach { .. } if lost => {
            let message = "it was served before".to_owned();
            (Reply::Refused { reason: Refusal::SessionLost, message }, None)
        }
        Request::Attach { .. } => match open_and_mount(target, false) {
            Ok(device) => (Reply::Granted { connection: 1 }, Some(device)),
            Err(error) => (Reply::Refused { reason: Refusal::Unavailable, message: error.to_string() }, None),
        },
        Request::Resume { .. } if again => {
            let message = "its mount is gone".to_owned();
            (Reply::Refused { reason: Refusal::AttachAgain, message }, None)
        }
        _ => (Reply::Done, None),
    };
    let text = serde_json::to_vec(&reply).unwrap();
    let fds: Vec<_> = device.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let control = if fds.is_empty() { &[][..] } else { &rights[..] };
    let _ = sendmsg::<()>(peer.as_raw_fd(), &[IoSlice::new(&text)], control, MsgFlags::empty(), None);
}

/// A pod with one volume.
struct Pod {
    dir: tempfile::TempDir,
    kms: TestKms,
    driver: FakeDriver,
    ttl: u32,
    read_only: bool,
    stop: Option<oneshot::Sender<()>>,
    sidecar: Option<tokio::task::JoinHandle<()>>,
}

impl Pod {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["raw/data", "plain", "run"] {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let driver = FakeDriver::start(&dir.path().join("s"), dir.path().join("plain"));
        Self { kms: TestKms::start(), driver, dir, ttl: 60, read_only: false, stop: None, sidecar: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn config(&self, operator_url: &str) -> SidecarConfig {
        let profile = Profile {
            poll_seconds: 1,
            key_ttl_seconds: self.ttl,
            ..self.kms.profile(self.dir.path(), "data-key")
        };
        let volume = Volume { ownership: Ownership::Native, read_only: self.read_only, ..volume_config() };
        SidecarConfig {
            version: CONFIG_VERSION,
            operator_url: operator_url.into(),
            profiles: vec![profile],
            volumes: vec![volume],
        }
    }

    fn start(&mut self) {
        self.start_with("");
    }

    fn start_with(&mut self, operator_url: &str) {
        let places = Places {
            raw: self.path("raw"),
            ctl: self.path("s"),
            run: self.path("run"),
            ca: self.path("ca.crt"),
            token: self.path("token"),
            port: 0,
        };
        let (stop, stopped) = oneshot::channel();
        let told = async {
            let _ = stopped.await;
        };
        let config = self.config(operator_url);
        self.stop = Some(stop);
        self.sidecar = Some(tokio::spawn(async move { run_until(config, places, told).await.unwrap() }));
    }

    async fn end(&mut self) {
        let _ = self.stop.take().unwrap().send(());
        self.sidecar.take().unwrap().await.unwrap();
        // As the end of the process would.
        self.driver.hang_up();
        let _ = rustix::mount::unmount(self.path("plain"), rustix::mount::UnmountFlags::DETACH);
    }

    fn gate(&self) -> Verdict {
        let mount = Mount { volume: "data".into(), path: self.path("plain") };
        look(&mount, &self.path("run/gate.key"))
    }

    async fn passes(&self) {
        wait("the gate passes", || self.gate() == Verdict::Passed).await;
    }

    /// The FUSE server answers, and the driver counts the volume as served: it asked for beats.
    fn counted(&self) -> bool {
        self.driver.beats() > 0
    }

    /// Does something with files on the mount, from a thread that the runtime can spare.
    async fn blocking<T: Send + 'static>(&self, act: impl FnOnce(PathBuf) -> T + Send + 'static) -> T {
        let plain = self.path("plain");
        let acting = tokio::task::spawn_blocking(move || act(plain));
        tokio::time::timeout(Duration::from_secs(20), acting).await.expect("no request hangs").unwrap()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.path("plain"), rustix::mount::UnmountFlags::DETACH);
    }
}

async fn wait(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !tokio::task::block_in_place(&done) {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_pod_starts_while_the_kms_is_down_and_serves_once_it_is_back() {
    if !can_mount() {
        return;
    }
    let mut pod = Pod::new();
    pod.kms.fail();
    pod.start();
    wait("the driver counts it as served", || pod.counted()).await;
    let waits = || matches!(pod.gate(), Verdict::Wait(why) if why.starts_with("Kms"));
    wait("the gate says why it waits", waits).await;
    let refused = pod.blocking(|plain| std::fs::read_dir(plain).map(|_| ())).await;
    assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EAGAIN));
    pod.kms.recover();
    pod.passes().await;
    let read = pod.blocking(|plain| {
        std::fs::write(plain.join("file"), b"what the application wrote").unwrap();
        std::fs::read(plain.join("file")).unwrap()
    });
    assert_eq!(read.await, b"what the application wrote");
    let raw = std::fs::read(pod.path("raw/data/file")).unwrap();
    assert!(!raw.windows(11).any(|run| run == b"application"));
    pod.end().await;
    assert!(pod.driver.asked(&Request::Detach { volume: "data".into() }));
    // The next sidecar finds the volume free and the file as it was.
    pod.start();
    pod.passes().await;
    let read = pod.blocking(|plain| std::fs::read(plain.join("file")).unwrap()).await;
    assert_eq!(read, b"what the application wrote");
    pod.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_gate_passes_although_the_application_closed_its_root_to_everybody_else() {
    if !can_mount() {
        return;
    }
    let mut pod = Pod::new();
    pod.start();
    pod.passes().await;
    pod.blocking(|plain| std::fs::set_permissions(plain, std::fs::Permissions::from_mode(0o700)).unwrap())
        .await;
    std::fs::set_permissions(pod.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(pod.path("run/gate.key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let mount = Mount { volume: "data".into(), path: pod.path("plain") };
    let key = pod.path("run/gate.key");
    let other = std::thread::spawn(move || {
        // SAFETY: changes the identity of this short-lived thread only.
        let changed = unsafe { libc::syscall(libc::SYS_setresuid, 65532, 65532, 65532) };
        assert_eq!(changed, 0);
        assert!(std::fs::read_dir(&mount.path).is_err(), "the root is closed");
        look(&mount, &key)
    });
    let verdict = tokio::task::spawn_blocking(move || other.join().unwrap()).await.unwrap();
    assert_eq!(verdict, Verdict::Passed);
    pod.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_disabled_key_suspends_reads_of_open_and_cached_files_and_an_enabled_one_resumes_them() {
    if !can_mount() {
        return;
    }
    let mut pod = Pod::new();
    pod.start();
    pod.passes().await;
    let file = pod
        .blocking(|plain| {
            std::fs::write(plain.join("file"), vec![7; 100_000]).unwrap();
            let mut file = File::options().read(true).write(true).open(plain.join("file")).unwrap();
            let mut all = Vec::new();
            file.read_to_end(&mut all).unwrap();
            assert_eq!(all.len(), 100_000);
            file
        })
        .await;
    let file = Arc::new(file);
    pod.kms.set_enabled(false).await;
    is_refused(&pod, &file).await;
    let refused = pod
        .blocking({
            let file = Arc::clone(&file);
            move |plain| {
                let write = file.write_at(b"lost?", 0).unwrap_err().raw_os_error();
                let open = std::fs::read(plain.join("file")).unwrap_err().raw_os_error();
                let make = std::fs::write(plain.join("new"), b"x").unwrap_err().raw_os_error();
                [write, open, make]
            }
        })
        .await;
    assert_eq!(refused, [Some(libc::ENOKEY); 3]);
    wait("the gate says why", || matches!(pod.gate(), Verdict::Wait(why) if why.starts_with("KeyDisabled")))
        .await;
    pod.kms.set_enabled(true).await;
    pod.passes().await;
    let written = pod.blocking(move |_| {
        let mut page = [0; 4096];
        file.read_exact_at(&mut page, 8192).unwrap();
        file.write_all_at(b"kept", 0).unwrap();
        page
    });
    assert_eq!(written.await, [7; 4096]);
    pod.end().await;
}

/// Reads a page that the kernel has cached until it is refused with `ENOKEY`.
async fn is_refused(pod: &Pod, file: &Arc<File>) {
    let start = Instant::now();
    loop {
        let file = Arc::clone(file);
        let read = pod.blocking(move |_| file.read_at(&mut [0; 4096], 8192));
        if read.await.is_err_and(|error| error.raw_os_error() == Some(libc::ENOKEY)) {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "a read is refused");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_a_new_mount_a_disabled_key_still_takes_cached_pages_away() {
    if !can_mount() {
        return;
    }
    let mut pod = Pod::new();
    pod.start();
    pod.passes().await;
    pod.blocking(|plain| std::fs::write(plain.join("file"), vec![7; 100_000]).unwrap()).await;
    // The first mount goes, as with a driver that lost it, and the sidecar is told to attach again.
    pod.driver.again.store(true, SeqCst);
    pod.driver.hang_up();
    let resumed = Request::Resume { volume: "data".into(), connection: 1 };
    wait("the session is to be resumed", || pod.driver.asked(&resumed)).await;
    rustix::mount::unmount(pod.path("plain"), rustix::mount::UnmountFlags::DETACH).unwrap();
    let attached = || {
        let asked = pod.driver.asked.lock().unwrap();
        asked.iter().filter(|request| matches!(request, Request::Attach { .. })).count() == 2
    };
    wait("it attaches again", attached).await;
    pod.passes().await;
    let file = pod.blocking(|plain| {
        let mut file = File::open(plain.join("file")).unwrap();
        file.read_to_end(&mut Vec::new()).unwrap();
        file
    });
    let file = Arc::new(file.await);
    pod.kms.set_enabled(false).await;
    is_refused(&pod, &file).await;
    pod.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_pod_that_only_reads_makes_no_keys() {
    if !can_mount() {
        return;
    }
    let mut pod = Pod::new();
    pod.start();
    pod.passes().await;
    pod.blocking(|plain| std::fs::write(plain.join("file"), b"contents").unwrap()).await;
    pod.end().await;
    std::fs::remove_dir_all(pod.path("raw/data/.cofferdam/groups")).unwrap();
    std::fs::create_dir(pod.path("raw/data/.cofferdam/groups")).unwrap();
    pod.kms.server.reset_tallies();
    pod.read_only = true;
    pod.start();
    pod.passes().await;
    assert_eq!(pod.blocking(|plain| std::fs::read(plain.join("file")).unwrap()).await, b"contents");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(pod.kms.server.tally("wrap").requests, 0);
    pod.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_outage_past_the_ttl_is_a_timeout_and_never_a_missing_key() {
    if !can_mount() {
        return;
    }
    let mut pod = Pod::new();
    pod.ttl = 5;
    pod.start();
    pod.passes().await;
    pod.blocking(|plain| std::fs::write(plain.join("file"), b"contents").unwrap()).await;
    pod.kms.fail();
    let start = Instant::now();
    loop {
        let read = pod.blocking(|plain| std::fs::read(plain.join("file"))).await;
        match read.map_err(|error| error.raw_os_error()) {
            Ok(contents) => assert_eq!(contents, b"contents"),
            Err(errno) => {
                assert_eq!(errno, Some(libc::ETIMEDOUT));
                break;
            }
        }
        assert!(start.elapsed() < Duration::from_secs(20), "keys do not live for ever");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        start.elapsed() >= Duration::from_secs(3),
        "nor do they end before their time: {:?}",
        start.elapsed()
    );
    wait("the gate says why", || matches!(pod.gate(), Verdict::Wait(why) if why.starts_with("Kms"))).await;
    // Still so once the suspension is over and done.
    let read = pod.blocking(|plain| std::fs::read(plain.join("file")).unwrap_err().raw_os_error()).await;
    assert_eq!(read, Some(libc::ETIMEDOUT));
    pod.kms.recover();
    pod.passes().await;
    let read = pod.blocking(|plain| std::fs::read(plain.join("file")).unwrap()).await;
    assert_eq!(read, b"contents");
    pod.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_a_rotation_the_sidecar_rewraps_its_volume_and_the_application_goes_on() {
    if !can_mount() {
        return;
    }
    let mut pod = Pod::new();
    pod.start();
    pod.passes().await;
    pod.blocking(|plain| {
        for number in 0..50 {
            std::fs::write(plain.join(format!("file-{number}")), vec![number; 10_000]).unwrap();
        }
    })
    .await;
    let target = pod.kms.rotate().await;
    let all = || (0..50).all(|number| version(&pod.path(&format!("raw/data/file-{number}"))) == target);
    wait("every header names the new version", all).await;
    let same = pod.blocking(|plain| {
        (0..50).all(|number| {
            std::fs::read(plain.join(format!("file-{number}"))).unwrap() == vec![number; 10_000]
        })
    });
    assert!(same.await);
    pod.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_operator_hears_of_the_volume_and_its_order_makes_the_sidecar_count_and_sweep() {
    if !can_mount() {
        return;
    }
    let mut pod = Pod::new();
    let authority = Authority::new();
    let operator = FakeOperator::start(&authority).await;
    files(pod.dir.path(), &authority);
    pod.start_with(&operator.url);
    pod.passes().await;
    pod.blocking(|plain| std::fs::write(plain.join("file"), b"contents").unwrap()).await;
    let target = pod.kms.rotate().await;
    let order = VolumeOrder { name: "data".into(), target_version: Some(target.clone()), sweep_again: false };
    operator.answer_with(CheckInReply { volumes: vec![order] });
    // A change is reported soon; nothing else would be for half a minute.
    pod.kms.set_enabled(false).await;
    let last = || operator.reports().pop().map(|report| report.volumes[0].clone());
    wait("the suspension is reported", || {
        last().is_some_and(|report| report.phase == VolumePhase::Suspended && report.reason == "KeyDisabled")
    })
    .await;
    pod.kms.set_enabled(true).await;
    wait("the sweep is done", || version(&pod.path("raw/data/file")) == target).await;
    let report = last().unwrap();
    assert_eq!((report.name.as_str(), report.claim.as_str()), ("data", "data-0"));
    assert_eq!(report.marker.unwrap().volume_id.len(), 32);
    pod.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restart_of_the_node_driver_does_not_end_the_session() {
    if !can_mount() {
        return;
    }
    let mut pod = Pod::new();
    pod.start();
    pod.passes().await;
    wait("the driver counts it as served", || pod.counted()).await;
    pod.driver.hang_up();
    let resumed = Request::Resume { volume: "data".into(), connection: 1 };
    wait("the session is resumed", || pod.driver.asked(&resumed)).await;
    pod.blocking(|plain| std::fs::write(plain.join("file"), b"on it goes").unwrap()).await;
    pod.end().await;
}

/// Files that no thread has met yet, more than there are threads to serve them.
fn strangers(pod: &Pod) -> Vec<String> {
    let names: Vec<String> = (0..40).map(|number| format!("file-{number}")).collect();
    for name in &names {
        std::fs::copy(pod.path("raw/data/file"), pod.path("raw/data").join(name)).unwrap();
    }
    names
}

/// Storage on which every open of these files hangs, for as long as the descriptor is kept.
fn hang_opens(pod: &Pod, names: &[String]) -> OwnedFd {
    // SAFETY: plain numbers in; the descriptor is new and nobody else's.
    let group = unsafe {
        let fd = libc::fanotify_init(libc::FAN_CLASS_CONTENT | libc::FAN_CLOEXEC, 0);
        assert!(fd >= 0, "{}", io::Error::last_os_error());
        OwnedFd::from_raw_fd(fd)
    };
    for name in names {
        let path = pod.path("raw/data").join(name);
        let path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: the path is a C string that outlives the call.
        let marked = unsafe {
            let (add, opens) = (libc::FAN_MARK_ADD, libc::FAN_OPEN_PERM);
            libc::fanotify_mark(group.as_raw_fd(), add, opens, libc::AT_FDCWD, path.as_ptr())
        };
        assert_eq!(marked, 0, "{}", io::Error::last_os_error());
    }
    group
}

type Openers = Vec<std::thread::JoinHandle<io::Result<()>>>;

/// A thread for each of the files, that opens it.
fn open_all(pod: &Pod, names: &[String]) -> Openers {
    let open = |name: &String| {
        let path = pod.path("plain").join(name);
        std::thread::spawn(move || std::fs::read(path).map(drop))
    };
    names.iter().map(open).collect()
}

/// Waits for them, however their opens ended.
async fn ended(openers: Openers) {
    for opener in openers {
        let _ = tokio::task::spawn_blocking(move || opener.join().unwrap()).await.unwrap();
    }
}

/// Beats within the next four seconds.
async fn beats_soon(pod: &Pod) -> usize {
    let before = pod.driver.beats();
    tokio::time::sleep(Duration::from_secs(4)).await;
    pod.driver.beats() - before
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn beats_come_while_requests_are_answered_and_stop_while_every_thread_hangs_in_one() {
    if !can_mount() {
        return;
    }
    let mut pod = Pod::new();
    pod.kms.fail();
    pod.start();
    wait("the driver counts it as served", || pod.counted()).await;
    tokio::time::sleep(crate::fuse::PATIENCE).await;
    assert!(beats_soon(&pod).await > 0, "the waiting room answers");
    pod.kms.recover();
    pod.passes().await;
    pod.blocking(|plain| std::fs::write(plain.join("file"), b"contents").unwrap()).await;
    assert!(beats_soon(&pod).await > 0, "idle threads serve");

    let names = strangers(&pod);
    let storage = hang_opens(&pod, &names);
    let openers = open_all(&pod, &names);
    tokio::time::sleep(crate::fuse::PATIENCE + Duration::from_secs(2)).await;
    assert_eq!(beats_soon(&pod).await, 0, "every thread hangs in the storage");

    drop(storage);
    ended(openers).await;
    assert!(beats_soon(&pod).await > 0, "it goes on");
    pod.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_connection_that_is_cut_while_every_thread_hangs_is_reported_as_lost() {
    if !can_mount() {
        return;
    }
    let mut pod = Pod::new();
    pod.start();
    pod.passes().await;
    pod.blocking(|plain| std::fs::write(plain.join("file"), b"contents").unwrap()).await;
    let names = strangers(&pod);
    let storage = hang_opens(&pod, &names);
    let openers = open_all(&pod, &names);
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Aborts the connection; the mount itself may stay while the openers are in it.
    let _ = rustix::mount::unmount(pod.path("plain"), rustix::mount::UnmountFlags::FORCE);
    let path = pod.path("run/status.json");
    let lost = || status_file::read(&path).is_ok_and(|status| status.message.contains("SessionLost"));
    wait("the loss is reported", lost).await;
    drop(storage);
    ended(openers).await;
    pod.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_lost_session_is_reported_and_stays_lost_although_the_volume_opens() {
    let mut pod = Pod::new();
    pod.driver.lost.store(true, SeqCst);
    pod.start();
    let path = pod.path("run/status.json");
    let lost = || {
        let status = status_file::read(&path);
        status.is_ok_and(|status| !status.ready && status.message.contains("SessionLost"))
    };
    wait("the loss is reported", lost).await;
    let marker = pod.path("raw/data/.cofferdam/volume");
    wait("the volume opens", || marker.exists()).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(lost());
    pod.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn plaintext_on_the_volume_is_refused_untouched_and_the_pod_waits_and_says_why() {
    if !can_mount() {
        return;
    }
    let mut pod = Pod::new();
    std::fs::write(pod.path("raw/data/plain.txt"), b"somebody's").unwrap();
    pod.start();
    let says = || matches!(pod.gate(), Verdict::Wait(why) if why.starts_with("PlaintextFound"));
    wait("the gate says why", says).await;
    wait("the driver counts it as served", || pod.counted()).await;
    assert_eq!(std::fs::read_dir(pod.path("raw/data")).unwrap().count(), 1);
    pod.end().await;
}
