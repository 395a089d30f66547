//! IAM policies: the documents that people write, and what they allow.
//!
//! Source: the policy evaluation logic of the IAM documentation. Invariant: a document with anything that is not understood here is
//! no policy, so that none is obeyed in part.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::moment;

/// A policy document.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Policy {
    version: Version,
    statement: Vec<Statement>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Version {
    #[serde(rename = "2012-10-17")]
    Current,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Statement {
    #[serde(default)]
    sid: Option<String>,
    effect: Effect,
    /// Of a role's trust policy.
    #[serde(default)]
    principal: Option<Federated>,
    action: OneOrMore,
    /// A trust policy has none: it is about its role.
    #[serde(default)]
    resource: Option<OneOrMore>,
    #[serde(default)]
    condition: BTreeMap<Operator, BTreeMap<String, Value>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Effect {
    Allow,
    Deny,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Federated {
    federated: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Operator {
    Bool,
    StringEquals,
    StringLike,
    DateLessThan,
}

/// Who wants what, and what else is known of it.
pub(crate) struct Wish<'a> {
    pub(crate) action: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) federated: Option<&'a str>,
    pub(crate) known: &'a BTreeMap<String, String>,
}

impl OneOrMore {
    fn any(&self, matches: impl Fn(&str) -> bool) -> bool {
        match self {
            Self::One(pattern) => matches(pattern),
            Self::More(patterns) => patterns.iter().any(|pattern| matches(pattern)),
        }
    }
}

/// A wish is granted where something allows it and nothing denies it.
pub(crate) fn allows(policies: &[Policy], wish: &Wish<'_>) -> bool {
    let about = |effect| {
        let statements = policies.iter().flat_map(|policy| &policy.statement);
        statements.filter(|one| one.effect == effect).any(|one| one.is_about(wish))
    };
    about(Effect::Allow) && !about(Effect::Deny)
}

impl Statement {
    fn is_about(&self, wish: &Wish<'_>) -> bool {
        let action = self.action.any(|pattern| like(&pattern.to_lowercase(), &wish.action.to_lowercase()));
        let resource = match &self.resource {
            Some(resource) => resource.any(|pattern| like(pattern, wish.resource)),
            None => self.principal.is_some(),
        };
        let principal = self.principal.as_ref().map(|one| one.federated.as_str()) == wish.federated;
        let conditions = self.condition.iter().all(|(operator, keys)| {
            keys.iter().all(|(key, wanted)| {
                // Nothing is known of it: no condition but those of absence holds then.
                wish.known.get(key).is_some_and(|known| operator.holds(known, wanted))
            })
        });
        action && resource && principal && conditions
    }
}

impl Operator {
    fn holds(self, known: &str, wanted: &Value) -> bool {
        let texts: Vec<String> = match wanted {
            Value::Array(all) => all.iter().map(text).collect(),
            one => vec![text(one)],
        };
        texts.iter().any(|wanted| match self {
            Self::Bool => wanted.eq_ignore_ascii_case(known),
            Self::StringEquals => wanted == known,
            Self::StringLike => like(wanted, known),
            Self::DateLessThan => {
                let wanted = wanted.parse::<jiff::Timestamp>();
                known.parse().is_ok_and(|known| wanted.is_ok_and(|wanted| moment(known) < wanted))
            }
        })
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// `*` stands for anything, `?` for one character.
fn like(pattern: &str, text: &str) -> bool {
    let Some(first) = pattern.chars().next() else { return text.is_empty() };
    let rest = &pattern[first.len_utf8()..];
    if first == '*' {
        return text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| like(rest, &text[at..]));
    }
    let Some(next) = text.chars().next() else { return false };
    (first == '?' || first == next) && like(rest, &text[next.len_utf8()..])
}

impl Policy {
    /// Reads a document.
    pub fn parse(document: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(document)
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
