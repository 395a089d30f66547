//! The page of figures. Invariant: pure, but for the description of the machine.

use std::fs;
use std::path::Path;

/// What was measured.
pub struct Figures {
    /// Median start of a pod with a protected volume, in milliseconds.
    pub protected_ms: f64,
    /// Median start of the same pod with a plain volume, in milliseconds.
    pub plain_ms: f64,
    /// Median of the differences, pair by pair, in milliseconds.
    pub added_ms: f64,
    /// Starts of each kind.
    pub starts: usize,
    /// Resident memory of an idle sidecar, in KiB.
    pub idle_kib: u64,
    /// Size of the image's files, in bytes.
    pub image_bytes: u64,
}

/// The middle value; the mean of the two middle ones of an even number.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
    }
}

/// Headings of the sections.
pub const MEMORY: &str = "## The encrypted filesystem, on a tmpfs";
/// See [`MEMORY`].
pub const OPTIONS: &str = "## Other ways to serve";
/// See [`MEMORY`].
pub const GROWTH: &str = "## More and larger files";
/// See [`MEMORY`].
pub const DISK: &str = "## The encrypted filesystem, on a disk";
/// See [`MEMORY`].
pub const PODS: &str = "## Pods";
/// In the order of the page.
const SECTIONS: [&str; 5] = [MEMORY, OPTIONS, GROWTH, DISK, PODS];
const TITLE: &str = "# What Cofferdam costs\n\nMeasured by `cargo xtask bench`; each section says on what. What it means: [performance](../docs/performance.md).\n";

/// The page `before` with `section` under `heading`, in the place of the section of that heading.
pub fn with_section(before: &str, heading: &str, section: &str) -> String {
    let mut page = TITLE.to_owned();
    for wanted in SECTIONS {
        let kept = before
            .split_once(&format!("{wanted}\n"))
            .map(|(_, rest)| rest.split("\n## ").next().unwrap_or_default());
        let body = if wanted == heading { Some(section) } else { kept };
        if let Some(body) = body {
            page += &format!("\n{wanted}\n\n{}\n", body.trim());
        }
    }
    page
}

/// The section on pods.
pub fn pods(figures: &Figures) -> String {
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    let rows = [
        ("injection adds to a pod's start, median", figures.added_ms / 1000.0, "s", 1.5),
        ("an idle sidecar's resident memory", mib(figures.idle_kib as f64 * 1024.0), "MiB", 40.0),
        ("the image's files", mib(figures.image_bytes as f64), "MiB", 60.0),
    ];
    let mut text =
        format!("Release build, on {}.\n\n| | measured | goal | |\n|---|---|---|---|\n", machine());
    for (what, value, unit, goal) in rows {
        let verdict = if value <= goal { "reached" } else { "missed" };
        text += &format!("| {what} | {value:.2} {unit} | ≤ {goal} {unit} | {verdict} |\n");
    }
    text + &format!(
        "\nPod starts: from `kubectl apply` to Ready, {} of each kind in turn; median {:.0} ms with a protected volume and {:.0} ms with a \
         plain one of the same kind.\n",
        figures.starts, figures.protected_ms, figures.plain_ms
    )
}

/// How busy the machine is: the load average of the last minute.
pub fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or("unknown").to_owned()
}

/// The type of the filesystem that holds `path`.
pub fn filesystem(path: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let held = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (at, kind) = (words.next()?, words.next()?);
        path.starts_with(at).then_some((at.len(), kind))
    });
    held.max_by_key(|(depth, _)| *depth).map_or_else(|| "unknown".into(), |(_, kind)| kind.to_owned())
}

/// Processor and kernel.
pub fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown processor");
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = kernel.split('-').next().unwrap_or_default().trim().to_owned();
    format!("{cores} cores of {}, Linux {release}", model.trim_start_matches([' ', '\t', ':']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
    }

    #[test]
    fn a_missed_goal_is_said() {
        let figures = Figures {
            protected_ms: 5000.0,
            plain_ms: 2000.0,
            added_ms: 3000.0,
            starts: 2,
            idle_kib: 1,
            image_bytes: 1,
        };
        let text = pods(&figures);
        assert!(
            text.contains("3.00 s | ≤ 1.5 s | missed") && text.contains("0.00 MiB | ≤ 40 MiB | reached"),
            "{text}"
        );
    }

    #[test]
    fn a_section_takes_the_place_of_the_older_one_and_leaves_the_other() {
        let both =
            with_section(&with_section("", PODS, "old pods\n"), MEMORY, "files\n\n### On disk\n\ntable\n");
        let page = with_section(&both, PODS, "new pods\n");
        assert_eq!(
            page,
            format!("{TITLE}\n{MEMORY}\n\nfiles\n\n### On disk\n\ntable\n\n{PODS}\n\nnew pods\n")
        );
    }
}
