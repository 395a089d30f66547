//! What a token may do to a key, by the server's own answer (`sys/capabilities-self`, in the API documentation of OpenBao and HashiCorp
//! Vault).
//!
//! Invariant: nothing is tried. What the server does not say is open.

use super::Transit;
use super::wire::{Capabilities, PathsBody};
use crate::admin::{Ability, Permission};
use crate::call::{CallCtx, Op};
use crate::error::{ErrorKind, Result};
use crate::key::KeyRef;

/// The paths that give an ability, below the engine's mount, each with the capability that it takes. Any of them is enough: a key
/// that can be deleted can be stopped too.
fn ways(what: Ability, key: &str) -> Vec<(String, &'static str)> {
    match what {
        Ability::Rotate => vec![(format!("keys/{key}/rotate"), "update")],
        Ability::SetRotationPolicy => vec![(format!("keys/{key}/config"), "update")],
        Ability::Disable => {
            vec![(format!("keys/{key}/soft-delete"), "delete"), (format!("keys/{key}"), "delete")]
        }
    }
}

/// What follows from the capabilities of each of the paths; a path that the server left out leaves it open.
fn judge(ways: &[(String, &'static str)], told: &Capabilities) -> Permission {
    let mut verdict = Permission::Withheld;
    for (path, needed) in ways {
        match told.get(path) {
            Some(has) if has.iter().any(|word| word == needed || word == "root") => {
                return Permission::Granted;
            }
            Some(_) => {}
            None => verdict = Permission::Open,
        }
    }
    verdict
}

impl Transit {
    pub(super) async fn permission(&self, what: Ability, key: &KeyRef, call: &CallCtx) -> Result<Permission> {
        let site = self.exchange.site(Op::Permissions, Some(key), call);
        let at = |(path, needed): (String, _)| (format!("{}/{path}", self.exchange.mount), needed);
        let ways: Vec<_> = ways(what, &key.0).into_iter().map(at).collect();
        let body = PathsBody { paths: ways.iter().map(|(path, _)| path.clone()).collect() };
        match site.post_to_server(&["sys", "capabilities-self"], &body).await {
            Ok(told) => Ok(judge(&ways, &told)),
            // It may not even ask; the policy `default` would allow that.
            Err(error) if matches!(error.kind, ErrorKind::Denied { .. } | ErrorKind::Unsupported) => {
                Ok(Permission::Open)
            }
            Err(error) => Err(error),
        }
    }
}
