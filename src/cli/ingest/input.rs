//! What `yester ingest` backs up: paths, from the command line and from lists, or one stream.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::IngestArgs;
use crate::cli::exit::CommandError;
use crate::format::snapshot::is_source_name;
use crate::ops::ingest::{CommandLine, Input, pipe};
use crate::path::{Name, escape};

/// Returns what the arguments ask for.
pub(super) fn input(args: &IngestArgs) -> Result<Input, CommandError> {
    let Some(name) = &args.stream_name else {
        if !args.command.is_empty() {
            return Err(CommandError::usage("a command needs a name for what it prints")
                .hint("yester ingest --as NAME -- CMD"));
        }
        return paths(args).map(Input::Paths);
    };
    if args.exclude.are_given() {
        return Err(CommandError::usage("a stream is stored whole: nothing can be left out of it")
            .hint("leave out --exclude and the like"));
    }
    let name = Name::new(name.as_bytes())?;
    if !args.command.is_empty() {
        let line = CommandLine::new(name, args.command.clone());
        return Ok(Input::Commands(vec![CommandLine { min_bytes: args.min_size, ..line }]));
    }
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Err(CommandError::usage("standard input is a terminal, and nothing is piped in")
            .hint("pipe something in, or give a command: yester ingest --as NAME -- CMD"));
    }
    let file = stdin.as_fd().try_clone_to_owned().map(File::from);
    let reader = file.map_err(|source| CommandError::io("cannot read standard input", source))?;
    pipe::widen(&reader);
    Ok(Input::Stream { name, reader: Box::new(reader) })
}

/// Returns the name of the source that the arguments give, or that follows from them.
pub(super) fn source(args: &IngestArgs) -> Result<String, CommandError> {
    match &args.source {
        Some(source) if is_source_name(source) => Ok(source.clone()),
        Some(source) => Err(CommandError::usage(format!("{source:?} is not a valid name of a source"))
            .hint("letters, digits, `.`, `_` and `-`, at most 100, and neither `.` nor `..`")),
        None => default_source(args),
    }
}

fn default_source(args: &IngestArgs) -> Result<String, CommandError> {
    let has_lists = !(args.files_from.is_empty() && args.files_from0.is_empty());
    let derived = match (&args.stream_name, args.paths.as_slice()) {
        (Some(name), _) => name.to_string_lossy().into_owned(),
        (None, [path]) if !has_lists => {
            let path = plain(path)?.to_string_lossy().trim_matches('/').replace('/', "-");
            if path.is_empty() { "root".to_owned() } else { path }
        }
        (None, _) if has_lists => {
            return Err(CommandError::usage("a list of paths needs a name for what they back up")
                .hint("give --source NAME"));
        }
        (None, _) => {
            return Err(CommandError::usage("several paths need a name for what they back up")
                .hint("give --source NAME"));
        }
    };
    if is_source_name(&derived) {
        return Ok(derived);
    }
    Err(CommandError::usage(format!("no name of a source follows from {:?}", escape(derived.as_bytes())))
        .hint("give --source NAME, made of letters, digits, `.`, `_` and `-`"))
}

fn paths(args: &IngestArgs) -> Result<Vec<PathBuf>, CommandError> {
    let mut paths = args.paths.clone();
    for list in &args.files_from {
        paths.extend(split_list(&read_list(list)?, b'\n'));
    }
    for list in &args.files_from0 {
        paths.extend(split_list(&read_list(list)?, 0));
    }
    if paths.is_empty() {
        return Err(CommandError::usage("the list of paths is empty").hint("nothing was backed up"));
    }
    // Where they lead is for the system to say, and whether they exist for whoever looks for them.
    let here = std::env::current_dir()
        .map_err(|source| CommandError::io("cannot find the current directory", source))?;
    Ok(paths.iter().map(|path| here.join(path)).collect())
}

/// Reads a list of paths; `-` is standard input.
fn read_list(list: &Path) -> Result<Vec<u8>, CommandError> {
    let mut content = Vec::new();
    let read = if list == Path::new("-") {
        io::stdin().lock().read_to_end(&mut content)
    } else {
        File::open(list).and_then(|mut file| file.read_to_end(&mut content))
    };
    let shown = escape(list.as_os_str().as_bytes());
    read.map_err(|source| CommandError::io(format!("cannot read the list {shown}"), source))?;
    Ok(content)
}

/// Returns the paths of a list, byte for byte; empty ones say nothing.
fn split_list(content: &[u8], separator: u8) -> impl Iterator<Item = PathBuf> {
    let paths = content.split(move |byte| *byte == separator).filter(|path| !path.is_empty());
    paths.map(|path| PathBuf::from(std::ffi::OsStr::from_bytes(path)))
}

/// Returns an absolute path without `.` and `..`, for the name of a source. Symbolic links stay as they are; only
/// where `..` climbs out of one does the system have to say where to.
fn plain(path: &Path) -> Result<PathBuf, CommandError> {
    let climbs = path.components().any(|component| component == Component::ParentDir);
    let found = match (path.parent(), path.file_name()) {
        _ if !climbs => std::path::absolute(path),
        (Some(above), Some(name)) => above.canonicalize().map(|above| above.join(name)),
        _ => path.canonicalize(),
    };
    found.map_err(|source| {
        CommandError::io(format!("cannot find {}", escape(path.as_os_str().as_bytes())), source)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_named_by_paths_without_detours() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        std::os::unix::fs::symlink("/usr", base.join("link")).unwrap();
        assert_eq!(plain(Path::new("/etc/./ssh/")).unwrap(), Path::new("/etc/ssh"));
        assert_eq!(plain(Path::new("/usr/../")).unwrap(), Path::new("/"));
        assert_eq!(plain(&base.join("link/../link")).unwrap(), Path::new("/link"));
        assert_eq!(plain(&base.join("link/../absent")).unwrap(), Path::new("/absent"));
        assert!(plain(Path::new("x")).unwrap().is_absolute());
    }

    #[test]
    fn lists_are_taken_byte_for_byte() {
        let split = |content: &[u8], separator| split_list(content, separator).collect::<Vec<_>>();
        let odd = PathBuf::from(std::ffi::OsStr::from_bytes(b"/b \xff "));
        assert_eq!(split(b"/a\n\n# c\n/b \xff \n", b'\n'), [PathBuf::from("/a"), "# c".into(), odd]);
        assert_eq!(split(b"/a\n/b\0\0/c", 0), [PathBuf::from("/a\n/b"), "/c".into()]);
        assert_eq!(split(b"", b'\n'), [] as [PathBuf; 0]);
    }
}
