//! What developers do: git and cargo.

use std::path::Path;

use ground::{Kind, Run, Volume, can_mount, is_long, places, report};

/// Clones this repository onto the volume.
fn clone(volume: &Volume) {
    let repository = places().repository;
    // The clone runs as root, in CI over a checkout of somebody else.
    let script = format!("git -c safe.directory='*' clone -q --no-local {} clone", repository.display());
    Run::within(&volume.path("")).shell(&script);
}

#[test]
fn git_clones_packs_and_checks_a_repository() {
    if !can_mount() {
        return;
    }
    report("git", || {
        let mut volume = Volume::mounted("git", Kind::Disk);
        clone(&volume);
        let work = "cd clone; git fsck --full --strict 2>&1; git gc -q --prune=now; git fsck --full --strict 2>&1
            cd ..; git clone -q --local clone local; cd local; git fsck --full 2>&1; test -z \"$(git status --porcelain)\"
            git checkout -q -b work; for n in $(seq 100); do echo $n > new-$n; done; git add .
            git -c user.name=n -c user.email=e@x commit -qm work; git checkout -q -; git merge -q work; git worktree add -q ../tree HEAD~1";
        Run::within(&volume.path("")).shell(work);
        volume.remount();
        let again = "for place in clone local; do git -C $place fsck --full --strict 2>&1; done
            test -z \"$(git -C tree status --porcelain)$(git -C local status --porcelain)\"
            git -C local rev-list --objects --all | wc -l";
        let objects = Run::within(&volume.path("")).shell(again);
        let objects = objects.lines().last().unwrap().trim();
        assert!(objects.parse::<u32>().unwrap() > 100, "{objects}");
        format!("clone, gc, commit, merge, worktree; fsck of {objects} objects is clean after a remount")
    });
}

/// What cargo does: a part of the workspace, with its tests, and in the long run all programs. All of it takes minutes.
fn works() -> &'static [&'static str] {
    const PART: &str = "test --package cofferdam-contract";
    if is_long() { &[PART, "build --workspace"] } else { &[PART] }
}

/// Runs cargo on the volume, with what is on this machine; what it said.
fn cargo(clone: &Path, what: &str) -> String {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let script = format!("{cargo} {what} --offline --locked 2>&1");
    let mut command = Run { directory: clone, user: None, seconds: 3600 }.command(&script);
    command.env_remove("CARGO_TARGET_DIR").env_remove("CARGO_MANIFEST_DIR");
    for place in ["HOME", "CARGO_HOME", "RUSTUP_HOME"] {
        std::env::var_os(place).map(|value| command.env(place, value));
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn cargo_builds_this_workspace_and_finds_it_built() {
    if !can_mount() {
        return;
    }
    report("cargo", || {
        let mut volume = Volume::mounted("cargo", Kind::Disk);
        clone(&volume);
        let place = volume.path("clone");
        let built: String = works().iter().map(|what| cargo(&place, what)).collect();
        let tests = built.lines().filter(|line| line.starts_with("test result: ok.")).count();
        assert!(built.contains("Compiling cofferdam-contract") && tests > 0, "{built}");
        volume.remount();
        let again: String = works().iter().map(|what| cargo(&place, what)).collect();
        assert!(!again.contains("Compiling"), "times or contents changed:\n{again}");
        let crates = built.lines().filter(|line| line.trim_start().starts_with("Compiling")).count();
        format!("{crates} crates compiled, {tests} test programs run, nothing to rebuild after a remount")
    });
}
