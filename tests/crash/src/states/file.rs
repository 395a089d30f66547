//! One file's data after a crash.
//!
//! Invariant: sizes and holes reach the disk in their order (they are metadata of one inode), pages in any order and each
//! for itself. A page that arrives behind a cut that did not is not there; one that was cut off and did not arrive since
//! is zeros. Pages that were written in parts (key slots) may also be torn at 512 bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use envelope::PAGE;

use crate::disk::{Change, Data, Ino, Page, parts};

/// Bytes of which a disk always writes all or none.
const SECTOR: usize = 512;
const PAGE_U64: u64 = PAGE as u64;
/// Versions of a page that are torn, at most.
const MOST_TORN: usize = 14;

/// A page got new contents.
struct Written {
    at: usize,
    page: u64,
    contents: Page,
    /// Only a part of it was written.
    partly: bool,
}

/// Sizes and holes.
enum Extent {
    /// The end moved outwards.
    Longer(u64),
    /// The end moved inwards.
    Cut(u64),
    /// Pages became a hole.
    Hole(u64, u64),
}

impl Extent {
    fn takes(&self, page: u64) -> bool {
        match self {
            Self::Longer(_) => false,
            Self::Cut(len) => page * PAGE_U64 >= *len,
            Self::Hole(start, end) => (start / PAGE_U64..end / PAGE_U64).contains(&page),
        }
    }
}

/// A file whose sync is some time ago.
pub struct Pending {
    durable: Data,
    extents: Vec<(usize, Extent)>,
    written: Vec<Written>,
}

impl Pending {
    /// The file `ino`, which held `data`, after `log`.
    pub fn of(ino: Ino, data: &Data, log: &[Change]) -> Self {
        let synced = |change: &Change| match change {
            Change::Sync { ino: of, .. } => *of == ino,
            Change::SyncAll => true,
            _ => false,
        };
        let durable_until = log.iter().rposition(synced).map_or(0, |at| at + 1);
        let mut now = data.clone();
        let mut pending = Self { durable: Data::default(), extents: Vec::new(), written: Vec::new() };
        for (at, change) in log.iter().enumerate() {
            if at == durable_until {
                pending.durable = now.clone();
            }
            let kept = if at < durable_until { None } else { Some(&mut pending) };
            follow(ino, &mut now, change, at, kept);
        }
        if durable_until == log.len() {
            pending.durable = now;
        }
        pending
    }

    /// All that a crash may leave, at most `most` of them; the first one is what there would be without a crash, the last one
    /// what is left if nothing arrived.
    pub fn states(&self, most: usize) -> Vec<Data> {
        let mut states = Vec::new();
        for applied in (0..=self.extents.len()).rev() {
            let size = self.size(applied);
            let pages = self.pages(applied, size);
            let rest = most.saturating_sub(states.len()).max(2);
            // What is left of the budget is shared by the sizes that are still to come.
            states.extend(combinations(&pages, size, (rest / (applied + 1)).max(2)));
        }
        states
    }

    fn size(&self, applied: usize) -> u64 {
        self.extents[..applied].iter().fold(self.durable.size, |size, (_, extent)| match extent {
            Extent::Longer(to) => size.max(*to),
            Extent::Cut(to) => *to,
            Extent::Hole(..) => size,
        })
    }

    /// For each page of a file of `size` bytes: what may stand there, newest first. `None` is a hole.
    fn pages(&self, applied: usize, size: u64) -> BTreeMap<u64, Vec<Option<Page>>> {
        let numbers =
            self.durable.pages.keys().copied().chain(self.written.iter().map(|written| written.page));
        let mut pages = BTreeMap::new();
        for page in numbers.filter(|page| page * PAGE_U64 < size) {
            pages.entry(page).or_insert_with(|| self.versions(page, applied));
        }
        pages
    }

    fn versions(&self, page: u64, applied: usize) -> Vec<Option<Page>> {
        let (done, not) = self.extents.split_at(applied);
        let taken = |(at, extent): &(usize, Extent)| extent.takes(page).then_some(*at);
        let since = done.iter().rev().find_map(taken);
        let until = not.iter().find_map(taken).unwrap_or(usize::MAX);
        let first = if since.is_some() { None } else { self.durable.pages.get(&page).cloned() };
        let mut chain = vec![(first, false)];
        let writes = self.written.iter().filter(|written| written.page == page);
        let seen =
            writes.filter(|written| since.is_none_or(|since| written.at > since) && written.at < until);
        chain.extend(seen.map(|written| (Some(Arc::clone(&written.contents)), written.partly)));
        let torn = torn(&chain);
        chain.into_iter().rev().map(|(contents, _)| contents).chain(torn.into_iter().map(Some)).collect()
    }
}

/// Follows one change of the file `ino`, which is now `now`; what is not durable goes to `pending`.
fn follow(ino: Ino, now: &mut Data, change: &Change, at: usize, pending: Option<&mut Pending>) {
    let mut extents = Vec::new();
    let mut written = Vec::new();
    match change {
        Change::Create { ino: of, .. } if *of == ino => *now = Data::default(),
        Change::SetLen { ino: of, len } if *of == ino => {
            match len.cmp(&now.size) {
                std::cmp::Ordering::Less => extents.push(Extent::Cut(*len)),
                std::cmp::Ordering::Equal => {}
                std::cmp::Ordering::Greater => extents.push(Extent::Longer(*len)),
            }
            now.set_len(*len);
        }
        Change::Punch { ino: of, start, end } if *of == ino => {
            extents.push(Extent::Hole(*start, *end));
            now.punch(*start, *end);
        }
        Change::Write { ino: of, offset, bytes } if *of == ino => {
            for part in parts(*offset, bytes) {
                if part.end() > now.size {
                    extents.push(Extent::Longer(part.end()));
                }
                now.write(part);
                let contents = Arc::clone(&now.pages[&part.page]);
                written.push(Written { at, page: part.page, contents, partly: !part.is_whole() });
            }
        }
        _ => {}
    }
    if let Some(pending) = pending {
        pending.extents.extend(extents.into_iter().map(|extent| (at, extent)));
        pending.written.extend(written);
    }
}

