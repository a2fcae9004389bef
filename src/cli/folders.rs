//! Where this host keeps its caches and its state: systemd's folders, the system's, or the user's.

use std::ffi::OsString;
use std::path::PathBuf;

use super::exit::{CommandError, ErrorKind};
use crate::repo::open::LocalFolders;

/// What the choice of folders depends on.
struct Surroundings<'a> {
    is_root: bool,
    variable: &'a dyn Fn(&str) -> Option<OsString>,
}

/// Returns the local folders of this user. They need not exist.
pub(super) fn local_folders() -> Result<LocalFolders, CommandError> {
    choose(&Surroundings {
        is_root: rustix::process::geteuid().is_root(),
        variable: &|name| std::env::var_os(name).filter(|value| !value.is_empty()),
    })
}

fn choose(surroundings: &Surroundings<'_>) -> Result<LocalFolders, CommandError> {
    Ok(LocalFolders {
        cache: folder(surroundings, "CACHE_DIRECTORY", "/var/cache", "XDG_CACHE_HOME", ".cache")?,
        state: folder(surroundings, "STATE_DIRECTORY", "/var/lib", "XDG_STATE_HOME", ".local/state")?,
    })
}

fn folder(
    surroundings: &Surroundings<'_>,
    systemd: &str,
    system: &str,
    xdg: &str,
    below_home: &str,
) -> Result<PathBuf, CommandError> {
    // systemd joins several folders with colons; the unit's first one is ours.
    if let Some(value) = (surroundings.variable)(systemd) {
        let text = value.to_string_lossy();
        return Ok(PathBuf::from(text.split(':').next().unwrap_or_default()));
    }
    if surroundings.is_root {
        return Ok(PathBuf::from(system).join("yester"));
    }
    if let Some(base) = (surroundings.variable)(xdg).map(PathBuf::from).filter(|path| path.is_absolute()) {
        return Ok(base.join("yester"));
    }
    (surroundings.variable)("HOME")
        .map(|home| PathBuf::from(home).join(below_home).join("yester"))
        .ok_or_else(|| {
            CommandError::message(ErrorKind::Failed, "cannot tell where to keep local files")
                .hint(format!("set HOME, {xdg} or {systemd}"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(is_root: bool, variables: &[(&str, &str)]) -> Option<(String, String)> {
        let variable = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        };
        let folders = choose(&Surroundings { is_root, variable: &variable }).ok()?;
        Some((folders.cache.display().to_string(), folders.state.display().to_string()))
    }

    #[test]
    fn folders_follow_the_documented_order() {
        let pair = |cache: &str, state: &str| Some((cache.to_owned(), state.to_owned()));
        assert_eq!(chosen(true, &[("HOME", "/root")]), pair("/var/cache/yester", "/var/lib/yester"));
        assert_eq!(
            chosen(false, &[("HOME", "/home/a")]),
            pair("/home/a/.cache/yester", "/home/a/.local/state/yester")
        );
        assert_eq!(
            chosen(false, &[("XDG_CACHE_HOME", "/c"), ("XDG_STATE_HOME", "/s")]),
            pair("/c/yester", "/s/yester")
        );
        assert_eq!(
            chosen(true, &[("CACHE_DIRECTORY", "/c:/d"), ("STATE_DIRECTORY", "/s")]),
            pair("/c", "/s")
        );
        assert_eq!(chosen(false, &[]), None);
    }
}
