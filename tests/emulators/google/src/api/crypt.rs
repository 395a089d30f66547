//! Encrypt and decrypt, with checksums in both directions.
//!
//! Invariant: a checksum that came is compared before anything else is done; one that did not come is not said to have been.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Asked;
use super::body::{Base64, Int64, read};
use super::keys::found;
use crate::status::Status;
use crate::world::{Damage, World};

/// The largest plaintext, and the largest associated data.
const LIMIT: usize = 64 * 1024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EncryptBody {
    #[serde(rename = "name")]
    _name: Option<String>,
    #[serde(default)]
    plaintext: Base64,
    #[serde(default, alias = "additional_authenticated_data")]
    additional_authenticated_data: Base64,
    #[serde(alias = "plaintext_crc32c")]
    plaintext_crc32c: Option<Int64>,
    #[serde(alias = "additional_authenticated_data_crc32c")]
    additional_authenticated_data_crc32c: Option<Int64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DecryptBody {
    #[serde(rename = "name")]
    _name: Option<String>,
    #[serde(default)]
    ciphertext: Base64,
    #[serde(default, alias = "additional_authenticated_data")]
    additional_authenticated_data: Base64,
    #[serde(alias = "ciphertext_crc32c")]
    ciphertext_crc32c: Option<Int64>,
    #[serde(alias = "additional_authenticated_data_crc32c")]
    additional_authenticated_data_crc32c: Option<Int64>,
}

/// Whether a checksum came; a wrong one is an error.
fn verified(field: &str, bytes: &[u8], sum: Option<&Int64>) -> Result<bool, Status> {
    match sum {
        None => Ok(false),
        Some(sum) if sum.0 == i64::from(crc32c::crc32c(bytes)) => Ok(true),
        Some(_) => Err(Status::checksum(field)),
    }
}

fn limited(field: &str, bytes: &[u8]) -> Result<(), Status> {
    if bytes.len() <= LIMIT {
        Ok(())
    } else {
        Err(Status::invalid(format!("{field} is larger than 64 KiB.")))
    }
}

fn flip(bytes: &mut [u8]) {
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
}

/// Data and checksum of an answer, damaged where that is wanted.
fn summed(answer: &mut Value, field: &str, mut bytes: Vec<u8>, damage: Option<Damage>) {
    let sum = crc32c::crc32c(&bytes);
    if damage == Some(Damage::Answer) {
        flip(&mut bytes);
    }
    answer[field] = STANDARD.encode(bytes).into();
    if damage != Some(Damage::AnswerChecksum) {
        answer[format!("{field}Crc32c")] = sum.to_string().into();
    }
}

pub fn encrypt(world: &mut World, asked: &Asked<'_>, key: &str, id: Option<u64>) -> Result<Value, Status> {
    let mut body: EncryptBody = read(asked.body)?;
    let damage = world.damage;
    match damage {
        Some(Damage::Request) => flip(&mut body.plaintext.0),
        Some(Damage::RequestChecksums) => {
            (body.plaintext_crc32c, body.additional_authenticated_data_crc32c) = (None, None);
        }
        _ => {}
    }
    let (plaintext, aad) = (&body.plaintext.0, &body.additional_authenticated_data.0);
    limited("plaintext", plaintext)?;
    limited("additional_authenticated_data", aad)?;
    let of_plaintext = verified("plaintext", plaintext, body.plaintext_crc32c.as_ref())?;
    let sum = body.additional_authenticated_data_crc32c.as_ref();
    let of_aad = verified("additional_authenticated_data", aad, sum)?;
    let key = found(world, key)?;
    let (id, ciphertext) = key.encrypt(id, plaintext, aad)?;
    let mut name = key.version_name(id);
    if damage == Some(Damage::OtherKey) {
        name = name.replace("/cryptoKeys/", "/cryptoKeys/not-");
    }
    let mut answer = json!({"name": name, "protectionLevel": "SOFTWARE"});
    for (field, holds) in
        [("verifiedPlaintextCrc32c", of_plaintext), ("verifiedAdditionalAuthenticatedDataCrc32c", of_aad)]
    {
        if holds {
            answer[field] = true.into();
        }
    }
    summed(&mut answer, "ciphertext", ciphertext, damage);
    Ok(answer)
}

pub fn decrypt(world: &mut World, asked: &Asked<'_>, key: &str) -> Result<Value, Status> {
    let mut body: DecryptBody = read(asked.body)?;
    let damage = world.damage;
    if damage == Some(Damage::Request) {
        flip(&mut body.ciphertext.0);
    }
    let (ciphertext, aad) = (&body.ciphertext.0, &body.additional_authenticated_data.0);
    limited("additional_authenticated_data", aad)?;
    verified("ciphertext", ciphertext, body.ciphertext_crc32c.as_ref())?;
    let sum = body.additional_authenticated_data_crc32c.as_ref();
    verified("additional_authenticated_data", aad, sum)?;
    let key = found(world, key)?;
    let (id, plaintext) = key.decrypt(ciphertext, aad)?;
    let mut answer = json!({"protectionLevel": "SOFTWARE"});
    if Some(id) == key.primary {
        answer["usedPrimary"] = true.into();
    }
    summed(&mut answer, "plaintext", plaintext, damage);
    Ok(answer)
}
