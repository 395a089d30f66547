//! When to end a FUSE connection, as a table.
//!
//! Invariant: pure. A connection that somebody serves is left alone; one that nobody serves ends before a process can hang on it
//! for longer than the deadlines say; an API that cannot be asked never shortens a deadline. Somebody serves while the lease is
//! held and, where its holder promised beats, they come.

use std::time::Duration;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Mounted; INIT is still to come, and nobody but a sidecar will have seen it.
    Unseen,
    /// A sidecar has the descriptor.
    Attached,
    /// The sidecar answers.
    Serving,
    /// It was served before this driver started; the sidecar has its own descriptor.
    Adopted,
    /// Aborted.
    Ended,
}

/// What is known of the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodState {
    /// It is there and means to run.
    Alive,
    /// It is being deleted, or has finished.
    Ending,
    /// The API has no such pod.
    Gone,
    /// The API cannot be asked.
    Unknown,
}

/// What is known of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// How far it is.
    pub phase: Phase,
    /// A sidecar's control connection holds it.
    pub leased: bool,
    /// For how long the holder of the lease has sent no beat; `None`: it never promised any.
    pub silent: Option<Duration>,
    /// Since when, without a break, a process has waited for an answer.
    pub stuck: Option<Duration>,
    /// Since when the pod has been ending or gone.
    pub over: Option<Duration>,
    /// What is known of the pod now.
    pub pod: PodState,
}

/// How long to wait.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// While the pod lives.
    pub unserved: Duration,
    /// Once the pod is ending or gone.
    pub over: Duration,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Keep,
    /// Abort, and mount anew: the pod can still start.
    Renew,
    /// Abort.
    Abort(Cause),
}

/// Why a connection was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Its server died.
    ServerLost,
    /// Its server is there and hangs: it has not beaten for too long.
    ServerHung,
    /// Its server went on purpose.
    Detached,
    /// Nobody served it for too long.
    Unserved,
    /// Its pod is ending or gone.
    PodOver,
    /// Its volume was unpublished.
    Unpublished,
}

/// How many requests wait on a connection that nobody touched: INIT itself.
const INIT_ALONE: u32 = 1;

/// Whether a process waits for an answer, from the connection's count of waiting requests.
pub fn somebody_waits(phase: Phase, waiting: u32) -> bool {
    match phase {
        Phase::Unseen => waiting > INIT_ALONE,
        Phase::Attached | Phase::Serving | Phase::Adopted => waiting > 0,
        Phase::Ended => false,
    }
}

