//! The link, against a driver of these tests' own.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;

use contract::control::Reply;
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, accept, bind, listen,
    recv, sendmsg, socket,
};

use super::*;

/// A driver that answers one connection by `answer`, tells what it was asked, and hangs up after `most` answers.
fn driver(
    path: &Path,
    most: usize,
    answer: impl Fn(&Request) -> Reply + Send + 'static,
) -> (JoinHandle<()>, Receiver<Request>) {
    let _ = std::fs::remove_file(path);
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::empty(), None).unwrap();
    bind(listener.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
    listen(&listener, Backlog::new(4).unwrap()).unwrap();
    let (said, asked) = channel();
    let thread = std::thread::spawn(move || {
        // SAFETY: the descriptor was just made by accept and is owned by nobody else.
        let peer = unsafe { OwnedFd::from_raw_fd(accept(listener.as_raw_fd()).unwrap()) };
        for _ in 0..most {
            let mut buffer = vec![0; 65_536];
            let len = recv(peer.as_raw_fd(), &mut buffer, MsgFlags::empty()).unwrap_or(0);
            if len == 0 {
                return;
            }
            let request: Request = serde_json::from_slice(&buffer[..len]).unwrap();
            let reply = answer(&request);
            said.send(request).unwrap();
            let text = serde_json::to_vec(&reply).unwrap();
            let passed = std::fs::File::open("/dev/null").unwrap();
            let fds = [passed.as_raw_fd()];
            let rights = [ControlMessage::ScmRights(&fds)];
            let control: &[ControlMessage<'_>] =
                if matches!(reply, Reply::Granted { .. }) { &rights } else { &[] };
            let parts = [io::IoSlice::new(&text)];
            sendmsg::<()>(peer.as_raw_fd(), &parts, control, MsgFlags::empty(), None).unwrap();
        }
    });
    (thread, asked)
}

fn granting(request: &Request) -> Reply {
    match request {
        Request::Attach { .. } => Reply::Granted { connection: 42 },
        _ => Reply::Done,
    }
}

#[test]
fn after_a_restart_of_the_driver_the_session_is_resumed_and_named_as_served() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let (first, _asked) = driver(&path, 2, granting);
    let link = DriverLink::new(&path);
    link.attach("data").unwrap();
    link.serving("data").unwrap();
    first.join().unwrap();
    let (second, asked) = driver(&path, 3, granting);
    link.keep();
    assert_eq!(asked.recv().unwrap(), Request::Resume { volume: "data".into(), connection: 42 });
    assert_eq!(asked.recv().unwrap(), Request::Serving { volume: "data".into(), beats: true });
    assert_eq!(link.refused("data"), None);
    link.detach("data").unwrap();
    assert_eq!(asked.recv().unwrap(), Request::Detach { volume: "data".into() });
    second.join().unwrap();
}

#[test]
fn a_session_that_the_driver_does_not_resume_is_told_to_its_volume() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let (first, _asked) = driver(&path, 1, granting);
    let link = DriverLink::new(&path);
    link.attach("data").unwrap();
    first.join().unwrap();
    let refuse =
        |_: &Request| Reply::Refused { reason: Refusal::AttachAgain, message: "mounted anew".into() };
    let (second, _asked) = driver(&path, 1, refuse);
    link.keep();
    assert_eq!(link.refused("data"), Some(Refusal::AttachAgain));
    second.join().unwrap();
}

#[test]
fn a_refusal_carries_the_drivers_reason() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let refuse = |_: &Request| Reply::Refused { reason: Refusal::NotTheSidecar, message: "not you".into() };
    let (thread, _asked) = driver(&path, 1, refuse);
    let error = DriverLink::new(&path).attach("data").unwrap_err();
    assert!(matches!(error, DriverError::Refused { reason: Refusal::NotTheSidecar, .. }), "{error:?}");
    thread.join().unwrap();
}

fn counting(request: &Request) -> Reply {
    match request {
        Request::Attach { .. } => Reply::Granted { connection: 42 },
        Request::Serving { .. } => Reply::Counting { seconds: 2 },
        _ => Reply::Done,
    }
}

#[test]
fn beats_go_to_a_driver_that_counts_them_at_its_pace_and_wait_for_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let (thread, asked) = driver(&path, 4, counting);
    let link = DriverLink::new(&path);
    let start = Instant::now();
    link.beat("data", start);
    link.attach("data").unwrap();
    link.beat("data", start);
    link.serving("data").unwrap();
    for half_seconds in [0, 1, 2] {
        link.beat("data", start + Duration::from_millis(500) * half_seconds);
    }
    let _ = link.detach("data");
    thread.join().unwrap();
    let said: Vec<_> = asked.iter().skip(1).collect();
    let volume = || "data".to_owned();
    let expected = [
        Request::Serving { volume: volume(), beats: true },
        Request::Beat { volume: volume() },
        Request::Detach { volume: volume() },
    ];
    assert_eq!(said, expected, "one is enough for two seconds");
}

#[test]
fn a_driver_that_stands_still_holds_up_no_beat() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let (answered, stands_still) = (std::sync::atomic::AtomicBool::new(false), channel::<()>());
    let (go_on, wait) = stands_still;
    let (thread, _asked) = driver(&path, 3, move |request| {
        if answered.swap(matches!(request, Request::Serving { .. }), std::sync::atomic::Ordering::SeqCst) {
            let _ = wait.recv();
        }
        counting(request)
    });
    let link = DriverLink::new(&path);
    link.attach("data").unwrap();
    link.serving("data").unwrap();
    let start = Instant::now();
    for round in 0..10_000 {
        link.beat("data", start + Duration::from_secs(2) * round);
        assert!(start.elapsed() < Duration::from_secs(4), "{:?} for {round} beats", start.elapsed());
    }
    drop(go_on);
    thread.join().unwrap();
}

#[test]
fn a_driver_from_before_beats_gets_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let (thread, asked) = driver(&path, 3, granting);
    let link = DriverLink::new(&path);
    link.attach("data").unwrap();
    link.serving("data").unwrap();
    link.beat("data", Instant::now());
    link.detach("data").unwrap();
    thread.join().unwrap();
    let said: Vec<_> = asked.iter().collect();
    assert!(said.iter().all(|request| !matches!(request, Request::Beat { .. })), "{said:?}");
}
