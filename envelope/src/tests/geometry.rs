//! Tests of the arithmetic between plaintext offsets, blocks and pages.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn one_page() -> Geometry {
    Geometry::new(1).unwrap()
}

#[test]
fn a_header_has_1_to_16_pages() {
    for pages in [0, 17, 255] {
        assert_eq!(Geometry::new(pages), Err(GeometryError::HeaderPages(pages)));
    }
    assert_eq!(Geometry::new(16).unwrap().header_len(), 65_536);
}

#[test]
fn slots_do_not_overlap_and_lie_in_different_pages_where_there_are_two() {
    for pages in 1..=16 {
        let geometry = Geometry::new(pages).unwrap();
        let (a, b) = (geometry.slot_offset(0), geometry.slot_offset(1));
        let len = geometry.slot_len();
        assert!(a >= 1024 && a + len <= b, "{pages}");
        assert!(b + len <= geometry.header_len() as usize, "{pages}");
        assert_eq!(a % 512 + b % 512 + len % 512, 0, "{pages}");
        if pages > 1 {
            assert!((a + len - 1) / PAGE < b / PAGE, "{pages}");
        }
    }
}

#[test]
fn the_size_of_a_file_is_its_full_blocks_and_the_last_length() {
    let geometry = one_page();
    assert_eq!(geometry.plain_size(0, 0), 0);
    assert_eq!(geometry.plain_size(1, 1), 1);
    assert_eq!(geometry.plain_size(3, 100), 2 * 4048 + 100);
    assert_eq!(geometry.physical_size(0), Ok(4096));
    assert_eq!(geometry.physical_size(1), Ok(8192));
    assert_eq!(geometry.physical_size(4048), Ok(8192));
    assert_eq!(geometry.physical_size(4049), Ok(12_288));
}

#[test]
fn a_torn_append_counts_as_no_block() {
    let geometry = one_page();
    assert_eq!(geometry.blocks(0), 0);
    assert_eq!(geometry.blocks(4096 + 4095), 0);
    assert_eq!(geometry.ragged_bytes(4096 + 4095), 4095);
    assert_eq!(geometry.ragged_bytes(100), 100);
    assert_eq!(geometry.blocks(4096 + 8192), 2);
    assert_eq!(geometry.ragged_bytes(4096 + 8192), 0);
}

#[test]
fn the_largest_file_fits_the_kernels_offsets_and_a_larger_one_is_an_error() {
    for pages in 1..=16 {
        let geometry = Geometry::new(pages).unwrap();
        let max = geometry.max_size();
        let physical = geometry.physical_size(max).unwrap();
        assert!(i64::try_from(physical).is_ok());
        assert_eq!(geometry.physical_size(max + 1), Err(GeometryError::TooLarge));
        assert_eq!(geometry.covering(max, 1), Err(GeometryError::TooLarge));
        assert_eq!(geometry.covering(1, u64::MAX), Err(GeometryError::TooLarge));
        assert_eq!(geometry.blocks(physical), geometry.blocks_for(max));
    }
}

#[test]
fn a_write_of_4096_bytes_touches_two_edges() {
    let range = one_page().covering(4096, 4096).unwrap();
    assert_eq!((range.first(), range.count()), (1, 2));
    let head = range.head_edge().unwrap();
    assert_eq!((head.block, head.start, head.end, head.offset), (1, 48, 4048, 0));
    let tail = range.tail_edge().unwrap();
    assert_eq!((tail.block, tail.start, tail.end, tail.offset), (2, 0, 96, 4000));
}

#[test]
fn a_range_of_whole_blocks_has_no_edge_and_no_block_too_many() {
    let range = one_page().covering(4048, 3 * 4048).unwrap();
    assert_eq!((range.first(), range.count()), (1, 3));
    assert!(range.head_edge().is_none() && range.tail_edge().is_none());
    assert!(range.spans().all(|span| span.is_whole()));
}

#[test]
fn an_empty_range_touches_nothing() {
    let range = one_page().covering(5000, 0).unwrap();
    assert_eq!(range.count(), 0);
    assert_eq!(range.spans().len(), 0);
    assert!(range.head_edge().is_none() && range.tail_edge().is_none());
}

proptest! {
    #[test]
    fn the_spans_of_a_range_cover_it_once_and_in_order(offset in 0_u64..1 << 40, len in 0_u64..100_000) {
        let geometry = one_page();
        let range = geometry.covering(offset, len).unwrap();
        let mut next = offset;
        for span in range.spans() {
            prop_assert_eq!(geometry.locate(next), Position { block: span.block, within: span.start });
            prop_assert_eq!(span.offset as u64, next - offset);
            prop_assert!(!span.is_empty() && span.end <= PAYLOAD);
            next += span.len() as u64;
        }
        prop_assert_eq!(next, offset + len);
        let edges = range.spans().filter(|span| !span.is_whole()).count();
        let named = usize::from(range.head_edge().is_some()) + usize::from(range.tail_edge().is_some());
        prop_assert_eq!(edges, named);
    }

    #[test]
    fn a_size_survives_the_way_to_the_volume_and_back(size in 1_u64..1 << 50, pages in 1_u8..=16) {
        let geometry = Geometry::new(pages).unwrap();
        let blocks = geometry.blocks(geometry.physical_size(size).unwrap());
        let last = size - (blocks - 1) * 4048;
        prop_assert!((1..=4048).contains(&last));
        prop_assert_eq!(geometry.plain_size(blocks, last as u16), size);
        prop_assert_eq!(geometry.locate(size - 1).block, blocks - 1);
    }

    #[test]
    fn no_number_makes_the_arithmetic_panic(a: u64, b: u64, last: u16, pages in 1_u8..=16) {
        let geometry = Geometry::new(pages).unwrap();
        let _ = (geometry.blocks(a), geometry.ragged_bytes(a), geometry.block_offset(a));
        let _ = (geometry.plain_size(a, last), geometry.physical_size(a), geometry.locate(a));
        let _ = geometry.covering(a, b).map(|range| (range.first(), range.count(), range.head_edge(), range.tail_edge()));
    }
}
