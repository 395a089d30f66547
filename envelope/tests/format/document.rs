//! The specification tells the truth: its worked examples are the committed bytes, and it names every test of what the
//! format cannot notice.

use crate::vectors::bytes_of;

const DOCUMENT: &str = include_str!("../../../docs/file-format.md");

/// The bytes of a line `offset  hex hex …  meaning`; the meaning begins after two spaces.
fn line(text: &str) -> (usize, Vec<u8>) {
    let (offset, rest) = text.split_once(' ').unwrap();
    let bytes = rest.trim_start().split("  ").next().unwrap();
    let bytes = bytes.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap());
    (offset.parse().unwrap(), bytes.collect())
}

#[test]
fn every_byte_of_the_worked_examples_is_in_the_vectors() {
    let mut lines = DOCUMENT.lines();
    let (mut examples, mut bytes_checked) = (0, 0);
    while let Some(start) = lines.next() {
        let Some(name) = start.strip_prefix("```bytes ") else {
            continue;
        };
        let vector = bytes_of(name);
        for text in lines.by_ref().take_while(|text| *text != "```") {
            let (offset, bytes) = line(text);
            assert!(!bytes.is_empty(), "{name}: {text}");
            assert_eq!(vector[offset..offset + bytes.len()], bytes, "{name}: {text}");
            bytes_checked += bytes.len();
        }
        examples += 1;
    }
    assert_eq!(examples, 6);
    assert!(bytes_checked > 500, "{bytes_checked}");
}

#[test]
fn the_sizes_of_the_worked_examples_are_as_stated() {
    for (name, len) in [("empty-direct", 4096), ("one-byte-direct", 8192), ("hole-grouped", 16_384)] {
        assert_eq!(bytes_of(name).len(), len, "{name}");
    }
}

#[test]
fn every_test_of_what_is_not_detected_is_named_in_the_document() {
    let source = include_str!("undetected.rs");
    let tests: Vec<&str> =
        source.split("#[test]\nfn ").skip(1).map(|test| test.split('(').next().unwrap()).collect();
    assert!(tests.len() >= 9);
    for test in tests {
        assert!(DOCUMENT.contains(&format!("`{test}`")), "{test}");
    }
}

#[test]
fn the_slot_table_of_the_document_is_the_geometry() {
    for pages in 1..=16_usize {
        let geometry = crate::sample::geometry(pages as u8);
        let half = 4096 * pages.div_ceil(2);
        let (offset, len) =
            if pages == 1 { (2560, 1536) } else { (half, (half - 1024).min(4096 * (pages / 2))) };
        assert_eq!((geometry.slot_offset(0), geometry.slot_offset(1)), (1024, offset));
        assert_eq!(geometry.slot_len(), len);
    }
}
