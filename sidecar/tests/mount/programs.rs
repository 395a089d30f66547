//! Ordinary programs on the mount.

use crate::server::{shell, start};

#[test]
fn a_source_tree_copied_by_cp_tar_and_git_is_the_same_after_a_restart() {
    let Some(mut server) = start(&[]) else { return };
    // git keeps no empty directory.
    let source = tempfile::tempdir().unwrap();
    shell(
        source.path(),
        concat!("cp -aL ", env!("CARGO_MANIFEST_DIR"), "/src/. .; find . -type d -empty -delete"),
    );
    let (source, mount) = (source.path().display(), server.path(""));
    shell(&mount, &format!("cp -aL {source} copied; diff -r {source} copied"));
    shell(&mount, &format!("tar -C {source} -chf tree.tar .; mkdir unpacked; tar -C unpacked -xf tree.tar"));
    shell(
        &mount,
        "git init -q repository; cd repository; cp -a ../copied src; git add .; \
         git -c user.name=n -c user.email=e@x commit -qm m; git fsck --strict; cd ..; \
         git clone -q repository cloned; cd cloned; git status --porcelain",
    );
    server.restart();
    for copy in ["copied", "unpacked", "repository/src", "cloned/src"] {
        shell(&mount, &format!("diff -r {source} {copy}"));
    }
    shell(&mount, "cd repository; git fsck --strict; git gc -q; git fsck --strict");
    let listed = shell(&mount, "find . | wc -l; rm -rf ./*; find . | wc -l");
    assert_eq!(listed.lines().last(), Some("1"));
    let left = std::fs::read_dir(server.backing("")).unwrap().count();
    assert_eq!(left, 1, "our own directory");
}

#[test]
fn dd_of_every_block_size_copies_what_it_reads() {
    let Some(server) = start(&[]) else { return };
    let mount = server.path("");
    shell(
        &mount,
        "dd if=/dev/urandom of=a bs=1M count=3 status=none
         for size in 100 511 4048 4096 65536 1M 3M; do
             dd if=a of=b bs=$size status=none; cmp a b
             dd if=a of=b bs=$size oflag=direct conv=notrunc status=none 2>/dev/null || true
             dd if=b bs=$size iflag=direct status=none 2>/dev/null | cmp -n 1000000 a - || test $size = 100 -o $size = 511 -o $size = 4048
             dd if=a of=b bs=$size conv=fsync,notrunc seek=0 status=none; cmp a b
         done
         cp --sparse=always a c; cmp a c; cp --reflink=auto a d; cmp a d",
    );
}

#[test]
fn no_plaintext_lies_on_the_storage_and_our_files_are_not_seen() {
    let Some(server) = start(&[]) else { return };
    shell(
        &server.path(""),
        "for n in $(seq 2000); do echo 'a secret line to be found'; done > f; mkdir d; cp f d/g",
    );
    let found = std::process::Command::new("grep")
        .args(["-r", "secret line"])
        .arg(server.backing(""))
        .output()
        .unwrap();
    assert_eq!(found.status.code(), Some(1), "grep finds nothing");
    let listed = shell(&server.path(""), "ls -A; ls -A .cofferdam 2>/dev/null || echo none");
    assert_eq!(listed, "d\nf\nnone\n");
}

#[test]
fn a_compiler_can_build_and_run_a_program_there() {
    let Some(server) = start(&[]) else { return };
    let ran = shell(
        &server.path(""),
        "printf 'fn main() { println!(\"built\"); }' > main.rs; rustc -o program main.rs; ./program",
    );
    assert_eq!(ran, "built\n");
}

#[test]
fn a_program_that_runs_is_neither_written_nor_cut() {
    let Some(server) = start(&[]) else { return };
    shell(&server.path(""), "cp /bin/sleep program");
    let mut running = std::process::Command::new(server.path("program")).arg("60").spawn().unwrap();
    for flags in [libc::O_WRONLY, libc::O_RDWR, libc::O_RDONLY | libc::O_TRUNC] {
        let flags = rustix::fs::OFlags::from_bits_retain(flags as u32);
        let opened = rustix::fs::open(server.path("program"), flags, rustix::fs::Mode::empty());
        assert_eq!(opened.unwrap_err(), rustix::io::Errno::TXTBSY);
    }
    assert!(running.try_wait().unwrap().is_none(), "it still runs");
    running.kill().unwrap();
    running.wait().unwrap();
    shell(&server.path(""), "cmp program /bin/sleep");
}
