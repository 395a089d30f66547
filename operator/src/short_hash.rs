//! Names that are made of other names, where those are too long to stand for themselves.
//!
//! Invariant: the same parts always give the same text, in every replica and version: objects are found again by it.

use sha2::{Digest, Sha256};

/// The first hexadecimal digits of a hash over these parts.
pub fn short_hash(parts: &[&str], digits: usize) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        // No name has a NUL, so that other parts never give the same bytes.
        hash.update([0]);
    }
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    hex[..digits].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_parts_give_the_same_digits_for_ever_and_others_give_others() {
        assert_eq!(short_hash(&["files", "v2"], 10), "2c7c832139");
        assert_eq!(short_hash(&["files", "v2"], 32)[..10], *"2c7c832139");
        assert_ne!(short_hash(&["filesv", "2"], 10), short_hash(&["files", "v2"], 10));
        assert_ne!(short_hash(&["filesv2"], 10), short_hash(&["files", "v2"], 10));
    }
}
