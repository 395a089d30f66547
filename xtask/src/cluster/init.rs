//! The first process of the cluster's namespaces: starts the parts, starts again what ends, reaps orphans, and carries
//! out requests that later commands leave as files. Invariant: its end is the end of every process in there.

use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::node::{self, INSIDE};
use super::parts::{PARTS, Part};
use super::requests::{self, Request, Status};
use super::stage;

/// How often children and requests are looked at.
const TICK: Duration = Duration::from_millis(50);
/// How long a part that ended by itself stays down.
const BACKOFF: Duration = Duration::from_millis(500);
/// How long a part may take to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(3);

/// A part and what has become of it.
struct Supervised {
    part: &'static Part,
    pid: Option<Pid>,
    /// When it may be started next.
    due: Instant,
    /// Whether it is held down on request.
    held: bool,
    /// When it was asked to end.
    ending: Option<Instant>,
    starts: u32,
}

/// Runs as process 1 and never returns but with an error.
pub fn run(outside_run: &Path, programs: &Path) -> Result<()> {
    stage::set(outside_run, programs).context("set the scene of the cluster")?;
    let now = Instant::now();
    let mut parts: Vec<_> = PARTS
        .iter()
        .map(|part| Supervised { part, pid: None, due: now, held: false, ending: None, starts: 0 })
        .collect();
    let mut api_seen = false;
    loop {
        let mut changed = reap(&mut parts)?;
        for supervised in &mut parts {
            changed |= carry_out(supervised)?;
            insist(supervised)?;
        }
        api_seen = api_seen || TcpStream::connect((node::ADDRESS, 6443)).is_ok();
        for supervised in parts.iter_mut().filter(|supervised| api_seen || !supervised.part.after_api) {
            changed |= start_if_due(supervised)?;
        }
        if changed {
            requests::publish(Path::new(INSIDE), &parts.iter().map(status).collect::<Vec<_>>())?;
        }
        thread::sleep(TICK);
    }
}

fn status(supervised: &Supervised) -> Status {
    Status {
        name: supervised.part.name.to_owned(),
        pid: supervised.pid.map(Pid::as_raw),
        held: supervised.held,
        starts: supervised.starts,
    }
}

/// Takes every dead child; a part among them is due again after the back-off.
fn reap(parts: &mut [Supervised]) -> Result<bool> {
    let mut changed = false;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(dead) => {
                let Some(pid) = dead.pid() else { return Ok(changed) };
                if let Some(supervised) = parts.iter_mut().find(|supervised| supervised.pid == Some(pid)) {
                    eprintln!("{} ended: {dead:?}", supervised.part.name);
                    supervised.pid = None;
                    supervised.ending = None;
                    changed = true;
                }
            }
            Err(Errno::EINTR) => {}
            Err(Errno::ECHILD) => return Ok(changed),
            Err(error) => return Err(error).context("wait for children"),
        }
    }
}

fn carry_out(supervised: &mut Supervised) -> Result<bool> {
    let Some(request) = requests::take(Path::new(INSIDE), supervised.part.name)? else { return Ok(false) };
    eprintln!("{}: {request:?}", supervised.part.name);
    supervised.held = matches!(request, Request::Stop | Request::Kill);
    supervised.due = Instant::now();
    let signal = match request {
        Request::Start => None,
        Request::Stop | Request::Restart => Some(Signal::SIGTERM),
        Request::Kill => Some(Signal::SIGKILL),
    };
    if let (Some(pid), Some(signal)) = (supervised.pid, signal) {
        kill(pid, signal).with_context(|| format!("end {}", supervised.part.name))?;
        supervised.ending = Some(Instant::now());
    }
    Ok(true)
}

/// Ends what was asked to end and did not: the API server waits for its clients.
fn insist(supervised: &mut Supervised) -> Result<()> {
    if let (Some(pid), Some(asked)) = (supervised.pid, supervised.ending)
        && asked.elapsed() > PATIENCE
    {
        kill(pid, Signal::SIGKILL).with_context(|| format!("kill {}", supervised.part.name))?;
        supervised.ending = None;
    }
    Ok(())
}

fn start_if_due(supervised: &mut Supervised) -> Result<bool> {
    if supervised.pid.is_some() || supervised.held || Instant::now() < supervised.due {
        return Ok(false);
    }
    let part = supervised.part;
    let log = stage::log_of(part.name)?;
    let mut command = Command::new(program(part));
    command.args((part.arguments)()).current_dir(INSIDE).process_group(0);
    command.env_clear().env("PATH", search_path()).env("HOME", INSIDE);
    command.stdin(std::process::Stdio::null()).stderr(log.try_clone().context("share a log")?).stdout(log);
    let child = command.spawn().with_context(|| format!("start {}", part.name))?;
    supervised.pid = Some(Pid::from_raw(child.id().cast_signed()));
    supervised.due = Instant::now() + BACKOFF;
    supervised.starts += 1;
    Ok(true)
}

fn program(part: &Part) -> PathBuf {
    Path::new(INSIDE).join("bin").join(part.program)
}

/// The cluster's own programs first, then the machine's, for `mount`, `nft` and `mkfs`.
pub fn search_path() -> String {
    format!("{INSIDE}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
}
