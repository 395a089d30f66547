//! May keys be used? The state machine between what the KMS says and what the volume does.
//!
//! Invariant: only a real unwrap makes keys usable, and for no longer than TTL and grace; a refusal ends that at once; the
//! absence of an answer never does before its time, and is never called a refusal. The grace is for outages alone: an
//! answer that helps nobody (a rejected credential) has none.

use std::time::Duration;

use tokio::time::Instant;

/// What the volume may do with keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing is known yet.
    Starting,
    /// Keys may be used.
    Serving,
    /// The root key is refused.
    Suspended(Why),
    /// No answer came for longer than keys may live.
    Unreachable(Why),
}

impl Access {
    /// Keys may be used.
    pub fn serves(&self) -> bool {
        *self == Self::Serving
    }
}

/// A reason, for programs and for persons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    /// A PascalCase word.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

/// The machine. It has no clock of its own.
#[derive(Debug)]
pub struct Machine {
    ttl: Duration,
    grace: Duration,
    /// When the KMS was asked for the last unwrap that succeeded.
    proved: Option<Instant>,
    /// Something else than an outage came in the way since then.
    answered: bool,
    access: Access,
}

impl Machine {
    /// Keys live for `ttl` after a proof, and `grace` longer while there is no answer.
    pub fn new(ttl: Duration, grace: Duration) -> Self {
        Self { ttl, grace, proved: None, answered: false, access: Access::Starting }
    }

    /// What holds now.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The KMS unwrapped a key; it was asked at `asked`.
    pub fn proved(&mut self, asked: Instant) {
        self.proved = self.proved.max(Some(asked));
        self.answered = false;
        self.access = Access::Serving;
    }

    /// The KMS refused.
    pub fn refused(&mut self, why: Why) {
        self.proved = None;
        self.access = Access::Suspended(why);
    }

    /// Nothing was heard of the key itself, for `why`; `outage`: because the KMS gave no usable answer.
    pub fn unanswered(&mut self, now: Instant, why: Why, outage: bool) {
        self.answered |= !outage;
        let over = self.ends().is_none_or(|end| now >= end);
        match self.access {
            Access::Serving if !over => {}
            // A refusal stands until the KMS takes it back.
            Access::Suspended(_) => {}
            Access::Starting | Access::Serving | Access::Unreachable(_) => {
                self.proved = None;
                self.access = Access::Unreachable(why);
            }
        }
    }

    /// When keys must go without another proof; `None` where they may not be used anyway.
    pub fn ends(&self) -> Option<Instant> {
        let grace = if self.answered { Duration::ZERO } else { self.grace };
        self.proved.map(|proved| proved + self.ttl + grace)
    }

    /// Whether a real unwrap is due, given that the next chance comes `next` after `now`.
    pub fn needs_proof(&self, now: Instant, next: Duration) -> bool {
        match self.proved {
            Some(proved) if self.access.serves() => now + next >= proved + self.ttl,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_mins(5);
    const GRACE: Duration = Duration::from_mins(1);

    fn why(reason: &'static str) -> Why {
        Why { reason, message: String::new() }
    }

    fn serving() -> (Machine, Instant) {
        let (mut machine, start) = (Machine::new(TTL, GRACE), Instant::now());
        machine.proved(start);
        (machine, start)
    }

    #[test]
    fn an_outage_takes_keys_away_only_after_ttl_and_grace() {
        let (mut machine, start) = serving();
        machine.unanswered(start + TTL + GRACE - Duration::from_secs(1), why("KmsUnreachable"), true);
        assert!(machine.access().serves());
        machine.unanswered(start + TTL + GRACE, why("KmsUnreachable"), true);
        assert_eq!(machine.access(), &Access::Unreachable(why("KmsUnreachable")));
    }

    #[test]
    fn a_rejected_credential_has_no_grace_and_an_outage_after_it_brings_none_back() {
        let (mut machine, start) = serving();
        machine.unanswered(start, why("CredentialRejected"), false);
        assert_eq!(machine.ends(), Some(start + TTL));
        machine.unanswered(start + TTL - Duration::from_secs(1), why("KmsTimeout"), true);
        assert!(machine.access().serves());
        machine.unanswered(start + TTL, why("KmsTimeout"), true);
        assert_eq!(machine.access(), &Access::Unreachable(why("KmsTimeout")));
        machine.proved(start + TTL);
        assert_eq!(machine.ends(), Some(start + TTL + TTL + GRACE));
    }

    #[test]
    fn a_refusal_takes_keys_away_at_once_whatever_the_grace() {
        let (mut machine, _) = serving();
        machine.refused(why("KeyDisabled"));
        assert_eq!(machine.access(), &Access::Suspended(why("KeyDisabled")));
        assert_eq!(machine.ends(), None);
    }

    #[test]
    fn an_outage_after_a_refusal_does_not_lift_it() {
        let (mut machine, start) = serving();
        machine.refused(why("KeyDisabled"));
        machine.unanswered(start, why("KmsTimeout"), true);
        assert_eq!(machine.access(), &Access::Suspended(why("KeyDisabled")));
        machine.proved(start + TTL);
        assert!(machine.access().serves());
    }

    #[test]
    fn a_proof_counts_from_the_question_and_is_asked_for_before_it_ends() {
        let (mut machine, start) = serving();
        assert!(!machine.needs_proof(start, Duration::from_mins(1)));
        assert!(machine.needs_proof(start + Duration::from_mins(4), Duration::from_mins(1)));
        machine.proved(start + Duration::from_mins(4));
        // An answer that was slow proves nothing newer.
        machine.proved(start + Duration::from_mins(2));
        assert_eq!(machine.ends(), Some(start + Duration::from_mins(4) + TTL + GRACE));
    }

    #[test]
    fn before_the_first_proof_no_key_is_used() {
        let mut machine = Machine::new(TTL, GRACE);
        assert!(!machine.access().serves() && machine.needs_proof(Instant::now(), Duration::ZERO));
        machine.unanswered(Instant::now(), why("KmsTimeout"), true);
        assert_eq!(machine.access(), &Access::Unreachable(why("KmsTimeout")));
    }
}
