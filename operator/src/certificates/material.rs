//! What the operator holds, and what must be renewed now.
//!
//! Invariant: pure but for the randomness of new keys; the same material at the same time needs the same renewals in every replica.

use secrecy::SecretString;

use super::issue::{self, IssueError};

/// Life of an authority in seconds: a year.
pub const AUTHORITY_LIFE: i64 = 365 * 86_400;
/// Life of a serving certificate in seconds: 90 days.
pub const SERVING_LIFE: i64 = 90 * 86_400;
/// How long a new authority is published before anything is signed with it, in seconds. Kubelet refreshes ConfigMaps within two
/// minutes.
pub const PROPAGATION: i64 = 600;

/// A certificate authority.
#[derive(Clone, Debug)]
pub struct Authority {
    /// Tells it from others; part of its subject.
    pub serial: String,
    /// PEM.
    pub certificate: String,
    /// PEM; gone once a newer authority signs.
    pub key: Option<SecretString>,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// When it expires, in seconds since 1970.
    pub not_after: i64,
}

/// The certificate of the servers.
#[derive(Clone, Debug)]
pub struct Serving {
    /// PEM.
    pub certificate: String,
    /// PEM.
    pub key: SecretString,
    /// `serial` of its authority.
    pub issuer: String,
    /// DNS names that it is for.
    pub names: Vec<String>,
    /// When it expires, in seconds since 1970.
    pub not_after: i64,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Material {
    /// Authorities that clients are to trust, oldest first.
    pub authorities: Vec<Authority>,
    /// What is served.
    pub serving: Serving,
}

impl Material {
    /// Every authority that clients are to trust, as one PEM bundle.
    pub fn bundle(&self) -> String {
        self.authorities.iter().map(|authority| authority.certificate.trim_end().to_owned() + "\n").collect()
    }
}

/// The material that should be there at `now`; none where `material` is as it should be.
pub fn renewed(
    material: Option<&Material>,
    names: &[String],
    now: i64,
) -> Result<Option<Material>, IssueError> {
    let old = material.map(|material| material.authorities.as_slice()).unwrap_or_default();
    let mut authorities: Vec<Authority> = old.iter().filter(|one| one.not_after > now).cloned().collect();
    let mut changed = authorities.len() != old.len();
    let newest = authorities.last().filter(|one| one.key.is_some());
    if newest.is_none_or(|one| one.not_after - now < AUTHORITY_LIFE / 3) {
        authorities.push(issue::authority(now)?);
        changed = true;
    }
    // The newest that everybody has had time to see; else the oldest that can still sign.
    let seen = authorities.iter().rposition(|one| one.key.is_some() && now - one.created >= PROPAGATION);
    let able = authorities.iter().position(|one| one.key.is_some());
    let at = seen.or(able).expect("the newest authority has a key");
    for retired in authorities.iter_mut().take(at) {
        changed |= retired.key.take().is_some();
    }
    let signing = &authorities[at];
    let kept = material.map(|material| &material.serving).filter(|serving| {
        serving.issuer == signing.serial
            && serving.names == names
            && serving.not_after - now > SERVING_LIFE / 3
    });
    let serving = match kept {
        Some(serving) if !changed && serving.not_after > now => return Ok(None),
        Some(serving) => serving.clone(),
        None => issue::serving(signing, names, now)?,
    };
    Ok(Some(Material { authorities, serving }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const START: i64 = 1_800_000_000;

    fn names() -> Vec<String> {
        vec!["cofferdam-operator.cofferdam-system.svc".into()]
    }

    /// The material after a replica has looked at it every day until `now`.
    fn after(days: i64) -> Material {
        let mut material = renewed(None, &names(), START).unwrap().unwrap();
        for day in 1..=days {
            if let Some(next) = renewed(Some(&material), &names(), START + day * 86_400).unwrap() {
                material = next;
            }
        }
        material
    }

    #[test]
    fn nothing_is_renewed_before_it_is_due() {
        let material = renewed(None, &names(), START).unwrap().unwrap();
        assert_eq!(material.authorities.len(), 1);
        assert_eq!(material.serving.issuer, material.authorities[0].serial);
        for day in [0, 1, 30, 59] {
            assert!(renewed(Some(&material), &names(), START + day * 86_400).unwrap().is_none(), "day {day}");
        }
    }

    #[test]
    fn the_serving_certificate_is_renewed_by_the_same_authority() {
        let before = after(0);
        let renewal = renewed(Some(&before), &names(), START + 61 * 86_400).unwrap().unwrap();
        assert_eq!(renewal.authorities.len(), 1);
        assert_eq!(renewal.serving.issuer, before.serving.issuer);
        assert_ne!(renewal.serving.certificate, before.serving.certificate);
    }

    #[test]
    fn a_new_authority_is_published_before_it_signs_and_the_old_one_until_it_expires() {
        let before = after(240);
        let now = START + 244 * 86_400;
        let overlap = renewed(Some(&before), &names(), now).unwrap().unwrap();
        assert_eq!(overlap.authorities.len(), 2);
        assert_eq!(overlap.serving.issuer, overlap.authorities[0].serial, "not signed by it yet");
        assert_eq!(overlap.bundle().matches("BEGIN CERTIFICATE").count(), 2);

        assert!(renewed(Some(&overlap), &names(), now + PROPAGATION - 1).unwrap().is_none());
        let switched = renewed(Some(&overlap), &names(), now + PROPAGATION).unwrap().unwrap();
        assert_eq!(switched.serving.issuer, switched.authorities[1].serial);
        assert!(switched.authorities[0].key.is_none(), "a retired authority signs no more");
        assert_eq!(switched.bundle().matches("BEGIN CERTIFICATE").count(), 2);

        let alone = renewed(Some(&switched), &names(), START + AUTHORITY_LIFE).unwrap().unwrap();
        assert_eq!(alone.authorities.len(), 1);
    }

    #[test]
    fn at_no_time_is_a_certificate_served_that_is_expired_or_that_clients_do_not_trust() {
        let mut material = after(0);
        for day in 0..1200 {
            let now = START + day * 86_400;
            if let Some(next) = renewed(Some(&material), &names(), now).unwrap() {
                // Clients still trust what was published before this renewal.
                assert!(
                    material.authorities.iter().any(|one| one.serial == next.serving.issuer),
                    "day {day}"
                );
                material = next;
            }
            assert!(material.serving.not_after > now + 86_400);
            let issuer =
                material.authorities.iter().find(|one| one.serial == material.serving.issuer).unwrap();
            assert!(issuer.not_after > now + 86_400, "day {day}");
        }
    }

    #[test]
    fn other_names_need_another_certificate() {
        let other = vec!["elsewhere.svc".into()];
        let renewal = renewed(Some(&after(0)), &other, START + 60).unwrap().unwrap();
        assert_eq!(renewal.serving.names, other);
    }

    #[test]
    fn after_a_year_of_absence_everything_is_made_anew() {
        let renewal = renewed(Some(&after(0)), &names(), START + 2 * AUTHORITY_LIFE).unwrap().unwrap();
        assert_eq!(renewal.authorities.len(), 1);
        assert_eq!(renewal.serving.issuer, renewal.authorities[0].serial);
    }
}
