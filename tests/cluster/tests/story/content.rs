//! What is on the volume, and what comes back.

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;

use envelope::{BlockCipher, HeaderRegion, PAYLOAD};
use stage::manifests::{pod, protect};
use stage::plaintext::shared_run;
use stage::raw::RawFile;
use stage::{RootKey, Stage};

/// Makes a database in `$1` and works on it, then stops it cleanly.
const DATABASE: &str = "set -e; export PATH=$PATH:/usr/lib/postgresql/15/bin; initdb -D $D -k -U app > /dev/null; \
     pg_ctl -D $D -o '-k /tmp -c listen_addresses=' -w start > /tmp/log; createdb -h /tmp -U app bench; \
     pgbench -h /tmp -U app -i -s 1 -q bench 2> /dev/null; pgbench -h /tmp -U app -c 2 -t 200 bench > /dev/null; \
     pg_ctl -D $D -m fast -w stop > /dev/null";

/// This repository's own sources, as git knows them.
fn sources(to: &Path) {
    let repository = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let pack =
        Command::new("git").args(["-C", repository, "archive", "--output"]).arg(to).arg("HEAD").status();
    assert!(pack.unwrap().success());
}

#[test]
fn a_corpus_is_read_back_identical_and_nothing_of_it_is_on_the_volume() {
    let stage = Stage::new("corpus");
    let key = RootKey::create();
    protect(&stage, &key);
    let volume = stage.claim("files", 256);
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("sources.tar");
    sources(&archive);

    stage.run("writer", &pod("writer", "files", "sleep infinity"));
    let into = format!("{}/writer:/tmp/sources.tar", stage.name);
    stage.kubectl(&["cp", archive.to_str().unwrap(), &into, "--container", "app"]);
    stage.exec("writer", "mkdir /data/sources && tar -x -f /tmp/sources.tar -C /data/sources");
    stage.exec("writer", &format!("D=/data/database; {DATABASE}"));
    let before = stage.exec("writer", "sync; workload tree /data");
    // The plain corpus, for the search: what the application reads.
    stage.exec("writer", "tar -c -f /tmp/corpus.tar -C /data .");
    let corpus = folder.path().join("corpus");
    std::fs::create_dir(&corpus).unwrap();
    let from = format!("{}/writer:/tmp/corpus.tar", stage.name);
    let copy = folder.path().join("corpus.tar");
    stage.kubectl(&["cp", &from, copy.to_str().unwrap(), "--container", "app", "--retries=3"]);
    let unpack = Command::new("tar").arg("-xf").arg(&copy).arg("-C").arg(&corpus).status();
    assert!(unpack.unwrap().success());
    stage.delete("writer");

    stage.run("reader", &pod("reader", "files", "sleep infinity"));
    let after = stage.exec("reader", "workload tree /data");
    assert!(before.lines().count() > 500, "a small corpus proves little: {before}");
    let differences: Vec<_> =
        before.lines().zip(after.lines()).filter(|(one, other)| one != other).take(5).collect();
    assert_eq!(before, after, "{differences:?}");
    stage.exec(
        "reader",
        "set -e; export PATH=$PATH:/usr/lib/postgresql/15/bin; pg_checksums -D /data/database --check > /dev/null",
    );
    stage.delete("reader");

    // The vectors and what fuzzing begins with are protected files themselves, whose headers begin as every header does: only their
    // names count.
    let empty = ["-type", "f", "-exec", "truncate", "--size=0", "{}", "+"];
    let protected = ["sources/tests/vectors", "sources/tests/fuzz/corpus"].map(|name| corpus.join(name));
    let emptied = Command::new("find").args(protected).args(empty).status();
    assert!(emptied.unwrap().success());
    let image = stage.raw_image(&volume);
    let written = image.chunks(4096).filter(|page| page.iter().any(|byte| *byte != 0)).count() * 4096;
    assert!(written > 30_000_000, "a small volume proves little: {written}");
    assert_eq!(shared_run(&corpus, &image), None);
    // The search can find something: a plain file beside the corpus is noticed.
    let known = b"sixteen bytes and more of plain text";
    std::fs::write(corpus.join("known"), known).unwrap();
    assert!(shared_run(&corpus, &[&image[..4096], known].concat()).is_some());
}

#[test]
fn every_file_has_its_own_wrapped_key_and_equal_files_share_no_block() {
    let stage = Stage::new("own-keys");
    let key = RootKey::create();
    protect(&stage, &key);
    let volume = stage.claim("files", 64);
    let script = "for i in $(seq 20); do head -c 100000 /dev/zero | tr '\\0' x > /data/equal-$i; done; sync; sleep infinity";
    stage.run("writer", &pod("writer", "files", script));
    stage.exec("writer", "until test -e /data/equal-20; do sleep 0.1; done; sync");
    let files = stage.raw_files(&volume);
    assert_eq!(files.len(), 20);
    let mut blocks = HashSet::new();
    for file in &files {
        for block in file.blocks() {
            assert!(blocks.insert(block.to_vec()), "{} shares a block", file.name);
        }
    }
    assert!(blocks.len() >= 20 * 25);

    // With the KMS and one header its owner opens that file, and no other one.
    let cipher_of = |file: &RawFile| {
        let header = HeaderRegion::parse(&file.bytes).unwrap().unwrap();
        BlockCipher::new(&key.dek(&header).unwrap(), header.preamble()).unwrap()
    };
    let opens = |cipher: &BlockCipher, file: &RawFile| {
        let first = file.blocks().next().unwrap().try_into().unwrap();
        let mut plain = [0; PAYLOAD];
        cipher.open_block(0, first, &mut plain).is_ok() && plain == [b'x'; PAYLOAD]
    };
    for own in &files {
        let cipher = cipher_of(own);
        let opened: Vec<_> =
            files.iter().filter(|file| opens(&cipher, file)).map(|file| &file.name).collect();
        assert_eq!(opened, [&own.name]);
    }
}
