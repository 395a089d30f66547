//! Random choices that can be made again. Invariant: the same seed gives the same choices.

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that fall as `seed` says.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Dice of their own, for the `index`th user of these.
    #[must_use]
    pub fn child(&self, index: u64) -> Self {
        Self(mix(self.0 ^ mix(index)))
    }

    /// Any number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.roll() % end as u64) as usize
    }

    /// Yes, in `percent` of all cases.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// `len` bytes that tell what they are and where; none of them is 0, so that a byte that was lost can be told from one that
/// was never written.
pub fn pattern(what: u64, len: usize) -> Vec<u8> {
    let mut dice = Dice::new(what);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend(dice.roll().to_le_bytes().map(|byte| byte.max(1)));
    }
    bytes.truncate(len);
    bytes
}

/// A seed from the environment variable `COFFERDAM_SEED`, or a fresh one.
pub fn seed() -> u64 {
    let given = std::env::var("COFFERDAM_SEED").ok().and_then(|text| text.parse().ok());
    let fresh = || {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |t| t.as_nanos() as u64)
    };
    given.unwrap_or_else(fresh)
}

/// How many rounds a test does: `usual`, or with `COFFERDAM_LONG=1` as many as `long`.
pub fn rounds(usual: u32, long: u32) -> u32 {
    if std::env::var("COFFERDAM_LONG").is_ok_and(|value| value == "1") { long } else { usual }
}
