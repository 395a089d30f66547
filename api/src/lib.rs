//! The custom resources of `cofferdam.io/v1alpha1`: types, CEL rules and the vocabulary of conditions.
//!
//! Invariant: schema only; no client. The CRD YAML in `crds/` is generated from here and never edited by hand.

#![allow(clippy::duplicated_attributes, reason = "each printer column of a kube attribute has a type")]

pub mod binding;
pub mod condition;
pub mod connection;
pub mod crd;
pub mod profile;
pub mod volume;

pub use binding::{StorageBinding, StorageBindingSpec, StorageBindingStatus};
pub use profile::{KmsProfile, KmsProfileSpec, KmsProfileStatus};
pub use volume::{EncryptedVolume, EncryptedVolumeSpec, EncryptedVolumeStatus};
