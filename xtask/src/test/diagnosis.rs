//! What a person would look at first when a test on the cluster has failed. Invariant: it only reads, and what cannot be
//! had is said and no second failure.

use anyhow::Result;

use crate::cluster::{Cluster, Status};
use crate::{install, process};

/// How many of the newest events are shown.
const EVENTS: usize = 60;
/// How many lines of each program's log are shown.
const LOG_LINES: &str = "--tail=40";

/// Prints the state of the cluster, its newest events and the ends of Cofferdam's logs.
pub fn print(cluster: &Cluster) {
    println!("\n== the cluster after the failure");
    let pods = ["get", "pods,persistentvolumeclaims", "--all-namespaces", "--output", "wide"];
    show("pods and claims", said(cluster, &pods));
    let events = said(cluster, &["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"]);
    show("newest events", events.map(|text| newest(&text)));
    let own = ["--namespace", install::NAMESPACE];
    for pod in
        said(cluster, &[&own[..], &["get", "pods", "--output", "name"]].concat()).unwrap_or_default().lines()
    {
        let logs = said(cluster, &[&own[..], &["logs", pod, "--all-containers", LOG_LINES]].concat());
        show(&format!("log of {pod}"), logs);
    }
    let lines =
        |parts: Vec<Status>| parts.iter().map(|part| format!("{part:?}")).collect::<Vec<_>>().join("\n");
    show("parts", cluster.parts().map(lines));
}

fn said(cluster: &Cluster, arguments: &[&str]) -> Result<String> {
    process::output(&mut cluster.kubectl(arguments)?)
}

fn newest(events: &str) -> String {
    let lines: Vec<_> = events.lines().collect();
    lines[lines.len().saturating_sub(EVENTS)..].join("\n")
}

fn show(what: &str, text: Result<String>) {
    println!("-- {what}\n{}", text.unwrap_or_else(|error| format!("({error:#})")));
}
