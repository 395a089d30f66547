//! `mount -t fuse.cofferdam`, as mount(8) and suites of others use it.
//!
//! Each test has a mount namespace of its own, in which the program stands where mount(8) looks for it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::place::{Place, can_mount};

/// Puts the program where mount(8) finds it, and unmounts at the end whatever happened.
const BEGIN: &str = r#"
    set -u
    mount -t tmpfs none /sbin
    ln -s "$PROGRAM" /sbin/mount.fuse.cofferdam
    trap 'code=$?; for target in plain other; do umount -l "$target" 2>/dev/null || true; done; exit $code' EXIT
    options="profile=$PWD/data.yaml,allow_loopback_http,root=$PWD/raw"
    in_volume() { mount -t fuse.cofferdam "$1" "$PWD/$2" -o "$options,fstype=fuse,$3"; }
    server() { sed -n 's/^.*"holder":"process \([0-9]*\) .*$/\1/p' raw/${1:-non1}/.cofferdam/lease | head -n 1; }
"#;

/// Runs a script; what it said. Returning at all shows that no server keeps the script's output open.
fn script(place: &Place, text: &str) -> Output {
    std::fs::create_dir_all(place.path("other")).unwrap();
    std::fs::set_permissions(place.path("."), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &format!("{BEGIN}\n{text}")]);
    command.env("PROGRAM", env!("CARGO_BIN_EXE_cofferdam-sidecar")).current_dir(place.path("."));
    command.stdin(Stdio::null()).output().unwrap()
}

/// Runs a script that must succeed; what it printed.
fn printed(place: &Place, text: &str) -> String {
    let output = script(place, &format!("set -e\n{text}"));
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}\n{said}\n{errors}");
    said.into_owned()
}

/// Runs a script that must print this and nothing else.
fn prints(place: &Place, text: &str, wanted: &str) {
    let said = printed(place, text);
    let words: Vec<_> = said.split_whitespace().collect();
    assert_eq!(words.join(" "), wanted, "{text}");
}

#[test]
fn a_plain_name_is_mounted_as_plain_fuse_and_served_until_it_is_unmounted() {
    if !can_mount() {
        return;
    }
    let place = Place::new();
    let look = "df --output=source,fstype plain | tail -n 1; echo 'a secret line' > plain/file; umount non1";
    prints(&place, &format!("in_volume non1 plain rw; {look}"), "non1 fuse");
    let raw = std::fs::read(place.path("raw/non1/file")).unwrap();
    assert!(!raw.windows(8).any(|run| run == b"a secret"));
    // Each mount begins while the server of the one before may still be ending.
    let again = "for _ in 1 2 3 4; do in_volume non1 plain rw; cat plain/file; umount plain; done";
    prints(&place, again, "a secret line a secret line a secret line a secret line");
    let usual = r#"mount -t fuse.cofferdam "$PWD/raw/non1" "$PWD/plain" -o "$options"; df --output=fstype plain | tail -n 1"#;
    prints(&place, usual, "fuse.cofferdam");
}

#[test]
fn the_server_ends_with_its_mount() {
    if !can_mount() {
        return;
    }
    let place = Place::new();
    let text = "in_volume non1 plain rw; pid=$(server); kill -0 $pid; echo served; umount plain
        for _ in $(seq 100); do kill -0 $pid 2>/dev/null || { echo ended; exit 0; }; sleep 0.05; done";
    prints(&place, text, "served ended");
}

#[test]
fn a_server_that_ends_leaves_alone_what_was_mounted_in_its_place() {
    if !can_mount() {
        return;
    }
    let place = Place::new();
    // Its mount is gone at once, and its process a moment later; that moment is drawn out here.
    let text = "in_volume non1 plain rw; before=non1
        for name in non2 non1 non2; do
            pid=$(server $before); before=$name; umount plain; kill -STOP $pid || true
            in_volume $name plain rw; kill -CONT $pid || true
            for _ in $(seq 200); do kill -0 $pid 2>/dev/null || break; sleep 0.05; done
            df --output=source plain | tail -n 1
        done";
    prints(&place, text, "non2 non1 non2");
}

