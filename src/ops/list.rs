//! Lists what a snapshot holds, and writes one file of it to a stream.
//!
//! Also home of what every reader of file contents shares: walking the pieces of a file ([`for_each_piece`]).

use std::io::{self, Write};
use std::ops::Range;
use std::thread;

use crossbeam_channel::{Receiver, SendError, Sender, bounded};

use crate::crypto::hash::ChunkKind;
use crate::format::content::{Content, ContentItem};
use crate::format::tree::{Entry, EntryKind, TreeRef};
use crate::id::ChunkId;
use crate::path::TreePath;
use crate::repo::content::ContentReader;
use crate::repo::read::Chunk;
use crate::repo::snapshots::Snapshot;
use crate::repo::tree::{Node, TreeReader};
use crate::repo::{RepoError, Repository, parallel};

/// Pieces that [`cat`] reads ahead of what was written. Each may hold a whole decoded frame.
const READ_AHEAD_PIECES: usize = 16;
/// Bytes of pieces that are read at the same time.
const READ_AHEAD_BYTES: u64 = 16 << 20;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Why something cannot be listed or written.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The snapshot holds no such path.
    #[error("the snapshot holds no {path}{}", describe_nearest(nearest))]
    NotFound {
        /// What was asked for.
        path: TreePath,
        /// The longest part of it that is there.
        nearest: TreePath,
    },
    /// The path is a directory, a link or a device, which has no bytes to write.
    #[error("{path} is {kind}, not a regular file")]
    NotAFile {
        /// What was asked for.
        path: TreePath,
        /// What it is, with its article.
        kind: &'static str,
    },
    /// The store is damaged there.
    #[error("cannot read {path}")]
    Damaged {
        /// What cannot be read.
        path: TreePath,
        /// What is damaged.
        #[source]
        source: Box<RepoError>,
    },
    /// The receiver of the bytes took no more.
    #[error("cannot write the content of {path}")]
    Output {
        /// What was being written.
        path: TreePath,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The system gives no thread.
    #[error("cannot start a thread to read ahead")]
    Thread {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The store cannot be read, for another reason than damage.
    #[error(transparent)]
    Repo(RepoError),
}

impl ListError {
    fn reading(path: &TreePath, source: RepoError) -> Self {
        if source.is_damage() {
            Self::Damaged { path: path.clone(), source: Box::new(source) }
        } else {
            Self::Repo(source)
        }
    }
}

/// How deep a list goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recursion {
    /// Only what stands in the directory itself.
    Children,
    /// Everything below it; a directory comes right before what it holds.
    All,
}

/// The entries below a path of a snapshot, in order of their paths, in bounded memory.
///
/// A directory that cannot be read yields an error, and the list goes on behind it.
pub struct Lister<'a> {
    repo: &'a Repository,
    recursion: Recursion,
    single: Option<(TreePath, Entry)>,
    unopened: Option<(TreePath, TreeRef)>,
    levels: Vec<(TreePath, TreeReader<'a>)>,
}

/// Lists what is below `path`; a path that is no directory is listed itself.
///
/// # Errors
/// [`ListError::NotFound`] if there is no such path; [`ListError::Damaged`] if the way to it cannot be read.
pub fn list<'a>(
    repo: &'a Repository,
    snapshot: &Snapshot,
    path: &TreePath,
    recursion: Recursion,
) -> Result<Lister<'a>, ListError> {
    let mut lister = Lister { repo, recursion, single: None, unopened: None, levels: Vec::new() };
    match find(repo, snapshot, path)? {
        Node::Root => lister.unopened = Some((path.clone(), snapshot.manifest.root)),
        Node::Entry(entry) => match entry.kind {
            EntryKind::Directory(tree) => lister.unopened = Some((path.clone(), tree)),
            _ => lister.single = Some((path.clone(), *entry)),
        },
    }
    Ok(lister)
}

impl Lister<'_> {
    /// Leaves out what is below the entry that came last.
    pub fn skip_below(&mut self) {
        self.unopened = None;
    }
}

impl Iterator for Lister<'_> {
    type Item = Result<(TreePath, Entry), ListError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(single) = self.single.take() {
            return Some(Ok(single));
        }
        if let Some((path, tree)) = self.unopened.take() {
            self.levels.push((path, self.repo.entries(&tree, None)));
        }
        loop {
            let (directory, reader) = self.levels.last_mut()?;
            match reader.next() {
                Some(Ok(entry)) => {
                    let path = directory.join(&entry.name);
                    if let (Recursion::All, EntryKind::Directory(tree)) = (self.recursion, &entry.kind) {
                        self.unopened = Some((path.clone(), *tree));
                    }
                    return Some(Ok((path, entry)));
                }
                Some(Err(error)) => {
                    let error = ListError::reading(directory, error);
                    self.levels.pop();
                    return Some(Err(error));
                }
                None => {
                    self.levels.pop();
                }
            }
        }
    }
}

