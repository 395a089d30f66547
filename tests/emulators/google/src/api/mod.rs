//! The API: what is asked for, by whom, and the answer.
//!
//! Invariant: nothing is looked up before whoever asks was found to be allowed to, so that a denial says nothing about what exists.

mod body;
mod crypt;
mod keys;
mod login;
mod versions;
mod view;

use serde_json::Value;

use crate::route::{self, Call};
use crate::status::Status;
use crate::world::World;

const SERVICE: &str = "cloudkms.googleapis.com";
const KMS_SCOPE: &str = "https://www.googleapis.com/auth/cloudkms";

/// A request.
pub struct Asked<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub query: Vec<(String, String)>,
    /// What stands behind `Bearer`.
    pub token: Option<&'a str>,
    /// How the service was addressed.
    pub host: &'a str,
    pub body: &'a [u8],
}

/// An answer.
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Asked<'_> {
    fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// Google's clients in some languages want numbers for the words of enumerations.
    fn wants_numbers(&self) -> bool {
        self.query("$alt").is_some_and(|alt| alt.contains("enum-encoding=int"))
    }
}

impl From<Status> for Answer {
    fn from(status: Status) -> Self {
        Self { status: status.http, body: status.body() }
    }
}

/// Answers a request.
pub fn answer(world: &mut World, asked: &Asked<'_>) -> Answer {
    world.settle();
    let Some(call) = route::call(asked.method, asked.path) else {
        return Status::not_found("The requested URL was").into();
    };
    match call {
        Call::Token => login::token(world, asked),
        Call::Exchange => login::exchange(world, asked),
        Call::Impersonate(email) => settled(login::impersonate(world, asked, email), asked),
        call => settled(kms(world, asked, &call), asked),
    }
}

fn settled(result: Result<Value, Status>, asked: &Asked<'_>) -> Answer {
    match result {
        Ok(mut body) => {
            if asked.wants_numbers() {
                view::number(&mut body);
            }
            Answer { status: 200, body }
        }
        Err(status) => status.into(),
    }
}

fn kms(world: &mut World, asked: &Asked<'_>, call: &Call<'_>) -> Result<Value, Status> {
    let member = world.tokens.member(asked.token, &[KMS_SCOPE], SERVICE, world.clock.now())?;
    let (permission, resource) = needed(call);
    world.allow(&member, &format!("cloudkms.{permission}"), resource, SERVICE)?;
    match *call {
        Call::CreateRing { location } => keys::create_ring(world, asked, location),
        Call::GetRing(name) => keys::get_ring(world, name),
        Call::CreateKey { ring } => keys::create(world, asked, ring),
        Call::ListKeys { ring } => Ok(keys::list(world, ring)),
        Call::GetKey(name) => keys::get(world, name),
        Call::UpdateKey(name) => keys::update(world, asked, name),
        Call::UpdatePrimary(name) => keys::update_primary(world, asked, name),
        Call::Encrypt { key, version } => crypt::encrypt(world, asked, key, version),
        Call::Decrypt(key) => crypt::decrypt(world, asked, key),
        Call::CreateVersion { key } => versions::create(world, key),
        Call::ListVersions { key } => versions::list(world, asked, key),
        Call::GetVersion { key, id } => versions::get(world, key, id),
        Call::UpdateVersion { key, id } => versions::update(world, asked, key, id),
        Call::Destroy { key, id } => versions::destroy(world, key, id),
        Call::Restore { key, id } => versions::restore(world, key, id),
        Call::Token | Call::Exchange | Call::Impersonate(_) => {
            Err(Status::not_found("The requested URL was"))
        }
    }
}

/// The permission that a call takes, and on what.
fn needed<'a>(call: &Call<'a>) -> (&'static str, &'a str) {
    match *call {
        Call::CreateRing { location } => ("keyRings.create", location),
        Call::GetRing(name) => ("keyRings.get", name),
        Call::CreateKey { ring } => ("cryptoKeys.create", ring),
        Call::ListKeys { ring } => ("cryptoKeys.list", ring),
        Call::GetKey(name) => ("cryptoKeys.get", name),
        Call::UpdateKey(name) | Call::UpdatePrimary(name) => ("cryptoKeys.update", name),
        Call::Encrypt { key, .. } => ("cryptoKeyVersions.useToEncrypt", key),
        Call::Decrypt(key) => ("cryptoKeyVersions.useToDecrypt", key),
        Call::CreateVersion { key } => ("cryptoKeyVersions.create", key),
        Call::ListVersions { key } => ("cryptoKeyVersions.list", key),
        Call::GetVersion { key, .. } => ("cryptoKeyVersions.get", key),
        Call::UpdateVersion { key, .. } => ("cryptoKeyVersions.update", key),
        Call::Destroy { key, .. } => ("cryptoKeyVersions.destroy", key),
        Call::Restore { key, .. } => ("cryptoKeyVersions.restore", key),
        Call::Token | Call::Exchange | Call::Impersonate(_) => ("none", ""),
    }
}
