//! Mounts a directory with keys that are derived from the command line: for tests of the filesystem by hand, and for those
//! that need it in a process of its own. Never for data that matters: there is no KMS behind it, and no marker.
//!
//! `memory_mount BACKING TARGET [virtual] [strict] [seal] [reader] [devices] [fd=N] [io-uring] [writeback]`: prints `ready` once the mount
//! is served. With `fd=N` it was mounted by somebody else, who handed down the descriptor. Lines on standard input: `suspend`, `resume`,
//! `rotate VERSION`, `delay MILLISECONDS`, `counters`, `give-back MOST`, `seal`, `unmount`; each is answered by a line.

use std::io::{BufRead, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use envelope::{Geometry, GroupId, GroupKey, Ownership, VolumeId};
use sidecar::fs::{EncryptedFs, MemoryKeys, Options};
use sidecar::fuse::{End, Session, Trial};
use sidecar::mount::{Look, mount_as};

/// How long the kernel may take to say INIT.
const PATIENCE: Duration = Duration::from_secs(10);

type Failure = Box<dyn std::error::Error>;

#[allow(dead_code, reason = "a test includes this file as a module")]
fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    run(&args)
}

/// Serves until it is unmounted.
pub fn run(args: &[String]) -> Result<(), Failure> {
    let [backing, target, flags @ ..] = args else {
        return Err(
            "usage: memory_mount BACKING TARGET [virtual] [strict] [seal] [reader] [devices] [fd=N]".into()
        );
    };
    let has = |flag: &str| flags.iter().any(|given| given == flag);
    std::fs::create_dir_all(Path::new(backing).join(".cofferdam"))?;
    let volume = VolumeId([1; 16]);
    let key = GroupKey::from_slice(&[7; 32]).ok_or("a key has 32 bytes")?;
    let keys = Arc::new(MemoryKeys::with_key(volume, GroupId([2; 16]), key)?);
    let options = Options {
        volume,
        geometry: Geometry::new(1)?,
        ownership: if has("virtual") { Ownership::Virtual } else { Ownership::Native },
        strict: has("strict"),
        seal: has("seal"),
        read_only: has("reader"),
        storage_entries: Vec::new(),
    };
    let root = std::fs::File::open(backing)?;
    let fs = Arc::new(EncryptedFs::new(root.as_fd(), options, Arc::clone(&keys) as _)?);
    if has("devices") {
        fs.allow_devices();
    }
    let trial = Trial { writeback_cache: has("writeback"), io_uring: has("io-uring"), ..Trial::default() };
    let given = flags.iter().find_map(|flag| flag.strip_prefix("fd="));
    let served = match given {
        Some(number) => {
            Served::Given(Session::try_out(inherited(number)?, Arc::clone(&fs) as _, trial, PATIENCE)?)
        }
        None => Served::Mounted(mount_as(Arc::clone(&fs), Path::new(target), &Look::default(), trial)?),
    };
    say("ready");
    obey(&fs, &keys)?;
    let end = match served {
        Served::Given(session) => session.wait(),
        Served::Mounted(mounted) => unmount(mounted)?,
    };
    fs.seal_closed();
    say(&format!("{end:?}"));
    Ok(())
}

/// A process that another one is just starting may hold a copy of a descriptor, for a moment.
fn unmount(mut mounted: sidecar::mount::Mounted) -> std::io::Result<End> {
    let patience = Instant::now() + Duration::from_secs(5);
    loop {
        match mounted.unmount() {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy && Instant::now() < patience => {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => return other,
        }
    }
}

enum Served {
    Given(Session),
    Mounted(sidecar::mount::Mounted),
}

/// The descriptor `number` that was handed down to this process, by a new number.
fn inherited(number: &str) -> Result<OwnedFd, Failure> {
    let number: i32 = number.parse()?;
    let path = format!("/proc/self/fd/{number}");
    std::fs::symlink_metadata(path)?;
    // SAFETY: the descriptor is open, as the line before says, and nobody else in this process knows its number.
    Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(number) })
}

fn obey(fs: &Arc<EncryptedFs>, keys: &MemoryKeys) -> Result<(), Failure> {
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("suspend", _) => {
                keys.set_suspended(true);
                say(&format!("{:?}", fs.suspend()));
            }
            ("resume", _) => {
                keys.set_suspended(false);
                fs.resume();
                say("resumed");
            }
            ("rotate", version) => {
                keys.rotate(version);
                say("rotated");
            }
            ("delay", millis) => {
                keys.set_delay(Duration::from_millis(millis.parse()?));
                say("delayed");
            }
            ("counters", _) => say(&format!("{:?} inodes {}", fs.counters(), fs.inodes())),
            ("give-back", most) => {
                let (fs, most) = (Arc::clone(fs), most.parse()?);
                // Not from a thread that holds anything of the session.
                std::thread::spawn(move || fs.give_back(most)).join().map_err(|_| "giving back failed")?;
                say("given");
            }
            ("seal", _) => say(&format!("sealed {}", fs.seal_closed())),
            ("unmount", _) => return Ok(()),
            _ => say("what?"),
        }
    }
    Ok(())
}

fn say(line: &str) {
    println!("{line}");
    let _ = std::io::stdout().flush();
}
