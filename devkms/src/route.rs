//! Which operation a request names. Invariant: pure; every path of the API that is offered maps to one operation with one name and one IAM action.

use axum::http::Method;

macro_rules! operations {
    ($($variant:ident $name:literal $action:literal;)*) => {
        /// An operation of the API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Op { $($variant),* }
        impl Op {
            /// Every operation.
            pub const ALL: &[Self] = &[$(Self::$variant),*];
            /// The name in faults, counters and metrics.
            pub fn name(self) -> &'static str { match self { $(Self::$variant => $name),* } }
            /// The IAM action that a caller needs, and the audit event's name.
            pub fn action(self) -> &'static str { match self { $(Self::$variant => $action),* } }
        }
    };
}

operations! {
    Token "token" "iam-identity.token.create";
    CountKeys "count" "kms.secrets.head";
    ListKeys "list" "kms.secrets.list";
    CreateKey "create" "kms.secrets.create";
    CreateKeyWithPolicies "create-with-policies" "kms.secrets.create";
    GetKey "get" "kms.secrets.read";
    GetMetadata "metadata" "kms.secrets.readmetadata";
    ListVersions "versions" "kms.secrets.listkeyversions";
    PatchKey "patch" "kms.secrets.patch";
    DeleteKey "delete" "kms.secrets.delete";
    PurgeKey "purge" "kms.secrets.purge";
    RestoreKey "restore" "kms.secrets.restore";
    Wrap "wrap" "kms.secrets.wrap";
    Unwrap "unwrap" "kms.secrets.unwrap";
    Rewrap "rewrap" "kms.secrets.rewrap";
    Rotate "rotate" "kms.secrets.rotate";
    Enable "enable" "kms.secrets.enable";
    Disable "disable" "kms.secrets.disable";
    SetForDeletion "set-for-deletion" "kms.secrets.setkeyfordeletion";
    UnsetForDeletion "unset-for-deletion" "kms.secrets.unsetkeyfordeletion";
    Sync "sync" "kms.secrets.sync";
    PutPolicies "put-policies" "kms.policies.write";
    GetPolicies "policies" "kms.policies.read";
    PutInstancePolicies "put-instance-policies" "kms.instancepolicies.write";
    GetInstancePolicies "instance-policies" "kms.instancepolicies.read";
    GetAllowedIpPort "allowed-ip-port" "kms.instance.readipwhitelistport";
    CreateImportToken "create-import-token" "kms.importtoken.create";
    GetImportToken "import-token" "kms.importtoken.read";
    ListRegistrations "registrations" "kms.registrations.list";
    CreateAlias "create-alias" "kms.secrets.createalias";
    DeleteAlias "delete-alias" "kms.secrets.deletealias";
    ListRings "key-rings" "kms.keyrings.list";
    CreateRing "create-key-ring" "kms.keyrings.create";
    DeleteRing "delete-key-ring" "kms.keyrings.delete";
    Kmip "kmip" "kms.kmip-management.list";
    Unknown "unknown" "unknown";
}

/// An operation with what its path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub op: Op,
    /// Key id or alias; for key ring operations the ring's id.
    pub subject: Option<String>,
    /// The alias of an alias operation.
    pub alias: Option<String>,
}

impl Target {
    fn new(op: Op) -> Self {
        Self { op, subject: None, alias: None }
    }

    fn on(op: Op, subject: &str) -> Self {
        Self { subject: Some(subject.to_owned()), ..Self::new(op) }
    }
}

/// Maps method, path and the deprecated `?action=` to an operation; [`Op::Unknown`] where there is none.
pub fn classify(method: &Method, path: &str, action: Option<&str>) -> Target {
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    if *method == Method::POST && matches!(parts[..], ["identity" | "oidc", "token"]) {
        return Target::new(Op::Token);
    }
    match parts[..] {
        ["api", "v2", ref rest @ ..] => classify_api(method.as_str(), rest, action),
        _ => Target::new(Op::Unknown),
    }
}

