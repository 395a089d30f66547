//! Storage that may tear a page. Invariant: whoever opens a volume on it is told by a condition.

use std::path::Path;

use faults::{Disk, Kind, Place, RootKey, Server, able};

use crate::program;

/// The conditions with which a volume in `dir` opens.
fn conditions(place: &Place, dir: &Path) -> Vec<&'static str> {
    let key = RootKey::new(&place.path("")).unwrap();
    let path = dir.join("volume");
    std::fs::create_dir(&path).unwrap();
    key.open_volume(&path).unwrap().warnings
}

fn on_ext4(block_size: &str) -> Option<Vec<&'static str>> {
    if !able(&["losetup", "mount", "mkfs.ext4"]) {
        return None;
    }
    let place = Place::new().unwrap();
    let disk = Disk::formatted(&place, 16, &["mkfs.ext4", "-q", "-b", block_size]).unwrap();
    Some(conditions(&place, disk.root()))
}

#[test]
fn an_ext4_with_blocks_of_1024_bytes_is_named_by_a_condition_and_one_with_4096_is_not() {
    let Some(found) = on_ext4("1024") else { return };
    assert_eq!(found, [contract::check_in::reasons::TORN_WRITES_POSSIBLE]);
    assert!(on_ext4("4096").unwrap().is_empty());
}

/// An ext4 as small as this gets small blocks from mkfs unless somebody asks for others.
#[test]
fn an_ext4_that_mkfs_made_small_by_itself_is_named_by_a_condition() {
    if !able(&["losetup", "mount", "mkfs.ext4"]) {
        return;
    }
    let place = Place::new().unwrap();
    let disk = Disk::formatted(&place, 16, &["mkfs.ext4", "-q"]).unwrap();
    assert_eq!(conditions(&place, disk.root()), [contract::check_in::reasons::TORN_WRITES_POSSIBLE]);
}

/// NFS and whatever else the program does not know: nothing is known of what a page write is there.
#[test]
fn a_filesystem_of_an_unknown_type_is_named_by_a_condition() {
    if !able(&["gocryptfs"]) {
        return;
    }
    let place = Place::new().unwrap();
    let (backing, mount) = (place.dir("backing").unwrap(), place.dir("mount").unwrap());
    let server = Server::start(program(), Kind::Gocryptfs, &backing, &mount).unwrap();
    assert_eq!(conditions(&place, &server.path("")), [contract::check_in::reasons::TORN_WRITES_POSSIBLE]);
}
