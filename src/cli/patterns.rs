//! Patterns that leave something out, as `--exclude` gives them to several commands.

use std::ffi::OsString;

use super::exit::{CommandError, ErrorKind};
use crate::ops::patterns::{ExcludePatterns, ExcludePatternsBuilder, PatternError};

/// Returns the patterns of the command line, in its order.
pub(super) fn exclude_patterns(patterns: &[OsString]) -> Result<ExcludePatterns, CommandError> {
    let mut builder = ExcludePatternsBuilder::default();
    for pattern in patterns {
        builder.add("--exclude", pattern)?;
    }
    Ok(builder.finish()?)
}

impl From<PatternError> for CommandError {
    fn from(error: PatternError) -> Self {
        let comment = matches!(error, PatternError::Nothing { .. });
        Self::new(ErrorKind::Usage, error)
            .hints(comment.then_some(r"what begins with # is a comment: put a \ before it"))
            .hint("patterns are those of .gitignore files: '*.log', '/var/tmp', 'build/'")
            .hint(r"put a \ before * ? [ and \ where they mean themselves")
    }
}
