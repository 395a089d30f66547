//! How many reviews that end badly one peer may cause: a token bucket for each address.
//!
//! Invariant: what is remembered is bounded, however many addresses there are; a peer whose bucket is full takes no room.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::https::owner;

/// What a full bucket holds, and so how many bad tokens one address may present at once.
///
/// An address may stand for a whole node: kubelet runs 110 pods by default and 250 where somebody asked for it, and a network
/// may translate them all to the node's address. They need no room here, because a review that accepts gives its charge
/// back: after the operator began anew, each of 250 sidecars is charged for the milliseconds of one review, and no more than
/// [`super::identity::AT_ONCE`] of those run at a time. So the number is chosen for honest tokens that are refused: the
/// sidecars of a node whose pods are all deleted at once, each of which may come once more with a token that has died
/// with its pod. 64 then, and 4 more in each second, is more than 110 pods in 30 s need.
const FULL: i64 = 64;
/// What flows back in a second, and so how many bad tokens of one address the API server is asked about in a second, for as
/// long as anybody likes. It verifies thousands.
const A_SECOND: i64 = 4;
/// Addresses that are told apart. All others share one bucket: their owners can do no more together than one address could.
/// Each is forgotten 16 s after its last bad token, so that as many need 256 refused reviews in each second.
const MOST: usize = 4096;

/// The buckets.
#[derive(Default)]
pub struct Allowance {
    buckets: HashMap<Option<IpAddr>, Bucket>,
}

struct Bucket {
    left: i64,
    at: i64,
}

/// Whose bucket was charged.
#[derive(Clone, Copy, Debug)]
pub struct Charged(Option<IpAddr>);

impl Bucket {
    /// A clock that was set back gives nothing, and takes nothing.
    fn flow(&mut self, now: i64) {
        let passed = (now - self.at).clamp(0, FULL);
        self.left = (self.left + passed * A_SECOND).min(FULL);
        self.at = now;
    }
}

impl Allowance {
    /// Charges a peer for a review; `None`: its bucket is empty. `now` in seconds.
    pub fn charge(&mut self, peer: IpAddr, now: i64) -> Option<Charged> {
        let of = self.bucket_of(owner(peer), now);
        let bucket = self.buckets.entry(of).or_insert(Bucket { left: FULL, at: now });
        bucket.flow(now);
        if bucket.left == 0 {
            return None;
        }
        bucket.left -= 1;
        Some(Charged(of))
    }

    /// Gives a charge back: the review accepted.
    pub fn refund(&mut self, Charged(of): Charged) {
        let Some(bucket) = self.buckets.get_mut(&of) else { return };
        bucket.left = (bucket.left + 1).min(FULL);
        if bucket.left == FULL {
            self.buckets.remove(&of);
        }
    }

    fn bucket_of(&mut self, peer: IpAddr, now: i64) -> Option<IpAddr> {
        if self.buckets.len() >= MOST && !self.buckets.contains_key(&Some(peer)) {
            self.buckets.retain(|_, bucket| {
                bucket.flow(now);
                bucket.left < FULL
            });
            if self.buckets.len() >= MOST {
                return None;
            }
        }
        Some(peer)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn drain(allowance: &mut Allowance, peer: IpAddr, now: i64) -> usize {
        std::iter::from_fn(|| allowance.charge(peer, now)).take(10_000).count()
    }

    #[test]
    fn a_peer_has_so_many_at_once_and_then_a_few_in_each_second() {
        let (mut allowance, peer) = (Allowance::default(), address("10.0.0.1"));
        assert_eq!(drain(&mut allowance, peer, 100), 64);
        assert_eq!(drain(&mut allowance, peer, 100), 0);
        assert_eq!(drain(&mut allowance, peer, 101), 4);
        assert_eq!(drain(&mut allowance, peer, 10_000), 64, "no more than a full bucket");
        assert_eq!(drain(&mut allowance, address("10.0.0.2"), 101), 64, "another peer has its own");
    }

    #[test]
    fn a_clock_that_is_set_back_stops_nobody_for_long() {
        let (mut allowance, peer) = (Allowance::default(), address("10.0.0.1"));
        assert_eq!(drain(&mut allowance, peer, 10_000), 64);
        assert_eq!(drain(&mut allowance, peer, 100), 0);
        assert_eq!(drain(&mut allowance, peer, 101), 4);
    }

    #[test]
    fn what_is_given_back_can_be_charged_again_and_a_full_bucket_is_forgotten() {
        let (mut allowance, peer) = (Allowance::default(), address("10.0.0.1"));
        for _ in 0..1000 {
            let charged = allowance.charge(peer, 100).unwrap();
            allowance.refund(charged);
        }
        assert!(allowance.buckets.is_empty());
        let charged = allowance.charge(peer, 100).unwrap();
        assert_eq!(drain(&mut allowance, peer, 100), 63);
        allowance.refund(charged);
        assert_eq!(drain(&mut allowance, peer, 100), 1);
    }

    #[test]
    fn ipv6_counts_by_64_bits_and_a_mapped_address_is_the_one_that_it_maps() {
        let mut allowance = Allowance::default();
        assert_eq!(drain(&mut allowance, address("2001:db8:0:1::1"), 100), 64);
        assert_eq!(drain(&mut allowance, address("2001:db8:0:1:ffff::2"), 100), 0);
        assert_eq!(drain(&mut allowance, address("2001:db8:0:2::1"), 100), 64);
        assert_eq!(drain(&mut allowance, address("::ffff:10.0.0.1"), 100), 64);
        assert_eq!(drain(&mut allowance, address("10.0.0.1"), 100), 0);
        assert_eq!(drain(&mut allowance, address("::ffff:10.0.0.2"), 100), 64, "these are no /64");
    }

    #[test]
    fn however_many_addresses_there_are_what_is_remembered_is_bounded() {
        let mut allowance = Allowance::default();
        let peer = |number: usize| IpAddr::from((number as u32).to_be_bytes());
        for number in 0..MOST {
            allowance.charge(peer(number), 100).unwrap();
        }
        let shared = (MOST..3 * MOST).filter(|number| allowance.charge(peer(*number), 100).is_some()).count();
        assert_eq!(shared, 64, "all others share one bucket");
        assert_eq!(allowance.buckets.len(), MOST + 1);
        assert_eq!(drain(&mut allowance, peer(0), 100), 63, "who is known has its own");
        // Full again, and so forgotten.
        assert_eq!(drain(&mut allowance, peer(3 * MOST), 200), 64);
        assert_eq!(allowance.buckets.len(), 1);
    }
}
