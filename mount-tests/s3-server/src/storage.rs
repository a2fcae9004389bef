//! Buckets as folders: an object is a file named by its key, and a table in memory says which there are.
//!
//! Everything that changes an object happens under the lock of the table, in one step: so of racing conditional puts one
//! wins, and readers see the old object or the new one, whole. Nothing is flushed to the disk: whoever needs the
//! objects after a loss of power has the wrong server.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use s3s::dto::Checksum;

/// The folder of unfinished uploads. No bucket has such a name.
const UPLOADS: &str = ".uploads";

/// Deleted objects that a stale listing can still show.
const GONE: usize = 10_000;

/// Buckets and their objects.
#[derive(Debug)]
pub(crate) struct Storage {
    folder: PathBuf,
    uploads: AtomicU64,
    buckets: Mutex<BTreeMap<String, Bucket>>,
}

#[derive(Debug, Default)]
struct Bucket {
    objects: BTreeMap<String, Object>,
    /// How often something was created or deleted.
    changes: u64,
    /// What was deleted, with the number of that change.
    gone: VecDeque<(u64, String, Object)>,
}

/// What is known of an object besides its bytes.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) bytes: u64,
    pub(crate) modified: SystemTime,
    /// What the client gave; nothing of objects that were there when the server started.
    pub(crate) checksum: Checksum,
    pub(crate) storage_class: Option<String>,
    pub(crate) encryption: Option<String>,
    /// The number of the change that created it.
    since: u64,
}

impl Object {
    /// Returns its ETag. As at AWS with some kinds of encryption, it is no MD5 sum.
    pub(crate) fn etag(&self) -> String {
        let nanoseconds = self.modified.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        format!("{nanoseconds:024x}{:08x}", self.bytes)
    }
}

/// Why something cannot be done.
#[derive(Debug)]
pub(crate) enum StorageError {
    NoSuchBucket,
    NoSuchKey,
    Exists,
    /// Keys that name no file.
    Key,
    Io(io::Error),
}

impl From<io::Error> for StorageError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Bytes that are no object yet; they go when this is dropped.
#[derive(Debug)]
pub(crate) struct Upload {
    path: PathBuf,
    pub(crate) file: File,
}

impl Drop for Upload {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// What a listing shows: objects with keys between, at most so many.
#[derive(Debug)]
pub(crate) struct Listing<'a> {
    pub(crate) prefix: &'a str,
    pub(crate) after: &'a str,
    pub(crate) limit: usize,
    /// How many changes ago the bucket is looked at.
    pub(crate) changes_ago: u64,
}

