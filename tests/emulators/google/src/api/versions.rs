//! Versions of keys.

use serde::Deserialize;
use serde_json::{Value, json};

use super::body::{Word, read};
use super::keys::found;
use super::{Asked, view};
use crate::status::Status;
use crate::world::World;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VersionBody {
    #[serde(rename = "name")]
    _name: Option<String>,
    state: Option<Word>,
}

pub fn create(world: &mut World, key: &str) -> Result<Value, Status> {
    let now = world.clock.now();
    let key = found(world, key)?;
    let id = key.add(now);
    Ok(view::version(key, key.version(id)?))
}

pub fn get(world: &mut World, key: &str, id: u64) -> Result<Value, Status> {
    let key = found(world, key)?;
    Ok(view::version(key, key.version(id)?))
}

/// A page of them, the oldest first; the token of the next page is where that begins.
pub fn list(world: &mut World, asked: &Asked<'_>, key: &str) -> Result<Value, Status> {
    let number = |name: &str| asked.query(name).and_then(|given| given.parse::<usize>().ok());
    let size = number("pageSize").filter(|size| *size > 0).unwrap_or(100).min(1000);
    let from = match asked.query("pageToken") {
        None | Some("") => 0,
        Some(token) => {
            let at = token.strip_prefix("from-").and_then(|at| at.parse().ok());
            at.ok_or_else(|| Status::invalid("page_token is not one."))?
        }
    };
    let key = found(world, key)?;
    let page: Vec<Value> =
        key.versions.iter().skip(from).take(size).map(|version| view::version(key, version)).collect();
    let end = from + page.len();
    let mut shown = json!({"cryptoKeyVersions": page, "totalSize": key.versions.len()});
    if end < key.versions.len() {
        shown["nextPageToken"] = format!("from-{end}").into();
    }
    Ok(shown)
}

pub fn update(world: &mut World, asked: &Asked<'_>, key: &str, id: u64) -> Result<Value, Status> {
    let body: VersionBody = read(asked.body)?;
    if asked.query("updateMask") != Some("state") {
        return Err(Status::invalid("update_mask must be state."));
    }
    let state = body.state.as_ref().and_then(view::state);
    let key = found(world, key)?;
    key.set_state(id, state.ok_or_else(|| Status::invalid("state is not one."))?)?;
    Ok(view::version(key, key.version(id)?))
}

pub fn destroy(world: &mut World, key: &str, id: u64) -> Result<Value, Status> {
    let now = world.clock.now();
    let key = found(world, key)?;
    key.destroy(id, now)?;
    Ok(view::version(key, key.version(id)?))
}

pub fn restore(world: &mut World, key: &str, id: u64) -> Result<Value, Status> {
    let key = found(world, key)?;
    key.restore(id)?;
    Ok(view::version(key, key.version(id)?))
}
