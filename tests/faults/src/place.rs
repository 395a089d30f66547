//! A directory of its own for everything that a test mounts and writes, in memory: a loop device over it is fast, and a
//! power cut is made above it.
//!
//! Invariant: its mounts are in a mount namespace of the thread that made it (and of the threads and processes that this one
//! starts), so that nobody else holds a filesystem that is to be mounted anew, and nothing stays mounted when all of them have
//! ended. When it is dropped, nothing below it is mounted or attached any more. The places of processes that ended without
//! that are taken away when the first place of a process is made.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::thread::UnshareFlags;

const PREFIX: &str = "cofferdam-faults-";
/// How long storage that was just let go may stay busy.
const PATIENCE: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub struct Place(PathBuf);

impl Place {
    /// A new one.
    pub fn new() -> Result<Self> {
        static FIRST: Once = Once::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        FIRST.call_once(take_away_leftovers);
        own_namespace()?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("{PREFIX}{}-{number}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        let place = Self(path);
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        rustix::mount::mount("faults", &place.0, "tmpfs", flags, Some(c"mode=0755"))
            .context("mount a tmpfs")?;
        Ok(place)
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A directory in it.
    pub fn dir(&self, name: &str) -> Result<PathBuf> {
        let path = self.path(name);
        std::fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        take_away(&self.0);
    }
}

/// Whether the tests can run here: root, `/dev/fuse`, loop devices and `programs`. Says loudly what is missing; with the
/// variable `CI` set that is a failure.
pub fn able(programs: &[&str]) -> bool {
    let there = |name: &str| {
        ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|dir| Path::new(dir).join(name).exists())
    };
    let mut missing: Vec<String> =
        programs.iter().filter(|name| !there(name)).map(|name| format!("the program {name}")).collect();
    if !rustix::process::geteuid().is_root() {
        missing.push("root".into());
    }
    for device in ["/dev/fuse", "/dev/loop-control"] {
        if !Path::new(device).exists() {
            missing.push(device.into());
        }
    }
    if missing.is_empty() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "missing: {}", missing.join(", "));
    eprintln!("SKIPPED: missing: {}", missing.join(", "));
    false
}

/// Unmounts `target`, waiting while something that is just ending has it open.
pub fn unmount(target: &Path) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        match rustix::mount::unmount(target, UnmountFlags::empty()) {
            Err(rustix::io::Errno::BUSY) if Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(5));
            }
            other => return other.with_context(|| format!("unmount {}", target.display())),
        }
    }
}

/// Gives this thread mounts of its own, once.
fn own_namespace() -> Result<()> {
    thread_local!(static DONE: Cell<bool> = const { Cell::new(false) });
    if DONE.replace(true) {
        return Ok(());
    }
    // SAFETY: no descriptor is unshared; of what is, the working directory and the umask, no other thread relies on this one.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }.context("make a mount namespace")?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).context("part the mounts from those of others")?;
    // Others may want to unmount theirs, wholly.
    for target in of_others()? {
        let _ = rustix::mount::unmount(&target, UnmountFlags::DETACH);
    }
    Ok(())
}

/// Mounts that nothing here needs and that others may have made for a while, the innermost first: of loop devices and FUSE, and
/// in the directory for temporary files.
fn of_others() -> Result<Vec<PathBuf>> {
    let temporary = std::env::temp_dir();
    let needed = [std::env::current_exe()?, std::env::current_dir()?, temporary.clone()];
    let table = std::fs::read_to_string("/proc/thread-self/mountinfo").context("list the mounts")?;
    let mut found = Vec::new();
    for line in table.lines() {
        let Some((place, kind)) = line.split_once(" - ") else { continue };
        let target = PathBuf::from(place.split(' ').nth(4).unwrap_or_default());
        let mut kind = kind.split(' ');
        let is_fuse = kind.next().is_some_and(|kind| kind.starts_with("fuse"));
        let is_loop = kind.next().is_some_and(|device| device.starts_with("/dev/loop"));
        let is_needed = needed.iter().any(|path| path.starts_with(&target));
        if !is_needed && (is_fuse || is_loop || target.starts_with(&temporary)) {
            found.push(target);
        }
    }
    found.reverse();
    Ok(found)
}

/// What is mounted at and below `path`, the innermost first.
fn mounts(path: &Path) -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
    let targets = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    let mut found: Vec<_> = targets.filter(|target| target.starts_with(path)).collect();
    found.reverse();
    found
}

fn take_away(path: &Path) {
    for target in mounts(path) {
        let _ = rustix::mount::unmount(&target, UnmountFlags::DETACH);
    }
    let attached = crate::command::run("losetup", &["--noheadings", "--raw", "--output", "NAME,BACK-FILE"]);
    for line in attached.unwrap_or_default().lines() {
        if let Some((device, file)) = line.split_once(' ')
            && Path::new(file).starts_with(path)
        {
            let _ = crate::command::run("losetup", &["--detach", device]);
        }
    }
    let _ = std::fs::remove_dir_all(path);
}

fn take_away_leftovers() {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            take_away(&entry.path());
        }
    }
}
