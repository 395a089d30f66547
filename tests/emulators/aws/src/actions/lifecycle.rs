//! Keys are made, named, disabled and deleted.

use serde::Deserialize;
use serde_json::{Value, json};

use super::read::metadata;
use super::{Call, in_wrong_state};
use crate::clock::{DAY, Millis, seconds};
use crate::keys::{Key, State, arn_of};
use crate::refusal::{Answer, refuse};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Create {
    #[serde(default)]
    description: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Alias {
    alias_name: String,
    target_key_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Deletion {
    key_id: String,
    #[serde(default = "longest")]
    pending_window_in_days: u8,
}

fn longest() -> u8 {
    30
}

impl Call<'_> {
    pub(super) fn create_key(&mut self) -> Answer<Value> {
        let Create { description } = self.read()?;
        self.caller.may("kms:CreateKey", "*", &[])?;
        let id = uuid::Uuid::new_v4().to_string();
        let key = Key::new(&id, &description, self.world.clock.now());
        let said = metadata(&key);
        self.world.keys.insert(id, key);
        Ok(json!({"KeyMetadata": said}))
    }

    pub(super) fn create_alias(&mut self) -> Answer<Value> {
        let Alias { alias_name, target_key_id } = self.read()?;
        let arn = self.permitted(&target_key_id, "CreateAlias", false, &[])?;
        if !alias_name.starts_with("alias/") {
            return refuse("ValidationException", "Alias must start with the prefix \"alias/\".");
        }
        if self.world.aliases.contains_key(&alias_name) {
            return refuse(
                "AlreadyExistsException",
                format!("An alias with the name {alias_name} already exists"),
            );
        }
        let id = self.key(&arn)?.id.clone();
        debug_assert_eq!(arn_of(&id), arn);
        self.world.aliases.insert(alias_name, id);
        Ok(Value::Null)
    }

    pub(super) fn set_enabled(&mut self, enabled: bool) -> Answer<Value> {
        let arn = self.named()?;
        let key = self.key(&arn)?;
        match key.state {
            State::Enabled | State::Disabled => {
                key.state = if enabled { State::Enabled } else { State::Disabled };
                Ok(Value::Null)
            }
            State::PendingDeletion | State::PendingImport => Err(in_wrong_state(key)),
        }
    }

    pub(super) fn schedule_key_deletion(&mut self) -> Answer<Value> {
        let Deletion { key_id, pending_window_in_days: days } = self.read()?;
        let arn = self.permitted(&key_id, "ScheduleKeyDeletion", false, &[])?;
        if !(7..=30).contains(&days) {
            return refuse("ValidationException", "PendingWindowInDays must be between 7 and 30 (inclusive)");
        }
        let gone_at = self.world.clock.now() + Millis::from(days) * DAY;
        let key = self.key(&arn)?;
        if key.state == State::PendingDeletion {
            return Err(in_wrong_state(key));
        }
        (key.state, key.gone_at) = (State::PendingDeletion, Some(gone_at));
        Ok(json!({
            "KeyId": arn,
            "DeletionDate": seconds(gone_at),
            "KeyState": State::PendingDeletion,
            "PendingWindowInDays": days,
        }))
    }

    pub(super) fn cancel_key_deletion(&mut self) -> Answer<Value> {
        let arn = self.named()?;
        let key = self.key(&arn)?;
        if key.state != State::PendingDeletion {
            return Err(in_wrong_state(key));
        }
        (key.state, key.gone_at) = (State::Disabled, None);
        Ok(json!({"KeyId": arn}))
    }
}
