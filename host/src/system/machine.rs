//! The memory that this process may use: the machine's, or the limit of its control group.

use nix::sys::sysinfo::sysinfo;
use std::{fs, path::Path};

/// The mount point of control groups, version 2.
const GROUPS: &str = "/sys/fs/cgroup";

/// The limit in bytes.
pub(crate) fn memory() -> u64 {
    let machine = sysinfo().map_or(u64::MAX, |machine| machine.ram_total());
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    limit(Path::new(GROUPS), &own).map_or(machine, |limit| limit.min(machine))
}

/// The lowest limit among a group and those that enclose it. `own` is the content of
/// `/proc/self/cgroup`.
fn limit(root: &Path, own: &str) -> Option<u64> {
    let group = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let groups = root.join(group);
    let within = groups.ancestors().take_while(|group| group.starts_with(root));
    // A group without a limit says "max".
    within.filter_map(|group| fs::read_to_string(group.join("memory.max")).ok()?.trim().parse().ok()).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_limit_of_the_groups_applies() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("system.slice/hello.service");
        fs::create_dir_all(&group).unwrap();
        let own = "4:memory:/old\n0::/system.slice/hello.service\n";
        assert_eq!(limit(root.path(), own), None);
        fs::write(group.join("memory.max"), "max\n").unwrap();
        assert_eq!(limit(root.path(), own), None);
        fs::write(root.path().join("system.slice/memory.max"), "2000\n").unwrap();
        assert_eq!(limit(root.path(), own), Some(2000));
        fs::write(group.join("memory.max"), "1000\n").unwrap();
        assert_eq!(limit(root.path(), own), Some(1000));
        assert_eq!(limit(root.path(), "4:memory:/old\n"), None);
    }

    #[test]
    fn this_process_has_memory() {
        assert!(memory() > 1 << 20, "{}", memory());
    }
}
