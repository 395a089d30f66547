//! Power loss: an ext4 on a loop device that is shut down without its journal being flushed.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;

use crate::server::{Server, pattern, shell, start, start_in};

/// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`: nothing more reaches the disk.
fn cut_power(mount: &Path) {
    nix::ioctl_read!(ext4_shutdown, b'X', 125, u32);
    let root = File::open(mount).unwrap();
    let mut flags = 2;
    // SAFETY: the ioctl reads one u32, which outlives the call.
    unsafe { ext4_shutdown(root.as_raw_fd(), &raw mut flags) }.unwrap();
}

/// A server whose storage is an ext4 of its own.
pub struct Disk {
    server: Option<Server>,
    image: tempfile::TempDir,
    flags: &'static [&'static str],
}

impl Disk {
    /// Serves with these flags; `None`, loudly, where this process may not mount.
    pub fn new(flags: &'static [&'static str]) -> Option<Self> {
        drop(start(&[])?);
        let image = tempfile::tempdir().unwrap();
        shell(image.path(), "truncate -s 64M disk; mkfs.ext4 -q -b 4096 disk; mkdir ext4");
        let mut disk = Self { server: None, image, flags };
        disk.mount();
        shell(image_path(&disk), "mkdir ext4/backing");
        disk.serve();
        Some(disk)
    }

    fn mount(&mut self) {
        shell(image_path(self), "mount -o loop disk ext4");
    }

    fn serve(&mut self) {
        let dir = tempfile::tempdir().unwrap();
        shell(dir.path(), &format!("mkdir mount; ln -s {}/ext4/backing backing", image_path(self).display()));
        self.server = Some(start_in(dir, self.flags));
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    /// As [`Server::say`].
    pub fn say(&mut self, line: &str) -> String {
        self.server.as_mut().unwrap().say(line)
    }

    /// As after a power cut: what was not on the disk is gone.
    pub fn restart(&mut self) {
        cut_power(&image_path(self).join("ext4"));
        self.server = None;
        // A process that another test is just starting may hold a copy of a descriptor, for a moment.
        shell(image_path(self), "n=0; until umount ext4; do n=$((n+1)); test $n -lt 50; sleep 0.1; done");
        self.mount();
        self.serve();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.server = None;
        let _ = std::process::Command::new("umount").args(["-l"]).arg(image_path(self).join("ext4")).status();
    }
}

fn image_path(disk: &Disk) -> &Path {
    disk.image.path()
}

#[test]
fn what_was_synced_survives_a_power_loss_and_what_was_not_may_be_gone_but_is_never_garbage() {
    let Some(mut disk) = Disk::new(&[]) else { return };
    let mut lost = 0;
    for round in 0..6_u64 {
        let contents = pattern(round, 10_000 + 4000 * round as usize);
        let path = |disk: &Disk, name: &str| disk.server().path(&format!("{name}{round}"));
        let mut file = File::create(path(&disk, "synced")).unwrap();
        file.write_all(&contents).unwrap();
        file.sync_all().unwrap();
        std::fs::write(path(&disk, "by-directory"), b"").unwrap();
        File::open(disk.server().path("")).unwrap().sync_all().unwrap();
        // An append after the sync must not harm what was synced.
        file.write_all(&contents).unwrap();
        std::fs::write(path(&disk, "unsynced"), &contents).unwrap();
        drop(file);
        disk.restart();
        let found = std::fs::read(path(&disk, "synced")).unwrap();
        assert!(found[..contents.len()] == contents, "round {round}");
        let appended = &found[contents.len()..];
        let good = appended.iter().zip(&contents).all(|(found, written)| found == written || *found == 0);
        assert!(appended.len() <= contents.len() && good, "what was appended is there, or zeros, or not");
        assert!(path(&disk, "by-directory").exists());
        match std::fs::read(path(&disk, "unsynced")) {
            Ok(found) => assert!(found.is_empty() || found == contents),
            Err(_) => lost += 1,
        }
    }
    assert!(lost > 0, "the power loss lost nothing: this test would see no missing sync");
}
