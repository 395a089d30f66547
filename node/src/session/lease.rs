//! Giving a connection to a sidecar and taking it back (`contract::control`).
//!
//! Invariant: `Serving` is durable before it is acknowledged; from then on no second server gets the descriptor, and the end of
//! the lease aborts the connection at once. A beat only ever lengthens what a lease has.

use std::os::fd::OwnedFd;
use std::time::Instant;

use contract::control::Refusal;

use crate::decision::{Cause, Phase};
use crate::record::Stage;
use crate::silence::Silence;
use crate::target::Key;

use super::{Ended, Session, Sessions};

/// A sidecar's control connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseId(pub u64);

/// A refusal with its words for a person.
#[derive(Clone, Debug)]
pub struct Refused {
    /// For programs.
    pub reason: Refusal,
    /// For a person.
    pub message: String,
    /// The session that ended because of this request, if one did.
    pub ended: Option<Box<Ended>>,
}

impl Refused {
    /// A refusal that ends nothing.
    pub fn new(reason: Refusal, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), ended: None }
    }
}

impl Sessions {
    /// Hands over the descriptor and the connection's number.
    pub fn attach(&self, lease: LeaseId, pod_uid: &str, volume: &str) -> Result<(OwnedFd, u32), Refused> {
        self.with(pod_uid, volume, |key, session| {
            if session.lease.is_some() {
                return Err(Refused::new(
                    Refusal::AlreadyServed,
                    "another control connection holds this volume",
                ));
            }
            match session.phase {
                Phase::Ended => return Err(lost(None)),
                Phase::Serving | Phase::Adopted => {
                    return Err(lost(self.end(key, session, Cause::ServerLost).map_err(unavailable)?.into()));
                }
                Phase::Unseen | Phase::Attached => {}
            }
            if session.fd.is_none() {
                self.renew(key, session).map_err(unavailable)?;
            }
            let fd = session.fd.as_ref().expect("a renewed session has its descriptor");
            let fd = fd.try_clone().map_err(unavailable)?;
            session.phase = Phase::Attached;
            session.lease = Some(lease);
            Ok((fd, session.plain.connection))
        })
    }

    /// Gives the lease back to a sidecar that served before this driver started.
    pub fn resume(
        &self,
        lease: LeaseId,
        pod_uid: &str,
        volume: &str,
        connection: u32,
    ) -> Result<(), Refused> {
        self.with(pod_uid, volume, |_, session| match session.phase {
            Phase::Ended => Err(lost(None)),
            _ if session.lease == Some(lease) && session.plain.connection == connection => Ok(()),
            _ if session.lease.is_some() => {
                Err(Refused::new(Refusal::AlreadyServed, "another control connection holds this volume"))
            }
            Phase::Adopted if session.plain.connection == connection => {
                session.phase = Phase::Serving;
                session.lease = Some(lease);
                (session.stuck_since, session.silence) = (None, None);
                Ok(())
            }
            Phase::Unseen => {
                Err(Refused::new(Refusal::AttachAgain, "the mount was replaced before anything used it"))
            }
            Phase::Adopted | Phase::Serving | Phase::Attached => Err(lost(None)),
        })
    }

    /// From now on there is one session. `beats`: the sidecar promises them, and its silence counts from now on.
    pub fn serving(&self, lease: LeaseId, pod_uid: &str, volume: &str, beats: bool) -> Result<(), Refused> {
        self.with(pod_uid, volume, |key, session| {
            held(session, lease)?;
            if session.plain.stage == Stage::Unseen {
                session.plain.stage = Stage::Serving;
                if let Err(error) = self.save(key, session) {
                    session.plain.stage = Stage::Unseen;
                    return Err(unavailable(error));
                }
            }
            session.phase = Phase::Serving;
            session.silence = beats.then(|| Silence::new(Instant::now()));
            if !beats {
                tracing::warn!(
                    pod = session.pod.name,
                    namespace = session.pod.namespace,
                    volume,
                    "the sidecar is of an older version and sends no beats: should it hang, nobody notices until its pod is deleted; \
                     replace the pod"
                );
            }
            Ok(())
        })
    }

    /// The sidecar's threads get on.
    pub fn beat(&self, lease: LeaseId, pod_uid: &str, volume: &str) -> Result<(), Refused> {
        self.with(pod_uid, volume, |_, session| {
            held(session, lease)?;
            if let Some(silence) = &mut session.silence {
                silence.broken(Instant::now());
            }
            Ok(())
        })
    }

    /// Ends the session on purpose.
    pub fn detach(&self, lease: LeaseId, pod_uid: &str, volume: &str) -> Result<Option<Ended>, Refused> {
        self.with(pod_uid, volume, |key, session| {
            held(session, lease)?;
            self.give_back(key, session, Cause::Detached).map_err(unavailable)
        })
    }

    /// A control connection closed: what it held is unserved. What cannot be ended now is tried again by the survey.
    pub fn release(&self, lease: LeaseId) -> Vec<Ended> {
        self.holders.forget(lease);
        let mut table = self.table();
        let mut ended = vec![];
        for (key, session) in table.iter_mut().filter(|(_, session)| session.lease == Some(lease)) {
            session.lease = None;
            match self.give_back(key, session, Cause::ServerLost) {
                Ok(end) => ended.extend(end),
                Err(error) => {
                    tracing::error!(%error, pod = session.pod.name, "an unserved connection could not be ended yet");
                }
            }
        }
        self.count(&table);
        ended
    }

    fn give_back(
        &self,
        key: &Key,
        session: &mut Session,
        cause: Cause,
    ) -> Result<Option<Ended>, super::PublishError> {
        if session.plain.stage == Stage::Unseen {
            self.renew(key, session)?;
            return Ok(None);
        }
        Ok(Some(self.end(key, session, cause)?))
    }

    /// Finds the session of a pod's protected volume.
    fn with<T>(
        &self,
        pod_uid: &str,
        volume: &str,
        act: impl FnOnce(&Key, &mut Session) -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        let mut table = self.table();
        let found =
            table.iter_mut().find(|(key, session)| key.pod_uid == pod_uid && session.plain.volume == volume);
        let Some((key, session)) = found else {
            return Err(Refused::new(Refusal::UnknownVolume, "no such volume was published for this pod"));
        };
        let result = act(key, session);
        self.count(&table);
        result
    }
}

fn held(session: &Session, lease: LeaseId) -> Result<(), Refused> {
    match session.phase {
        _ if session.lease == Some(lease) => Ok(()),
        Phase::Ended => Err(lost(None)),
        _ => Err(Refused::new(Refusal::BadRequest, "this control connection does not hold the volume")),
    }
}

fn lost(ended: Option<Ended>) -> Refused {
    let message = "the volume was served before and its server is gone; the pod must be replaced";
    Refused { ended: ended.map(Box::new), ..Refused::new(Refusal::SessionLost, message) }
}

fn unavailable(error: impl std::fmt::Display) -> Refused {
    Refused::new(Refusal::Unavailable, format!("the node driver could not do it now: {error}"))
}
