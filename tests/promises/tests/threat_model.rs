//! What `docs/threat-model.md` says is not noticed has a test that shows it, and no such test is left out.
#![allow(clippy::unwrap_used)]

use std::path::Path;

const PAGE: &str = include_str!("../../../docs/threat-model.md");
const TESTS: &str = "envelope/tests/format/undetected.rs";

/// The names in the last cells of the section's rows.
fn named() -> Vec<&'static str> {
    let section = PAGE.split("\n## What is not noticed\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_end_matches('|').rsplit('|').next().unwrap().trim().trim_matches('`')).collect()
}

#[test]
fn each_thing_that_is_not_noticed_has_a_test_that_shows_it() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let named = named();
    assert!(named.len() >= 9, "{named:?}");
    for name in &named {
        assert!(promises::is_test(root, TESTS, name), "{TESTS} has no test {name}");
    }
    let source = std::fs::read_to_string(root.join(TESTS)).unwrap();
    for test in source.split("#[test]\nfn ").skip(1).map(|test| test.split('(').next().unwrap()) {
        assert!(named.contains(&test), "the page does not name {test}");
    }
}
