//! The rules of docs/architecture.md as data: which packages a part must never see, directly or through others.
//!
//! Invariant: pure; the test feeds it what `cargo metadata` prints.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// A part, and packages that must not be reachable from it through normal dependencies.
pub struct Rule {
    /// The part's package.
    pub part: &'static str,
    /// Packages that it must never see.
    pub never: &'static [&'static str],
    /// The only packages of the project that it may see; the part itself aside.
    pub own: &'static [&'static str],
}

/// The column "never sees" of docs/architecture.md.
pub const RULES: &[Rule] = &[
    Rule {
        part: "cofferdam-envelope",
        never: &["tokio", "kube", "reqwest", "hyper", "rustix", "nix"],
        own: &[],
    },
    Rule {
        part: "cofferdam-kms",
        never: &["kube", "k8s-openapi", "fuse-backend-rs", "nix"],
        own: &["cofferdam-contract"],
    },
    Rule {
        part: "cofferdam-contract",
        never: &["tokio", "kube", "reqwest", "fuse-backend-rs", "serde_json"],
        own: &[],
    },
    Rule {
        part: "cofferdam-api",
        never: &["kube-client", "kube-runtime", "rustls", "reqwest", "tokio"],
        own: &["cofferdam-contract"],
    },
    Rule {
        part: "cofferdam-audit",
        never: &["kube", "fuse-backend-rs"],
        own: &["cofferdam-contract", "cofferdam-kms"],
    },
    Rule {
        part: "cofferdam-operator",
        never: &["fuse-backend-rs", "cofferdam-envelope"],
        own: &["cofferdam-api", "cofferdam-audit", "cofferdam-contract", "cofferdam-kms"],
    },
    Rule {
        part: "cofferdam-sidecar",
        never: &["kube", "k8s-openapi"],
        own: &["cofferdam-audit", "cofferdam-contract", "cofferdam-envelope", "cofferdam-kms"],
    },
    Rule {
        part: "cofferdam-node",
        never: &["cofferdam-envelope", "cofferdam-kms", "aes-gcm", "reqwest"],
        own: &["cofferdam-contract"],
    },
    Rule {
        part: "cofferdam-cli",
        never: &["fuse-backend-rs", "cofferdam-envelope"],
        own: &["cofferdam-api", "cofferdam-contract", "cofferdam-kms"],
    },
    Rule { part: "cofferdam-devkms", never: &["kube", "fuse-backend-rs"], own: &[] },
];

/// The part of `cargo metadata --format-version 1` that matters here.
#[derive(Deserialize)]
pub struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    kind: Option<String>,
}

impl Metadata {
    /// Names of all packages that `part` reaches through normal dependencies; empty if there is no such package.
    pub fn reachable(&self, part: &str) -> BTreeSet<&str> {
        let names: BTreeMap<&str, &str> =
            self.packages.iter().map(|p| (p.id.as_str(), p.name.as_str())).collect();
        let nodes: BTreeMap<&str, &Node> = self.resolve.nodes.iter().map(|n| (n.id.as_str(), n)).collect();
        let mut seen = BTreeSet::new();
        let mut open: Vec<&str> =
            names.iter().filter(|(_, name)| **name == part).map(|(id, _)| *id).collect();
        while let Some(id) = open.pop() {
            let Some(node) = nodes.get(id).filter(|_| seen.insert(id)) else { continue };
            let normal = |edge: &&Edge| edge.dep_kinds.iter().any(|k| k.kind.is_none());
            open.extend(node.deps.iter().filter(normal).map(|edge| edge.pkg.as_str()));
        }
        seen.into_iter().filter_map(|id| names.get(id).copied()).collect()
    }

    /// One sentence for each breach of [`RULES`].
    pub fn breaches(&self) -> Vec<String> {
        let mut found = vec![];
        for rule in RULES {
            let reachable = self.reachable(rule.part);
            if reachable.is_empty() {
                found.push(format!("{} is not in the workspace", rule.part));
            }
            let foreign = reachable.iter().filter(|name| rule.never.contains(name));
            found.extend(foreign.map(|name| format!("{} must never see {name}", rule.part)));
            let own = reachable.iter().filter(|name| name.starts_with("cofferdam-") && **name != rule.part);
            let strange = own.filter(|name| !rule.own.contains(name));
            found.extend(strange.map(|name| format!("{} must not depend on {name}", rule.part)));
        }
        found
    }
}
