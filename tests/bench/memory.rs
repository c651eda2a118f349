//! What this process has of memory, as the kernel counts it (proc(5), `/proc/PID/status`).

/// The value of a line of the status, in MB: `VmHWM:` is the most that it ever had, `VmRSS:` what it has now.
pub fn of(line: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let found = status.lines().find_map(|one| one.strip_prefix(line)).expect("a line");
    found.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") * 1024.0 / 1e6
}
