//! The project's commands as a library, so that the tests drive the cluster through the same code as a person does.
//! Invariant: everything that a command leaves on the machine is below the run or the cache folder.

pub mod bench;
pub mod cluster;
pub mod debian;
pub mod demo;
mod digest;
pub mod generate;
pub mod image;
pub mod install;
pub mod mounts;
pub mod openbao;
pub mod places;
pub mod process;
pub mod progress;
pub mod suites;
pub mod test;
