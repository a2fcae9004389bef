//! What `yester ingest --configured` backs up: a source of the configuration.

use std::ffi::OsStr;

use crate::cli::context::Context;
use crate::cli::exit::{CommandError, ErrorKind};
use crate::jobs::config::{SourceConfig, SourceKind};
use crate::jobs::sources::{SourceError, command_lines};
use crate::ops::ingest::exclude::{Marker, OtherFileSystems};
use crate::ops::ingest::{IngestOptions, Input};
use crate::ops::patterns::ExcludePatternsBuilder;

/// Finds a source of the configuration.
pub(super) fn find<'a>(context: &'a Context, name: &str) -> Result<&'a SourceConfig, CommandError> {
    let config = context.configuration()?;
    config.source(name).ok_or_else(|| {
        let names: Vec<&str> = config.sources.iter().map(|source| source.name.as_str()).collect();
        CommandError::usage(format!("{} has no source {name:?}", config.path.display()))
            .hint(format!("there are {}", names.join(", ")))
    })
}

/// Returns what is backed up of a source; adds to the options what the configuration says.
pub(super) fn prepare(source: &SourceConfig, options: &mut IngestOptions) -> Result<Input, CommandError> {
    options.tags.extend(source.tags.iter().cloned());
    options.tags.sort();
    options.tags.dedup();
    options.min_bytes = source.min_bytes;
    let SourceKind::Paths(paths) = &source.kind else {
        return Ok(Input::Commands(command_lines(source)?));
    };
    let mut patterns = ExcludePatternsBuilder::default();
    for pattern in &paths.exclude {
        patterns.add("exclude", OsStr::new(pattern))?;
    }
    options.exclude.patterns = patterns.finish()?;
    if paths.exclude_caches {
        options.exclude.markers.push(Marker::CacheTag);
    }
    if paths.one_file_system {
        options.exclude.other_file_systems = OtherFileSystems::LeftOut;
    }
    Ok(Input::Paths(paths.paths.clone()))
}

impl From<SourceError> for CommandError {
    fn from(error: SourceError) -> Self {
        Self::new(ErrorKind::Failed, error)
    }
}
