//! Rings and keys.

use serde::Deserialize;
use serde_json::{Value, json};

use super::body::{Word, read, seconds, time};
use super::{Asked, view};
use crate::keys::Key;
use crate::status::Status;
use crate::world::World;

/// The shortest time between two rotations.
const DAY: i64 = 86_400;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct KeyBody {
    #[serde(rename = "name")]
    _name: Option<String>,
    purpose: Option<Word>,
    #[serde(alias = "rotation_period")]
    rotation_period: Option<String>,
    #[serde(alias = "next_rotation_time")]
    next_rotation_time: Option<String>,
    #[serde(alias = "version_template", rename = "versionTemplate")]
    _version_template: Option<Value>,
    #[serde(rename = "labels")]
    _labels: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PrimaryBody {
    #[serde(rename = "name")]
    _name: Option<String>,
    #[serde(alias = "crypto_key_version_id")]
    crypto_key_version_id: String,
}

pub fn found<'a>(world: &'a mut World, name: &str) -> Result<&'a mut Key, Status> {
    world.keys.get_mut(name).ok_or_else(|| Status::not_found(&format!("CryptoKey {name}")))
}

fn id<'a>(asked: &'a Asked<'_>, field: &str) -> Result<&'a str, Status> {
    let given = asked.query(field).unwrap_or_default();
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let fits = (1..=63).contains(&given.len()) && given.bytes().all(allowed);
    if fits { Ok(given) } else { Err(Status::invalid(format!("{field} has a wrong form."))) }
}

pub fn create_ring(world: &mut World, asked: &Asked<'_>, location: &str) -> Result<Value, Status> {
    let name = format!("{location}/keyRings/{}", id(asked, "keyRingId")?);
    if !world.rings.insert(name.clone()) {
        return Err(Status::exists(&format!("KeyRing {name}")));
    }
    Ok(json!({"name": name}))
}

pub fn get_ring(world: &World, name: &str) -> Result<Value, Status> {
    if world.rings.contains(name) {
        return Ok(json!({"name": name}));
    }
    Err(Status::not_found(&format!("KeyRing {name}")))
}

pub fn create(world: &mut World, asked: &Asked<'_>, ring: &str) -> Result<Value, Status> {
    let body: KeyBody = read(asked.body)?;
    match body.purpose {
        Some(Word::Text(word)) if word == "ENCRYPT_DECRYPT" => {}
        Some(Word::Number(1)) => {}
        _ => return Err(Status::invalid("this service makes keys of purpose ENCRYPT_DECRYPT only.")),
    }
    get_ring(world, ring)?;
    let name = format!("{ring}/cryptoKeys/{}", id(asked, "cryptoKeyId")?);
    if world.keys.contains_key(&name) {
        return Err(Status::exists(&format!("CryptoKey {name}")));
    }
    let now = world.clock.now();
    let made = Key::new(&name, now);
    let shown = view::key(&made);
    world.keys.insert(name, made);
    Ok(shown)
}

pub fn list(world: &World, ring: &str) -> Value {
    let prefix = format!("{ring}/cryptoKeys/");
    let keys: Vec<Value> =
        world.keys.values().filter(|key| key.name.starts_with(&prefix)).map(view::key).collect();
    json!({"cryptoKeys": keys, "totalSize": keys.len()})
}

pub fn get(world: &mut World, name: &str) -> Result<Value, Status> {
    found(world, name).map(|key| view::key(key))
}

pub fn update(world: &mut World, asked: &Asked<'_>, name: &str) -> Result<Value, Status> {
    let now = world.clock.now();
    let body: KeyBody = read(asked.body)?;
    let mask = asked.query("updateMask").unwrap_or_default().to_owned();
    let key = found(world, name)?;
    let (mut rotation, mut next) = (key.rotation, key.next_rotation);
    for field in mask.split(',') {
        match field {
            "rotationPeriod" | "rotation_period" => {
                rotation = body.rotation_period.as_deref().map(seconds).transpose()?;
            }
            "nextRotationTime" | "next_rotation_time" => {
                next = body.next_rotation_time.as_deref().map(time).transpose()?;
            }
            "labels" => {}
            other => return Err(Status::invalid(format!("update_mask: {other} cannot be changed."))),
        }
    }
    if rotation.is_some_and(|period| period < DAY) {
        return Err(Status::invalid("rotation_period must be at least a day."));
    }
    if rotation.is_some() && next.is_none_or(|at| at <= now) {
        return Err(Status::invalid("next_rotation_time must be set, and in the future."));
    }
    (key.rotation, key.next_rotation) = (rotation, next);
    Ok(view::key(key))
}

pub fn update_primary(world: &mut World, asked: &Asked<'_>, name: &str) -> Result<Value, Status> {
    let body: PrimaryBody = read(asked.body)?;
    let wrong = || Status::invalid("crypto_key_version_id is not a version's.");
    let id = body.crypto_key_version_id.parse().map_err(|_| wrong())?;
    let key = found(world, name)?;
    key.set_primary(id)?;
    Ok(view::key(key))
}
