//! The offline commands, as programs, against a KMS in process.
#![allow(clippy::unwrap_used, clippy::panic)]

mod memory;
mod mount_program;
mod place;

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Stdio;

use devkms::{Fault, FaultKind};
use serde_json::Value;

use place::{KEY, Place, can_mount};

fn flip(path: &Path, offset: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

#[test]
fn what_a_mount_writes_is_ciphertext_below_and_comes_back_after_a_remount() {
    if !can_mount() {
        return;
    }
    let place = Place::new();
    let secret = b"a sentence that must not be found".repeat(400);
    place.fill(&[("file", &secret)]);
    let raw = std::fs::read(place.path("raw/file")).unwrap();
    assert!(!raw.windows(16).any(|run| run == &secret[..16]));
    let mount = place.mount(&["--read-only"]);
    assert_eq!(std::fs::read(place.path("plain/file")).unwrap(), secret);
    let refused = std::fs::write(place.path("plain/new"), b"x").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
    assert_eq!(mount.end(), Some(0));
}

#[test]
fn inspect_shows_headers_and_volumes_without_any_key() {
    if !can_mount() {
        return;
    }
    let place = Place::new();
    place.fill(&[("file", b"contents")]);
    let (code, file) = place.json(&["inspect", "raw/file"], None);
    assert_eq!((code, &file["kind"], &file["blocks"]), (0, &"file".into(), &1.into()));
    let slot = &file["slots"][0];
    assert_eq!((&slot["state"], &slot["verified"]), (&"current".into(), &true.into()));
    assert_eq!((&slot["keys"][0]["rootKey"], &slot["keys"][0]["wrapping"]), (&KEY.into(), &"Grouped".into()));
    let (code, volume) = place.json(&["inspect", "raw"], None);
    assert_eq!((code, &volume["volumeId"]), (0, &file["originVolume"]));
    assert_eq!(volume["lease"]["released"], true);
    assert_eq!(volume["groups"].as_array().unwrap().len(), 2);
    let text = String::from_utf8(place.run(&["inspect", "raw/file"], None).stdout).unwrap();
    assert!(text.lines().any(|line| line.trim() == format!("rootKey: {KEY}")), "{text}");
    std::fs::write(place.path("other"), vec![b'x'; 5000]).unwrap();
    assert_eq!(place.run(&["inspect", "other"], None).status.code(), Some(65));
}

#[test]
fn verify_names_each_damaged_file_and_no_other() {
    if !can_mount() {
        return;
    }
    let place = Place::new();
    let long = vec![9; 20_000];
    place.fill(&[("good", &long), ("block", &long), ("header", &long), ("empty", b"")]);
    let (code, found) = place.json(&["verify", "raw"], Some("data"));
    assert_eq!((code, &found["damaged"], &found["files"]), (0, &Value::Array(vec![]), &4.into()));
    assert_eq!((&found["empty"], &found["blocks"]), (&1.into(), &15.into()));
    flip(&place.path("raw/block"), 4096 * 3 + 100);
    flip(&place.path("raw/header"), 50);
    let (code, found) = place.json(&["verify", "raw"], Some("data"));
    let mut names: Vec<_> =
        found["damaged"].as_array().unwrap().iter().map(|found| found["path"].clone()).collect();
    names.sort_by_key(ToString::to_string);
    assert_eq!((code, names), (65, vec!["block".into(), "header".into()]));
}

#[test]
fn a_volume_with_seals_shows_them_and_verify_names_a_file_that_was_cut() {
    if !can_mount() {
        return;
    }
    let place = Place::new();
    let mount = place.mount(&["--seal"]);
    for name in ["whole", "cut", "emptied"] {
        std::fs::write(place.path("plain").join(name), vec![5; 20_000]).unwrap();
    }
    // The kernel tells of a last close a little later than the application knows it.
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(mount.end(), Some(0));
    let (_, file) = place.json(&["inspect", "raw/whole"], None);
    assert_eq!((&file["seal"]["state"], &file["seal"]["size"]), (&"closed".into(), &20_000.into()));
    assert_eq!(place.json(&["inspect", "raw"], None).1["seal"], true);
    let (code, found) = place.json(&["verify", "raw"], Some("data"));
    assert_eq!((code, &found["sealed"], &found["unsealed"]), (0, &3.into(), &0.into()));
    for (name, pages) in [("cut", 4), ("emptied", 1)] {
        let file = std::fs::File::options().write(true).open(place.path("raw").join(name)).unwrap();
        file.set_len(pages * 4096).unwrap();
    }
    let (code, found) = place.json(&["verify", "raw"], Some("data"));
    let mut said: Vec<_> =
        found["damaged"].as_array().unwrap().iter().map(|one| one["why"].to_string()).collect();
    said.sort();
    assert_eq!(
        said,
        ["\"it was left with 20000 bytes, and has 0\"", "\"it was left with 20000 bytes, and has 12144\""]
    );
    assert_eq!((code, &found["sealed"]), (65, &1.into()));
    // Who mounts it without asking for a seal gets what the volume is.
    let mount = place.mount(&[]);
    let refused = std::fs::read(place.path("plain/cut")).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EIO));
    std::fs::remove_file(place.path("plain/cut")).unwrap();
    assert_eq!(mount.end(), Some(0));
    flip(&place.path("raw/whole"), 520);
    let (code, found) = place.json(&["verify", "raw"], Some("data"));
    assert_eq!((code, found["damaged"].as_array().unwrap().len()), (65, 2));
}

