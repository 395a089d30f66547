//! The protocol between a sidecar and the node driver, on the `SOCK_SEQPACKET` socket `names::CTL_SOCKET`: one JSON
//! message in each packet, at most [`MAX_MESSAGE`] bytes; `Granted` carries the FUSE descriptor as `SCM_RIGHTS`.
//!
//! Invariant: the driver believes nothing that a message says about who sent it; it asks the kernel (`SO_PEERCRED`) and
//! the API. The connection is the lease: when it closes, or its beats stay away, its volumes are unserved.
//!
//! # A volume's life
//! * Until `Serving` is done (`Done` or `Counting`), nothing but the sidecar has seen the mount, so it can be replaced: when a
//!   lease closes before that, the driver mounts anew, and the next `Attach` gets a descriptor on which INIT is still to come.
//! * From `Serving` on there is one session, for one server. When its lease closes without `Detach`, the driver aborts the
//!   FUSE connection at once (no process may hang on it), and every later `Attach` is refused with [`Refusal::SessionLost`].
//! * `Detach` ends the session the same way, but on purpose: no warning is raised.
//!
//! # What a sidecar must do
//! 1. Connect with `SOCK_CLOEXEC`, from the process that will serve, and keep the connection in that process alone: a copy in
//!    another process would keep the lease after the server's death. One connection may hold the leases of several volumes.
//! 2. Wait for each answer up to [`ANSWER_SECONDS`]: the driver waits for the API to know a container that has just started.
//!    After [`Refusal::Unavailable`], ask again.
//! 3. `Attach`, answer INIT on the descriptor, send `Serving`.
//!    Never make a copy of the descriptor that outlives the process, and never `FUSE_DEV_IOC_CLONE` it.
//! 4. When the connection breaks while the process is alive, the *driver* has restarted. Go on serving. Connect again every
//!    second (the socket appears anew at the same path), and send `Resume` for each volume that was granted, in place of `Attach`:
//!    * `Done`: as before. If `Serving` was not yet answered, send it now.
//!    * [`Refusal::AttachAgain`]: the driver replaced the mount, which nobody had seen. Close the descriptor, begin at 3.
//!    * [`Refusal::SessionLost`]: the connection was aborted; reads of the descriptor say ENODEV.
//!    * [`Refusal::Unavailable`]: go on serving, ask again.
//! 5. When reads of the descriptor say ENODEV, the driver aborted or unmounted: end the session, without `Attach`.
//! 6. On SIGTERM, make everything durable, then `Detach` each volume, then exit.
//!
//! # Beats
//! A process can hang and keep its connection. So a sidecar says `Serving` with `beats: true`, and a driver that answers
//! [`Reply::Counting`] is sent a `Beat` for that volume every so many seconds, but only as long as the threads that answer its
//! requests get on. Without beats for the driver's deadline the volume counts as unserved, although its lease is open.
//! * `Beat` alone has **no answer**: a sidecar never waits for a driver that stands still, and drops a beat that finds no room.
//! * Each connection agrees anew: after `Resume`, `Serving` is sent again, and silence is counted from its answer.
//! * A side that knows no beats is no error. An older sidecar says `Serving` without `beats`, is answered `Done`, and is held as
//!   served while its connection is open. An older driver answers `Done`, and is sent no `Beat`.

use serde::{Deserialize, Serialize};

/// The largest message, in bytes.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// The longest that the driver takes for an answer, in seconds, with some room.
pub const ANSWER_SECONDS: u64 = 40;
/// Seconds between two beats: two of them fit into the 5 s after which an unserved volume of a pod that is over is released.
pub const BEAT_SECONDS: u64 = 2;

/// What a sidecar asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "camelCase")]
pub enum Request {
    /// Hand over the FUSE descriptor of a volume.
    Attach {
        /// The pod volume's name.
        volume: String,
    },
    /// After the driver restarted: go on with the descriptor that an earlier `Attach` granted.
    Resume {
        /// The pod volume's name.
        volume: String,
        /// What `Granted` said.
        connection: u32,
    },
    /// INIT was answered: from now on the driver counts the volume as served.
    Serving {
        /// The pod volume's name.
        volume: String,
        /// The sidecar can send beats.
        #[serde(default)]
        beats: bool,
    },
    /// The threads that serve the volume get on. Has no answer.
    Beat {
        /// The pod volume's name.
        volume: String,
    },
    /// The volume will no more be served, on purpose (SIGTERM after the application ended).
    Detach {
        /// The pod volume's name.
        volume: String,
    },
}

/// What the driver answers, one answer to each request but `Beat`, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "camelCase")]
pub enum Reply {
    /// The descriptor comes with this message.
    Granted {
        /// Device minor of the FUSE connection (`/sys/fs/fuse/connections/<minor>`).
        connection: u32,
    },
    /// Done.
    Done,
    /// `Serving` with `beats` is done, and from now on the driver counts how long there was no beat.
    Counting {
        /// From one beat to the next.
        seconds: u64,
    },
    /// Not done.
    Refused {
        /// Why, as a word for programs.
        reason: Refusal,
        /// Why, for a person.
        message: String,
    },
}

/// Why the driver refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The caller is not the sidecar of this pod, says the API; asking again later may help only if the API was behind.
    NotTheSidecar,
    /// No such volume was published for this pod.
    UnknownVolume,
    /// A live session cannot be taken over: it was served before, and INIT is answered only once. The pod must be replaced.
    SessionLost,
    /// The mount was replaced before anybody saw it: close the descriptor and `Attach`.
    AttachAgain,
    /// Another connection serves it.
    AlreadyServed,
    /// The API could not be asked: try again.
    Unavailable,
    /// The message made no sense.
    BadRequest,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_the_spelling_that_both_sides_were_built_with() {
        let resume = Request::Resume { volume: "data".into(), connection: 42 };
        let json = serde_json::to_string(&resume).expect("plain data");
        assert_eq!(json, r#"{"op":"resume","volume":"data","connection":42}"#);
        let refused = Reply::Refused { reason: Refusal::AttachAgain, message: "m".into() };
        let json = serde_json::to_string(&refused).expect("plain data");
        assert_eq!(json, r#"{"result":"refused","reason":"AttachAgain","message":"m"}"#);
        let counting = serde_json::to_string(&Reply::Counting { seconds: 2 }).expect("plain data");
        assert_eq!(counting, r#"{"result":"counting","seconds":2}"#);
    }

    #[test]
    fn a_sidecar_from_before_beats_is_understood_to_send_none() {
        let old: Request = serde_json::from_str(r#"{"op":"serving","volume":"data"}"#).expect("it is known");
        assert_eq!(old, Request::Serving { volume: "data".into(), beats: false });
    }
}
