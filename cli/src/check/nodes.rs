//! Swap on the nodes, as far as the API tells.
//!
//! Kubelet writes `status.nodeInfo.swap` where a node has some, and nothing where it has none. Before 1.34 that was behind a feature
//! gate, so that nothing means nothing there. Whether pods may use the swap, the node's own configuration says, which the API does not
//! show. Invariant: silence of an older kubelet is unknown.

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;

use super::report::{Finding, Line};
use crate::subject::Gap;

/// The first minor version of kubelet whose silence means that there is no swap.
const TELLS_SINCE: (u32, u32) = (1, 34);
/// Names in a line.
const SHOWN: usize = 5;

enum Swap {
    None,
    Bytes(i64),
    Untold,
}

fn swap_of(node: &Node) -> Swap {
    let Some(info) = node.status.as_ref().and_then(|status| status.node_info.as_ref()) else {
        return Swap::Untold;
    };
    match info.swap.as_ref().and_then(|swap| swap.capacity) {
        Some(0) => Swap::None,
        Some(bytes) => Swap::Bytes(bytes),
        None if minor(&info.kubelet_version).is_some_and(|version| version >= TELLS_SINCE) => Swap::None,
        None => Swap::Untold,
    }
}

/// `v1.34.1` as (1, 34).
fn minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.trim_start_matches('v').split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn names(nodes: &[String]) -> String {
    let more = nodes.len().saturating_sub(SHOWN);
    let shown = nodes.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

/// The line about swap.
pub fn swap(nodes: Result<Vec<Node>, Gap>) -> Line {
    Line::about("nodes", "swap", nodes.map_or_else(Finding::from, |nodes| judge(&nodes)))
}

fn judge(nodes: &[Node]) -> Finding {
    let (mut with, mut untold) = (Vec::new(), Vec::new());
    for node in nodes {
        match swap_of(node) {
            Swap::None => {}
            Swap::Bytes(bytes) => with.push(format!("{} ({} MiB)", node.name_any(), bytes >> 20)),
            Swap::Untold => untold.push(node.name_any()),
        }
    }
    if !with.is_empty() {
        return Finding::warning(format!(
            "nodes with swap: {}. Keys in a sidecar's memory could be written there where memory cannot be locked; turn swap \
             off, or see that kubelet's memorySwap.swapBehavior is NoSwap",
            names(&with)
        ));
    }
    if !untold.is_empty() {
        return Finding::unknown(format!(
            "kubelet does not say whether there is swap on {}: look there with swapon --show",
            names(&untold)
        ));
    }
    if nodes.is_empty() {
        return Finding::unknown("the cluster lists no nodes");
    }
    Finding::ok(format!("none of the nodes has swap (looked at: {})", nodes.len()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::super::report::Verdict;
    use super::*;

    fn node(name: &str, kubelet: &str, capacity: Option<i64>) -> Node {
        let swap = capacity.map(|capacity| json!({"capacity": capacity}));
        let info = json!({
            "kubeletVersion": kubelet, "swap": swap, "architecture": "", "bootID": "", "containerRuntimeVersion": "",
            "kernelVersion": "", "kubeProxyVersion": "", "machineID": "", "operatingSystem": "", "osImage": "",
            "systemUUID": "",
        });
        serde_json::from_value(json!({"metadata": {"name": name}, "status": {"nodeInfo": info}})).unwrap()
    }

    #[test]
    fn swap_is_a_warning_and_what_is_not_told_is_unknown() {
        let told = |nodes: &[Node]| judge(nodes).verdict;
        let (none, zero) = (node("a", "v1.34.0", None), node("b", "v1.33.2", Some(0)));
        assert_eq!(told(&[none.clone(), zero]), Verdict::Ok);
        let (with, old) = (node("c", "v1.33.1", Some(1 << 30)), node("d", "v1.33.1", None));
        assert_eq!(told(&[none.clone(), old.clone()]), Verdict::Unknown);
        assert_eq!(told(&[none, old, with.clone()]), Verdict::Warning);
        assert!(judge(&[with]).text.contains("c (1024 MiB)"));
        assert_eq!(told(&[node("e", "odd", None)]), Verdict::Unknown);
        assert_eq!(told(&[]), Verdict::Unknown);
        assert_eq!(swap(Err(Gap::refused("no"))).verdict, Verdict::Unknown);
    }
}
