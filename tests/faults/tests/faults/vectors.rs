//! The committed volumes of each format version open, as they did when they were made.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use envelope::{GroupRecord, HeaderRegion, PAGE, Seal};
use faults::vectors::table::Table;
use faults::vectors::{Open, Vector, load, make, tree};
use faults::{Place, able};

fn folders() -> Vec<PathBuf> {
    let versions = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors");
    let mut found = Vec::new();
    for version in std::fs::read_dir(versions).unwrap().map(|entry| entry.unwrap().path()) {
        if version.is_dir() {
            let volumes = std::fs::read_dir(version.join("volumes")).expect("every version has volumes");
            found.extend(volumes.map(|entry| entry.unwrap().path()));
        }
    }
    assert!(found.len() >= 2);
    found
}

/// A committed volume, laid out.
fn laid_out(folder: &Path, place: &Place) -> (Vector, PathBuf, Arc<Table>) {
    let vector = load(folder).unwrap();
    let raw = place.dir("raw").unwrap();
    tree::unpack(&vector.raw, folder, &raw).unwrap();
    let table = Table::new(vector.versions.clone(), vector.answers.clone());
    (vector, raw, Arc::new(table))
}

#[test]
fn every_committed_volume_shows_what_it_showed_and_takes_writes() {
    if !able(&["losetup"]) {
        return;
    }
    for folder in folders() {
        println!("{}", folder.display());
        let place = Place::new().unwrap();
        let (vector, raw, table) = laid_out(&folder, &place);
        let target = place.dir("mount").unwrap();
        for _ in 0..2 {
            let open = Open::new(&raw, &target, &table, vector.make()).unwrap();
            let options = open.serving.served.fs.options();
            assert_eq!((options.strict, options.seal), (vector.strict, vector.seal));
            let seen = tree::look(&target).unwrap();
            assert_eq!(seen, vector.plain);
            open.close().unwrap();
        }
        let open = Open::new(&raw, &target, &table, vector.make()).unwrap();
        for plain in vector.plain.iter().filter(|plain| plain.mode & libc::S_IFMT == libc::S_IFREG) {
            let path = target.join(&plain.path);
            let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
            file.write_all_at(b"later", plain.size + 5000).unwrap();
            let mut found = [1; 5005];
            file.read_exact_at(&mut found, plain.size).unwrap();
            assert!(found[..5000] == [0; 5000] && found[5000..] == *b"later", "{}", plain.path);
        }
        std::fs::write(target.join("new"), b"new").unwrap();
        open.close().unwrap();
    }
}

/// Otherwise they would show less than they are said to.
#[test]
fn the_committed_volumes_hold_files_of_each_kind_and_both_versions() {
    let vectors: Vec<_> = folders().into_iter().map(|folder| (load(&folder).unwrap(), folder)).collect();
    assert!(vectors.iter().any(|(vector, _)| vector.strict && vector.virtual_ownership));
    assert!(vectors.iter().any(|(vector, _)| !vector.strict && !vector.virtual_ownership));
    assert!(vectors.iter().any(|(vector, _)| vector.seal));
    for (vector, folder) in vectors {
        let (mut versions, mut slots, mut holes, mut groups, mut headerless, mut sealed) =
            (BTreeSet::new(), BTreeSet::new(), 0, 0, 0, 0);
        for entry in &vector.raw {
            let tree::RawKind::File(name) = &entry.kind else { continue };
            let bytes = std::fs::read(folder.join(name)).unwrap();
            if entry.path.starts_with(".cofferdam/groups/") {
                GroupRecord::parse(&bytes).unwrap();
                groups += 1;
            } else if bytes.is_empty() {
                headerless += 1;
            } else if !entry.path.starts_with(".cofferdam") {
                let region = HeaderRegion::parse(&bytes[..PAGE]).unwrap().unwrap();
                let (_, current) = region.current().unwrap();
                versions.insert(current.keys()[0].version.clone());
                slots.insert(region.slots().iter().filter(|slot| slot.valid().is_some()).count());
                sealed += u32::from(matches!(region.claimed_seal(), Some(Ok(Seal::Closed(_)))));
                holes += bytes[PAGE..].chunks(PAGE).filter(|page| page.iter().all(|byte| *byte == 0)).count();
            }
        }
        let both: BTreeSet<String> = vector.versions.iter().cloned().collect();
        assert_eq!((versions, both.len()), (both.clone(), 2));
        assert_eq!(slots, BTreeSet::from([1, 2]), "rewrapped and not");
        assert_eq!((holes > 0, sealed > 3), (!vector.strict, vector.seal));
        assert!(groups >= 1 && headerless >= 1);
        let owned = vector.raw.iter().any(|entry| entry.attributes.contains_key("user.cofferdam.owner"));
        assert_eq!(owned, vector.virtual_ownership);
        assert!(vector.raw.iter().any(|entry| entry.path == ".cofferdam/volume"));
    }
}

#[test]
fn a_committed_volume_is_never_made_anew() {
    let folder = folders()[0].parent().unwrap().to_owned();
    let before = std::fs::read(folder.join("native/volume.json")).unwrap();
    let refusal = make::all(&folder).unwrap_err().to_string();
    assert!(refusal.contains("never replaced"), "{refusal}");
    assert!(std::fs::read(folder.join("native/volume.json")).unwrap() == before);
}