impl Storage {
    /// Takes a folder, with the buckets that are in it.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let uploads = folder.join(UPLOADS);
        match fs::remove_dir_all(&uploads) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(&uploads)?,
        }
        let mut buckets = BTreeMap::new();
        for entry in fs::read_dir(folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != UPLOADS {
                let mut bucket = Bucket::default();
                find_objects(&folder.join(&name), "", &mut bucket.objects)?;
                buckets.insert(name, bucket);
            }
        }
        Ok(Self { folder: folder.to_owned(), uploads: AtomicU64::new(0), buckets: Mutex::new(buckets) })
    }

    /// Creates a bucket; returns false if it is there.
    pub(crate) fn create_bucket(&self, name: &str) -> io::Result<bool> {
        let mut buckets = self.buckets();
        if buckets.contains_key(name) {
            return Ok(false);
        }
        fs::create_dir_all(self.folder.join(name))?;
        buckets.insert(name.to_owned(), Bucket::default());
        Ok(true)
    }

    pub(crate) fn has_bucket(&self, name: &str) -> bool {
        self.buckets().contains_key(name)
    }

    pub(crate) fn upload(&self) -> io::Result<Upload> {
        let path = self.folder.join(UPLOADS).join(self.uploads.fetch_add(1, Ordering::Relaxed).to_string());
        let file = File::create_new(&path)?;
        Ok(Upload { path, file })
    }

    /// Makes an upload the object of a key; `describe` completes what is known of it.
    pub(crate) fn commit(
        &self,
        bucket: &str,
        key: &str,
        upload: Upload,
        overwrite: Overwrite,
        describe: impl FnOnce(&mut Object),
    ) -> Result<Object, StorageError> {
        let path = self.path(bucket, key)?;
        let mut object = Object::of(&upload.file)?;
        describe(&mut object);
        let mut buckets = self.buckets();
        let bucket = buckets.get_mut(bucket).ok_or(StorageError::NoSuchBucket)?;
        if overwrite == Overwrite::Never && bucket.objects.contains_key(key) {
            return Err(StorageError::Exists);
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(no_file)?;
        }
        fs::rename(&upload.path, &path).map_err(no_file)?;
        bucket.changes += 1;
        object.since = bucket.changes;
        bucket.objects.insert(key.to_owned(), object.clone());
        Ok(object)
    }

    pub(crate) fn object(&self, bucket: &str, key: &str) -> Result<Object, StorageError> {
        let buckets = self.buckets();
        let bucket = buckets.get(bucket).ok_or(StorageError::NoSuchBucket)?;
        bucket.objects.get(key).cloned().ok_or(StorageError::NoSuchKey)
    }

    /// Opens an object; what is read is of this one, even if another takes its place meanwhile.
    pub(crate) fn open_object(&self, bucket: &str, key: &str) -> Result<(Object, File), StorageError> {
        let path = self.path(bucket, key)?;
        let buckets = self.buckets();
        let objects = &buckets.get(bucket).ok_or(StorageError::NoSuchBucket)?.objects;
        let object = objects.get(key).cloned().ok_or(StorageError::NoSuchKey)?;
        Ok((object, File::open(path)?))
    }

    /// Deletes an object, if it is there.
    pub(crate) fn delete(&self, bucket: &str, key: &str) -> Result<(), StorageError> {
        let path = self.path(bucket, key)?;
        let mut buckets = self.buckets();
        let bucket = buckets.get_mut(bucket).ok_or(StorageError::NoSuchBucket)?;
        if let Some(object) = bucket.objects.remove(key) {
            bucket.changes += 1;
            bucket.gone.push_back((bucket.changes, key.to_owned(), object));
            if bucket.gone.len() > GONE {
                bucket.gone.pop_front();
            }
            fs::remove_file(path)?;
        }
        Ok(())
    }

    /// Returns objects in the order of their keys, and whether there are more.
    pub(crate) fn list(
        &self,
        bucket: &str,
        listing: &Listing<'_>,
    ) -> Result<(Vec<(String, Object)>, bool), StorageError> {
        let buckets = self.buckets();
        let bucket = buckets.get(bucket).ok_or(StorageError::NoSuchBucket)?;
        let until = bucket.changes.saturating_sub(listing.changes_ago);
        let wanted = |key: &str| key.starts_with(listing.prefix) && key > listing.after;
        let from = Bound::Included(listing.prefix.max(listing.after));
        let mut found: Vec<(String, Object)> = bucket
            .objects
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(listing.prefix) || key.as_str() < listing.prefix)
            .filter(|(key, object)| wanted(key) && object.since <= until)
            .take(listing.limit + 1)
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect();
        let gone = bucket
            .gone
            .iter()
            .filter(|(when, key, object)| *when > until && object.since <= until && wanted(key));
        found.extend(gone.map(|(_, key, object)| (key.clone(), object.clone())));
        found.sort_by(|left, right| left.0.cmp(&right.0));
        let more = found.len() > listing.limit;
        found.truncate(listing.limit);
        Ok((found, more))
    }

    fn path(&self, bucket: &str, key: &str) -> Result<PathBuf, StorageError> {
        let is_name = |part: &str| !part.is_empty() && part != "." && part != "..";
        if !is_name(bucket) || !key.split('/').all(is_name) {
            return Err(StorageError::Key);
        }
        Ok(self.folder.join(bucket).join(key))
    }

    fn buckets(&self) -> MutexGuard<'_, BTreeMap<String, Bucket>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an object may take the place of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overwrite {
    Always,
    Never,
}

impl Object {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            bytes: metadata.len(),
            modified: metadata.modified()?,
            checksum: Checksum::default(),
            storage_class: None,
            encryption: None,
            since: 0,
        })
    }
}

/// A part of a key can be a folder or an object here, but not both; and a name may be too long for a file.
fn no_file(error: io::Error) -> StorageError {
    match error.kind() {
        io::ErrorKind::NotADirectory
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::AlreadyExists
        | io::ErrorKind::DirectoryNotEmpty
        | io::ErrorKind::InvalidFilename => StorageError::Key,
        _ => StorageError::Io(error),
    }
}

fn find_objects(folder: &Path, prefix: &str, objects: &mut BTreeMap<String, Object>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let key = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            find_objects(&entry.path(), &format!("{key}/"), objects)?;
        } else {
            objects.insert(key, Object::of(&File::open(entry.path())?)?);
        }
    }
    Ok(())
}
