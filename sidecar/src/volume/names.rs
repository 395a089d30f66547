//! Names in a volume's root that are ours.
//!
//! Invariant: part of the format: a volume written today has them for ever.

/// The directory of all that is ours.
pub const DIR: &str = contract::names::RESERVED_NAME_PREFIX;
/// In [`DIR`]: the marker.
pub const MARKER: &str = "volume";
/// In [`DIR`]: a marker that is being written.
pub const MARKER_NEW: &str = "volume.new";
/// In [`DIR`]: the lock and the record of who serves the volume.
pub const LEASE: &str = "lease";
/// In [`DIR`]: a directory of records of open groups, named by group id.
pub const GROUPS: &str = "groups";
/// In [`DIR`]: a directory of files that were unlinked while open.
pub const ORPHANS: &str = "orphans";
