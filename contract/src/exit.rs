//! Exit codes of Cofferdam's programs. They follow `sysexits.h` where it has a word for it.
//!
//! Invariant: a code has one meaning in all programs, for ever.

/// All went well.
pub const OK: i32 = 0;
/// It failed in a way that has no code of its own; the message says how.
pub const FAILURE: i32 = 1;
/// The command line was wrong.
pub const USAGE: i32 = 64;
/// Data on the volume is damaged or of an unknown format version.
pub const DATA: i32 = 65;
/// The KMS refused: disabled, denied, destroyed; or the API server did. Asking again does not help until a person acts.
pub const REFUSED: i32 = 77;
/// The KMS, the operator or the API server could not be reached: asking again may help.
pub const UNAVAILABLE: i32 = 69;
/// The configuration is wrong.
pub const CONFIG: i32 = 78;
/// The work is done only in part; what is left is counted as unknown.
pub const INCOMPLETE: i32 = 75;
/// The gate proved that the mount is not the encrypted one.
pub const WRONG_MOUNT: i32 = 90;
