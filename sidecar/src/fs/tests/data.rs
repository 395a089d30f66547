//! Reading and writing: every edge of the geometry, holes, appends, races.

use super::*;

const P: u64 = envelope::PAYLOAD as u64;

/// Offsets and sizes around the edges of the first three blocks.
fn edges() -> Vec<u64> {
    let around = [0, P, 2 * P, 3 * P];
    let mut edges: Vec<u64> =
        around.iter().flat_map(|edge| (-2..=2).filter_map(|d| edge.checked_add_signed(d))).collect();
    edges.dedup();
    edges
}

#[test]
fn a_file_of_any_size_reads_back_after_a_restart_and_stat_knows_its_size_without_a_key() {
    let mut volume = Volume::new();
    for size in edges() {
        volume.write_file(&format!("f{size}"), &pattern(size, size as usize));
    }
    volume.restart();
    volume.keys.set_suspended(true);
    for size in edges() {
        assert_eq!(volume.lookup(&format!("f{size}")).unwrap().attr.size, size);
    }
    volume.keys.set_suspended(false);
    for size in edges() {
        assert_eq!(volume.read_file(&format!("f{size}")).unwrap(), pattern(size, size as usize), "{size}");
    }
}

#[test]
fn a_write_anywhere_into_a_file_of_any_size_changes_just_its_bytes() {
    for strict in [false, true] {
        let volume = Volume::make(Make { strict, ..Make::default() });
        for size in edges() {
            for offset in edges() {
                for len in [1, 100, P as usize, 2 * P as usize + 1] {
                    let entry = volume.create("f");
                    let mut model = pattern(1, size as usize);
                    volume.fs.write_all(entry.id, 0, &model).unwrap();
                    let data = pattern(2, len);
                    volume.fs.write_all(entry.id, offset, &data).unwrap();
                    let end = offset as usize + len;
                    if model.len() < end {
                        model.resize(end, 0);
                    }
                    model[offset as usize..end].copy_from_slice(&data);
                    assert!(volume.read_open(entry.id).unwrap() == model, "{size} {offset} {len}");
                    volume.fs.release(entry.id);
                    volume.fs.unlink(ROOT, c"f").unwrap();
                    volume.fs.forget(entry.id, 1);
                }
            }
        }
    }
}

#[test]
fn truncating_any_size_to_any_size_keeps_what_is_before_and_adds_zeros() {
    for strict in [false, true] {
        let mut volume = Volume::make(Make { strict, ..Make::default() });
        let sizes = edges();
        for from in &sizes {
            for to in &sizes {
                let name = format!("{from}-{to}");
                let mut model = pattern(3, *from as usize);
                let id = volume.write_file(&name, &model);
                let change = SetAttr { size: Some(*to), ..SetAttr::default() };
                assert_eq!(volume.fs.setattr(id, &change).unwrap().size, *to);
                model.resize(*to as usize, 0);
                assert!(volume.read_file(&name).unwrap() == model, "{name}");
            }
        }
        volume.restart();
        for from in &sizes {
            for to in &sizes {
                let name = format!("{from}-{to}");
                let mut model = pattern(3, *from as usize);
                model.resize(*to as usize, 0);
                assert_eq!(volume.lookup(&name).unwrap().attr.size, *to);
                assert!(volume.read_file(&name).unwrap() == model, "{name} after a restart");
            }
        }
    }
}

#[test]
fn data_that_was_cut_off_does_not_come_back() {
    let volume = Volume::new();
    let id = volume.write_file("f", &pattern(4, 20_000));
    for size in [5000, 20_000, 10, 20_000] {
        volume.fs.setattr(id, &SetAttr { size: Some(size), ..SetAttr::default() }).unwrap();
    }
    let contents = volume.read_file("f").unwrap();
    assert_eq!(contents[..10], pattern(4, 20_000)[..10]);
    assert!(contents[10..].iter().all(|byte| *byte == 0));
}

#[test]
fn an_empty_file_takes_no_space_and_no_key() {
    let volume = Volume::new();
    volume.write_file("f", b"");
    assert_eq!(std::fs::metadata(volume.backing("f")).unwrap().len(), 0);
    assert_eq!(volume.read_file("f").unwrap(), b"");
    assert_eq!((volume.keys.creates(), volume.keys.opens()), (0, 0));
}

