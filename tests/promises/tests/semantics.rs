//! `docs/semantics.md` promises nothing that no test shows.

use std::path::Path;

#[test]
fn every_promise_of_the_semantics_has_a_test() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let page = include_str!("../../../docs/semantics.md");
    let register = include_str!("../semantics.txt");
    let faults = promises::faults(page, register, &["Not promised"], root);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
