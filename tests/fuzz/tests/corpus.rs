//! Every committed input of every target, the ones that failed once among them.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use holds::TARGETS;

fn inputs(folder: &str, target: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(target);
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn every_committed_input_holds() {
    for (name, target) in TARGETS {
        let corpus = inputs("corpus", name);
        assert!(corpus.len() >= 5, "{name} has {} inputs", corpus.len());
        for input in corpus.into_iter().chain(inputs("regressions", name)) {
            eprintln!("{}", input.display());
            target(&std::fs::read(&input).unwrap());
        }
    }
}

#[test]
fn the_corpus_reaches_what_is_good() {
    let parses = |name: &str| {
        inputs("corpus", name).iter().any(|path| {
            let bytes = std::fs::read(path).unwrap();
            match name {
                "header" => matches!(envelope::HeaderRegion::parse(&bytes), Ok(Some(_))),
                _ => matches!(envelope::MarkerRegion::parse(&bytes), Ok(Some(_))),
            }
        })
    };
    assert!(parses("header") && parses("marker"));
}