fn classify_api(method: &str, rest: &[&str], action: Option<&str>) -> Target {
    match (method, rest) {
        ("HEAD", ["keys"]) => Target::new(Op::CountKeys),
        ("GET", ["keys"]) => Target::new(Op::ListKeys),
        ("POST", ["keys"]) => Target::new(Op::CreateKey),
        ("POST", ["keys_with_policy_overrides"]) => Target::new(Op::CreateKeyWithPolicies),
        ("GET", ["keys", "registrations"]) => Target::new(Op::ListRegistrations),
        ("PUT", ["instance", "policies"]) => Target::new(Op::PutInstancePolicies),
        ("GET", ["instance", "policies"]) => Target::new(Op::GetInstancePolicies),
        ("GET", ["instance", "allowed_ip_port"]) => Target::new(Op::GetAllowedIpPort),
        ("POST", ["import_token"]) => Target::new(Op::CreateImportToken),
        ("GET", ["import_token"]) => Target::new(Op::GetImportToken),
        ("GET", ["key_rings"]) => Target::new(Op::ListRings),
        ("POST", ["key_rings", ring]) => Target::on(Op::CreateRing, ring),
        ("DELETE", ["key_rings", ring]) => Target::on(Op::DeleteRing, ring),
        (_, ["kmip_adapters", ..]) => Target::new(Op::Kmip),
        (_, ["keys", key, tail @ ..]) => classify_key(method, key, tail, action),
        _ => Target::new(Op::Unknown),
    }
}

fn classify_key(method: &str, key: &str, tail: &[&str], action: Option<&str>) -> Target {
    let op = match (method, tail) {
        ("GET", []) => Op::GetKey,
        ("PATCH", []) => Op::PatchKey,
        ("DELETE", []) => Op::DeleteKey,
        ("POST", []) => action.map_or(Op::Unknown, named_action),
        ("POST", ["actions", name]) => named_action(name),
        ("GET", ["metadata"]) => Op::GetMetadata,
        ("GET", ["versions"]) => Op::ListVersions,
        ("GET", ["registrations"]) => Op::ListRegistrations,
        ("DELETE", ["purge"]) => Op::PurgeKey,
        ("POST", ["restore"]) => Op::RestoreKey,
        ("PUT", ["policies"]) => Op::PutPolicies,
        ("GET", ["policies"]) => Op::GetPolicies,
        ("POST", ["aliases", _]) => Op::CreateAlias,
        ("DELETE", ["aliases", _]) => Op::DeleteAlias,
        _ => Op::Unknown,
    };
    let mut target = Target::on(op, key);
    if let ["aliases", alias] = tail {
        target.alias = Some((*alias).to_owned());
    }
    target
}

fn named_action(name: &str) -> Op {
    match name {
        "wrap" => Op::Wrap,
        "unwrap" => Op::Unwrap,
        "rewrap" => Op::Rewrap,
        "rotate" => Op::Rotate,
        "enable" => Op::Enable,
        "disable" => Op::Disable,
        "setKeyForDeletion" => Op::SetForDeletion,
        "unsetKeyForDeletion" => Op::UnsetForDeletion,
        "sync" => Op::Sync,
        "restore" => Op::RestoreKey,
        _ => Op::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_and_the_deprecated_form_of_an_action_are_one_operation() {
        let new = classify(&Method::POST, "/api/v2/keys/k1/actions/unwrap", None);
        let old = classify(&Method::POST, "/api/v2/keys/k1", Some("unwrap"));
        assert_eq!(new, old);
        assert_eq!(new, Target::on(Op::Unwrap, "k1"));
    }

    #[test]
    fn both_token_paths_are_known_and_nothing_else_is_one() {
        for path in ["/identity/token", "/oidc/token"] {
            assert_eq!(classify(&Method::POST, path, None).op, Op::Token);
            assert_eq!(classify(&Method::GET, path, None).op, Op::Unknown);
        }
        assert_eq!(classify(&Method::POST, "/identity/token/x", None).op, Op::Unknown);
    }

    #[test]
    fn an_alias_operation_names_key_and_alias() {
        let target = classify(&Method::DELETE, "/api/v2/keys/k1/aliases/blue", None);
        assert_eq!((target.subject.as_deref(), target.alias.as_deref()), (Some("k1"), Some("blue")));
    }
}
