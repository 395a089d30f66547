//! New materials: on demand, and by themselves.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Call, usable};
use crate::clock::{DAY, Millis, seconds};
use crate::keys::State;
use crate::refusal::{Answer, refuse};
use crate::signature::hex;

/// As often may a key be rotated on demand in its life.
const MOST_ON_DEMAND: usize = 25;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Period {
    key_id: String,
    #[serde(default = "a_year")]
    rotation_period_in_days: u32,
}

fn a_year() -> u32 {
    365
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct List {
    key_id: String,
    include_key_material: Option<String>,
    limit: Option<usize>,
    marker: Option<String>,
}

impl Call<'_> {
    pub(super) fn rotate_key_on_demand(&mut self) -> Answer<Value> {
        let arn = self.named()?;
        let now = self.world.clock.now();
        let key = self.key(&arn)?;
        usable(key)?;
        let so_far = key.materials.iter().filter(|one| one.rotation.is_some_and(|one| one.on_demand)).count();
        if so_far >= MOST_ON_DEMAND {
            return refuse("LimitExceededException", format!("{arn} was rotated on demand {so_far} times"));
        }
        key.rotate(now, true);
        Ok(json!({"KeyId": arn}))
    }

    pub(super) fn enable_key_rotation(&mut self) -> Answer<Value> {
        let Period { key_id, rotation_period_in_days: days } = self.read()?;
        let arn = self.permitted(&key_id, "EnableKeyRotation", false, &[])?;
        if !(90..=2560).contains(&days) {
            return refuse("ValidationException", "RotationPeriodInDays must be between 90 and 2560");
        }
        let next = self.world.clock.now() + Millis::from(days) * DAY;
        let key = self.key(&arn)?;
        usable(key)?;
        (key.period_days, key.next_rotation) = (Some(days), Some(next));
        Ok(Value::Null)
    }

    pub(super) fn disable_key_rotation(&mut self) -> Answer<Value> {
        let arn = self.named()?;
        let key = self.key(&arn)?;
        usable(key)?;
        (key.period_days, key.next_rotation) = (None, None);
        Ok(Value::Null)
    }

    pub(super) fn get_key_rotation_status(&mut self) -> Answer<Value> {
        let arn = self.named()?;
        let key = self.key(&arn)?;
        if key.state == State::PendingDeletion {
            return Err(super::in_wrong_state(key));
        }
        let mut said = json!({"KeyRotationEnabled": key.period_days.is_some(), "KeyId": arn});
        if let (Some(days), Some(next)) = (key.period_days, key.next_rotation) {
            said["RotationPeriodInDays"] = json!(days);
            said["NextRotationDate"] = json!(seconds(next));
        }
        Ok(said)
    }

    /// The marker is how many were listed before.
    pub(super) fn list_key_rotations(&mut self) -> Answer<Value> {
        let List { key_id, include_key_material, limit, marker } = self.read()?;
        let arn = self.permitted(&key_id, "ListKeyRotations", false, &[])?;
        let all = match include_key_material.as_deref() {
            Some("ALL_KEY_MATERIAL") => true,
            None | Some("ROTATIONS_ONLY") => false,
            Some(_) => return refuse("ValidationException", "IncludeKeyMaterial is not one of its values"),
        };
        let from: usize = match marker.map(|marker| marker.parse()) {
            None => 0,
            Some(Ok(from)) => from,
            Some(Err(_)) => return refuse("InvalidMarkerException", "Invalid marker."),
        };
        let limit = limit.unwrap_or(100);
        if !(1..=1000).contains(&limit) {
            return refuse("ValidationException", "Limit must be between 1 and 1000");
        }
        let key = self.key(&arn)?;
        let newest = key.current().id;
        let listed: Vec<Value> = key
            .materials
            .iter()
            .filter(|one| all || one.rotation.is_some())
            .map(|one| {
                let state = if one.id == newest { "CURRENT" } else { "NON_CURRENT" };
                let mut said =
                    json!({"KeyId": arn, "KeyMaterialId": hex(&one.id), "KeyMaterialState": state});
                if let Some(rotation) = one.rotation {
                    said["RotationDate"] = json!(seconds(rotation.at));
                    said["RotationType"] = json!(if rotation.on_demand { "ON_DEMAND" } else { "AUTOMATIC" });
                }
                said
            })
            .collect();
        let page: Vec<Value> = listed.iter().skip(from).take(limit).cloned().collect();
        let until = from + page.len();
        let mut said = json!({"Rotations": page, "Truncated": until < listed.len()});
        if until < listed.len() {
            said["NextMarker"] = json!(until.to_string());
        }
        Ok(said)
    }
}