/// The table.
pub fn verdict(facts: &Facts, deadlines: &Deadlines) -> Verdict {
    let past = |since: Option<Duration>, limit| since.is_some_and(|since| since >= limit);
    let over = matches!(facts.pod, PodState::Ending | PodState::Gone) && past(facts.over, deadlines.over);
    let stuck = past(facts.stuck, deadlines.unserved);
    let stuck_briefly = past(facts.stuck, deadlines.over);
    if facts.leased && facts.phase != Phase::Ended {
        // Its containers are being killed: a server that stopped answering without dying would keep them from ending. As long as
        // the API has the pod, its server may be busy with the last requests: beats tell that from hanging.
        let hangs = facts.pod == PodState::Gone || past(facts.silent, deadlines.over);
        return match () {
            () if past(facts.silent, deadlines.unserved) => Verdict::Abort(Cause::ServerHung),
            () if over && stuck_briefly && hangs => Verdict::Abort(Cause::PodOver),
            () => Verdict::Keep,
        };
    }
    match facts.phase {
        Phase::Unseen | Phase::Attached if over => Verdict::Abort(Cause::PodOver),
        Phase::Unseen | Phase::Attached if stuck => Verdict::Renew,
        // The abort at the lease's end failed: again.
        Phase::Serving => Verdict::Abort(Cause::ServerLost),
        Phase::Adopted if over && stuck_briefly => Verdict::Abort(Cause::PodOver),
        Phase::Adopted if stuck => Verdict::Abort(Cause::Unserved),
        Phase::Unseen | Phase::Attached | Phase::Adopted | Phase::Ended => Verdict::Keep,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINES: Deadlines = Deadlines { unserved: Duration::from_mins(1), over: Duration::from_secs(5) };

    fn facts(phase: Phase, leased: bool, pod: PodState) -> Facts {
        Facts { phase, leased, silent: None, stuck: None, over: None, pod }
    }

    fn decide(facts: Facts) -> Verdict {
        verdict(&facts, &DEADLINES)
    }

    #[expect(clippy::unnecessary_wraps, reason = "facts have it optional")]
    fn secs(n: u64) -> Option<Duration> {
        Some(Duration::from_secs(n))
    }

    #[test]
    fn a_pod_may_wait_for_its_image_as_long_as_nothing_waits_for_the_mount() {
        assert_eq!(decide(facts(Phase::Unseen, false, PodState::Alive)), Verdict::Keep);
        assert!(!somebody_waits(Phase::Unseen, 1));
        assert!(somebody_waits(Phase::Unseen, 2));
    }

    #[test]
    fn a_process_that_waits_for_a_mount_that_never_began_is_freed_after_60_seconds_and_the_pod_can_still_start()
     {
        let unseen = facts(Phase::Unseen, false, PodState::Alive);
        assert_eq!(decide(Facts { stuck: secs(59), ..unseen }), Verdict::Keep);
        assert_eq!(decide(Facts { stuck: secs(60), ..unseen }), Verdict::Renew);
    }

    #[test]
    fn once_the_pod_is_over_an_unserved_connection_ends_after_5_seconds() {
        for pod in [PodState::Ending, PodState::Gone] {
            let unseen = facts(Phase::Unseen, false, pod);
            assert_eq!(decide(Facts { over: secs(4), ..unseen }), Verdict::Keep);
            assert_eq!(decide(Facts { over: secs(5), ..unseen }), Verdict::Abort(Cause::PodOver));
            let adopted = Facts { over: secs(9), stuck: secs(5), ..facts(Phase::Adopted, false, pod) };
            assert_eq!(decide(adopted), Verdict::Abort(Cause::PodOver));
        }
    }

    #[test]
    fn what_is_served_is_left_alone_while_its_pod_is_in_the_api() {
        for phase in [Phase::Attached, Phase::Serving, Phase::Adopted] {
            for pod in [PodState::Alive, PodState::Ending, PodState::Unknown] {
                let busy = Facts { stuck: secs(3600), over: secs(3600), ..facts(phase, true, pod) };
                assert_eq!(decide(busy), Verdict::Keep, "{phase:?} {pod:?}");
            }
        }
    }

    #[test]
    fn a_server_that_hangs_does_not_keep_a_deleted_pod_from_ending() {
        let hung = Facts { stuck: secs(5), over: secs(5), ..facts(Phase::Serving, true, PodState::Gone) };
        assert_eq!(decide(hung), Verdict::Abort(Cause::PodOver));
        assert_eq!(decide(Facts { stuck: None, ..hung }), Verdict::Keep);
    }

    #[test]
    fn a_server_that_has_not_beaten_for_60_seconds_is_not_serving_whoever_waits_and_whatever_the_pod_does() {
        for pod in [PodState::Alive, PodState::Ending, PodState::Gone, PodState::Unknown] {
            let leased = facts(Phase::Serving, true, pod);
            assert_eq!(decide(Facts { silent: secs(59), ..leased }), Verdict::Keep, "{pod:?}");
            assert_eq!(
                decide(Facts { silent: secs(60), ..leased }),
                Verdict::Abort(Cause::ServerHung),
                "{pod:?}"
            );
        }
    }

    #[test]
    fn once_its_pod_is_over_a_server_without_beats_has_5_seconds_and_one_that_beats_or_never_promised_to_goes_on()
     {
        for pod in [PodState::Ending, PodState::Gone] {
            let hung =
                Facts { silent: secs(5), stuck: secs(5), over: secs(5), ..facts(Phase::Serving, true, pod) };
            assert_eq!(decide(hung), Verdict::Abort(Cause::PodOver), "{pod:?}");
            assert_eq!(decide(Facts { over: secs(4), ..hung }), Verdict::Keep, "{pod:?}");
            assert_eq!(decide(Facts { stuck: secs(4), ..hung }), Verdict::Keep, "{pod:?}");
        }
        let ending =
            Facts { stuck: secs(99), over: secs(99), ..facts(Phase::Serving, true, PodState::Ending) };
        assert_eq!(decide(Facts { silent: secs(4), ..ending }), Verdict::Keep);
        assert_eq!(decide(ending), Verdict::Keep);
    }

    #[test]
    fn an_api_that_cannot_be_asked_does_not_make_a_silence_shorter() {
        let silent = Facts {
            silent: secs(59),
            stuck: secs(59),
            over: secs(59),
            ..facts(Phase::Serving, true, PodState::Unknown)
        };
        assert_eq!(decide(silent), Verdict::Keep);
    }

    #[test]
    fn a_served_connection_without_its_lease_ends_at_once() {
        assert_eq!(decide(facts(Phase::Serving, false, PodState::Alive)), Verdict::Abort(Cause::ServerLost));
    }

    #[test]
    fn an_adopted_connection_ends_only_if_somebody_waits_on_it() {
        let adopted = facts(Phase::Adopted, false, PodState::Gone);
        assert_eq!(decide(Facts { over: secs(3600), ..adopted }), Verdict::Keep);
        let alive = facts(Phase::Adopted, false, PodState::Alive);
        assert_eq!(decide(Facts { stuck: secs(59), ..alive }), Verdict::Keep);
        assert_eq!(decide(Facts { stuck: secs(60), ..alive }), Verdict::Abort(Cause::Unserved));
    }

    #[test]
    fn an_api_that_cannot_be_asked_shortens_no_deadline() {
        let unknown = facts(Phase::Unseen, false, PodState::Unknown);
        assert_eq!(decide(Facts { over: secs(3600), ..unknown }), Verdict::Keep);
        let adopted =
            Facts { stuck: secs(59), over: secs(3600), ..facts(Phase::Adopted, false, PodState::Unknown) };
        assert_eq!(decide(adopted), Verdict::Keep);
    }

    #[test]
    fn what_was_aborted_is_aborted_once() {
        let ended = Facts { stuck: secs(99), over: secs(99), ..facts(Phase::Ended, false, PodState::Gone) };
        assert_eq!(decide(ended), Verdict::Keep);
    }
}
