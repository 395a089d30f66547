//! What can be read of keys.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Call, OfKey};
use crate::ACCOUNT;
use crate::clock::seconds;
use crate::keys::{Key, State};
use crate::refusal::Answer;
use crate::signature::hex;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Nothing {}

/// Metadata of a key.
pub(super) fn metadata(key: &Key) -> Value {
    let mut said = json!({
        "AWSAccountId": ACCOUNT,
        "KeyId": key.id,
        "Arn": key.arn(),
        "CreationDate": seconds(key.created),
        "Enabled": key.state == State::Enabled,
        "Description": key.description,
        "KeyUsage": "ENCRYPT_DECRYPT",
        "KeyState": key.state,
        "Origin": "AWS_KMS",
        "KeyManager": "CUSTOMER",
        "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT",
        "KeySpec": "SYMMETRIC_DEFAULT",
        "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"],
        "MultiRegion": false,
        "CurrentKeyMaterialId": hex(&key.current().id),
    });
    if let Some(at) = key.gone_at {
        said["DeletionDate"] = json!(seconds(at));
    }
    said
}

impl Call<'_> {
    pub(super) fn describe_key(&mut self) -> Answer<Value> {
        let OfKey { key_id } = self.read()?;
        let arn = self.permitted(&key_id, "DescribeKey", true, &[])?;
        Ok(json!({"KeyMetadata": metadata(self.key(&arn)?)}))
    }

    pub(super) fn list_keys(&mut self) -> Answer<Value> {
        let Nothing {} = self.read()?;
        self.caller.may("kms:ListKeys", "*", &[])?;
        let keys: Vec<Value> =
            self.world.keys().map(|key| json!({"KeyId": key.id, "KeyArn": key.arn()})).collect();
        Ok(json!({"Keys": keys, "Truncated": false}))
    }
}
