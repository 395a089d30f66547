//! What a process has computed so far. Invariant: as the kernel counts it, in ticks (`proc(5)`, `/proc/PID/stat`).

/// User and system time of the process.
pub const OWN: usize = 2;
/// The same, and that of its children that ended.
pub const WITH_CHILDREN: usize = 4;

/// Seconds of the process with this name in `/proc`; `times` is [`OWN`] or [`WITH_CHILDREN`]. 0 if it is gone.
pub fn seconds(process: &str, times: usize) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The second field may hold anything, so count from behind it.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: f64 = fields.skip(11).take(times).filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
    ticks / rustix::param::clock_ticks_per_second() as f64
}
