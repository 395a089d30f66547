//! The kernel's parameter that offers FUSE over io_uring. Invariant: it is as it was when this is dropped.

use std::fs;

const PARAMETER: &str = "/sys/module/fuse/parameters/enable_uring";

/// The parameter, switched on.
pub struct Offered {
    before: String,
}

impl Offered {
    /// Switches it on; `None`, loudly, where that cannot be.
    pub fn switch_on() -> Option<Self> {
        let before = fs::read_to_string(PARAMETER).unwrap_or_default();
        match fs::write(PARAMETER, "Y") {
            Ok(()) => Some(Self { before }),
            Err(error) => {
                eprintln!("SKIPPED: io_uring: {PARAMETER} cannot be set: {error}");
                None
            }
        }
    }
}

impl Drop for Offered {
    fn drop(&mut self) {
        let _ = fs::write(PARAMETER, self.before.trim());
    }
}
