//! What developers do: git and cargo.

use std::path::Path;
use std::process::Command;

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

/// The parts of the workspace to build: all of it takes minutes.
fn parts() -> &'static str {
    if is_long() { "--workspace" } else { "--package cofferdam-contract" }
}

#[test]
fn cargo_builds_this_workspace_and_finds_it_built() {
    if !can_mount() {
        return;
    }
    report("cargo", || {
        let mut volume = Volume::mounted("cargo", Kind::Disk);
        clone(&volume);
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
        let run = |at: &Path, what: &str| {
            let script = format!("{cargo} {what} --offline --locked {} 2>&1", parts());
            let mut command: Command = Run { directory: at, user: None, seconds: 3000 }.command(&script);
            command.env_remove("CARGO_TARGET_DIR").env_remove("CARGO_MANIFEST_DIR");
            for place in ["HOME", "CARGO_HOME", "RUSTUP_HOME"] {
                std::env::var_os(place).map(|value| command.env(place, value));
            }
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{said}");
            said
        };
        let built = run(&volume.path("clone"), "test");
        let tests = built.lines().filter(|line| line.starts_with("test result: ok.")).count();
        assert!(built.contains("Compiling cofferdam-contract") && tests > 0, "{built}");
        volume.remount();
        let again = run(&volume.path("clone"), "test --no-run");
        assert!(!again.contains("Compiling"), "times or contents changed:\n{again}");
        let crates = built.lines().filter(|line| line.trim_start().starts_with("Compiling")).count();
        format!("{crates} crates compiled, {tests} test programs run, nothing to rebuild after a remount")
    });
}