#[test]
fn what_lies_on_the_storage_is_a_header_and_blocks_and_no_plaintext() {
    let volume = Volume::new();
    let secret = b"sixteen byte run".repeat(1000);
    volume.write_file("f", &secret);
    let raw = std::fs::read(volume.backing("f")).unwrap();
    assert_eq!(raw.len(), 4096 + 4096 * secret.len().div_ceil(envelope::PAYLOAD));
    assert!(!raw.windows(16).any(|window| window == b"sixteen byte run"));
}

#[test]
fn two_files_with_the_same_contents_share_no_block() {
    let volume = Volume::new();
    let contents = pattern(5, 8096);
    volume.write_file("a", &contents);
    volume.write_file("b", &contents);
    let pages = |name| std::fs::read(volume.backing(name)).unwrap();
    let (a, b) = (pages("a"), pages("b"));
    assert_ne!(a[32..48], b[32..48], "two file ids");
    let blocks = |file: &[u8]| file[4096..].chunks(16).map(<[u8]>::to_vec).collect::<Vec<_>>();
    let (a, b) = (blocks(&a), blocks(&b));
    assert!(a.len() == b.len() && !a.iter().any(|run| b.contains(run)), "no 16 bytes are the same");
}

#[test]
fn a_hole_is_not_written_and_reads_as_zeros() {
    let volume = Volume::new();
    let entry = volume.create("f");
    volume.fs.write_all(entry.id, 100 * P, b"end").unwrap();
    let stat = volume.fs.getattr(entry.id).unwrap();
    assert_eq!(stat.size, 100 * P + 3);
    assert!(stat.blocks * 512 < 20 * 4096, "{} blocks", stat.blocks);
    let contents = volume.read_open(entry.id).unwrap();
    assert!(contents[..100 * P as usize].iter().all(|byte| *byte == 0));
    assert_eq!(&contents[100 * P as usize..], b"end");
}

#[test]
fn on_a_strict_volume_a_gap_is_sealed_and_a_zeroed_block_is_an_error() {
    use std::os::unix::fs::FileExt;
    let volume = Volume::make(Make { strict: true, ..Make::default() });
    let entry = volume.create("f");
    volume.fs.write_all(entry.id, 3 * P, b"end").unwrap();
    let raw = std::fs::read(volume.backing("f")).unwrap();
    assert!(raw[4096..].chunks(4096).all(|page| page.iter().any(|byte| *byte != 0)));
    let file = std::fs::OpenOptions::new().write(true).open(volume.backing("f")).unwrap();
    file.write_all_at(&[0; 4096], 4096 + 4096).unwrap();
    assert_eq!(errno(volume.read_at(entry.id, P, 1)), libc::EIO);
    assert_eq!(volume.read_at(entry.id, 0, 10).unwrap(), [0; 10]);
}

#[test]
fn a_changed_block_is_an_error_and_its_neighbours_are_not() {
    use std::os::unix::fs::FileExt;
    let volume = Volume::new();
    let contents = pattern(6, 3 * P as usize);
    let id = volume.write_file("f", &contents);
    let file = std::fs::OpenOptions::new().read(true).write(true).open(volume.backing("f")).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 4096 + 4096 + 500).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 4096 + 4096 + 500).unwrap();
    volume.open(id, false);
    assert_eq!(volume.read_at(id, 0, P as usize).unwrap(), contents[..P as usize]);
    assert_eq!(errno(volume.read_at(id, P - 1, 2)), libc::EIO);
    assert_eq!(volume.read_at(id, 2 * P, 10).unwrap(), contents[2 * P as usize..2 * P as usize + 10]);
    assert_eq!(volume.fs.counters().damaged.load(Ordering::Relaxed), 1);
}

