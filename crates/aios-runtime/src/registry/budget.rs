//! How much memory models may take together.

use std::{fs, path::Path};

/// Of what the machine or the control group has; the rest is for the system and the other services.
const SHARE: (u64, u64) = (4, 5);

/// The budget where the configuration leaves it to the machine: four fifths of its memory, or of what the control group of
/// this process may take where that is less. `None` where neither is known.
pub fn automatic() -> Option<u64> {
    let group = fs::read_to_string("/proc/self/cgroup").ok();
    let group = group.as_deref().and_then(|text| text.lines().find_map(|line| line.strip_prefix("0::")));
    let limits = [
        fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text)),
        group.and_then(|group| limit(Path::new("/sys/fs/cgroup"), group)),
    ];
    limits.into_iter().flatten().min().map(|bytes| bytes / SHARE.1 * SHARE.0)
}

fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The least limit of a control group and of those that it is in.
fn limit(root: &Path, group: &str) -> Option<u64> {
    let path = root.join(group.trim_start_matches('/'));
    let groups = path.ancestors().take_while(|group| group.starts_with(root));
    let limits = groups.filter_map(|group| fs::read_to_string(group.join("memory.max")).ok()?.trim().parse().ok());
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_on_the_way_up_counts() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("a/b/c")).unwrap();
        assert_eq!(limit(root.path(), "/a/b/c"), None);
        for (group, max) in [("a", "5000"), ("a/b", "max"), ("a/b/c", "7000")] {
            fs::write(root.path().join(group).join("memory.max"), format!("{max}\n")).unwrap();
        }
        assert_eq!(limit(root.path(), "/a/b/c"), Some(5000));
        assert_eq!(total("MemTotal:       24000 kB\nMemFree: 1 kB\n"), Some(24000 * 1024));
        assert!(automatic().is_some_and(|bytes| bytes > 0));
    }
}
