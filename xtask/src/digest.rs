//! SHA-256 as text: names of what is built, digests of images. Invariant: lower-case hex, two digits for each byte.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// All of the digest of `bytes`: 64 digits.
pub fn of(bytes: impl AsRef<[u8]>) -> String {
    hex(&Sha256::digest(bytes))
}

/// The first 16 digits of a digest: enough for a name.
pub fn short(hash: Sha256) -> String {
    hex(&hash.finalize()[..8])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_nothing_is_the_known_one() {
        let known = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"; // FIPS 180-4
        assert_eq!(of([]), known);
        assert_eq!(short(Sha256::new()), known[..16]);
    }
}
