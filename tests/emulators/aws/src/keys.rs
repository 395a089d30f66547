//! A root key: its state, its materials, and what they seal.
//!
//! Invariant: a rotation makes a new material, and each blob opens under the one that sealed it, with the context that it was sealed
//! with, or not at all.

use std::collections::BTreeMap;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::clock::{DAY, Millis};
use crate::signature::hex;
use crate::{ACCOUNT, REGION};

/// How AWS's own blobs begin.
const MAGIC: [u8; 4] = [1, 2, 2, 0];
const KEY_END: usize = 36;
const MATERIAL_END: usize = 68;
const IV_END: usize = 80;

/// An encryption context.
pub(crate) type Context = BTreeMap<String, String>;

/// The states that a symmetric key of AWS's own store can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Wraps and unwraps.
    Enabled,
    /// Does neither until it is enabled.
    Disabled,
    /// Does neither, and is gone after some time.
    PendingDeletion,
    /// Waits for material.
    PendingImport,
}

/// Who made a material and when; the first one was made with the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rotation {
    pub(crate) at: Millis,
    pub(crate) on_demand: bool,
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Material {
    pub(crate) id: [u8; 32],
    bytes: [u8; 32],
    pub(crate) rotation: Option<Rotation>,
}

/// A root key.
#[derive(Clone, Serialize, Deserialize)]
pub struct Key {
    /// Its id.
    pub id: String,
    /// For people.
    pub(crate) description: String,
    pub(crate) created: Millis,
    /// Its state.
    pub state: State,
    pub(crate) gone_at: Option<Millis>,
    /// The last one is current.
    pub(crate) materials: Vec<Material>,
    pub(crate) period_days: Option<u32>,
    pub(crate) next_rotation: Option<Millis>,
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has random numbers");
    bytes
}

/// The ARN of a key's id.
pub(crate) fn arn_of(id: &str) -> String {
    format!("arn:aws:kms:{REGION}:{ACCOUNT}:key/{id}")
}

impl Material {
    fn new(rotation: Option<Rotation>) -> Self {
        Self { id: random(), bytes: random(), rotation }
    }

    fn cipher(&self) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &self.bytes).expect("the length is right"))
    }
}

impl Key {
    pub(crate) fn new(id: &str, description: &str, now: Millis) -> Self {
        Self {
            id: id.into(),
            description: description.into(),
            created: now,
            state: State::Enabled,
            gone_at: None,
            materials: vec![Material::new(None)],
            period_days: None,
            next_rotation: None,
        }
    }

    pub(crate) fn arn(&self) -> String {
        arn_of(&self.id)
    }

    fn tag(&self) -> [u8; 32] {
        Sha256::digest(self.arn().as_bytes()).into()
    }

    pub(crate) fn current(&self) -> &Material {
        self.materials.last().expect("a key has a material")
    }

    pub(crate) fn rotate(&mut self, at: Millis, on_demand: bool) {
        self.materials.push(Material::new(Some(Rotation { at, on_demand })));
    }

    /// What the time that passed has made of it; `false`: it is gone.
    pub(crate) fn age(&mut self, now: Millis) -> bool {
        if self.state == State::PendingDeletion {
            return self.gone_at.is_none_or(|at| now < at);
        }
        while let (Some(at), Some(days)) = (self.next_rotation, self.period_days) {
            if now < at {
                break;
            }
            if self.state == State::Enabled {
                self.rotate(at, false);
            }
            self.next_rotation = Some(at + Millis::from(days) * DAY);
        }
        true
    }

    /// Seals under the current material.
    pub(crate) fn seal(&self, plain: &[u8], context: &Context) -> Vec<u8> {
        let (material, iv) = (self.current(), random::<12>());
        let mut blob = [&MAGIC[..], &self.tag(), &material.id, &iv].concat();
        let mut sealed = plain.to_vec();
        let aad = Aad::from(bound(&blob[..MATERIAL_END], context));
        let nonce = Nonce::assume_unique_for_key(iv);
        material.cipher().seal_in_place_append_tag(nonce, aad, &mut sealed).expect("it is short");
        blob.extend(sealed);
        blob
    }

    /// A blob of this key, whatever is in it.
    pub(crate) fn sealed(&self, blob: &[u8]) -> bool {
        blob.starts_with(&MAGIC) && blob.get(MAGIC.len()..KEY_END) == Some(&self.tag())
    }

    /// What is in a blob, and the material that it was sealed with.
    pub(crate) fn open(&self, blob: &[u8], context: &Context) -> Option<(Vec<u8>, String)> {
        let id = self.sealed(blob).then_some(blob)?.get(KEY_END..MATERIAL_END)?;
        let material = self.materials.iter().find(|material| material.id == id)?;
        let iv: [u8; 12] = blob.get(MATERIAL_END..IV_END)?.try_into().ok()?;
        let mut sealed = blob[IV_END..].to_vec();
        let aad = Aad::from(bound(&blob[..MATERIAL_END], context));
        let nonce = Nonce::assume_unique_for_key(iv);
        let plain = material.cipher().open_in_place(nonce, aad, &mut sealed).ok()?;
        Some((plain.to_vec(), hex(&material.id)))
    }
}

/// The head of a blob and the context, each part with its length before it.
fn bound(head: &[u8], context: &Context) -> Vec<u8> {
    let mut bytes = head.to_vec();
    for text in context.iter().flat_map(|(name, value)| [name, value]) {
        bytes.extend((text.len() as u64).to_be_bytes());
        bytes.extend(text.as_bytes());
    }
    bytes
}