/// Writes the content of the file at `path` to `output`, holes as zeros; returns its length in bytes.
///
/// Frames are read ahead on other threads, as many at a time as the store is worth asking.
///
/// # Errors
/// [`ListError::NotFound`] and [`ListError::NotAFile`] come before the first byte, the others after some.
pub fn cat(
    repo: &Repository,
    snapshot: &Snapshot,
    path: &TreePath,
    output: &mut dyn Write,
) -> Result<u64, ListError> {
    let entry = match find(repo, snapshot, path)? {
        Node::Root => return Err(ListError::NotAFile { path: path.clone(), kind: "a directory" }),
        Node::Entry(entry) => entry,
    };
    let EntryKind::File(content) = &entry.kind else {
        return Err(ListError::NotAFile { path: path.clone(), kind: kind_words(&entry.kind) });
    };
    let (items, listed) = bounded(READ_AHEAD_PIECES);
    let (sender, receiver) = bounded(READ_AHEAD_PIECES);
    thread::scope(|scope| {
        let thread = |name: &str| thread::Builder::new().name(name.to_owned());
        let lists = thread("list pieces").spawn_scoped(scope, move || list_pieces(repo, content, &items));
        lists.map_err(|source| ListError::Thread { source })?;
        let reads = thread("read ahead").spawn_scoped(scope, move || read_pieces(repo, &listed, &sender));
        reads.map_err(|source| ListError::Thread { source })?;
        // The receiver is dropped when this returns, early or not, which ends the other threads.
        write_pieces(receiver, path, output)
    })
}

/// The bytes of one piece of a file.
pub(super) enum PieceBytes {
    /// A verified chunk.
    Data(Chunk),
    /// So many zeros that were never written.
    Hole(u64),
}

impl PieceBytes {
    /// Returns the length in bytes.
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Data(chunk) => chunk.len() as u64,
            Self::Hole(length) => *length,
        }
    }
}

/// Visits, in order, the pieces of a file that begin in `range`, each with its offset in the file.
///
/// What the list of pieces promises is held against what the chunks are: a gap, an overlap or a chunk of another
/// length is damage.
pub(super) fn for_each_piece<E: From<RepoError>>(
    repo: &Repository,
    reader: &ContentReader,
    range: Range<u64>,
    visit: &mut dyn FnMut(u64, PieceBytes) -> Result<(), E>,
) -> Result<(), E> {
    for_each_item(repo, reader, range, &mut |start, item| {
        let bytes = match item {
            ContentItem::Hole(length) => PieceBytes::Hole(length),
            ContentItem::Data(id, length) => PieceBytes::Data(read_chunk(repo, &id, length)?),
        };
        visit(start, bytes)
    })
}

/// Visits what [`for_each_piece`] does without reading the pieces: only a gap or an overlap is damage.
pub(super) fn for_each_item<E: From<RepoError>>(
    repo: &Repository,
    reader: &ContentReader,
    range: Range<u64>,
    visit: &mut dyn FnMut(u64, ContentItem) -> Result<(), E>,
) -> Result<(), E> {
    let mut offset = range.start;
    while offset < range.end {
        let piece = repo_piece(repo, reader, offset)?;
        let (start, length) = (piece.offset, piece.item.length());
        let Some(end) = start
            .checked_add(length)
            .filter(|end| start <= offset && offset < *end && (start == offset || start < range.start))
        else {
            return Err(bad_content().into());
        };
        // A piece that begins before the range belongs to whoever has the range before.
        if start >= range.start {
            visit(start, piece.item)?;
        }
        offset = end;
    }
    Ok(())
}

/// Reads a chunk of a file, which must have the length that the list of pieces says.
pub(super) fn read_chunk(repo: &Repository, id: &ChunkId, length: u32) -> Result<Chunk, RepoError> {
    let chunk = repo.chunk(ChunkKind::Data, id)?;
    if chunk.len() as u64 == u64::from(length) { Ok(chunk) } else { Err(bad_content()) }
}

fn repo_piece(
    repo: &Repository,
    reader: &ContentReader,
    offset: u64,
) -> Result<crate::repo::content::Piece, RepoError> {
    reader.piece_at(repo, offset)?.ok_or_else(bad_content)
}

fn bad_content() -> RepoError {
    RepoError::Damaged { object: "the list of a file's pieces".into(), source: None }
}

