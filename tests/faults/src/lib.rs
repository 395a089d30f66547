//! What happens to a volume when the machine under it fails: power cuts, a killed server, a full disk, a failing device.
//!
//! Invariant: a load notes what it was promised before anything is broken, and the check afterwards compares every promise
//! with what is there; what was not promised may be old or new, and is never garbage or an error. Everything is made in a
//! [`Place`] of its own, which takes away what it made and what an earlier run that was killed left.

pub mod command;
pub mod device;
pub mod dice;
pub mod disk;
pub mod kill;
pub mod kms;
pub mod load;
pub mod place;
pub mod power;
pub mod server;
pub mod serving;
pub mod vectors;

pub use self::kms::RootKey;
pub use device::Device;
pub use dice::Dice;
pub use disk::{Disk, Format};
pub use load::{Findings, Load, Promise};
pub use place::{Place, able};
pub use server::{Kind, Server};
