//! pjdfstest: what POSIX says of each call on names and attributes.

use std::collections::BTreeSet;
use std::fs;

use ground::{Kind, Run, Volume, can_mount, report, suite};

/// What ext4 itself passes on the machine that the figures of docs/suites.md come from.
const PASSED_ON_EXT4: usize = 383;

/// Users that every Debian has. The pause is for storage whose clock has ticks of 4 ms.
const CONFIGURATION: &str = r#"
[features]
posix_fallocate = {}
utime_now = {}
utimensat = {}
rename_ctime = {}
stat_st_birthtime = {}
[settings]
naptime = 0.01
allow_remount = REMOUNT
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"], ["bin", "bin"]]
"#;

/// In a mount namespace where mount(8) finds the program, so that the suite may remount. Cases that remount run in a process
/// each: cases before them leave files open for writing, so that on ext4 too the filesystem would be busy.
const SCRIPT: &str = r#"
    mount -t tmpfs none /sbin; ln -s "$PROGRAM" /sbin/mount.fuse.cofferdam
    mount -t tmpfs other other
    mount -t fuse.cofferdam "$RAW" "$PLAIN" -o "$OPTIONS,fstype=fuse.cofferdam"
    trap 'cd /; umount -l "$PLAIN"' EXIT
    "$SUITE" -c plain.toml -p "$PLAIN" -s "$PWD/other" > first.log 2>&1 || true
    cat first.log
    for name in $(sed -n 's/^\([a-z:_]*::erofs_[a-z_]*\) *skipped$/\1/p' first.log); do
        "$SUITE" -c remount.toml -p "$PLAIN" "$name" 2>&1 || true
    done
"#;

/// How its cases ended.
#[derive(Debug)]
struct Cases {
    failed: BTreeSet<String>,
    /// And not run by another process of the suite.
    skipped: BTreeSet<String>,
    passed: BTreeSet<String>,
}

/// Runs it; its output.
fn run(volume: &Volume) -> String {
    for (name, remount) in [("plain.toml", "false"), ("remount.toml", "true")] {
        fs::write(volume.beside(name), CONFIGURATION.replace("REMOUNT", remount)).unwrap();
    }
    fs::create_dir_all(volume.beside("other")).unwrap();
    let home = volume.beside("");
    let script = format!("exec unshare --mount bash -euo pipefail -c '{}'", SCRIPT.replace('\'', r"'\''"));
    let mut command = Run { directory: &home, user: None, seconds: 300 }.command(&script);
    command
        .env("PROGRAM", Volume::program())
        .env("SUITE", suite("pjdfstest"))
        .env("OPTIONS", volume.options());
    command.env("RAW", volume.raw()).env("PLAIN", volume.path(""));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// The cases of all its processes together, after a comparison with the first one's own count.
fn cases(said: &str) -> Cases {
    let ended = |word: &str| -> BTreeSet<String> {
        let lines = said.lines().filter_map(|line| line.split_once(char::is_whitespace));
        lines.filter(|(_, how)| how.trim() == word).map(|(name, _)| name.to_owned()).collect()
    };
    let (failed, passed, skipped) = (ended("FAILED"), ended("ok"), ended("skipped"));
    let all = failed.iter().chain(&passed).chain(&skipped).collect::<BTreeSet<_>>().len();
    let summary = said.lines().find_map(|line| line.strip_prefix("Summary: "));
    let total = summary.and_then(|line| line.rsplit(", ").next()?.strip_suffix(" total"));
    assert_eq!(total, Some(all.to_string().as_str()), "{said}");
    let skipped = skipped.difference(&passed).filter(|name| !failed.contains(*name)).cloned().collect();
    Cases { failed, skipped, passed }
}

impl Cases {
    fn told(&self, failed: &str) -> String {
        let Self { failed: others, skipped, passed } = self;
        format!("{} passed, {} {failed}, {} skipped", passed.len(), others.len(), skipped.len())
    }
}

/// The C library knows no limit of links of a FUSE mount.
const SKIPPED: [&str; 1] = ["link::link_count_max"];

#[test]
fn pjdfstest_fails_nowhere_and_passes_more_than_on_ext4() {
    if !can_mount() {
        return;
    }
    report("pjdfstest, native ownership", || {
        let said = run(&Volume::new("pjd", Kind::Disk));
        let cases = cases(&said);
        assert_eq!(cases.failed, BTreeSet::new(), "{said}");
        assert_eq!(Vec::from_iter(&cases.skipped), SKIPPED, "{said}");
        assert!(cases.passed.len() >= PASSED_ON_EXT4, "{said}");
        cases.told("failed")
    });
}

/// What virtual ownership refuses or does otherwise, as docs/semantics.md says: fifos, sockets and devices belong to their
/// directory's owner, and cannot be given to another one.
const OTHERWISE_WITH_VIRTUAL_OWNERSHIP: [&str; 6] = [
    "link::share_metadata::block",
    "link::share_metadata::char",
    "link::share_metadata::fifo",
    "link::share_metadata::socket",
    "mkfifo::uid_gid_eq_euid_egid",
    "mknod::uid_gid_eq_euid_egid",
];

#[test]
fn pjdfstest_with_virtual_ownership_differs_only_where_the_documentation_says_so() {
    if !can_mount() {
        return;
    }
    report("pjdfstest, virtual ownership", || {
        let said = run(&Volume::new("pjdv", Kind::Virtual));
        let cases = cases(&said);
        assert_eq!(Vec::from_iter(&cases.failed), OTHERWISE_WITH_VIRTUAL_OWNERSHIP, "{said}");
        assert_eq!(Vec::from_iter(&cases.skipped), SKIPPED, "{said}");
        cases.told("otherwise by design")
    });
}
