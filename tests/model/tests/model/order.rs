//! Whether some order of operations explains what each of them saw.
//!
//! Invariant: an operation that ended before another one began comes before it; an operation is all or nothing.

use std::collections::HashSet;

/// What a thread does to the one file that all share.
#[derive(Clone, Debug, PartialEq)]
pub enum Deed {
    Write { at: u64, len: u64, fill: u8 },
    Read { at: u64, len: u64 },
    Truncate { size: u64 },
    Size,
    Punch { at: u64, len: u64 },
    Grow { at: u64, len: u64 },
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    Done,
    Bytes(Vec<u8>),
    Size(u64),
    /// Refused, because keys were away: nothing was done.
    Refused,
}

/// A deed, and when it was under way.
#[derive(Clone, Debug)]
pub struct Event {
    pub deed: Deed,
    pub seen: Seen,
    pub begin: u64,
    pub end: u64,
}

/// Whether an order of `events` leads from `before` to `after`.
pub fn explained(before: &[u8], events: &[Event], after: &[u8]) -> bool {
    Search { events, after, failed: HashSet::new() }.from(0, before.to_vec())
}

struct Search<'a> {
    events: &'a [Event],
    after: &'a [u8],
    failed: HashSet<(u32, Vec<u8>)>,
}

impl Search<'_> {
    /// `done` has a bit for each event that lies behind.
    fn from(&mut self, done: u32, state: Vec<u8>) -> bool {
        let open: Vec<_> = (0..self.events.len()).filter(|event| done & 1 << event == 0).collect();
        if open.is_empty() {
            return state == self.after;
        }
        if self.failed.contains(&(done, state.clone())) {
            return false;
        }
        let first_end = open.iter().map(|event| self.events[*event].end).min().unwrap_or(0);
        for next in open {
            let event = &self.events[next];
            if event.begin > first_end {
                continue;
            }
            let mut state = state.clone();
            let fits = event.seen == Seen::Refused || apply(&event.deed, &mut state) == event.seen;
            if fits && self.from(done | 1 << next, state) {
                return true;
            }
        }
        self.failed.insert((done, state));
        false
    }
}

/// Does a deed to plain bytes.
fn apply(deed: &Deed, state: &mut Vec<u8>) -> Seen {
    let size = state.len();
    match *deed {
        Deed::Write { at, len, fill } => {
            let end = (at + len) as usize;
            state.resize(size.max(end), 0);
            state[at as usize..end].fill(fill);
            Seen::Done
        }
        Deed::Read { at, len } => {
            let start = size.min(at as usize);
            Seen::Bytes(state[start..size.min(start + len as usize)].to_vec())
        }
        Deed::Truncate { size } => {
            state.resize(size as usize, 0);
            Seen::Done
        }
        Deed::Size => Seen::Size(size as u64),
        Deed::Punch { at, len } => {
            let start = size.min(at as usize);
            state[start..size.min(start + len as usize)].fill(0);
            Seen::Done
        }
        Deed::Grow { at, len } => {
            state.resize(size.max((at + len) as usize), 0);
            Seen::Done
        }
    }
}

#[test]
fn a_torn_result_and_a_lost_write_have_no_order_and_a_whole_one_has() {
    let event = |deed, seen, begin, end| Event { deed, seen, begin, end };
    let write = |at, fill| Deed::Write { at, len: 2, fill };
    let read = |bytes: &[u8], begin, end| {
        event(Deed::Read { at: 0, len: 9 }, Seen::Bytes(bytes.to_vec()), begin, end)
    };
    let one = event(write(0, 1), Seen::Done, 0, 9);
    let two = event(write(1, 2), Seen::Done, 1, 8);
    assert!(explained(b"", &[one.clone(), two.clone()], &[1, 2, 2]));
    assert!(explained(b"", &[one.clone(), two.clone()], &[1, 1, 2]));
    assert!(!explained(b"", &[one.clone(), two.clone()], &[1, 1]), "a lost write");
    assert!(explained(b"", &[one.clone(), read(&[1, 1], 2, 3)], &[1, 1]));
    assert!(!explained(b"", &[one.clone(), read(&[1], 2, 3)], &[1, 1]), "a torn read");
    assert!(!explained(b"", &[one.clone(), read(&[], 10, 11)], &[1, 1]), "a read that came afterwards");
    assert!(!explained(b"", &[event(write(0, 1), Seen::Refused, 0, 1)], &[1, 1]), "refused and done");
}
