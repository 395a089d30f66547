//! The suite leaves nothing out, and the page says what it shows.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;

use providers::points::{CHECKS, POINTS};
use providers::{SUBJECTS, page};

#[test]
fn there_are_thirty_points_and_every_check_belongs_to_one() {
    let numbers: BTreeSet<u8> = POINTS.iter().map(|point| point.number).collect();
    assert_eq!(numbers, (1..=30).collect());
    let mut used: Vec<&str> = POINTS.iter().flat_map(|point| point.checks).copied().collect();
    used.sort_unstable();
    let mut all = CHECKS.to_vec();
    all.sort_unstable();
    assert_eq!(used, all);
}

#[test]
fn every_provider_answers_every_point_and_declares_nothing_else() {
    for subject in SUBJECTS {
        for point in POINTS.iter().filter(|point| point.checks.is_empty()) {
            let declared = subject.standing(&point.number.to_string());
            assert!(declared.is_some(), "{} says nothing of point {}", subject.name, point.number);
        }
        for (name, standing) in subject.declared {
            let number =
                POINTS.iter().any(|point| point.checks.is_empty() && point.number.to_string() == *name);
            assert!(number || CHECKS.contains(name), "{}: {name} is no check and no point", subject.name);
            if let providers::Standing::Beside(place) = standing {
                let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(place);
                assert!(file.is_file(), "{place}");
            }
        }
    }
}

#[test]
fn the_page_holds_the_table_of_today() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/kms.md");
    let page = std::fs::read_to_string(path).unwrap();
    assert_eq!(page::renewed(&page).as_deref(), Some(page.as_str()), "run `cargo xtask generate`");
}
