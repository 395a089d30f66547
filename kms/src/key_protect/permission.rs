//! What a credential may do to a root key, found out by requests that change nothing even where they are permitted.
//!
//! Source: IBM Cloud docs, Key Protect: the actions of each role, the states of keys, the bodies of rotation and policies. What
//! comes first in the service, permission or the request's own faults, is written nowhere. So a refusal for want of permission proves
//! that it is missing, while any other answer alone proves nothing: then the key's policies are read, which of the service's own roles
//! only Manager may, and Manager may rotate, disable and set policies. A role between (Writer, a custom one) stays open. One that may
//! read policies, and not what was asked for, counts as Manager should the service look at the request before the permission.
//!
//! Invariant: no request here can succeed at changing a key. The refused ones stand in the vendor's activity log.

use reqwest::Method;

use super::exchange::{Ask, Site};
use super::verdict::{self, Verdict};
use super::wire::{self, Envelope, NeverPolicyBody};
use super::{KeyProtect, POST};
use crate::admin::{Ability, Permission};
use crate::call::{CallCtx, Op};
use crate::error::{ErrorKind, Result};
use crate::http::json_body;
use crate::key::{KeyRef, KeyState};
use crate::service::Kms;

/// No key material: it is not even base64.
const NO_MATERIAL: &[u8] = br#"{"payload":"!"}"#;

/// How a request was taken.
enum Taken {
    /// For want of permission it was not.
    Denied,
    /// It was looked at.
    LookedAt,
}

impl Site<'_> {
    async fn taken(&self, ask: &Ask<'_>) -> Result<Taken> {
        let (reply, judged) = self.judged(ask).await?;
        let kind = match judged.verdict {
            Verdict::Success | Verdict::KeyState => return Ok(Taken::LookedAt),
            Verdict::Token => verdict::denied_for_good(&reply),
            Verdict::Failed(kind) => kind,
        };
        match kind {
            ErrorKind::Denied { .. } => Ok(Taken::Denied),
            ErrorKind::Invalid | ErrorKind::TooEarly { .. } => Ok(Taken::LookedAt),
            kind => Err(self.place.failed(kind, Some(reply.status), judged.code)),
        }
    }

    async fn try_in_vain(&self, what: Ability, key: &KeyRef) -> Result<Taken> {
        let key = key.0.as_str();
        match what {
            // A generated key takes no material, an imported one takes none that is not base64.
            Ability::Rotate => {
                let path = ["keys", key, "actions", "rotate"];
                let body = Some(bytes::Bytes::from_static(NO_MATERIAL));
                let content_type = Some(wire::ROTATE);
                self.taken(&Ask { method: POST, path: &path, query: &[], content_type, body }).await
            }
            // Its number of months is none.
            Ability::SetRotationPolicy => {
                let path = ["keys", key, "policies"];
                let body = Some(json_body(&Envelope::new(wire::POLICY, NeverPolicyBody::new())));
                let (method, query) = (Method::PUT, &[("policy", "rotation")]);
                let content_type = Some("application/json");
                self.taken(&Ask { method, path: &path, query, content_type, body }).await
            }
            // Whoever may disable may enable, and this key is enabled. Were it disabled right now, then for 30 s it could not be
            // enabled again.
            Ability::Disable => {
                let path = ["keys", key, "actions", "enable"];
                self.taken(&Ask { method: POST, path: &path, query: &[], content_type: None, body: None })
                    .await
            }
        }
    }

    async fn reads_policies(&self, key: &KeyRef) -> Result<bool> {
        let path = ["keys", key.0.as_str(), "policies"];
        let ask = Ask { method: Method::GET, path: &path, query: &[], content_type: None, body: None };
        let (reply, judged) = self.judged(&ask).await?;
        match judged.verdict {
            Verdict::Success => Ok(true),
            Verdict::Failed(kind) if !matches!(kind, ErrorKind::Denied { .. } | ErrorKind::Invalid) => {
                Err(self.place.failed(kind, Some(reply.status), judged.code))
            }
            _ => Ok(false),
        }
    }
}

impl KeyProtect {
    pub(super) async fn permission(&self, what: Ability, key: &KeyRef, call: &CallCtx) -> Result<Permission> {
        let site = self.exchange.site(Op::Permissions, Some(key), call);
        if what == Ability::Disable && self.describe(key, call).await?.state != KeyState::Enabled {
            return Ok(Permission::Open);
        }
        match site.try_in_vain(what, key).await? {
            Taken::Denied => Ok(Permission::Withheld),
            Taken::LookedAt if site.reads_policies(key).await? => Ok(Permission::Granted),
            Taken::LookedAt => Ok(Permission::Open),
        }
    }
}
