//! fsx: random reads, writes, mappings, truncations, holes and preallocations of one file, compared with a copy in memory.

use std::fs;

use ground::{Kind, Run, Volume, can_mount, report, scaled, suite};

/// Operations of each seed.
const OPERATIONS: (u64, u64) = (100_000, 1_000_000);

/// Mostly operations of a block or two; those of some seeds are large, and cross many. None is of 0 bytes: fsx takes the
/// `EINVAL` that a preallocation of 0 bytes gets on every filesystem for one that cannot preallocate.
fn configuration(seed: u64) -> String {
    let largest = if seed.is_multiple_of(5) { 65_536 } else { 9_000 };
    format!(
        "flen = 262144\n[opsize]\nmin = 1\nmax = {largest}\n[weights]\nclose_open = 1\nread = 10\nwrite = 10\nmapread = 10\n\
         mapwrite = 10\ntruncate = 5\ninvalidate = 1\nfsync = 0.1\nfdatasync = 0.1\nposix_fallocate = 3\npunch_hole = 3\n\
         sendfile = 2\nposix_fadvise = 1\ncopy_file_range = 3\n"
    )
}

fn run(name: &str, seeds: std::ops::RangeInclusive<u64>) {
    if !can_mount() {
        return;
    }
    let operations = scaled(OPERATIONS.0, OPERATIONS.1);
    report(name, || {
        let volume = Volume::mounted(name, Kind::Memory);
        let home = volume.beside("");
        for seed in seeds.clone() {
            fs::write(volume.beside("fsx.toml"), configuration(seed)).unwrap();
            let file = volume.path(&format!("file-{seed}"));
            let run = Run { directory: &home, user: None, seconds: 3600 };
            let script = format!(
                "{} -S {seed} -N {operations} -P . -f fsx.toml {}",
                suite("fsx").display(),
                file.display()
            );
            let said = run.shell(&script);
            assert!(said.contains("All operations completed A-OK!"), "seed {seed}: {said}");
        }
        format!("seeds {seeds:?}, {operations} operations each, all as in memory")
    });
}

#[test]
fn fsx_finds_no_difference_with_seeds_1_to_5() {
    run("fsx-1", 1..=5);
}

#[test]
fn fsx_finds_no_difference_with_seeds_6_to_10() {
    run("fsx-2", 6..=10);
}
