//! What failed once. Sequences come with their seeds in `regressions.txt` too; races are run often, because chance decides.

use envelope::Ownership;

use crate::order::Deed;
use crate::racing::Race;
use crate::real::Make;

const ROUNDS: usize = 150;

fn race(threads: Vec<Vec<Deed>>, header_pages: u8) {
    let make = Make { ownership: Ownership::Native, strict: false, seal: false, header_pages };
    if let Err(why) = (Race { before: 0, threads, trouble: false }).run(make, ROUNDS) {
        panic!("{why}");
    }
}

/// A file that was being shortened showed a size of whole blocks, and zeros behind the new end.
#[test]
fn a_reader_beside_a_truncation_sees_one_size_or_the_other() {
    let (write, read) = (|at, len, fill| Deed::Write { at, len, fill }, |at, len| Deed::Read { at, len });
    race(
        vec![
            vec![read(5294, 1944), write(10_255, 1889, 34), read(9843, 1301)],
            vec![Deed::Truncate { size: 6124 }],
            vec![write(2853, 1195, 46), read(10_233, 1911), write(4120, 2713, 13)],
        ],
        1,
    );
}

/// Who cut an empty file to nothing took away the header that somebody else was just writing.
#[test]
fn a_truncation_to_nothing_beside_the_first_write_leaves_the_header() {
    race(
        vec![
            vec![Deed::Grow { at: 0, len: 214 }],
            vec![Deed::Truncate { size: 0 }, Deed::Write { at: 12_145, len: 5669, fill: 44 }],
            vec![
                Deed::Write { at: 4047, len: 2335, fill: 48 },
                Deed::Truncate { size: 8190 },
                Deed::Truncate { size: 13_671 },
            ],
        ],
        16,
    );
}