/// Finds what stands at `path`.
fn find(repo: &Repository, snapshot: &Snapshot, path: &TreePath) -> Result<Node, ListError> {
    let look = |path: &TreePath| {
        repo.find_path(&snapshot.manifest, path).map_err(|error| ListError::reading(path, error))
    };
    if let Some(node) = look(path)? {
        return Ok(node);
    }
    let mut nearest = path.clone();
    while let Some((above, _)) = nearest.split_last() {
        nearest = above;
        if look(&nearest)?.is_some() {
            break;
        }
    }
    Err(ListError::NotFound { path: path.clone(), nearest })
}

fn describe_nearest(nearest: &TreePath) -> String {
    if nearest.is_root() { String::new() } else { format!(", only {nearest}") }
}

fn kind_words(kind: &EntryKind) -> &'static str {
    match kind {
        EntryKind::File(_) => "a regular file",
        EntryKind::Directory(_) => "a directory",
        EntryKind::Symlink(_) => "a symbolic link",
        EntryKind::Fifo => "a fifo",
        EntryKind::CharDevice(_) | EntryKind::BlockDevice(_) => "a device",
        EntryKind::Socket => "a socket",
    }
}

/// Why reading ahead ended before the end.
enum ReadAheadEnd {
    /// The writing side went away: it failed, and says so itself.
    HungUp,
    /// The store cannot be read.
    Failed(RepoError),
}

impl From<RepoError> for ReadAheadEnd {
    fn from(error: RepoError) -> Self {
        Self::Failed(error)
    }
}

fn list_pieces(repo: &Repository, content: &Content, sender: &Sender<Result<ContentItem, RepoError>>) {
    let reader = ContentReader::new(content);
    let listed = for_each_item(repo, &reader, 0..reader.length(), &mut |_, item| {
        sender.send(Ok(item)).map_err(|_| ReadAheadEnd::HungUp)
    });
    if let Err(ReadAheadEnd::Failed(error)) = listed {
        let _ = sender.send(Err(error));
    }
}

/// Reads pieces in the order in which they were listed. A failure goes to who writes, behind what comes before it.
fn read_pieces(
    repo: &Repository,
    listed: &Receiver<Result<ContentItem, RepoError>>,
    sender: &Sender<Result<PieceBytes, RepoError>>,
) {
    let sized = listed.iter().map(|item| {
        let bytes = match &item {
            Ok(ContentItem::Data(_, length)) => u64::from(*length),
            _ => 0,
        };
        (item, bytes)
    });
    let read = |item: Result<ContentItem, RepoError>| {
        Ok::<_, SendError<_>>(match item {
            Ok(ContentItem::Data(id, length)) => read_chunk(repo, &id, length).map(PieceBytes::Data),
            Ok(ContentItem::Hole(length)) => Ok(PieceBytes::Hole(length)),
            Err(error) => Err(error),
        })
    };
    let threads = repo.store().requests_at_once();
    // Where nobody takes it any more, the writing side failed, and says so itself.
    let _ = parallel::in_order(threads, READ_AHEAD_BYTES, sized, read, |piece| sender.send(piece));
}

fn write_pieces(
    pieces: Receiver<Result<PieceBytes, RepoError>>,
    path: &TreePath,
    output: &mut dyn Write,
) -> Result<u64, ListError> {
    let mut written = 0;
    let fail = |source| ListError::Output { path: path.clone(), source };
    for piece in pieces {
        let piece = piece.map_err(|error| ListError::reading(path, error))?;
        written += piece.length();
        match piece {
            PieceBytes::Data(chunk) => output.write_all(&chunk).map_err(fail)?,
            PieceBytes::Hole(length) => write_zeros(output, length).map_err(fail)?,
        }
    }
    output.flush().map_err(fail)?;
    Ok(written)
}

