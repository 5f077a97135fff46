/// The physical memory that this process uses, in bytes; `None` where the system does not tell.
///
/// Read from `/proc/self/status`, which, unlike `statm`, does not count in pages of a size that must be asked for.
#[must_use]
pub fn resident_memory_bytes() -> Option<u64> {
    parse(&std::fs::read_to_string("/proc/self/status").ok()?)
}

pub(super) fn parse(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}
