//! What this process has used so far, for benchmarks.

use rustix::time::{ClockId, clock_gettime};

/// CPU time of the whole process, all threads, in milliseconds.
pub fn cpu_ms() -> f64 {
    let t = clock_gettime(ClockId::ProcessCPUTime);
    t.tv_sec as f64 * 1e3 + t.tv_nsec as f64 / 1e6
}

/// Largest resident memory of this process so far, MiB; from `/proc/self/status` (Linux), elsewhere none.
pub fn peak_rss_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some((kib / 1024.0 * 10.0).round() / 10.0)
}

/// What this machine is: the board by its device tree, else the processor, and its architecture.
pub fn machine() -> String {
    let architecture = std::env::consts::ARCH;
    let board = std::fs::read_to_string("/sys/firmware/devicetree/base/model").ok();
    let board = board.map(|model| model.trim_end_matches('\0').trim().to_owned());
    let processor = || {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").ok()?;
        let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    match board.filter(|model| !model.is_empty()).or_else(processor) {
        Some(name) => format!("{name} ({architecture})"),
        None => format!("a machine without a name ({architecture})"),
    }
}

/// The value that the share `p` of all `values` do not exceed (nearest rank); `None` of nothing.
pub fn percentile(values: &[f64], p: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = ((p * sorted.len() as f64).ceil() as usize).max(1);
    sorted.get(rank - 1).copied()
}
