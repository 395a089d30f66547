//! May keys be used? The state machine between what the KMS says and what the volume does.
//!
//! Invariant: only a real unwrap makes keys usable, and for no longer than TTL and grace; a refusal ends that at once; the
//! absence of an answer never does before its time, and is never called a refusal.

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
    access: Access,
}

impl Machine {
    /// Keys live for `ttl` after a proof, and `grace` longer while there is no answer.
    pub fn new(ttl: Duration, grace: Duration) -> Self {
        Self { ttl, grace, proved: None, access: Access::Starting }
    }

    /// What holds now.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The KMS unwrapped a key; it was asked at `asked`.
    pub fn proved(&mut self, asked: Instant) {
        self.proved = self.proved.max(Some(asked));
        self.access = Access::Serving;
    }

    /// The KMS refused.
    pub fn refused(&mut self, why: Why) {
        self.proved = None;
        self.access = Access::Suspended(why);
    }

    /// The KMS gave no answer, for `why`.
    pub fn unanswered(&mut self, now: Instant, why: Why) {
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
        self.proved.map(|proved| proved + self.ttl + self.grace)
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
        machine.unanswered(start + TTL + GRACE - Duration::from_secs(1), why("KmsUnreachable"));
        assert!(machine.access().serves());
        machine.unanswered(start + TTL + GRACE, why("KmsUnreachable"));
        assert_eq!(machine.access(), &Access::Unreachable(why("KmsUnreachable")));
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
        machine.unanswered(start, why("KmsTimeout"));
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
        machine.unanswered(Instant::now(), why("KmsTimeout"));
        assert_eq!(machine.access(), &Access::Unreachable(why("KmsTimeout")));
    }
}
