//! The configuration file of a command: where it is, and what it says of stores.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind as IoErrorKind;
use std::path::{Path, PathBuf};

use super::exit::{CommandError, ErrorKind};
use crate::jobs::config::{Config, ConfigError, StoreConfig};
use crate::store::location::Location;

/// The variable that names the file.
const VARIABLE: &str = "YESTER_CONFIG";
/// Where it is for all of a machine.
const SYSTEM: &str = "/etc/yester/config.toml";

/// Where the configuration of this command is.
pub(super) struct ConfigFile {
    path: PathBuf,
    /// Whether somebody asked for this very file.
    is_named: bool,
}

impl ConfigFile {
    /// Finds it: the one that was given, else that of the environment, else this user's, else the machine's.
    pub(super) fn find(given: Option<PathBuf>) -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        if let Some(path) = given.or_else(|| variable(VARIABLE).map(PathBuf::from)) {
            return Self { path, is_named: true };
        }
        let is_root = rustix::process::geteuid().is_root();
        let own = if is_root { None } else { user_file(&variable) };
        let path = own.filter(|path| path.exists()).unwrap_or_else(|| SYSTEM.into());
        Self { path, is_named: false }
    }

    /// Returns its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it; nothing if nobody asked for it and there is none.
    pub(super) fn read(&self) -> Result<Option<Config>, CommandError> {
        match Config::read(&self.path) {
            Ok(config) => Ok(Some(config)),
            Err(ConfigError::Read { source, .. }) if !self.is_named && is_not_for_us(&source) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// A machine's configuration that this user may not read is none to him.
fn is_not_for_us(error: &std::io::Error) -> bool {
    matches!(error.kind(), IoErrorKind::NotFound | IoErrorKind::PermissionDenied | IoErrorKind::NotADirectory)
}

fn user_file(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let base = variable("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".config")))?;
    Some(base.join("yester/config.toml"))
}

/// Returns the configured store that a text on the command line names; a text with a `/` is a place.
pub(super) fn named_store<'a>(config: &'a Config, text: &OsStr) -> Option<&'a StoreConfig> {
    config.store(text.to_str().filter(|text| !text.contains('/'))?)
}

/// Returns the configured store at a place.
pub(super) fn store_at<'a>(config: &'a Config, location: &Location) -> Option<&'a StoreConfig> {
    config.stores.iter().find(|store| store.location == *location)
}

impl From<ConfigError> for CommandError {
    fn from(error: ConfigError) -> Self {
        let (kind, hint) = match &error {
            ConfigError::Read { .. } => (
                ErrorKind::Failed,
                "give --config FILE, or set YESTER_CONFIG; the usual one is /etc/yester/config.toml",
            ),
            ConfigError::Wrong { .. } => {
                (ErrorKind::Usage, "`yester config check` tells everything that is wrong with it")
            }
        };
        Self::new(kind, error).hint(hint)
    }
}
