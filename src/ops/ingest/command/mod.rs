//! Runs commands, one after the other, and reads what each writes into the session. Only the output of commands that
//! all succeed counts.

mod line;
mod running;
mod signals;

use super::failures::ReadError;
use super::{IngestError, IngestOptions, Taken, pipe, stream};
use crate::progress::Progress;
use crate::repo::Repository;
use crate::repo::session::SessionWriter;
pub use line::CommandLine;
pub(super) use line::check;
use running::{Running, describe_status};
use signals::Watch;
use stream::StreamFile;

/// Reads the output of each command as a file.
pub(super) fn take(
    repo: &Repository,
    session: &SessionWriter,
    lines: &[CommandLine],
    options: &IngestOptions,
    progress: &dyn Progress,
) -> Result<Taken, IngestError> {
    let first = || lines.first().map(CommandLine::describe).unwrap_or_default();
    let watch = Watch::begin().map_err(|error| IngestError::Start(first(), error))?;
    let taken = take_watched(&watch, repo, session, lines, options, progress);
    // Whatever else went wrong may have done so because of the signal.
    if watch.end() { Err(IngestError::Interrupted) } else { taken }
}

fn take_watched(
    watch: &Watch,
    repo: &Repository,
    session: &SessionWriter,
    lines: &[CommandLine],
    options: &IngestOptions,
    progress: &dyn Progress,
) -> Result<Taken, IngestError> {
    let run = |line| run(watch, repo, session, line, options, progress);
    let files = lines.iter().map(run).collect::<Result<_, _>>()?;
    stream::snapshot_of(repo, session, files)
}

/// Runs one command to its end.
fn run(
    watch: &Watch,
    repo: &Repository,
    session: &SessionWriter,
    line: &CommandLine,
    options: &IngestOptions,
    progress: &dyn Progress,
) -> Result<StreamFile, IngestError> {
    let command = line.describe();
    let started = Running::start(watch, line).map_err(|error| IngestError::Start(command.clone(), error))?;
    let mut running = started.ok_or(IngestError::Interrupted)?;
    let mut output = running.output().ok_or(IngestError::Interrupted)?;
    pipe::widen(&output);
    let taken = stream::read(repo, session, &mut output, options, progress);
    drop(output);
    if watch.is_interrupted() {
        return Err(IngestError::Interrupted);
    }
    let streamed = taken.map_err(|error| match error {
        ReadError::File(source) => IngestError::Read(format!("the output of {command}"), source),
        ReadError::Fatal(error) => error,
    })?;
    let status =
        running.wait().map_err(|error| IngestError::Read(format!("the status of {command}"), error))?;
    if watch.is_interrupted() {
        return Err(IngestError::Interrupted);
    }
    if !status.success() {
        return Err(IngestError::CommandFailed { command, status: describe_status(status) });
    }
    StreamFile::new(&line.name, streamed, line.min_bytes)
}

#[cfg(test)]
mod tests;