#[test]
fn a_block_of_another_place_or_file_is_an_error() {
    use std::os::unix::fs::FileExt;
    let volume = Volume::new();
    let id = volume.write_file("a", &pattern(7, 2 * P as usize));
    volume.write_file("b", &pattern(8, 2 * P as usize));
    let (a, b) = (volume.backing("a"), volume.backing("b"));
    let mut page = [0; 4096];
    let file = std::fs::OpenOptions::new().read(true).write(true).open(a).unwrap();
    for (from, offset) in [(std::fs::File::open(b).unwrap(), 4096), (file.try_clone().unwrap(), 8192)] {
        from.read_exact_at(&mut page, offset).unwrap();
        file.write_all_at(&page, 4096).unwrap();
        volume.open(id, false);
        assert_eq!(errno(volume.read_at(id, 0, 1)), libc::EIO);
        volume.fs.release(id);
    }
}

#[test]
fn writers_of_one_block_through_handles_and_hard_links_lose_nothing() {
    let volume = Volume::new();
    volume.write_file("a", &[0; 2 * 4048]);
    let a = volume.lookup("a").unwrap().id;
    volume.fs.link(a, ROOT, c"b").unwrap();
    let b = volume.lookup("b").unwrap().id;
    assert_eq!(a, b);
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let volume = &volume;
            scope.spawn(move || {
                volume.open(a, true);
                for round in 0..100 {
                    for stripe in (thread..80).step_by(8) {
                        let byte = [(thread + 1) as u8 + round];
                        volume.fs.write_all(a, stripe * 100, &byte.repeat(100)).unwrap();
                        // Nobody else writes this stripe: what a neighbour overwrote is missing at once.
                        let found = volume.read_at(a, stripe * 100, 100).unwrap();
                        assert!(found.iter().all(|found| *found == byte[0]), "stripe {stripe}");
                    }
                }
                volume.fs.release(a);
            });
        }
    });
    let contents = volume.read_file("b").unwrap();
    for stripe in 0..80_usize {
        let expected = (stripe % 8 + 1) as u8 + 99;
        assert!(contents[stripe * 100..][..100].iter().all(|byte| *byte == expected), "stripe {stripe}");
    }
}

#[test]
fn readers_never_meet_a_torn_block_while_it_is_being_written() {
    let volume = Volume::new();
    let id = volume.write_file("f", &[1; 4048]);
    volume.open(id, true);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let block = volume.read_at(id, 0, 4048).unwrap();
                    assert!(block.iter().all(|byte| *byte == block[0]));
                }
            });
        }
        for round in 0..3000_u32 {
            volume.fs.write_all(id, 0, &[round as u8; 4048]).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_large_random_workload_is_what_a_plain_buffer_would_hold() {
    let mut volume = Volume::make(Make { header_pages: 3, ..Make::default() });
    let mut model: Vec<u8> = Vec::new();
    let mut random = pattern(42, 8 * 600).into_iter();
    let mut next = |below: u64| {
        let mut word = [0; 8];
        for byte in &mut word {
            *byte = random.next().unwrap();
        }
        u64::from_le_bytes(word) % below
    };
    let entry = volume.create("f");
    volume.fs.release(entry.id);
    for step in 0..100 {
        let id = volume.lookup("f").unwrap().id;
        volume.open(id, true);
        let (offset, len) = (next(300_000), next(40_000) + 1);
        match next(5) {
            0 => {
                volume.fs.setattr(id, &SetAttr { size: Some(offset), ..SetAttr::default() }).unwrap();
                model.resize(offset as usize, 0);
            }
            1 => {
                let mut scratch = Scratch::new();
                volume.fs.fallocate(id, 3, (offset, len), false, &mut scratch).unwrap();
                let end = model.len().min((offset + len) as usize);
                if (offset as usize) < end {
                    model[offset as usize..end].fill(0);
                }
            }
            _ => {
                let data = pattern(step, len as usize);
                volume.fs.write_all(id, offset, &data).unwrap();
                if model.len() < (offset + len) as usize {
                    model.resize((offset + len) as usize, 0);
                }
                model[offset as usize..][..len as usize].copy_from_slice(&data);
            }
        }
        assert!(volume.read_open(id).unwrap() == model, "step {step}");
        volume.fs.release(id);
        if step % 10 == 0 {
            volume.restart();
        }
    }
    assert!(volume.read_file("f").unwrap() == model);
}
