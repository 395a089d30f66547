//! A stand-in sidecar: this test program in a process of its own, as user 65532, in a cgroup named as a container's, steered line
//! by line over its standard input.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use contract::control::{Reply, Request};
use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, recvmsg, sendmsg, socket_with,
};

use super::fuse;

const SOCKET: &str = "COFFERDAM_TEST_SOCKET";
const ANSWER: &str = "answer: ";

/// A container's cgroup: made for one test, removed at its end.
pub struct Container {
    pub id: String,
    dir: PathBuf,
}

/// The test's end of a stand-in.
pub struct Sidecar {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Container {
    /// Container number `n` of a pod.
    pub fn new(pod_uid: &str, n: u8) -> Self {
        let id = format!("{n:02x}").repeat(32);
        let hierarchies = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
        let below = format!("cofferdam-test-{pod_uid}/pod{pod_uid}/{id}");
        let mut dirs = hierarchies.iter().map(|root| Path::new(root).join(&below));
        let dir = dirs.find(|dir| fs::create_dir_all(dir).is_ok() && dir.join("cgroup.procs").exists());
        Self { id, dir: dir.expect("a cgroup hierarchy that root can write") }
    }

    fn take_in(&self, pid: u32) {
        fs::write(self.dir.join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        for dir in self.dir.ancestors().take(3) {
            let _ = fs::remove_dir(dir);
        }
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Sidecar {
    /// Starts one; outside of any container if there is none.
    pub fn start(socket: &Path, container: Option<&Container>) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "support::sidecar::stand_in", "--nocapture", "--ignored"])
            .env(SOCKET, socket)
            .uid(65532)
            .gid(65532)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        if let Some(container) = container {
            container.take_in(child.id());
        }
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut sidecar = Self { child, input, output };
        assert_eq!(sidecar.order("connect"), "connected");
        sidecar
    }

    /// Gives an order without waiting for its answer.
    pub fn begin(&mut self, order: &str) {
        writeln!(self.input, "{order}").unwrap();
    }

    /// The next answer.
    pub fn answer(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the stand-in ended");
            if let Some((_, answer)) = line.split_once(ANSWER) {
                return answer.trim().to_owned();
            }
        }
    }

    pub fn order(&mut self, order: &str) -> String {
        self.begin(order);
        self.answer()
    }

    /// Sends a message to the driver.
    pub fn ask(&mut self, request: &Request) -> Reply {
        let answer = self.order(&serde_json::to_string(request).unwrap());
        serde_json::from_str(&answer).unwrap_or_else(|_| panic!("not a reply: {answer}"))
    }

    pub fn attach(&mut self) -> Reply {
        self.ask(&Request::Attach { volume: "data".into() })
    }

    pub fn attached(&mut self) -> u32 {
        let reply = self.attach();
        let Reply::Granted { connection } = reply else { panic!("not granted: {reply:?}") };
        connection
    }

    pub fn serving(&mut self) -> Reply {
        self.ask(&Request::Serving { volume: "data".into(), beats: false })
    }

    /// Attaches, answers everything, promises beats; sends none yet.
    pub fn promise(&mut self) -> u32 {
        let connection = self.attached();
        assert_eq!(self.order("serve"), "init answered");
        assert!(matches!(self.promise_again(), Reply::Counting { .. }));
        connection
    }

    /// As [`Self::promise`], and requests are read and never answered.
    pub fn promise_and_hang(&mut self) {
        self.attached();
        assert_eq!(self.order("hang"), "init answered");
        assert!(matches!(self.promise_again(), Reply::Counting { .. }));
    }

    pub fn promise_again(&mut self) -> Reply {
        self.ask(&Request::Serving { volume: "data".into(), beats: true })
    }

    /// Sends beats from now on, several a second, as long as the process runs.
    pub fn beat(&mut self) {
        assert_eq!(self.order("beat"), "beating");
    }

    /// SIGSTOP or SIGCONT.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Whether the process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub fn detach(&mut self) -> Reply {
        self.ask(&Request::Detach { volume: "data".into() })
    }

    pub fn resume(&mut self, connection: u32) -> Reply {
        self.ask(&Request::Resume { volume: "data".into(), connection })
    }

    /// Attaches, answers INIT and everything that follows, says so.
    pub fn serve(&mut self) -> u32 {
        let connection = self.attached();
        assert_eq!(self.order("serve"), "init answered");
        assert_eq!(self.serving(), Reply::Done);
        connection
    }

    /// The same, and then never answers.
    pub fn serve_and_hang(&mut self) -> u32 {
        let connection = self.attached();
        assert_eq!(self.order("hang"), "init answered");
        assert_eq!(self.serving(), Reply::Done);
        connection
    }

    /// SIGKILL.
    pub fn kill(self) {
        drop(self);
    }
}

/// Not a test: what [`Sidecar`] starts.
#[test]
#[ignore = "it is the stand-in sidecar of the other tests"]
fn stand_in() {
    let Some(path) = std::env::var_os(SOCKET) else { return };
    let mut socket = None;
    let mut device: Option<OwnedFd> = None;
    for line in std::io::stdin().lines() {
        let order = line.unwrap();
        match order.as_str() {
            "connect" => {
                socket = dial(Path::new(&path)).ok();
                println!("{ANSWER}{}", if socket.is_some() { "connected" } else { "not connected" });
            }
            "serve" | "hang" => {
                let mut file = fuse::device(device.take().unwrap());
                fuse::answer_init(&mut file);
                let run: fn(File) = if order == "serve" { fuse::serve } else { fuse::swallow };
                std::thread::spawn(move || run(file));
                println!("{ANSWER}init answered");
            }
            "beat" => {
                let socket = socket.as_ref().unwrap().try_clone().unwrap();
                std::thread::spawn(move || beat(&socket));
                println!("{ANSWER}beating");
            }
            message => {
                let (reply, fd) = converse(socket.as_ref().unwrap(), message);
                device = fd.or(device);
                println!("{ANSWER}{reply}");
            }
        }
    }
}

/// Until the driver is gone.
fn beat(socket: &OwnedFd) {
    let beat = serde_json::to_vec(&Request::Beat { volume: "data".into() }).unwrap();
    let mut nothing = rustix::net::SendAncillaryBuffer::default();
    while sendmsg(socket, &[IoSlice::new(&beat)], &mut nothing, SendFlags::NOSIGNAL).is_ok() {
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

fn dial(path: &Path) -> rustix::io::Result<OwnedFd> {
    let fd = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    // A sidecar has a short path; an address has no room for kubelet's long one.
    let dir = rustix::fs::open(path.parent().unwrap(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    connect(&fd, &SocketAddrUnix::new(format!("/proc/self/fd/{}/s", dir.as_raw_fd()))?)?;
    Ok(fd)
}

fn converse(socket: &OwnedFd, message: &str) -> (String, Option<OwnedFd>) {
    let mut nothing = rustix::net::SendAncillaryBuffer::default();
    if let Err(error) =
        sendmsg(socket, &[IoSlice::new(message.as_bytes())], &mut nothing, SendFlags::NOSIGNAL)
    {
        return (format!("not sent: {error}"), None);
    }
    let mut buffer = vec![0; 65536];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got =
        recvmsg(socket, &mut [IoSliceMut::new(&mut buffer)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let mut descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let fd = descriptors.next().and_then(|mut descriptors| descriptors.next());
    (String::from_utf8_lossy(&buffer[..got.bytes]).into_owned(), fd)
}
