//! Preallocation, holes, and where data is.

use std::os::unix::fs::MetadataExt;

use super::*;

const P: u64 = envelope::PAYLOAD as u64;
const KEEP_SIZE: u32 = 1;
const PUNCH: u32 = 3;
const ZERO: u32 = 0x10;

#[test]
fn punching_reads_as_zeros_frees_space_and_never_unseals_the_end() {
    for strict in [false, true] {
        let mut volume = Volume::make(Make { strict, ..Make::default() });
        let mut scratch = Scratch::new();
        let len = 10 * P + 100;
        for (offset, end) in
            [(0, P), (10, 3 * P), (P, len), (0, len), (9 * P + 5, len + 9999), (5 * P, 5 * P + 1)]
        {
            let mut model = pattern(1, len as usize);
            let name = format!("{offset}-{end}");
            let id = volume.write_file(&name, &model);
            volume.open(id, true);
            let before = volume.fs.getattr(id).unwrap().blocks;
            volume.fs.fallocate(id, PUNCH, (offset, end - offset), false, &mut scratch).unwrap();
            let stop = end.min(len) as usize;
            model[offset as usize..stop].fill(0);
            assert!(volume.read_open(id).unwrap() == model, "{name}");
            if !strict && end - offset > 4 * P {
                assert!(volume.fs.getattr(id).unwrap().blocks < before);
            }
            volume.fs.release(id);
            volume.restart();
            assert_eq!(volume.lookup(&name).unwrap().attr.size, len);
            assert!(volume.read_file(&name).unwrap() == model, "{name} after a restart");
        }
    }
}

#[test]
fn storage_that_cannot_punch_says_so_and_the_file_stays_as_it_was() {
    let Some((_mount, volume)) = mounted_volume("ramfs", None) else { return };
    let model = pattern(1, 5 * P as usize);
    let id = volume.write_file("f", &model);
    volume.open(id, true);
    for mode in [PUNCH, ZERO] {
        let result = volume.fs.fallocate(id, mode, (10, 4 * P), false, &mut Scratch::new());
        assert_eq!(errno(result), libc::EOPNOTSUPP);
        assert!(volume.read_open(id).unwrap() == model, "mode {mode}");
    }
}

#[test]
fn preallocation_keeps_the_size_or_grows_it_and_zeroing_does_both() {
    let volume = Volume::new();
    let mut scratch = Scratch::new();
    let entry = volume.create("f");
    volume.fs.fallocate(entry.id, KEEP_SIZE, (0, 100_000), false, &mut scratch).unwrap();
    let attr = volume.fs.getattr(entry.id).unwrap();
    assert!(attr.size == 0 && attr.blocks * 512 >= 100_000, "{attr:?}");
    volume.fs.write_all(entry.id, 0, &pattern(1, 5000)).unwrap();
    volume.fs.fallocate(entry.id, 0, (4000, 50_000), false, &mut scratch).unwrap();
    assert_eq!(volume.fs.getattr(entry.id).unwrap().size, 54_000);
    let mut model = pattern(1, 5000);
    model.resize(54_000, 0);
    assert!(volume.read_open(entry.id).unwrap() == model);
    volume.fs.fallocate(entry.id, ZERO, (100, 60_000), false, &mut scratch).unwrap();
    model.resize(60_100, 0);
    model[100..].fill(0);
    assert!(volume.read_open(entry.id).unwrap() == model);
    assert_eq!(errno(volume.fs.fallocate(entry.id, 0x08, (0, 4096), false, &mut scratch)), libc::EOPNOTSUPP);
    assert_eq!(
        errno(volume.fs.fallocate(entry.id, 0, (0, i64::MAX as u64), false, &mut scratch)),
        libc::EFBIG
    );
}

#[test]
fn data_and_holes_are_found_at_the_offsets_of_the_plaintext() {
    let volume = Volume::new();
    let entry = volume.create("f");
    volume.fs.write_all(entry.id, 0, &pattern(1, 100)).unwrap();
    volume.fs.write_all(entry.id, 50 * P, &pattern(1, 100)).unwrap();
    let seek = |offset, what| volume.fs.seek(entry.id, offset, what);
    assert_eq!(seek(0, Seek::Data).unwrap(), 0);
    assert_eq!(seek(0, Seek::Hole).unwrap(), P);
    assert_eq!(seek(P + 7, Seek::Hole).unwrap(), P + 7);
    assert_eq!(seek(P + 7, Seek::Data).unwrap(), 50 * P);
    assert_eq!(seek(50 * P + 9, Seek::Data).unwrap(), 50 * P + 9);
    assert_eq!(seek(50 * P, Seek::Hole).unwrap(), 50 * P + 100);
    assert_eq!(errno(seek(50 * P + 100, Seek::Data)), libc::ENXIO);
}

#[test]
fn the_storage_tells_its_size() {
    let size = Volume::new().fs.statfs().unwrap();
    assert!(size.blocks > 0 && size.available <= size.blocks && size.name_max == 255);
}

#[test]
fn a_small_file_takes_its_header_and_whole_blocks_of_the_storage() {
    for (header_pages, sizes) in [(1, [0, 8192, 12_288, 73_728]), (16, [0, 69_632, 73_728, 135_168])] {
        let volume = Volume::make(Make { header_pages, ..Make::default() });
        let take = [0, 1, 4096, 65_536].map(|size| {
            let name = format!("of {size}");
            volume.write_file(&name, &pattern(3, size));
            let file = std::fs::File::open(volume.backing(&name)).unwrap();
            file.sync_all().unwrap();
            file.metadata().unwrap().blocks() * 512
        });
        assert_eq!(take, sizes, "{header_pages} pages of header");
    }
}
