//! An encrypted volume of a suite: made anew, mounted, and gone when the suite ends.
//!
//! Invariant: a volume's folder has a fixed name, so that the next run finds and clears what a killed one left; and a short
//! one, because the name of a socket has 107 bytes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use devkms::{Config, Grant, Role, Seed, Server};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::places;

const INSTANCE: &str = "11111111-1111-4111-8111-111111111111";
const KEY: &str = "22222222-2222-4222-8222-222222222222";
/// The options of every mount. A server that ends syncs the disk, with all that others write to it.
const OPTIONS: &str = "allow_loopback_http,fstype=fuse,wait=300";
/// How long a mount may stay busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where the ciphertext lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// On the disk of the checkout.
    Disk,
    /// On a tmpfs, where syncing costs nothing.
    Memory,
    /// On the disk, with ownership in attributes.
    Virtual,
}

/// A mounted volume.
#[derive(Debug)]
pub struct Volume {
    folder: PathBuf,
    kind: Kind,
    mounted: bool,
}

/// The folder of this checkout's volumes.
fn base() -> PathBuf {
    Path::new("/var/tmp").join(format!("cofferdam-{}", places().id()))
}

/// The KMS of this process's volumes; it ends with the process.
fn profile() -> &'static Path {
    static KMS: OnceLock<(Server, PathBuf)> = OnceLock::new();
    let (_, profile) = KMS.get_or_init(|| {
        let seed = Seed::one_key(INSTANCE, KEY).api_key("data", "data-key", Grant::role(Role::Reader));
        let server = Server::start(Config::ephemeral(seed)).unwrap();
        let folder = base();
        fs::create_dir_all(&folder).unwrap();
        let (key, profile) =
            (folder.join("api.key"), folder.join(format!("profile-{}.yaml", std::process::id())));
        fs::write(&key, "data-key").unwrap();
        let url = server.url();
        let text = format!(
            "endpoint: {url}\niamEndpoint: {url}\ninstance: {INSTANCE}\nrootKey: {KEY}\napiKeyFile: {}\n",
            key.display()
        );
        fs::write(&profile, text).unwrap();
        (server, profile)
    });
    profile
}

impl Volume {
    /// A new volume of this name, not mounted yet.
    pub fn new(name: &str, kind: Kind) -> Self {
        let folder = base().join(name);
        let volume = Self { folder, kind, mounted: false };
        volume.clear();
        for folder in [volume.raw(), volume.path("")] {
            fs::create_dir_all(folder).unwrap();
        }
        if kind == Kind::Memory {
            let options = Some("size=4g,mode=0755");
            let flags = nix::mount::MsFlags::empty();
            nix::mount::mount(Some("suite"), &volume.raw(), Some("tmpfs"), flags, options).unwrap();
        }
        fs::set_permissions(&volume.folder, fs::Permissions::from_mode(0o755)).unwrap();
        volume
    }

    /// A new volume of this name, mounted.
    pub fn mounted(name: &str, kind: Kind) -> Self {
        let mut volume = Self::new(name, kind);
        volume.mount();
        volume
    }

    /// The volume's ciphertext.
    pub fn raw(&self) -> PathBuf {
        self.folder.join("raw")
    }

    /// A path on the mount.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join("plain").join(name)
    }

    /// Beside the mount, on the disk of the checkout: for what a suite says.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The options by which mount(8) mounts it.
    pub fn options(&self) -> String {
        let ownership = if self.kind == Kind::Virtual { ",virtual_ownership" } else { "" };
        let log = self.beside("server.log");
        format!("profile={},log={},{OPTIONS}{ownership}", profile().display(), log.display())
    }

    /// The sidecar's program, which mount(8) knows as `mount.fuse.cofferdam`.
    pub fn program() -> PathBuf {
        let program = places().program("cofferdam-sidecar");
        assert!(program.exists(), "{} is missing: `cargo build --workspace` makes it", program.display());
        program
    }

    /// Mounts it, as mount(8) does.
    #[track_caller]
    pub fn mount(&mut self) {
        let mut command = Command::new(Self::program());
        command.arg("mount.fuse.cofferdam").arg(self.raw()).arg(self.path("")).arg("-o").arg(self.options());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.mounted = true;
    }

    /// Unmounts it, as soon as nobody uses it any more.
    #[track_caller]
    pub fn unmount(&mut self) {
        let end = Instant::now() + PATIENCE;
        while let Err(error) = umount2(&self.path(""), MntFlags::empty()) {
            assert!(Instant::now() < end, "unmount {}: {error}", self.path("").display());
            std::thread::sleep(Duration::from_millis(50));
        }
        self.mounted = false;
    }

    /// Unmounts and mounts it.
    pub fn remount(&mut self) {
        self.unmount();
        self.mount();
    }

    /// The process that serves it.
    pub fn server(&self) -> Pid {
        let record = fs::read_to_string(self.raw().join(".cofferdam/lease")).unwrap();
        let id = record.split("process ").nth(1).and_then(|rest| rest.split(' ').next());
        Pid::from_raw(id.and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("no process in {record}")))
    }

    /// Kills the server, as a crash would; the mount is dead until [`Self::again`].
    pub fn kill(&self) {
        kill(self.server(), Signal::SIGKILL).unwrap();
    }

    /// Mounts it anew after a crash, whoever still has files open on the dead mount.
    pub fn again(&mut self) {
        umount2(&self.path(""), MntFlags::MNT_DETACH).unwrap();
        self.mount();
    }

    /// Ends what is mounted and removes all.
    fn clear(&self) {
        for target in [self.path(""), self.raw()] {
            while umount2(&target, MntFlags::MNT_DETACH).is_ok() {}
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!(
                "the server's log:\n{}",
                fs::read_to_string(self.beside("server.log")).unwrap_or_default()
            );
        }
        self.clear();
    }
}