#[test]
fn verify_calls_an_outage_an_outage_and_a_disabled_key_disabled() {
    if !can_mount() {
        return;
    }
    let place = Place::new();
    place.fill(&[("file", b"contents")]);
    place.set_enabled(false);
    let output = place.run(&["verify", "raw"], Some("data"));
    assert_eq!(output.status.code(), Some(77), "{}", String::from_utf8_lossy(&output.stderr));
    place.set_enabled(true);
    place.server.add_fault(Fault::new(&[], FaultKind::Status { status: 503, code: None, retry_after: None }));
    let output = place.run(&["verify", "raw"], Some("data"));
    assert_eq!(output.status.code(), Some(69), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn rewrap_needs_no_right_to_unwrap_and_leaves_every_block_as_it_was() {
    if !can_mount() {
        return;
    }
    let place = Place::new();
    let long = vec![3; 50_000];
    place.fill(&[("one", &long), ("two", &long)]);
    let blocks = |name: &str| std::fs::read(place.path("raw").join(name)).unwrap().split_off(4096);
    let before = (blocks("one"), blocks("two"));
    let (_, old) = place.json(&["inspect", "raw/one"], None);
    place.rotate();
    let (code, report) = place.json(&["rewrap", "raw"], Some("rewrap"));
    assert_eq!((code, &report["complete"], &report["rewrapped"]), (0, &true.into(), &5.into()));
    let (_, new) = place.json(&["inspect", "raw/one"], None);
    assert_ne!(old["slots"][0]["keys"][0]["version"], new["slots"][1]["keys"][0]["version"]);
    assert_eq!(new["slots"][1]["keys"][0]["version"], report["targetVersion"]);
    assert_eq!((blocks("one"), blocks("two")), before);
    let (code, _) = place.json(&["verify", "raw"], Some("data"));
    assert_eq!(code, 0);
    // One that cannot be rewrapped is counted, and the exit code says that something is left.
    place.rotate();
    flip(&place.path("raw/two"), 50);
    let (code, report) = place.json(&["rewrap", "raw"], Some("rewrap"));
    assert_eq!((code, &report["unknown"]), (75, &1.into()));
}

#[test]
fn a_volume_in_use_is_left_to_its_user() {
    if !can_mount() {
        return;
    }
    let place = Place::new();
    let mount = place.mount(&[]);
    let output = place.run(&["rewrap", "raw"], Some("rewrap"));
    assert_eq!(output.status.code(), Some(69));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains(&format!("process {}", mount.child.id())), "{text}");
}

#[test]
fn plaintext_and_wrong_use_have_codes_of_their_own() {
    let place = Place::new();
    std::fs::write(place.path("raw/plain.txt"), b"somebody's").unwrap();
    let refused = place.run(&["mount", "raw", "plain"], Some("data"));
    assert_eq!(refused.status.code(), Some(65), "{}", String::from_utf8_lossy(&refused.stderr));
    assert_eq!(std::fs::read_dir(place.path("raw")).unwrap().count(), 1);
    assert_eq!(place.run(&["mount", "raw"], None).status.code(), Some(64));
    assert_eq!(place.run(&["verify", "raw"], None).status.code(), Some(78));
    assert_eq!(place.run(&["serve"], None).status.code(), Some(78));
    assert_eq!(place.run(&["completions", "bash"], None).status.code(), Some(0));
    assert_eq!(place.run(&["ready"], None).status.code(), Some(1));
}

#[test]
fn a_killed_rewrap_leaves_every_file_readable_and_the_next_one_ends_the_work() {
    if !can_mount() {
        return;
    }
    let place = Place::new();
    let names: Vec<_> = (0..200).map(|number| format!("file-{number}")).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), name.as_bytes())).collect();
    place.fill(&files);
    place.rotate();
    let mut command = place.command(&["rewrap", "raw", "--files-per-second", "200"], Some("rewrap"));
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(600));
    child.kill().unwrap();
    child.wait().unwrap();
    let (code, found) = place.json(&["verify", "raw"], Some("data"));
    assert_eq!((code, &found["files"]), (0, &200.into()));
    let (code, report) = place.json(&["rewrap", "raw"], Some("rewrap"));
    assert_eq!((code, &report["unknown"]), (0, &0.into()));
    let versions = report["filesPerVersion"].as_object().unwrap();
    assert_eq!(versions.values().collect::<Vec<_>>(), [&Value::from(203)]);
}
