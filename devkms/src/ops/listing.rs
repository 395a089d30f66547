//! Lists of keys: filter, search, sort, page. Invariant: a list shows only keys that the caller may list.

use serde_json::Value;

use super::{Call, Reply, view};
use crate::access::Resource;
use crate::clock::{Seconds, parse_rfc3339};
use crate::error::ApiError;
use crate::keys::{Key, KeyState};
use crate::service::{Service, State};

/// The number of matching keys, in a header.
pub fn count(service: &Service, call: &Call<'_>) -> Result<Reply, ApiError> {
    let state = service.lock();
    let total = matching(&state, call)?.len();
    Ok(Reply { status: 200, body: None, key_total: Some(total) })
}

/// A page of matching keys, by id unless `sort` says otherwise.
pub fn list(service: &Service, call: &Call<'_>) -> Result<Reply, ApiError> {
    let state = service.lock();
    let mut keys = matching(&state, call)?;
    if let Some(terms) = call.query.get("sort") {
        sort(&mut keys, terms, call.now)?;
    }
    let shown = window(call, keys.into_iter(), 200)?
        .map(|key| Value::Object(view::key(call.instance, key, call.now, call.rules)))
        .collect();
    Ok(Reply::with(200, view::collection(view::KEY, shown)))
}

/// The part of `all` that `limit` and `offset` ask for; at most 5,000.
pub fn window<I: Iterator>(
    call: &Call<'_>,
    all: I,
    default: usize,
) -> Result<impl Iterator<Item = I::Item> + use<I>, ApiError> {
    let number = |name: &'static str, default| match call.query.get(name) {
        Some(text) => text.parse::<usize>().map_err(|_| ApiError::field(name)),
        None => Ok(default),
    };
    let limit = number("limit", default)?;
    if limit == 0 || limit > 5000 {
        return Err(ApiError::field("limit"));
    }
    Ok(all.skip(number("offset", 0)?).take(limit))
}

fn matching<'s>(state: &'s State, call: &Call<'_>) -> Result<Vec<&'s Key>, ApiError> {
    call.require(&Resource::Some(call.instance))?;
    let instance = call.instance_in(state)?;
    let conditions = conditions(call)?;
    let search = call.query.get("search").map(|text| Search::parse(text));
    let action = call.target.op.action();
    Ok(instance
        .keys
        .values()
        .filter(|key| call.ring.is_none_or(|ring| ring == key.ring))
        .filter(|key| call.caller.may(action, &Resource::Key(call.instance, key)))
        .filter(|key| conditions.iter().all(|c| c.holds(key, call.now)))
        .filter(|key| search.as_ref().is_none_or(|s| s.matches(key)))
        .collect())
}

enum Condition {
    States(Vec<u8>),
    Extractable(bool),
    Imported(bool),
    Date(fn(&Key) -> Option<Seconds>, Compare, Seconds),
}

