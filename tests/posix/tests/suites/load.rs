//! Load generators that check what they read: fio, stress-ng, dbench.

use ground::{Kind, Run, Volume, can_mount, report, scaled};

#[test]
fn fio_reads_back_every_block_that_it_wrote() {
    if !can_mount() {
        return;
    }
    let jobs = [
        ("unaligned", "--rw=randwrite --bsrange=512-65536 --bs_unaligned --ioengine=psync"),
        ("mapped", "--rw=randwrite --bs=4k --ioengine=mmap"),
        ("direct", "--rw=randrw --bs=8k --ioengine=libaio --iodepth=8 --direct=1"),
        ("appended", "--rw=write --bsrange=1k-256k --bs_unaligned --ioengine=psync --fsync=200"),
    ];
    report("fio", || {
        let volume = Volume::mounted("fio", Kind::Disk);
        let home = volume.beside("");
        let size = scaled(48, 1024);
        let mut passed = Vec::new();
        for (name, job) in jobs {
            let script = format!(
                "fio --name={name} --directory={} --size={size}M --randseed=7 --verify=crc32c --verify_fatal=1 \
                 --do_verify=1 {job}",
                volume.path("").display()
            );
            let said = Run { directory: &home, user: None, seconds: 900 }.shell(&script);
            assert!(said.contains("err= 0"), "{said}");
            assert!(!said.contains("verify:"), "{said}");
            passed.push(name);
        }
        format!("crc32c of {size} MiB each: {}; err=0", passed.join(", "))
    });
}

#[test]
fn stress_ng_verifies_what_twelve_stressors_do() {
    if !can_mount() {
        return;
    }
    report("stress-ng", || {
        let volume = Volume::mounted("stress-ng", Kind::Disk);
        let home = volume.beside("");
        let seconds = scaled(20, 600);
        let script = format!(
            "stress-ng --temp-path {} --dentry 1 --rename 1 --xattr 1 --flock 1 --fallocate 1 --hdd 1 --hdd-bytes 16M \
             --seek 1 --link 1 --chmod 1 --utime 1 --dir 1 --mmap 1 --mmap-file --mmap-bytes 8M \
             --timeout {seconds} --verify --metrics-brief 2>&1",
            volume.path("").display()
        );
        let said = Run { directory: &home, user: None, seconds: 900 }.shell(&script);
        assert!(said.contains("successful run completed"), "{said}");
        // A line for each stressor: its name, and how often it did what it does.
        let lines = said.lines().filter_map(|line| line.split_once("metrc: ")?.1.split_once("] "));
        let figures = lines.filter_map(|(_, line)| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        let done: Vec<_> = figures.collect();
        assert!(done.len() == 12 && done.iter().all(|count| *count > 0), "{said}");
        format!(
            "{} stressors, {} operations with --verify, none failed",
            done.len(),
            done.iter().sum::<u64>()
        )
    });
}

#[test]
fn dbench_meets_no_error() {
    if !can_mount() {
        return;
    }
    report("dbench", || {
        let volume = Volume::mounted("dbench", Kind::Disk);
        let seconds = scaled(10, 300);
        let home = volume.beside("");
        let script = format!("dbench -t {seconds} -D {} 4", volume.path("").display());
        let said = Run { directory: &home, user: None, seconds: 900 }.shell(&script);
        let result = said.lines().find(|line| line.starts_with("Throughput"));
        let wrong = |line: &&str| {
            line.contains("ERROR") || line.contains("failed for") || line.contains("failed with")
        };
        assert_eq!(said.lines().find(wrong), None, "{said}");
        format!("no error; {}", result.unwrap_or_else(|| panic!("{said}")))
    });
}
