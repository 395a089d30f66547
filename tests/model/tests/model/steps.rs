//! The steps of a sequence, and how they are drawn.
//!
//! Invariant: a step names what it works on by a number that is taken modulo what there is, so that a sequence stays
//! meaningful when steps are taken out of it.

use proptest::prelude::*;

/// A step. `dir`, `node` and `handle` choose among the directories, the objects and the open handles of that moment.
#[derive(Clone, Debug)]
pub enum Step {
    Create { dir: u8, name: u8, mode: u32, exclusive: bool, truncate: bool },
    Mkdir { dir: u8, name: u8, mode: u32 },
    Mknod { dir: u8, name: u8, fifo: bool },
    Symlink { dir: u8, name: u8, target: u8 },
    Link { node: u8, dir: u8, name: u8 },
    Unlink { dir: u8, name: u8 },
    Rmdir { dir: u8, name: u8 },
    Rename { dir: u8, name: u8, to_dir: u8, to_name: u8, how: How },
    Open { node: u8, write: bool, truncate: bool },
    Close { handle: u8 },
    Write { handle: u8, at: u64, len: u64, fill: u8, clear: bool },
    Read { handle: u8, at: u64, len: u64 },
    Truncate { node: u8, size: u64, clear: bool },
    Allocate { handle: u8, mode: Allocation, at: u64, len: u64 },
    Seek { handle: u8, at: u64 },
    Fsync { handle: u8, data_only: bool },
    SetXattr { node: u8, name: u8, value: u8, flags: u32 },
    RemoveXattr { node: u8, name: u8 },
    Chmod { node: u8, mode: u32 },
    Chown { node: u8, uid: Option<u32>, gid: Option<u32> },
    SetTime { node: u8, seconds: i64 },
    Suspend,
    Resume,
    Rotate,
    Rewrap,
    Forget,
    Remount { killed: bool },
}

#[derive(Clone, Copy, Debug)]
pub enum How {
    Replace,
    NoReplace,
    Exchange,
}

#[derive(Clone, Copy, Debug)]
pub enum Allocation {
    Grow,
    Keep,
    Punch,
    Zero,
    ZeroKeep,
    Collapse,
    PunchWithoutKeep,
}

impl Allocation {
    /// The flags of `fallocate(2)`.
    pub fn flags(self) -> u32 {
        let flags = match self {
            Self::Grow => 0,
            Self::Keep => libc::FALLOC_FL_KEEP_SIZE,
            Self::Punch => libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
            Self::Zero => libc::FALLOC_FL_ZERO_RANGE,
            Self::ZeroKeep => libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE,
            Self::Collapse => libc::FALLOC_FL_COLLAPSE_RANGE,
            Self::PunchWithoutKeep => libc::FALLOC_FL_PUNCH_HOLE,
        };
        flags.unsigned_abs()
    }
}

/// Offsets near the edges of blocks (4048) and of pages (4096), and any others.
pub fn place() -> impl Strategy<Value = u64> {
    let near = |unit: u64| {
        (0..5_u64, -2..=2_i64).prop_map(move |(count, off)| (count * unit).saturating_add_signed(off))
    };
    prop_oneof![4 => near(4048), 2 => near(4096), 1 => 0..20_000_u64]
}

fn length() -> impl Strategy<Value = u64> {
    prop_oneof![3 => 0..100_u64, 2 => place().prop_map(|len| len % 9000), 1 => Just(4048_u64)]
}

fn permissions() -> impl Strategy<Value = u32> {
    prop_oneof![6 => 0..0o1000_u32, 2 => (0..0o1000_u32, 0..8_u32).prop_map(|(mode, high)| mode | high << 9)]
}

/// Any step, those that move data and names more often.
pub fn step() -> impl Strategy<Value = Step> {
    prop_oneof![6 => naming(), 8 => data(), 3 => attributes(), 2 => turns()]
}

