//! Looks at what the walk comes to next, so that the kernel has read it from the disk by then.
//!
//! A hint and nothing else: what is found is dropped, errors are ignored, and what the walk would leave out is left
//! alone. Directories are listed in the order of the walk, by a few threads, since a disk answers several questions
//! in the time of one. What lies far ahead of the walk has to wait, so that the memory is bounded and the kernel still
//! knows it when the walk gets there.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{self, AtomicBool};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;

use rustix::fs::{Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::exclude::{ExcludeOptions, Rules};
use super::metadata::FileStat;
use super::selection::Selection;
use crate::ops::patterns::PathKind;
use crate::path::Name;

/// Threads that look ahead.
const LOOKERS: usize = 3;
/// How far they may be ahead of the walk, in entries.
const ENTRIES_AHEAD: usize = 8192;
/// A directory of more entries is left to the walk.
const LISTED_MAX: usize = 16_384;
/// Directories that have further ones in them. Each is held open.
const LEVELS_MAX: usize = 32;

/// What the walk and those that look ahead of it share.
pub(super) struct LookAhead<'a> {
    selection: &'a Selection,
    exclude: &'a ExcludeOptions,
    ended: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The directory that the walk entered last.
    position: Place,
    /// Where to begin: a directory that the walk entered while nothing was to be done.
    seed: Option<Level>,
    /// Directories in which others are to be looked at, by the next one of them.
    levels: BTreeMap<Place, Level>,
    /// Directories before the walk that were looked at, with the number of entries in each.
    looked_at: BTreeMap<Place, usize>,
    entries_ahead: usize,
    /// Threads that wait for something to do.
    waiting: usize,
}

/// The path of a directory, in the order of the walk: before all that lies in it, and that before what follows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Place(Vec<u8>);

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.split(|byte| *byte == b'/').cmp(other.0.split(|byte| *byte == b'/'))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// An open directory.
struct Level {
    directory: Arc<OwnedFd>,
    path: Vec<u8>,
    device: u64,
    /// Names of directories in it that the walk will enter, the next one last.
    names: Vec<Name>,
}

impl Level {
    fn next_place(&self) -> Option<Place> {
        self.names.last().map(|name| Place([&self.path, &b"/"[..], name.as_bytes()].concat()))
    }
}

/// A directory to look at.
enum Task {
    /// The walk has it open.
    Seed(Level),
    /// It lies in a directory that was looked at.
    Below { parent: Arc<OwnedFd>, device: u64, name: Name, place: Place },
}

/// Ends the threads when it is dropped.
struct End<'a, 'b>(&'a LookAhead<'b>);

impl Drop for End<'_, '_> {
    fn drop(&mut self) {
        let state = self.0.lock();
        self.0.ended.store(true, atomic::Ordering::Relaxed);
        // Nobody is between a look at it and waiting.
        drop(state);
        self.0.changed.notify_all();
    }
}

impl<'a> LookAhead<'a> {
    pub(super) fn new(selection: &'a Selection, exclude: &'a ExcludeOptions) -> Self {
        let (state, changed) = (Mutex::default(), Condvar::new());
        Self { selection, exclude, ended: AtomicBool::new(false), state, changed }
    }

    /// Runs a walk with threads that look ahead of it, and ends them with it.
    pub(super) fn during<T>(&self, walk: impl FnOnce() -> T) -> T {
        std::thread::scope(|scope| {
            let _end = End(self);
            for _ in 0..LOOKERS {
                self.start(scope);
            }
            walk()
        })
    }

