//! `inspect`: what a header, a marker or a group record says, without any key.
//!
//! Invariant: nothing is written, no lease is taken, and nothing that is shown is secret.

use std::path::Path;

use contract::exit;
use envelope::{
    GroupRecord, HeaderRegion, KeySlot, MarkerRegion, Record, Region, Seal, SlotState, WrappedKey, Wrapping,
};
use serde_json::{Value, json};

use super::{OfflineError, finish};
use crate::cli::{InspectArgs, Output};
use crate::keys::read_record;
use crate::sweep::region_file::{self, RegionError};
use crate::volume::{self, names, open_path};

/// Runs the command; the exit code.
pub fn inspect(args: &InspectArgs) -> i32 {
    finish(run(args))
}

fn run(args: &InspectArgs) -> Result<i32, OfflineError> {
    let metadata = std::fs::symlink_metadata(&args.path).map_err(OfflineError::Read)?;
    let value = if metadata.is_dir() { volume(&args.path)? } else { file(&args.path)? };
    match args.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&value).expect("a value is plain data")),
        Output::Text => print_text(&value, 0),
    }
    Ok(exit::OK)
}

fn read<R: Record>(path: &Path) -> Result<Option<Region<R>>, OfflineError> {
    let file = open_path(path).map_err(OfflineError::Read)?;
    region_file::read::<R>(&file).map_err(|error| match error {
        RegionError::Header(error) => OfflineError::Header(error),
        RegionError::Io(error) => OfflineError::Read(error),
        other => OfflineError::Read(std::io::Error::other(other.to_string())),
    })
}

fn file(path: &Path) -> Result<Value, OfflineError> {
    let len = std::fs::metadata(path).map_err(OfflineError::Read)?.len();
    let Some(region) = read::<envelope::Preamble>(path)? else {
        return Ok(json!({ "kind": "file", "header": "never written: reads as empty", "physicalSize": len }));
    };
    Ok(describe_file(&region, len))
}

fn describe_file(region: &HeaderRegion, len: u64) -> Value {
    let preamble = region.preamble();
    let geometry = preamble.geometry();
    json!({
        "kind": "file",
        "formatVersion": version(preamble.version()),
        "fileId": preamble.file_id().to_string(),
        "originVolume": preamble.origin().to_string(),
        "headerPages": geometry.header_pages(),
        "flags": flags(preamble.flags()),
        "physicalSize": len,
        "blocks": geometry.blocks(len),
        "raggedBytes": geometry.ragged_bytes(len),
        "seal": seal(region),
        "slots": slots(region),
    })
}

/// What the seal claims; only `verify` can say who wrote it.
fn seal(region: &HeaderRegion) -> Value {
    match region.claimed_seal() {
        None => Value::Null,
        Some(Ok(Seal::Open)) => json!({ "state": "open" }),
        Some(Ok(Seal::Closed(size))) => json!({ "state": "closed", "size": size }),
        Some(Err(error)) => json!({ "state": "damaged", "error": error.to_string() }),
    }
}

fn volume(root: &Path) -> Result<Value, OfflineError> {
    let region = volume::peek(root)?;
    let dir = root.join(names::DIR);
    let mut groups = Vec::new();
    if let Ok(entries) = std::fs::read_dir(dir.join(names::GROUPS)) {
        for entry in entries.flatten() {
            let record = open_path(&entry.path()).and_then(|file| read_record(&file));
            groups.push(match record {
                Ok(Ok(record)) => group(&record),
                Ok(Err(error)) => json!({ "error": error.to_string() }),
                Err(error) => json!({ "error": error.to_string() }),
            });
        }
    }
    let lease = open_path(&dir.join(names::LEASE)).and_then(std::io::read_to_string).unwrap_or_default();
    let lease: Value = serde_json::from_str(lease.trim()).unwrap_or(Value::Null);
    Ok(describe_volume(&region, &groups, &lease))
}

fn describe_volume(region: &MarkerRegion, groups: &[Value], lease: &Value) -> Value {
    let marker = region.marker();
    let options = marker.options();
    json!({
        "kind": "volume",
        "formatVersion": version(marker.version()),
        "volumeId": marker.volume_id().to_string(),
        "headerPages": options.geometry.header_pages(),
        "ownership": format!("{:?}", options.ownership),
        "strict": options.strict,
        "seal": options.seal,
        "sweepEpoch": region.sweep_epoch().ok(),
        "slots": slots(region),
        "groups": groups,
        "lease": lease,
    })
}

fn group(record: &GroupRecord) -> Value {
    json!({
        "group": record.group.to_string(),
        "originVolume": record.origin.to_string(),
        "createdSeconds": record.created,
        "filesAtMost": record.count,
        "key": key(&record.key),
    })
}

fn version((major, minor): (u16, u16)) -> String {
    format!("{major}.{minor}")
}

fn flags((incompat, ro_compat, compat): (u32, u32, u32)) -> Value {
    json!({ "incompatible": incompat, "readOnlyCompatible": ro_compat, "compatible": compat })
}

fn slots<R: Record>(region: &Region<R>) -> Vec<Value> {
    let current = region.current().ok().map(|(index, _)| index);
    let describe = |(index, state): (usize, &SlotState)| match state {
        SlotState::Absent => json!({ "slot": index, "state": "absent" }),
        SlotState::Damaged(error) => json!({ "slot": index, "state": "damaged", "error": error.to_string() }),
        SlotState::Valid(slot) => valid(index, slot, current == Some(index)),
    };
    region.slots().iter().enumerate().map(describe).collect()
}

fn valid(index: usize, slot: &KeySlot, current: bool) -> Value {
    json!({
        "slot": index,
        "state": if current { "current" } else { "older" },
        "generation": slot.generation(),
        "verified": slot.verified(),
        "unknownEntries": slot.unknown_entries(),
        "keys": slot.keys().iter().map(key).collect::<Vec<_>>(),
    })
}

fn key(key: &WrappedKey) -> Value {
    let (wrapping, group) = match &key.wrapping {
        Wrapping::Direct => ("Direct", None),
        Wrapping::Grouped(local) => ("Grouped", Some(local.group().to_string())),
    };
    let digest: String = key.blob_digest().iter().map(|byte| format!("{byte:02x}")).collect();
    json!({
        "provider": format!("{:?}", key.provider),
        "rootKey": key.root_key,
        "version": key.version,
        "context": format!("{:?}", key.context),
        "wrapping": wrapping,
        "group": group,
        "blobBytes": key.blob.len(),
        "blobSha256": digest,
    })
}

/// `name: value` lines, indented like YAML.
fn print_text(value: &Value, indent: usize) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::Object(_) | Value::Array(_) => {
                        println!("{pad}{name}:");
                        print_text(value, indent + 2);
                    }
                    other => println!("{pad}{name}: {}", scalar(other)),
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                println!("{pad}-");
                print_text(item, indent + 2);
            }
        }
        other => println!("{pad}{}", scalar(other)),
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "none".into(),
        other => other.to_string(),
    }
}
