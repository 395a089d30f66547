//! The library in front of SoftHSM that counts and troubles: `shim.c`, compiled when it is needed.
//!
//! Invariant: what is read and written here lies in the file as `struct state` says there.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use kms::Op;

use crate::bench::Trouble;

/// Where SoftHSM lies in Debian and elsewhere.
pub(super) const REAL: &str = "/usr/lib/softhsm/libsofthsm2.so";

const WORD: u64 = 8;
const HOOKS: u64 = 4;
// A hook is four words.
const CALLS: u64 = 0;
const MODE: u64 = 1;
const RESULT: u64 = 2;
const TIMES: u64 = 3;
const LOG_OUT: u64 = HOOKS * 4;
const FINALIZE: u64 = LOG_OUT + 1;
const LEN: u64 = 4096;

// Modes.
const NONE: u64 = 0;
const BEFORE: u64 = 1;
const AFTERWARDS: u64 = 2;
const BLOCK: u64 = 3;
const CUT: u64 = 4;
const FIRST: u64 = 5;

/// The file that shim and bench share.
pub(super) struct Shim(File);

/// Compiles it beside `program`.
pub(super) fn build(program: &Path) -> PathBuf {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/softhsm/shim.c");
    let library = program.with_extension("shim.so");
    // Another process may use the one that is there.
    let new = program.with_extension(format!("shim.{}", std::process::id()));
    let mut compiler = Command::new("gcc");
    compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", source, "-o"]).arg(&new);
    let done = compiler.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    std::fs::rename(new, &library).unwrap();
    library
}

/// What a token answers in place of the trouble that a service has, with and without data in the answer.
fn answer(op: Op, trouble: Trouble) -> (u64, u64) {
    const GENERAL_ERROR: u64 = 0x5;
    match trouble {
        // CKR_DEVICE_ERROR, which the first call of an operation meets
        Trouble::ServerError if op == Op::Unwrap => (FIRST, 0x30),
        Trouble::ServerError => (BEFORE, 0x30),
        // CKR_SESSION_COUNT, CKR_DEVICE_MEMORY
        Trouble::Throttled { retry_after: None } => (BEFORE, 0xb1),
        Trouble::Throttled { retry_after: Some(_) } => (BEFORE, 0x31),
        // CKR_DEVICE_REMOVED
        Trouble::Reset => (BEFORE, 0x32),
        Trouble::ResetAfterwards => (AFTERWARDS, 0x32),
        Trouble::Truncated if op == Op::Unwrap => (CUT, 0),
        Trouble::Truncated => (BEFORE, GENERAL_ERROR),
        // CKR_FUNCTION_FAILED, CKR_HOST_MEMORY
        Trouble::BadJson => (BEFORE, 0x6),
        Trouble::Oversized => (BEFORE, 0x2),
        // CKR_VENDOR_DEFINED and one
        Trouble::WrongType => (BEFORE, 0x8000_0001),
        Trouble::Silence => (BLOCK, 0),
    }
}

/// The function of the library that carries an operation out.
fn hook(op: Op) -> Option<u64> {
    match op {
        Op::Authenticate => Some(0),
        Op::Describe => Some(1),
        Op::Wrap => Some(2),
        Op::Unwrap => Some(3),
        _ => None,
    }
}

impl Shim {
    /// An empty one.
    pub(super) fn create(path: &Path) {
        File::create(path).unwrap().set_len(LEN).unwrap();
    }

    pub(super) fn open(path: &Path) -> Self {
        Self(OpenOptions::new().read(true).write(true).open(path).unwrap())
    }

    fn read(&self, word: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, word * WORD).unwrap();
        u64::from_ne_bytes(bytes)
    }

    fn write(&self, word: u64, value: u64) {
        self.0.write_all_at(&value.to_ne_bytes(), word * WORD).unwrap();
    }

    /// Calls since the last reset.
    pub(super) fn requests(&self, op: Op) -> u64 {
        hook(op).map_or(0, |hook| self.read(hook * 4 + CALLS))
    }

    pub(super) fn reset(&self) {
        (0..HOOKS).for_each(|hook| self.write(hook * 4 + CALLS, 0));
    }

    pub(super) fn trouble(&self, op: Op, trouble: Trouble, times: Option<u64>) {
        let at = hook(op).expect("an operation that a token has") * 4;
        let (mode, result) = answer(op, trouble);
        self.write(at + RESULT, result);
        self.write(at + TIMES, times.unwrap_or(u64::MAX));
        self.write(at + MODE, mode);
    }

    /// Answers `calls` calls of an operation with a return value.
    pub(super) fn answer(&self, op: Op, result: u64, times: Option<u64>) {
        let at = hook(op).expect("an operation that a token has") * 4;
        self.write(at + RESULT, result);
        self.write(at + TIMES, times.unwrap_or(u64::MAX));
        self.write(at + MODE, BEFORE);
    }

    pub(super) fn heal(&self) {
        (0..HOOKS).for_each(|hook| self.write(hook * 4 + MODE, NONE));
    }

    /// Before the next call, the process is logged out.
    pub(super) fn log_out(&self) {
        self.write(LOG_OUT, 1);
    }

    /// Before the next call, the library is finalised.
    pub(super) fn finalize(&self) {
        self.write(FINALIZE, 1);
    }
}
