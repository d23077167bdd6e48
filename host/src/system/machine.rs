//! How much memory this process may have: the machine's, or what its control group leaves it.

use nix::sys::sysinfo::sysinfo;
use std::{fs, path::Path};

/// Where control groups of version 2 are.
const GROUPS: &str = "/sys/fs/cgroup";

/// In bytes.
pub(crate) fn memory() -> u64 {
    let machine = sysinfo().map_or(u64::MAX, |machine| machine.ram_total());
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    limit(Path::new(GROUPS), &own).map_or(machine, |limit| limit.min(machine))
}

/// The least that a group or one that encloses it allows. `own` is what the kernel says of the groups of a process.
fn limit(root: &Path, own: &str) -> Option<u64> {
    let group = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let groups = root.join(group);
    let within = groups.ancestors().take_while(|group| group.starts_with(root));
    // A group without a bound says "max".
    within.filter_map(|group| fs::read_to_string(group.join("memory.max")).ok()?.trim().parse().ok()).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_group_counts() {
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
    fn this_process_has_some() {
        assert!(memory() > 1 << 20, "{}", memory());
    }
}