#[test]
fn a_remount_changes_what_it_names_and_nothing_else() {
    if !can_mount() {
        return;
    }
    let place = Place::new();
    let text = r#"
        shown() { sed -n "s|^non1 $PWD/plain \(fuse [^ ]*\),user_id.*$|\1|p" /proc/mounts; }
        in_volume non1 plain nodev,noatime; shown
        mount -t fuse.cofferdam -o "$options,remount,ro" non1 "$PWD/plain"; shown
        touch plain/new 2>/dev/null || echo refused
        mount -o remount,rw plain; touch plain/new; shown
    "#;
    let wanted = "fuse rw,nodev,noatime fuse ro,nodev,noatime refused fuse rw,nodev,noatime";
    prints(&place, text, wanted);
    // By the directory alone: mount(8) then names all that its table shows.
    let text = r#"in_volume non1 plain fstype=fuse.cofferdam; mount -o remount,ro plain
        touch plain/new 2>/dev/null || echo refused; mount -o remount,rw plain; touch plain/new; echo made"#;
    prints(&place, text, "refused made");
}

#[test]
fn set_user_id_and_devices_work_as_with_any_mount_of_root() {
    if !can_mount() {
        return;
    }
    let place = Place::new();
    let text =
        "cp /usr/bin/id plain/id; chmod 4755 plain/id; setpriv --reuid=65534 --clear-groups plain/id -u";
    prints(&place, &format!("in_volume non1 plain rw; {text}"), "0");
    prints(&place, &format!("in_volume non1 plain nosuid; {text}"), "65534");
    let null = "mknod plain/null c 1 3; head -c 1 plain/null | wc -c";
    prints(&place, &format!("in_volume non1 plain rw; {null}"), "0");
    let refused = script(&place, "in_volume non1 other nodev; mknod other/zero c 1 5");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Operation not permitted"), "{refused:?}");
}

#[test]
fn a_mount_for_reading_writes_nothing() {
    if !can_mount() {
        return;
    }
    let place = Place::new();
    let code = |options: &str| script(&place, &format!("in_volume non1 plain {options}")).status.code();
    assert_eq!(code("ro"), Some(32), "nothing is initialised for a reader");
    printed(&place, "in_volume non1 plain rw; echo here > plain/file");
    prints(
        &place,
        "in_volume non1 plain ro; cat plain/file; touch plain/new 2>/dev/null || echo refused",
        "here refused",
    );
}

#[test]
fn a_killed_server_leaves_a_mount_that_can_be_made_anew() {
    if !can_mount() {
        return;
    }
    let place = Place::new();
    let text = "in_volume non1 plain rw; echo kept > plain/file; sync plain/file; kill -9 $(server)
        for _ in $(seq 100); do cat plain/file >/dev/null 2>&1 || break; sleep 0.05; done
        cat plain/file 2>&1 | grep -c 'not connected'; umount plain; in_volume non1 plain rw; cat plain/file";
    prints(&place, text, "1 kept");
}

#[test]
fn what_cannot_be_mounted_has_a_code_of_mount_and_says_why() {
    if !can_mount() {
        return;
    }
    let place = Place::new();
    let fails = |text: &str, code: i32, why: &str| {
        let output = script(&place, text);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{text}: {said}");
        assert!(said.contains(why), "{text}: {said}");
        assert!(!mounted_in(&place.path("plain")), "{text}");
    };
    fails("in_volume non1 plain quota", 1, "no option quota");
    fails("options=allow_loopback_http,root=$PWD/raw; in_volume non1 plain rw", 1, "endpoint");
    fails("options=; in_volume non1 plain rw", 1, "root=DIR");
    std::fs::create_dir_all(place.path("raw/others")).unwrap();
    std::fs::write(place.path("raw/others/file"), b"somebody's").unwrap();
    fails("in_volume others plain rw", 32, "left untouched");
    let twice = "in_volume non1 other rw; in_volume non1 plain wait=0; code=$?; umount other; exit $code";
    fails(twice, 32, "has it");
    fails("/sbin/mount.fuse.cofferdam non1", 1, "TARGET");
    place.set_enabled(false);
    fails("in_volume non1 plain rw", 32, "disabled");
}

/// Whether something is still mounted, in the namespace of this test's process.
fn mounted_in(target: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    mounts.lines().any(|line| line.split(' ').nth(1) == target.to_str())
}