    fn start<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) {
        let thread = std::thread::Builder::new().name("ahead".to_owned());
        // Where no thread can be had, the walk does without it.
        let _ = thread.spawn_scoped(scope, || self.run());
    }

    /// Takes note that the walk enters a directory, all of which is taken.
    pub(super) fn entered(&self, directory: &Arc<OwnedFd>, path: &[u8], device: u64) {
        let mut state = self.lock();
        state.pass(Place(path.to_vec()));
        let idle = state.levels.is_empty();
        let seed =
            || Level { directory: Arc::clone(directory), path: path.to_vec(), device, names: Vec::new() };
        state.seed = idle.then(seed);
        let waiting = state.waiting > 0;
        // To wake threads takes longer than most directories do: they get much at once.
        let much_to_do = state.entries_ahead < ENTRIES_AHEAD / 2;
        drop(state);
        if waiting && idle {
            self.changed.notify_one();
        } else if waiting && much_to_do {
            self.changed.notify_all();
        }
    }

    fn run(&self) {
        // Of its own, since the rules of the walk know what is mounted, which is of no matter here.
        let rules = Rules::new(self.exclude, || Ok(Vec::new()));
        while let Some(task) = self.next() {
            self.take(&rules, task);
        }
    }

    fn take(&self, rules: &Rules<'_>, task: Task) {
        match task {
            Task::Seed(level) => self.look(rules, level, None),
            Task::Below { parent, device, name, place } => {
                if let Ok(directory) = open(&parent, &name) {
                    let (directory, path) = (Arc::new(directory), place.0.clone());
                    let level = Level { directory, path, device, names: Vec::new() };
                    self.look(rules, level, Some(place));
                }
            }
        }
    }

    /// Returns the next directory to look at; waits until there is one, and returns nothing when the walk ends.
    fn next(&self) -> Option<Task> {
        let mut state = self.lock();
        loop {
            if self.has_ended() {
                return None;
            }
            if let Some(task) = state.take() {
                return Some(task);
            }
            state.waiting += 1;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
    }

    /// Looks at everything in a directory, and has the directories in it looked at.
    fn look(&self, rules: &Rules<'_>, mut level: Level, place: Option<Place>) {
        let Some(mut listed) = list(&level.directory, rules) else { return };
        // Inodes lie on the disk in the order of their numbers.
        listed.sort_unstable_by_key(|entry| entry.inode);
        let entries = listed.len();
        for entry in listed {
            if self.has_ended() {
                return;
            }
            if self.is_entered_after_a_look(rules, &level, &entry) {
                level.names.push(entry.name);
            }
        }
        level.names.sort_unstable_by(|a, b| b.cmp(a));
        let mut state = self.lock();
        if let Some(place) = place {
            state.add(place, entries);
        }
        state.push(level);
        if state.waiting > 0 && state.is_near() {
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Looks at an entry as the walk does; tells whether it is a directory that the walk will enter, and that is
    /// sure to lie on the same file system.
    fn is_entered_after_a_look(&self, rules: &Rules<'_>, level: &Level, entry: &Listed) -> bool {
        let path = [&level.path, &b"/"[..], entry.name.as_bytes()].concat();
        let excludes = |kind| rules.match_path(&path, kind);
        let excluded = match entry.file_type {
            FileType::Directory => excludes(PathKind::Directory),
            FileType::Unknown => excludes(PathKind::Directory) || excludes(PathKind::Other),
            _ => excludes(PathKind::Other),
        };
        if excluded {
            return false;
        }
        let Ok(stat) = FileStat::at(level.directory.as_fd(), entry.name.as_bytes()) else { return false };
        FileType::from_raw_mode(u32::from(stat.mode)) == FileType::Directory
            && stat.device == level.device
            && stat.mount_root != Some(true)
            && !self.selection.leaves_out(stat.device, stat.inode)
    }

    fn has_ended(&self) -> bool {
        self.ended.load(atomic::Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_near(&self) -> bool {
        self.entries_ahead < ENTRIES_AHEAD
    }

    /// Takes the next directory in the order of the walk, unless it lies too far ahead.
    fn take(&mut self) -> Option<Task> {
        if let Some(level) = self.seed.take() {
            return Some(Task::Seed(level));
        }
        if !self.is_near() {
            return None;
        }
        let (place, mut level) = self.levels.pop_first()?;
        let name = level.names.pop()?;
        let (parent, device) = (Arc::clone(&level.directory), level.device);
        self.push(level);
        Some(Task::Below { parent, device, name, place })
    }

    /// Adds a directory in which others are to be looked at, as far as the walk has not passed them.
    fn push(&mut self, mut level: Level) {
        while let Some(place) = level.next_place() {
            if place > self.position {
                self.levels.insert(place, level);
                break;
            }
            level.names.pop();
        }
        if self.levels.len() > LEVELS_MAX {
            self.levels.pop_last();
        }
    }

    /// Takes note that so many entries of a directory were looked at.
    fn add(&mut self, place: Place, entries: usize) {
        if place > self.position {
            // A directory without entries costs a look, too.
            let entries = entries + 1;
            self.entries_ahead += entries;
            // The walk may have had it looked at from within meanwhile.
            self.entries_ahead -= self.looked_at.insert(place, entries).unwrap_or(0);
        }
    }

    /// Forgets what the walk has passed.
    fn pass(&mut self, position: Place) {
        self.position = position;
        while let Some(first) = self.looked_at.first_entry() {
            if *first.key() > self.position {
                break;
            }
            self.entries_ahead -= first.remove();
        }
        while let Some(first) = self.levels.first_entry() {
            if *first.key() > self.position {
                break;
            }
            let level = first.remove();
            self.push(level);
        }
    }
}

/// An entry as its directory has it.
struct Listed {
    name: Name,
    file_type: FileType,
    inode: u64,
}

/// Lists a directory; nothing for one that the walk may leave out because of a marker in it, that has too many
/// entries, or that cannot be read.
fn list(directory: &OwnedFd, rules: &Rules<'_>) -> Option<Vec<Listed>> {
    let mut listed = Vec::new();
    for entry in Dir::read_from(directory).ok()? {
        let entry = entry.ok()?;
        // `.` and `..` are no names.
        let Ok(name) = Name::new(entry.file_name().to_bytes()) else { continue };
        if listed.len() == LISTED_MAX || rules.may_be_marker(&name) {
            return None;
        }
        listed.push(Listed { name, file_type: entry.file_type(), inode: entry.ino() });
    }
    Some(listed)
}

/// Opens a directory, without changing its access time where the system allows that.
fn open(directory: &OwnedFd, name: &Name) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(directory, name.as_bytes(), flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => rustix::fs::openat(directory, name.as_bytes(), flags, Mode::empty()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::ops::ingest::exclude::Marker;
    use crate::ops::patterns::ExcludePatternsBuilder;

    fn seed(path: &Path) -> (Arc<OwnedFd>, Vec<u8>, u64) {
        let directory = Arc::new(OwnedFd::from(fs::File::open(path).unwrap()));
        let device = FileStat::of(directory.as_fd()).unwrap().device;
        (directory, path.as_os_str().as_encoded_bytes().to_vec(), device)
    }

    /// Makes directories in a folder; returns the folder and its path.
    fn folder(directories: &[&str]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        for directory in directories {
            fs::create_dir_all(path.join(directory)).unwrap();
        }
        (folder, path)
    }

    /// Looks ahead of a walk that stands at `path` and returns which directories were looked at, in order.
    fn looked_at(path: &Path, left_out: &[&str], exclude: &ExcludeOptions) -> Vec<String> {
        let left_out: Vec<_> = left_out.iter().map(|name| path.join(name)).collect();
        let selection = Selection::new(&[path.to_owned()], &left_out).unwrap();
        let ahead = LookAhead::new(&selection, exclude);
        let rules = Rules::new(exclude, || Ok(Vec::new()));
        let (directory, bytes, device) = seed(path);
        ahead.entered(&directory, &bytes, device);
        let mut found = Vec::new();
        loop {
            let Some(task) = ahead.lock().take() else { return found };
            if let Task::Below { place, .. } = &task {
                found.push(String::from_utf8(place.0[bytes.len() + 1..].to_vec()).unwrap());
            }
            ahead.take(&rules, task);
        }
    }

    #[test]
    fn directories_come_in_the_order_of_the_walk() {
        let (_folder, path) = folder(&["b/c/d", "b.d", "b/a", "a"]);
        fs::write(path.join("file"), b"").unwrap();
        std::os::unix::fs::symlink("b", path.join("link")).unwrap();
        let found = looked_at(&path, &[], &ExcludeOptions::default());
        assert_eq!(found, ["a", "b", "b/a", "b/c", "b/c/d", "b.d"]);
    }

    #[test]
    fn what_the_walk_leaves_out_is_left_alone() {
        let (_folder, path) = folder(&["kept/x", "tmp/x", "own/x", "marked/x", "named/x"]);
        fs::write(path.join("marked/CACHEDIR.TAG"), b"").unwrap();
        fs::write(path.join("named/.nobackup"), b"").unwrap();
        let mut patterns = ExcludePatternsBuilder::default();
        patterns.add("--exclude", OsStr::new("tmp/")).unwrap();
        let exclude = ExcludeOptions {
            patterns: patterns.finish().unwrap(),
            markers: vec![Marker::CacheTag, Marker::Named(Name::new(b".nobackup").unwrap())],
            ..ExcludeOptions::default()
        };
        assert_eq!(looked_at(&path, &["own"], &exclude), ["kept", "kept/x", "marked", "named"]);
    }

    #[test]
    fn other_file_systems_are_not_entered() {
        let exclude = ExcludeOptions::default();
        let (_folder, path) = folder(&["here"]);
        let selection = Selection::new(std::slice::from_ref(&path), &[]).unwrap();
        let ahead = LookAhead::new(&selection, &exclude);
        let rules = Rules::new(&exclude, || Ok(Vec::new()));
        let is_entered = |path: &Path, name: &[u8], device: Option<u64>| {
            let (directory, path, own) = seed(path);
            let level = Level { directory, path, device: device.unwrap_or(own), names: Vec::new() };
            let name = Name::new(name).unwrap();
            ahead.is_entered_after_a_look(
                &rules,
                &level,
                &Listed { name, file_type: FileType::Directory, inode: 1 },
            )
        };
        assert!(is_entered(&path, b"here", None));
        assert!(!is_entered(&path, b"here", Some(u64::MAX)), "another device");
        assert!(!is_entered(Path::new("/"), b"proc", None), "a mount point");
    }

    #[test]
    fn what_lies_far_ahead_waits_for_the_walk() {
        let (_folder, path) = folder(&["dir/one", "dir/two", "dir/zoo"]);
        let (directory, _, device) = seed(&path.join("dir"));
        let names = [b"zoo", b"two", b"one"].map(|name| Name::new(name).unwrap()).to_vec();
        let mut state = State { position: Place(b"/dir".to_vec()), ..State::default() };
        state.push(Level { directory, path: b"/dir".to_vec(), device, names });
        state.add(Place(b"/dir/eve".to_vec()), ENTRIES_AHEAD);
        assert!(state.take().is_none());
        state.pass(Place(b"/dir/one".to_vec()));
        let Some(Task::Below { place, .. }) = state.take() else { panic!("nothing to do") };
        assert_eq!(place.0, b"/dir/two", "the walk has passed the first one");
        state.pass(Place(b"/dir/zoo".to_vec()));
        assert!(state.take().is_none() && state.levels.is_empty() && state.entries_ahead == 0);
    }

    #[test]
    fn few_directories_are_held_open() {
        let (_folder, path) = folder(&[]);
        let mut state = State::default();
        for number in 0..2 * LEVELS_MAX {
            let (directory, _, device) = seed(&path);
            let names = vec![Name::new(b"x").unwrap()];
            state.push(Level { directory, path: format!("/{number:04}").into_bytes(), device, names });
        }
        assert_eq!(state.levels.len(), LEVELS_MAX);
        assert_eq!(state.levels.first_key_value().unwrap().0.0, b"/0000/x", "the nearest ones are kept");
    }

    #[test]
    fn the_threads_end_with_the_walk() {
        let (_folder, path) = folder(&["a/b", "c"]);
        let exclude = ExcludeOptions::default();
        let selection = Selection::new(std::slice::from_ref(&path), &[]).unwrap();
        let walk = |ahead: &LookAhead<'_>| {
            let (directory, path, device) = seed(&path);
            ahead.entered(&directory, &path, device);
        };
        let ahead = LookAhead::new(&selection, &exclude);
        ahead.during(|| walk(&ahead));
        assert!(ahead.has_ended());
        let ahead = LookAhead::new(&selection, &exclude);
        let broken = std::panic::AssertUnwindSafe(|| ahead.during(|| panic!("a walk that breaks off")));
        assert!(std::panic::catch_unwind(broken).is_err());
    }
}
