//! Who calls, and what they may. Invariant: a caller is who signed, now, with keys that count; everything else is refused.

use std::collections::BTreeMap;

use crate::ACCOUNT;
use crate::policy::{Policy, Wish, allows};
use crate::refusal::{Answer, refuse};
use crate::request::Request;
use crate::signature::Claim;
use crate::world::World;

/// Someone who signed a request.
pub(crate) struct Caller {
    arn: String,
    policies: Vec<Policy>,
    known: BTreeMap<String, String>,
}

struct Found {
    caller: Caller,
    secret: String,
    token: Option<String>,
    expired: bool,
}

impl World {
    /// Who signed this.
    pub(crate) fn authenticate(&self, request: &Request, service: &str) -> Answer<Caller> {
        let claim = Claim::read(request, service)?;
        let found = self.find(&claim.access_key);
        let Some(found) = found.filter(|one| one.token.as_deref() == request.header("x-amz-security-token"))
        else {
            return refuse(
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
            );
        };
        claim.verify(request, service, &found.secret, self.clock.now())?;
        if found.expired {
            return refuse("ExpiredTokenException", "The security token included in the request is expired");
        }
        Ok(found.caller)
    }

    fn find(&self, access_key: &str) -> Option<Found> {
        if let Some(user) = self.users.iter().find(|user| user.access_key == access_key) {
            let arn = format!("arn:aws:iam::{ACCOUNT}:user/{}", user.name);
            let caller = Caller { arn, policies: user.policies.clone(), known: BTreeMap::new() };
            return Some(Found { caller, secret: user.secret.clone(), token: None, expired: false });
        }
        let session = self.sessions.iter().find(|session| session.access_key == access_key)?;
        let role = self.roles.iter().find(|role| role.name == session.role)?;
        let arn = format!("arn:aws:sts::{ACCOUNT}:assumed-role/{}/{}", role.name, session.name);
        let known = [("aws:TokenIssueTime".to_owned(), session.issued.to_string())].into();
        let caller = Caller { arn, policies: role.policies.clone(), known };
        let (secret, token) = (session.secret.clone(), Some(session.token.clone()));
        Some(Found { caller, secret, token, expired: self.clock.now() >= session.ends })
    }
}

impl Caller {
    /// May do this with that; `more` is known of it besides.
    pub(crate) fn may(&self, action: &str, resource: &str, more: &[(String, String)]) -> Answer<()> {
        let mut known = self.known.clone();
        known.extend(more.iter().cloned());
        let wish = Wish { action, resource, federated: None, known: &known };
        if allows(&self.policies, &wish) {
            return Ok(());
        }
        let arn = &self.arn;
        refuse(
            "AccessDeniedException",
            format!(
                "User: {arn} is not authorized to perform: {action} on resource: {resource} because no identity-based policy allows \
                 the {action} action"
            ),
        )
    }
}