fn naming() -> impl Strategy<Value = Step> {
    let at = || (any::<u8>(), any::<u8>());
    let how = prop_oneof![3 => Just(How::Replace), 1 => Just(How::NoReplace), 2 => Just(How::Exchange)];
    prop_oneof![
        4 => (at(), permissions(), any::<bool>(), any::<bool>()).prop_map(
            |((dir, name), mode, exclusive, truncate)| Step::Create { dir, name, mode, exclusive, truncate }),
        2 => (at(), permissions()).prop_map(|((dir, name), mode)| Step::Mkdir { dir, name, mode }),
        1 => (at(), any::<bool>()).prop_map(|((dir, name), fifo)| Step::Mknod { dir, name, fifo }),
        1 => (at(), any::<u8>()).prop_map(|((dir, name), target)| Step::Symlink { dir, name, target }),
        2 => (any::<u8>(), at()).prop_map(|(node, (dir, name))| Step::Link { node, dir, name }),
        3 => at().prop_map(|(dir, name)| Step::Unlink { dir, name }),
        1 => at().prop_map(|(dir, name)| Step::Rmdir { dir, name }),
        4 => (at(), at(), how).prop_map(|((dir, name), (to_dir, to_name), how)| Step::Rename {
            dir, name, to_dir, to_name, how
        }),
    ]
}

fn data() -> impl Strategy<Value = Step> {
    let allocation = prop_oneof![
        3 => Just(Allocation::Grow), 2 => Just(Allocation::Keep), 4 => Just(Allocation::Punch),
        2 => Just(Allocation::Zero), 2 => Just(Allocation::ZeroKeep), 1 => Just(Allocation::Collapse),
        1 => Just(Allocation::PunchWithoutKeep),
    ];
    let handle = any::<u8>;
    prop_oneof![
        3 => (any::<u8>(), any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(node, write, truncate)| Step::Open { node, write, truncate }),
        2 => handle().prop_map(|handle| Step::Close { handle }),
        8 => (handle(), place(), length(), any::<u8>(), prop::bool::weighted(0.1))
            .prop_map(|(handle, at, len, fill, clear)| Step::Write { handle, at, len, fill, clear }),
        2 => (handle(), place(), length()).prop_map(|(handle, at, len)| Step::Read { handle, at, len }),
        3 => (any::<u8>(), place(), prop::bool::weighted(0.2))
            .prop_map(|(node, size, clear)| Step::Truncate { node, size, clear }),
        3 => (handle(), allocation, place(), length())
            .prop_map(|(handle, mode, at, len)| Step::Allocate { handle, mode, at, len }),
        2 => (handle(), place()).prop_map(|(handle, at)| Step::Seek { handle, at }),
        1 => (handle(), any::<bool>()).prop_map(|(handle, data_only)| Step::Fsync { handle, data_only }),
    ]
}

fn attributes() -> impl Strategy<Value = Step> {
    let id = || prop::option::of(prop_oneof![Just(0_u32), Just(1000), Just(2000)]);
    prop_oneof![
        3 => (any::<u8>(), any::<u8>(), any::<u8>(), 0..3_u32)
            .prop_map(|(node, name, value, flags)| Step::SetXattr { node, name, value, flags }),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(node, name)| Step::RemoveXattr { node, name }),
        2 => (any::<u8>(), permissions()).prop_map(|(node, mode)| Step::Chmod { node, mode }),
        1 => (any::<u8>(), id(), id()).prop_map(|(node, uid, gid)| Step::Chown { node, uid, gid }),
        2 => (any::<u8>(), -1000..2_000_000_000_i64).prop_map(|(node, seconds)| Step::SetTime { node, seconds }),
    ]
}

fn turns() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => Just(Step::Suspend), 4 => Just(Step::Resume), 2 => Just(Step::Rotate), 2 => Just(Step::Rewrap),
        2 => Just(Step::Forget), 2 => any::<bool>().prop_map(|killed| Step::Remount { killed }),
    ]
}