#[derive(Clone, Copy)]
enum Compare {
    Equal,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

impl Condition {
    fn holds(&self, key: &Key, now: Seconds) -> bool {
        match self {
            Self::States(states) => states.contains(&(key.state(now) as u8)),
            Self::Extractable(wanted) => key.extractable == *wanted,
            Self::Imported(wanted) => key.imported == *wanted,
            Self::Date(of, compare, at) => of(key).is_some_and(|date| match compare {
                Compare::Equal => date == *at,
                Compare::Less => date < *at,
                Compare::AtMost => date <= *at,
                Compare::Greater => date > *at,
                Compare::AtLeast => date >= *at,
            }),
        }
    }
}

/// The conditions of `state`, `extractable` and `filter`. Destroyed keys are left out unless asked for.
fn conditions(call: &Call<'_>) -> Result<Vec<Condition>, ApiError> {
    let mut out = vec![];
    for name in ["state", "extractable"] {
        if let Some(text) = call.query.get(name).filter(|t| !t.is_empty()) {
            out.push(condition(name, text)?);
        }
    }
    for term in call.query.get("filter").map_or("", String::as_str).split_whitespace() {
        let (name, text) = term.split_once('=').ok_or_else(|| ApiError::field("filter"))?;
        out.push(condition(name, text)?);
    }
    if !out.iter().any(|c| matches!(c, Condition::States(_))) {
        let live = [KeyState::Active, KeyState::Suspended, KeyState::Deactivated];
        out.push(Condition::States(live.iter().map(|s| *s as u8).collect()));
    }
    Ok(out)
}

fn condition(name: &str, text: &str) -> Result<Condition, ApiError> {
    let invalid = || ApiError::field("filter");
    let flag = |text: &str| text.to_ascii_lowercase().parse::<bool>().map_err(|_| invalid());
    match name {
        "state" => {
            let states: Result<Vec<u8>, _> = text.split(',').map(str::parse).collect();
            states.map(Condition::States).map_err(|_| ApiError::field("state"))
        }
        "extractable" => flag(text).map(Condition::Extractable),
        "imported" => flag(text).map(Condition::Imported),
        _ => {
            let of = date_of(name).ok_or_else(invalid)?;
            let operators = [
                ("lt:", Compare::Less),
                ("lte:", Compare::AtMost),
                ("gt:", Compare::Greater),
                ("gte:", Compare::AtLeast),
            ];
            let (compare, rest) = operators
                .iter()
                .find_map(|(prefix, compare)| text.strip_prefix(prefix).map(|rest| (*compare, rest)))
                .unwrap_or((Compare::Equal, text));
            let at = parse_rfc3339(rest.trim_matches('"')).ok_or_else(invalid)?;
            Ok(Condition::Date(of, compare, at))
        }
    }
}

fn date_of(name: &str) -> Option<fn(&Key) -> Option<Seconds>> {
    Some(match name {
        "creationDate" => |k| Some(k.created.at),
        "lastUpdateDate" => |k| Some(k.updated),
        "lastRotateDate" => |k| k.rotated,
        "expirationDate" => |k| k.expires,
        "deletionDate" => |k| k.deleted.as_ref().map(|d| d.at),
        _ => return None,
    })
}

fn sort(keys: &mut [&Key], terms: &str, now: Seconds) -> Result<(), ApiError> {
    // Stable sorts from the last term to the first leave the first one deciding.
    for term in terms.split(',').rev() {
        let (name, descending) = term.strip_prefix('-').map_or((term, false), |name| (name, true));
        match name {
            "id" => keys.sort_by(|a, b| a.id.cmp(&b.id)),
            "state" => keys.sort_by_key(|k| k.state(now) as u8),
            "extractable" => keys.sort_by_key(|k| k.extractable),
            "imported" => keys.sort_by_key(|k| k.imported),
            _ => {
                let of = date_of(name).ok_or_else(|| ApiError::field("sort"))?;
                keys.sort_by_key(|k| of(k));
            }
        }
        if descending {
            keys.reverse();
        }
    }
    Ok(())
}

/// `[not:][exact:][name:|alias:][escape:]text`, in any order up to `escape:`.
#[derive(Default)]
struct Search {
    text: String,
    options: Vec<&'static str>,
}

const OPTIONS: [&str; 4] = ["not", "exact", "name", "alias"];

impl Search {
    fn parse(query: &str) -> Self {
        let (mut rest, mut options) = (query, vec![]);
        while let Some((option, after)) = rest.split_once(':') {
            match OPTIONS.iter().find(|known| **known == option) {
                Some(known) => options.push(*known),
                None if option == "escape" => {
                    rest = after;
                    break;
                }
                None => break,
            }
            rest = after;
        }
        Self { text: rest.to_lowercase(), options }
    }

    fn has(&self, option: &str) -> bool {
        self.options.contains(&option)
    }

    fn matches(&self, key: &Key) -> bool {
        let hit = |text: &str| {
            let text = text.to_lowercase();
            if self.has("exact") { text == self.text } else { text.contains(&self.text) }
        };
        let both = !self.has("name") && !self.has("alias");
        let by_name = (both || self.has("name")) && hit(&key.name);
        let by_alias = (both || self.has("alias")) && key.aliases.iter().any(|a| hit(&a.name));
        (by_name || by_alias || key.id == self.text) != self.has("not")
    }
}