/// Pages between two versions of which the newer one was written in parts: some of the sectors that differ are new.
fn torn(chain: &[(Option<Page>, bool)]) -> Vec<Page> {
    let mut torn = Vec::new();
    for (old_at, (old, _)) in chain.iter().enumerate() {
        let parts = chain[old_at + 1..].iter().take_while(|(_, partly)| *partly);
        for (new, _) in parts {
            let old = old.as_ref().map_or([0; PAGE], |page| **page);
            let Some(new) = new else { continue };
            torn.extend(mixtures(&old, new));
        }
    }
    torn
}

fn mixtures(old: &[u8; PAGE], new: &Page) -> Vec<Page> {
    let sectors: Vec<usize> = (0..PAGE / SECTOR)
        .filter(|at| old[at * SECTOR..][..SECTOR] != new[at * SECTOR..][..SECTOR])
        .collect();
    let all = (1_usize << sectors.len()) - 1;
    let step = (all / MOST_TORN).max(1);
    let mix = |chosen: usize| {
        let mut page = *old;
        for (bit, sector) in sectors.iter().enumerate() {
            if chosen & (1 << bit) != 0 {
                let range = sector * SECTOR..(sector + 1) * SECTOR;
                page[range.clone()].copy_from_slice(&new[range]);
            }
        }
        Arc::new(page)
    };
    (1..all).step_by(step).map(mix).collect()
}

/// Files of `size` bytes with one version of each page: all, if there are at most `most`; else the newest, the oldest, each
/// page alone newest and alone oldest and in between, and then as many others as there is room for.
fn combinations(pages: &BTreeMap<u64, Vec<Option<Page>>>, size: u64, most: usize) -> Vec<Data> {
    let counts: Vec<usize> = pages.values().map(Vec::len).collect();
    let build = |choice: &[usize]| {
        let chosen = pages.iter().zip(choice);
        let pages =
            chosen.filter_map(|((page, versions), at)| Some((*page, versions[*at].clone()?))).collect();
        Data { size, pages }
    };
    super::choose::choices(&counts, most).iter().map(|choice| build(choice)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Ino = 5;

    fn write(page: u64, byte: u8) -> Change {
        Change::Write { ino: FILE, offset: page * PAGE_U64, bytes: vec![byte; PAGE] }
    }

    /// What may be there, as the first byte of each page.
    fn found(log: &[Change]) -> std::collections::BTreeSet<Vec<u8>> {
        let states = Pending::of(FILE, &Data::default(), log).states(1000);
        states.iter().map(|data| data.read(0, 1 << 20).chunks(PAGE).map(|page| page[0]).collect()).collect()
    }

    fn is(log: &[Change], wanted: &[&[u8]]) {
        assert_eq!(found(log), wanted.iter().map(|pages| pages.to_vec()).collect());
    }

    #[test]
    fn what_was_synced_stays_and_the_rest_may_be_lost_page_by_page() {
        let sync = Change::Sync { ino: FILE, data_only: true };
        is(&[write(0, 1), sync.clone()], &[&[1]]);
        is(&[write(0, 1), write(1, 2)], &[&[], &[0], &[1], &[0, 0], &[0, 2], &[1, 0], &[1, 2]]);
        is(
            &[write(0, 1), write(1, 2), sync.clone(), write(0, 3), write(1, 4)],
            &[&[1, 2], &[3, 2], &[1, 4], &[3, 4]],
        );
        is(&[write(0, 1), sync, write(0, 2), write(0, 3)], &[&[1], &[2], &[3]]);
    }

    #[test]
    fn what_was_cut_off_is_there_or_not_and_never_comes_back() {
        let cut = |len| Change::SetLen { ino: FILE, len };
        let log = [write(0, 1), write(1, 2), Change::SyncAll, cut(4096), write(0, 3)];
        is(&log, &[&[1, 2], &[3, 2], &[1], &[3]]);
        let log = [write(0, 1), write(1, 2), Change::SyncAll, cut(4096), write(1, 3)];
        is(&log, &[&[1, 2], &[1], &[1, 0], &[1, 3]]);
        let hole = Change::Punch { ino: FILE, start: 0, end: 4096 };
        is(&[write(0, 1), Change::SyncAll, hole, write(0, 2)], &[&[1], &[0], &[2]]);
    }

    #[test]
    fn what_is_written_in_parts_is_torn_at_sectors() {
        let slot = Change::Write { ino: FILE, offset: 1024, bytes: vec![9; 1024] };
        let log = [write(0, 1), Change::SyncAll, slot];
        let states = Pending::of(FILE, &Data::default(), &log).states(1000);
        let sectors = states.iter().map(|data| (data.read(1024, 1)[0], data.read(1536, 1)[0]));
        let sectors: std::collections::BTreeSet<_> = sectors.collect();
        assert_eq!(sectors, [(1, 1), (1, 9), (9, 1), (9, 9)].into());
    }
}
