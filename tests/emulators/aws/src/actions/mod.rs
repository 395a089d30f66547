//! The actions of AWS KMS.
//!
//! Source: the AWS KMS API reference, 2014-11-01, its errors and its table of key states. Invariant: the order is the vendor's: what
//! is asked, whether there is such a key, who may, the key's state, and only then the deed.

mod crypt;
mod lifecycle;
mod read;
mod rotation;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::access::Caller;
use crate::keys::{Context, Key, State};
use crate::refusal::{Answer, refusal, refuse};
use crate::world::World;

/// One call.
pub(crate) struct Call<'a> {
    world: &'a mut World,
    caller: &'a Caller,
    action: &'a str,
    body: &'a [u8],
}

/// Carries out `action`.
pub(crate) fn act(world: &mut World, caller: &Caller, action: &str, body: &[u8]) -> Answer<Value> {
    let mut call = Call { world, caller, action, body };
    match action {
        "CancelKeyDeletion" => call.cancel_key_deletion(),
        "CreateAlias" => call.create_alias(),
        "CreateKey" => call.create_key(),
        "Decrypt" => call.decrypt(),
        "DescribeKey" => call.describe_key(),
        "DisableKey" => call.set_enabled(false),
        "DisableKeyRotation" => call.disable_key_rotation(),
        "EnableKey" => call.set_enabled(true),
        "EnableKeyRotation" => call.enable_key_rotation(),
        "Encrypt" => call.encrypt(),
        "GenerateDataKey" => call.generate_data_key(),
        "GetKeyRotationStatus" => call.get_key_rotation_status(),
        "ListKeyRotations" => call.list_key_rotations(),
        "ListKeys" => call.list_keys(),
        "ReEncrypt" => call.re_encrypt(),
        "RotateKeyOnDemand" => call.rotate_key_on_demand(),
        "ScheduleKeyDeletion" => call.schedule_key_deletion(),
        other => refuse("UnknownOperationException", format!("{other} is not known here")),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct OfKey {
    key_id: String,
}

impl Call<'_> {
    fn read<T: DeserializeOwned>(&self) -> Answer<T> {
        serde_json::from_slice(self.body)
            .map_err(|error| refusal("ValidationException", format!("1 validation error detected: {error}")))
    }

    /// The ARN of the key that is meant, where there is one and the caller may do this with it. An alias is known to what uses keys,
    /// and to nothing that changes them.
    fn permitted(
        &mut self,
        name: &str,
        action: &str,
        alias: bool,
        known: &[(String, String)],
    ) -> Answer<String> {
        let Some(arn) = self.world.arn_meant(name, alias) else {
            return refuse("NotFoundException", format!("Invalid keyId '{name}'"));
        };
        self.caller.may(&format!("kms:{action}"), &arn, known)?;
        if self.world.key_at(&arn).is_none() {
            return refuse("NotFoundException", format!("Key '{arn}' does not exist"));
        }
        Ok(arn)
    }

    fn key(&mut self, arn: &str) -> Answer<&mut Key> {
        self.world
            .key_at(arn)
            .ok_or_else(|| refusal("NotFoundException", format!("Key '{arn}' does not exist")))
    }

    /// The key of a body that names only it, for this action.
    fn named(&mut self) -> Answer<String> {
        let OfKey { key_id } = self.read()?;
        self.permitted(&key_id, self.action, false, &[])
    }
}

/// It can be used.
fn usable(key: &Key) -> Answer<()> {
    match key.state {
        State::Enabled => Ok(()),
        State::Disabled => refuse("DisabledException", format!("{} is disabled.", key.arn())),
        State::PendingDeletion | State::PendingImport => Err(in_wrong_state(key)),
    }
}

fn in_wrong_state(key: &Key) -> crate::refusal::Refusal {
    let what = match key.state {
        State::PendingDeletion => "is pending deletion",
        State::PendingImport => "is pending import",
        State::Enabled | State::Disabled => "is not pending deletion",
    };
    refusal("KMSInvalidStateException", format!("{} {what}.", key.arn()))
}

fn bytes(text: &str, field: &str, longest: usize) -> Answer<Vec<u8>> {
    let bytes = STANDARD
        .decode(text)
        .map_err(|_| refusal("SerializationException", format!("{field} is no blob")))?;
    if (1..=longest).contains(&bytes.len()) {
        return Ok(bytes);
    }
    refuse(
        "ValidationException",
        format!(
            "1 validation error detected: Value at '{field}' failed to satisfy constraint: length between 1 and {longest}"
        ),
    )
}

fn blob(bytes: &[u8]) -> Value {
    json!(STANDARD.encode(bytes))
}

/// What policies may ask of an encryption context.
fn conditions(context: &Context) -> Vec<(String, String)> {
    context.iter().map(|(name, value)| (format!("kms:EncryptionContext:{name}"), value.clone())).collect()
}
