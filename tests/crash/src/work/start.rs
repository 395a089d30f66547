//! The volume from which each workload begins: a large file in the root, a small one with an attribute in a directory, all
//! durable. Two more names are free.
//!
//! Invariant: made by the filesystem under test itself.

use super::op::Op;
use super::run::{App, Volume};
use crate::disk::{Image, Mount};
use crate::oracle::written;

/// Bytes of the large file `A`: two blocks and a part.
pub const LARGE: u64 = 2 * 4048 + 100;
/// Bytes of the small file `d/C`.
pub const SMALL: u64 = 100;

/// What makes it.
pub const START: [Op; 6] = [
    Op::Create("A"),
    Op::Append("A", LARGE),
    Op::Mkdir("d"),
    Op::Create("d/C"),
    Op::Append("d/C", SMALL),
    Op::SetXattr("d/C"),
];

/// The image of the volume.
pub fn start(mount: &Mount, volume: &Volume) -> Image {
    volume.keys.rotate("1");
    let (number, dir) = mount.add(Image::new());
    std::fs::create_dir(dir.join(".cofferdam")).unwrap();
    let mut app: App = volume.serve(dir).unwrap();
    for (at, op) in START.iter().enumerate() {
        app.run(*op, &written(*op, START.len() + at)).unwrap();
    }
    drop(app);
    mount.remove(number).image
}
