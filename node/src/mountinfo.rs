//! The mount table, as `/proc/self/mountinfo` tells it (proc(5)).
//!
//! Invariant: pure, and the only way in which the driver learns whether something is mounted: a path is never looked at.

use std::path::{Path, PathBuf};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Device minor of the superblock; for FUSE it names the connection.
    pub minor: u32,
    /// Device major; 0 for filesystems without a block device.
    pub major: u32,
    /// Where it is mounted.
    pub target: PathBuf,
    /// Type with subtype, such as `fuse.cofferdam`.
    pub fs_type: String,
    /// What the mounter called the source.
    pub source: String,
    /// Mounted read-only.
    pub read_only: bool,
}

/// All mounts, in the order of the table: of several at one target, the last covers the others. Lines that are not understood
/// are left out.
pub fn parse(table: &str) -> Vec<Mount> {
    table.lines().filter_map(parse_line).collect()
}

/// The mount that is visible at `target`.
pub fn topmost<'a>(mounts: &'a [Mount], target: &Path) -> Option<&'a Mount> {
    mounts.iter().rev().find(|mount| mount.target == target)
}

fn parse_line(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ');
    let (major, minor) = before.nth(2)?.split_once(':')?;
    let target = unescape(before.nth(1)?);
    let options = before.next()?;
    let mut after = after.split(' ');
    Some(Mount {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        target: PathBuf::from(target),
        fs_type: unescape(after.next()?),
        source: unescape(after.next()?),
        read_only: options.split(',').any(|option| option == "ro"),
    })
}

/// Undoes the octal escapes of blanks and backslashes.
fn unescape(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = (*first == b'\\').then(|| tail.get(..3)).flatten().and_then(octal);
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 1 0:20 / /sys rw,nosuid shared:7 - sysfs sysfs rw
36 22 0:34 / /sys/fs/fuse/connections rw,relatime shared:17 - fusectl fusectl rw
90 25 8:1 /kubelet /var/lib/kubelet rw,relatime shared:1 - ext4 /dev/sda1 rw
91 90 0:61 / /var/lib/kubelet/pods/u/volumes/kubernetes.io~csi/v/mount rw,nosuid,nodev shared:9 - fuse.cofferdam cofferdam:01 rw
92 91 0:77 / /var/lib/kubelet/pods/u/volumes/kubernetes.io~csi/v/mount ro,nosuid,nodev - fuse.cofferdam cofferdam:02 rw
93 90 0:78 / /mnt/with\\040blank\\134and\\134040 rw master:3 propagate_from:2 - tmpfs none rw
this line makes no sense";

    #[test]
    fn the_last_mount_at_a_target_is_the_one_that_is_seen() {
        let mounts = parse(TABLE);
        let target = Path::new("/var/lib/kubelet/pods/u/volumes/kubernetes.io~csi/v/mount");
        let mount = topmost(&mounts, target).expect("mounted");
        assert_eq!((mount.major, mount.minor, mount.source.as_str()), (0, 77, "cofferdam:02"));
        assert!(mount.read_only && !mounts[3].read_only);
        assert_eq!(mount.fs_type, "fuse.cofferdam");
    }

    #[test]
    fn optional_fields_and_escapes_are_understood_and_nonsense_is_left_out() {
        let mounts = parse(TABLE);
        assert_eq!(mounts.len(), 6);
        assert_eq!(mounts[5].target, Path::new("/mnt/with blank\\and\\040"));
        assert!(topmost(&mounts, Path::new("/var/lib")).is_none());
    }
}
