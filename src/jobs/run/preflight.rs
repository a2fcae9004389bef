//! What a store needs before it is written to: a place that is there, and room.

use std::path::Path;

use rustix::fs::statvfs;

use crate::jobs::config::{Preflight, StoreConfig};

/// Why a store is not written to, in words; nothing if all is well.
pub(in crate::jobs) fn objection(store: &StoreConfig, preflight: Preflight) -> Option<String> {
    let path = store.location.directory()?;
    if !path.exists() {
        // The worker says what is to be done about that.
        return None;
    }
    shortage(path, preflight)
}

/// Tells whether there is a store, as far as that can be told without asking a network.
pub(in crate::jobs) fn is_there(store: &StoreConfig) -> bool {
    store.location.directory().is_none_or(|path| path.join("config").is_dir())
}

fn shortage(path: &Path, preflight: Preflight) -> Option<String> {
    // What cannot be asked is found out by writing.
    let system = statvfs(path).ok()?;
    let too_few = |free: u64, all: u64, percent: u32| {
        let share = u128::from(free) * 100;
        all > 0 && share < u128::from(all) * u128::from(percent)
    };
    let room = "make room, or lower it in [preflight]";
    if too_few(system.f_bavail, system.f_blocks, preflight.disk_free_percent) {
        let percent = preflight.disk_free_percent;
        return Some(format!("less than {percent}% of the space at {} is free: {room}", path.display()));
    }
    if too_few(system.f_favail, system.f_files, preflight.inodes_free_percent) {
        let percent = preflight.inodes_free_percent;
        return Some(format!("less than {percent}% of the inodes at {} are free: {room}", path.display()));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_asked_of_the_file_system() {
        let folder = tempfile::tempdir().unwrap();
        let none = Preflight { disk_free_percent: 0, inodes_free_percent: 0 };
        assert_eq!(shortage(folder.path(), none), None);
        let all = shortage(folder.path(), Preflight { disk_free_percent: 101, ..none });
        assert!(all.unwrap().starts_with("less than 101% of the space at "));
        assert_eq!(shortage(Path::new("/proc"), Preflight { inodes_free_percent: 101, ..none }), None);
    }
}
