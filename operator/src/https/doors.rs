//! Places for connections: so many in all, and so many of one address.
//!
//! Invariant: a place is given back when it is dropped, whatever ended the connection.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The places.
pub struct Doors {
    most: usize,
    of_one_peer: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_peer: HashMap<IpAddr, usize>,
    /// That there was no place has been logged, and there has been none since.
    said: bool,
}

/// A place that is taken.
pub struct Place {
    doors: Arc<Doors>,
    peer: IpAddr,
}

impl Doors {
    /// All are free.
    pub fn new(most: usize, of_one_peer: usize) -> Arc<Self> {
        Arc::new(Self { most, of_one_peer, taken: Mutex::default() })
    }

    /// A place, if there is one for this peer.
    pub fn enter(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let peer = owner(peer);
        let mut taken = self.taken();
        let of_peer = taken.by_peer.get(&peer).copied().unwrap_or(0);
        if taken.all >= self.most || of_peer >= self.of_one_peer {
            if !std::mem::replace(&mut taken.said, true) {
                tracing::warn!(%peer, connections = taken.all, of_peer, "no place for another connection");
            }
            return None;
        }
        taken.said = false;
        taken.all += 1;
        *taken.by_peer.entry(peer).or_default() += 1;
        Some(Place { doors: self.clone(), peer })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.doors.taken();
        taken.all -= 1;
        if let Some(of_peer) = taken.by_peer.get_mut(&self.peer) {
            *of_peer -= 1;
            if *of_peer == 0 {
                taken.by_peer.remove(&self.peer);
            }
        }
    }
}

/// The address that stands for all of one owner: of IPv6 everybody has a /64. An IPv4 address stays one where the socket speaks both.
pub fn owner(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn peer(number: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, number])
    }

    #[test]
    fn nobody_has_all_places_and_a_place_is_given_back() {
        let doors = Doors::new(3, 2);
        let mut inside = vec![doors.enter(peer(1)).unwrap(), doors.enter(peer(1)).unwrap()];
        assert!(doors.enter(peer(1)).is_none(), "two are enough for one");
        inside.push(doors.enter(peer(2)).unwrap());
        assert!(doors.enter(peer(3)).is_none(), "three are enough for all");
        inside.remove(0);
        assert!(doors.enter(peer(3)).is_some());
        inside.clear();
        assert!(doors.taken().by_peer.is_empty() && doors.taken().all == 0);
    }

    #[test]
    fn who_has_many_addresses_of_ipv6_is_one_peer() {
        let doors = Doors::new(9, 1);
        let taken = doors.enter("2001:db8:0:1::1".parse().unwrap());
        assert!(taken.is_some() && doors.enter("2001:db8:0:1:ffff::2".parse().unwrap()).is_none());
        assert!(doors.enter("2001:db8:0:2::1".parse().unwrap()).is_some());
    }
}
