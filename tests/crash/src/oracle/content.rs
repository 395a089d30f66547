//! Which contents of a file may be found.
//!
//! Invariant: block by block, one of the versions since the last sync; never anything else.

use super::model::Window;

/// Bytes of a block.
const BLOCK: usize = envelope::PAYLOAD;

/// Whether `found` may be found; if not, why. `in_order`: nothing is missing that was written before something that is there.
pub fn check(versions: &[Vec<u8>], window: Window, found: &[u8], in_order: bool) -> Result<(), String> {
    let versions = &versions[window.first..=window.last];
    let shortest = versions.iter().map(Vec::len).min().unwrap_or_default();
    // While a file is shortened it may end anywhere in the block of its new end: that block may never have been filled.
    let cut_to = |old: &Vec<u8>| {
        let in_block =
            |new: &Vec<u8>| found.len() >= new.len() && found.len() < new.len().next_multiple_of(BLOCK);
        versions.iter().any(|new| new.len() < old.len() && in_block(new))
    };
    let is_end = |version: &Vec<u8>| {
        let within = found.len() < version.len() && (found.len().is_multiple_of(BLOCK) || cut_to(version));
        found.len() == version.len() || within
    };
    if found.len() < shortest || !versions.iter().any(is_end) {
        let sizes: Vec<usize> = versions.iter().map(Vec::len).collect();
        return Err(format!("{} bytes, and since the last sync there were {sizes:?}", found.len()));
    }
    for (number, block) in found.chunks(BLOCK).enumerate() {
        let start = number * BLOCK;
        // What was added or cut off since the last sync may not have arrived.
        let may_be_hole = !in_order && versions.iter().any(|version| version.len() <= start);
        let is_hole = may_be_hole && block.iter().all(|byte| *byte == 0);
        if !is_hole && !versions.iter().any(|version| is_block(version, start, block, in_order)) {
            let differs = versions[0].iter().skip(start).zip(block).position(|(old, new)| old != new);
            return Err(format!(
                "block {number} is no version since the last sync (it differs from the first one at {differs:?})"
            ));
        }
    }
    Ok(())
}

/// Whether a block is that of a version, with zeros behind its end; `in_order`: it does not go on behind its end.
fn is_block(version: &[u8], start: usize, block: &[u8], in_order: bool) -> bool {
    if in_order && version.len() < start + block.len() {
        return false;
    }
    let old = version.get(start..).unwrap_or_default();
    let common = old.len().min(block.len());
    old[..common] == block[..common] && block[common..].iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_old_or_new_and_what_was_synced_is_there() {
        let (old, new) = (vec![1; 2 * BLOCK + 10], vec![2; 2 * BLOCK + 10]);
        let versions = [vec![9; 5], old.clone(), new.clone()];
        let since = |first| Window { first, last: 2 };
        let mixed = [&new[..BLOCK], &old[BLOCK..]].concat();
        for good in [&old, &new, &mixed] {
            check(&versions, since(1), good, false).unwrap();
        }
        assert!(check(&versions, since(2), &mixed, false).is_err(), "the new one was synced");
        assert!(check(&versions, since(1), &old[..BLOCK], false).is_err(), "too short");
        assert!(
            check(&versions, since(0), &old[..BLOCK], false).is_ok(),
            "the second block was never synced"
        );
        assert!(check(&versions, since(0), &old[..=BLOCK], false).is_err(), "no version ends there");
        let torn = [&new[..100], &old[100..]].concat();
        assert!(check(&versions, since(1), &torn, false).is_err());
        let lost = [&vec![0; BLOCK][..], &old[BLOCK..]].concat();
        assert!(check(&versions, since(1), &lost, false).is_err(), "the first block was there");
        let lost = [&old[..BLOCK], &vec![0; BLOCK], &old[2 * BLOCK..]].concat();
        assert!(check(&versions, since(0), &lost, false).is_ok(), "this one may not have arrived");
        assert!(
            check(&versions, since(0), &lost, true).is_err(),
            "in order it has arrived before the next one"
        );
    }

    #[test]
    fn who_was_killed_while_it_shortened_a_file_leaves_all_that_is_behind_the_new_end_or_nothing() {
        let versions = [vec![1; BLOCK + 100], vec![1; 50]];
        let since = Window { first: 0, last: 1 };
        let zeroed = [&[1; 50][..], &[0; BLOCK - 50], &[1; 100]].concat();
        assert!(check(&versions, since, &zeroed, false).is_ok());
        assert!(check(&versions, since, &zeroed, true).is_err());
        assert!(check(&versions, since, &[1; BLOCK], true).is_ok());
        assert!(
            check(&versions, since, &[1; 70], true).is_ok(),
            "the block had 70 bytes before the file grew"
        );
        assert!(check(&versions, since, &[1; 40], true).is_err());
    }
}
