//! The service's roles and the actions in each. Invariant: a role that is not listed beside an action does not have it.

use serde::{Deserialize, Serialize};

/// Service access roles of Key Protect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    Reader,
    ReaderPlus,
    Writer,
    Manager,
    KeyPurge,
    KmipAdapterManager,
}

const READER: &[&str] = &[
    "kms.secrets.head",
    "kms.secrets.list",
    "kms.secrets.readmetadata",
    "kms.secrets.listkeyversions",
    "kms.secrets.wrap",
    "kms.secrets.unwrap",
    "kms.secrets.rewrap",
    "kms.registrations.list",
    "kms.keyrings.list",
    "kms.instance.readipwhitelistport",
];

const READER_PLUS: &[&str] = &["kms.secrets.read"];

const WRITER: &[&str] = &[
    "kms.secrets.create",
    "kms.secrets.rotate",
    "kms.secrets.setkeyfordeletion",
    "kms.secrets.unsetkeyfordeletion",
    "kms.secrets.sync",
    "kms.secrets.createalias",
    "kms.secrets.deletealias",
    "kms.importtoken.create",
    "kms.importtoken.read",
    "kms.keyrings.create",
];

const MANAGER: &[&str] = &[
    "kms.secrets.disable",
    "kms.secrets.enable",
    "kms.secrets.delete",
    "kms.secrets.restore",
    "kms.secrets.patch",
    "kms.policies.read",
    "kms.policies.write",
    "kms.instancepolicies.read",
    "kms.instancepolicies.write",
    "kms.keyrings.delete",
];

impl Role {
    /// Whether the role has the action, by its canonical name.
    pub fn allows(self, action: &str) -> bool {
        let tiers: &[&[&str]] = match self {
            Self::Reader => &[READER],
            Self::ReaderPlus => &[READER, READER_PLUS],
            Self::Writer => &[READER, READER_PLUS, WRITER],
            Self::Manager => &[READER, READER_PLUS, WRITER, MANAGER],
            Self::KeyPurge => &[&["kms.secrets.purge"]],
            Self::KmipAdapterManager => &[&["kms.kmip-management.list"]],
        };
        tiers.iter().any(|tier| tier.contains(&action))
    }
}

/// The name that this server uses for an action that has two.
pub fn canonical(action: &str) -> &str {
    match action {
        "kms.secrets-metadata.read" => "kms.secrets.readmetadata",
        "kms.secrets-key-versions.list" => "kms.secrets.listkeyversions",
        "kms.import-token.create" => "kms.importtoken.create",
        "kms.import-token.read" => "kms.importtoken.read",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Op;

    #[test]
    fn a_reader_wraps_but_neither_rotates_nor_disables() {
        for action in
            ["kms.secrets.wrap", "kms.secrets.unwrap", "kms.secrets.rewrap", "kms.secrets.readmetadata"]
        {
            assert!(Role::Reader.allows(action), "{action}");
        }
        for action in [
            "kms.secrets.rotate",
            "kms.secrets.disable",
            "kms.secrets.read",
            "kms.secrets.create",
            "kms.policies.read",
        ] {
            assert!(!Role::Reader.allows(action), "{action}");
        }
        assert!(
            Role::ReaderPlus.allows("kms.secrets.read") && !Role::ReaderPlus.allows("kms.secrets.rotate")
        );
        assert!(Role::Writer.allows("kms.secrets.rotate") && !Role::Writer.allows("kms.secrets.disable"));
        assert!(!Role::Manager.allows("kms.secrets.purge") && Role::KeyPurge.allows("kms.secrets.purge"));
    }

    #[test]
    fn every_operation_belongs_to_some_role() {
        for op in Op::ALL.iter().filter(|op| !matches!(op, Op::Token | Op::Unknown)) {
            let held = [Role::Manager, Role::KeyPurge, Role::KmipAdapterManager];
            assert!(held.iter().any(|role| role.allows(op.action())), "{}", op.name());
        }
    }
}