/// Writes so many zeros.
pub(super) fn write_zeros(output: &mut dyn Write, mut length: u64) -> io::Result<()> {
    while length > 0 {
        let part = usize::try_from(length).unwrap_or(usize::MAX).min(ZEROS.len());
        output.write_all(ZEROS.get(..part).unwrap_or(&ZEROS))?;
        length -= part as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ops::restore::fixture::{Fixture, every_kind, noise, path};
    use crate::store::fault::{Fault, Gate, Operation};

    fn names(fixture: &Fixture, snapshot: &Snapshot, text: &str, recursion: Recursion) -> Vec<String> {
        let lister = list(&fixture.repo, snapshot, &path(text), recursion).unwrap();
        lister.map(|found| found.unwrap().0.to_string()).collect()
    }

    #[test]
    fn directories_are_listed_in_order_and_files_as_themselves() {
        let fixture = Fixture::new();
        let snapshot = fixture.commit(every_kind);
        let root = names(&fixture, &snapshot, "/", Recursion::Children);
        assert_eq!(root, ["/closed", "/d", "/fifo", "/link", "/set-id", "/socket", "/sparse", "/tagged"]);
        let all = names(&fixture, &snapshot, "d", Recursion::All);
        assert_eq!(all, ["/d/deep", "/d/deep/second", "/d/empty", "/d/first", "/d/long", "/d/small"]);
        assert_eq!(names(&fixture, &snapshot, "d/small", Recursion::All), ["/d/small"]);
    }

    #[test]
    fn an_absent_path_says_how_far_it_goes() {
        let fixture = Fixture::new();
        let snapshot = fixture.commit(every_kind);
        let error = list(&fixture.repo, &snapshot, &path("d/deep/no/such"), Recursion::All).err().unwrap();
        assert_eq!(error.to_string(), "the snapshot holds no /d/deep/no/such, only /d/deep");
    }

    #[test]
    fn files_are_written_with_their_holes() {
        let fixture = Fixture::new();
        let snapshot = fixture.commit(every_kind);
        let mut output = Vec::new();
        let write = |text, output: &mut Vec<u8>| cat(&fixture.repo, &snapshot, &path(text), output);
        assert_eq!(write("d/long", &mut output).unwrap(), 250_017);
        assert_eq!(output, noise(2, 250_017));
        output.clear();
        assert_eq!(write("sparse", &mut output).unwrap(), (40 << 20) + 9);
        assert_eq!(&output[(20 << 20) - 1..(20 << 20) + 7], b"\0middle\0");
        assert!(output.ends_with(b"\0end"));
        for (text, kind) in [("/", "a directory"), ("link", "a symbolic link"), ("fifo", "a fifo")] {
            let error = write(text, &mut output).unwrap_err();
            assert!(matches!(error, ListError::NotAFile { kind: found, .. } if found == kind), "{error}");
        }
    }

    #[test]
    fn an_output_that_takes_no_more_ends_it() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let fixture = Fixture::new();
        let snapshot = fixture.commit(every_kind);
        let error = cat(&fixture.repo, &snapshot, &path("d/long"), &mut Full).unwrap_err();
        assert!(matches!(error, ListError::Output { .. }), "{error}");
    }

    #[test]
    fn damage_ends_a_file_and_not_a_list() {
        let mut fixture = Fixture::new();
        let content = noise(5, 40_000);
        let snapshot = fixture.commit(|maker| {
            vec![maker.directory("d", 0o755, vec![maker.file("bad", &content)]), maker.file("good", b"good")]
        });
        let pack = fixture.pack_of(ChunkKind::Data, &content[..5000]);
        fixture.tamper(&pack, |bytes| bytes[1000] ^= 1);
        fixture.reopen();
        let mut output = Vec::new();
        let error = cat(&fixture.repo, &snapshot, &path("d/bad"), &mut output).unwrap_err();
        assert!(matches!(error, ListError::Damaged { .. }), "{error}");
        assert!(content.starts_with(&output), "wrong bytes were written");

        let missing = ChunkId::from_bytes([0; 32]);
        let missing = TreeRef { page: missing, ..snapshot.manifest.root };
        let mut lister = list(&fixture.repo, &snapshot, &path("/"), Recursion::All).unwrap();
        assert!(lister.next().unwrap().is_ok());
        lister.unopened = Some((path("d"), missing));
        assert!(matches!(lister.next(), Some(Err(ListError::Damaged { .. }))));
        assert_eq!(lister.next().unwrap().unwrap().0, path("good"));
        assert!(lister.next().is_none());
    }

    #[test]
    fn frames_of_a_file_are_asked_for_side_by_side() {
        let fixture = Fixture::new();
        let chunks: Vec<_> = (0..12).map(|seed| noise(seed, 20_000)).collect();
        let snapshot = fixture.commit(|maker| {
            vec![maker.sparse_file("file", chunks.iter().map(|chunk| Ok(&chunk[..])).collect())]
        });
        let distant = fixture.at_a_distance(4);
        distant.repo.refresh().unwrap();
        cat(&distant.repo, &snapshot, &path("none"), &mut io::sink()).unwrap_err();
        let gate = Gate::new();
        let closed = Arc::clone(&gate);
        distant.store.script(move |call| {
            (call.operation == Operation::Get).then(|| Fault::Block(Arc::clone(&closed)))
        });
        let mut output = Vec::new();
        thread::scope(|scope| {
            let written = scope.spawn(|| cat(&distant.repo, &snapshot, &path("file"), &mut output));
            gate.wait_for_arrivals(4).unwrap();
            gate.release();
            assert_eq!(written.join().unwrap().unwrap(), 240_000);
        });
        assert_eq!(output, chunks.concat());
    }

    #[test]
    fn holes_are_written_as_zeros() {
        let mut output = Vec::new();
        write_zeros(&mut output, 200_000).unwrap();
        assert!(output.len() == 200_000 && output.iter().all(|byte| *byte == 0));
    }
}
