//! How much memory this host has to spare.

/// Bytes that can be used without swapping, as the kernel estimates it (proc(5), `MemAvailable`, in KiB); 0 where it does not say.
pub fn available() -> u64 {
    read("MemAvailable:")
}

/// Bytes that the kernel has for all together; 0 where it does not say.
pub fn total() -> u64 {
    read("MemTotal:")
}

fn read(what: &str) -> u64 {
    std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| parse(&text, what)).unwrap_or(0)
}

fn parse(meminfo: &str, what: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(what))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_understood() {
        assert_eq!(parse("MemTotal:       24684092 kB\nMemAvailable:   20 kB\n", "MemAvailable:"), Some(20480));
        assert_eq!(parse("MemTotal:       24684092 kB\n", "MemAvailable:"), None);
        assert!(available() > 0 && total() > available());
    }
}
