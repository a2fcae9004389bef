//! Kept packs: what goes, what stays, and that nothing of it can fail a backup.

use std::io::Write as _;

use super::*;

const BYTES: u64 = 1000;

fn id(number: u8) -> PackId {
    PackId::from_bytes([number; 32])
}

/// A file without a name, as a pack's spool file is, in the same file system as `folder`.
fn spooled(folder: &Path, number: u8) -> File {
    let mut file = tempfile::tempfile_in(folder).unwrap();
    file.write_all(&content(number)).unwrap();
    file
}

fn content(number: u8) -> Vec<u8> {
    let mut content = vec![number; usize::try_from(BYTES).unwrap() - PACK_MAGIC.len()];
    content.extend_from_slice(PACK_MAGIC);
    content
}

struct Fixture {
    folder: tempfile::TempDir,
    cache: BaseCache,
}

impl Fixture {
    /// A cache that has room for so many packs.
    fn new(packs: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cache = BaseCache::open(&folder.path().join("bases"), packs * BYTES).unwrap();
        Self { folder, cache }
    }

    fn put(&self, number: u8) {
        self.cache.put(&id(number), &spooled(self.folder.path(), number), BYTES);
    }

    /// Makes it look as if a pack had been used so many minutes ago.
    fn age(&self, number: u8, minutes: u64) {
        let used = SystemTime::now() - Duration::from_mins(minutes);
        File::open(self.cache.path(&id(number))).unwrap().set_modified(used).unwrap();
    }

    fn held(&self) -> Vec<u8> {
        (0..10).filter(|number| self.cache.holds(&id(*number))).collect()
    }

    fn files(&self) -> usize {
        fs::read_dir(&self.cache.folder).unwrap().count()
    }
}

#[test]
fn what_was_put_is_read_back() {
    let fixture = Fixture::new(3);
    fixture.put(1);
    let cache = &fixture.cache;
    assert!(cache.holds(&id(1)) && !cache.holds(&id(2)));
    assert_eq!(cache.get(&id(1), 0..BYTES).unwrap(), content(1));
    assert_eq!(cache.get(&id(1), 990..996).unwrap(), content(1)[990..996]);
    assert!(cache.get(&id(1), 5..5).unwrap().is_empty());
    assert_eq!(cache.get(&id(2), 0..1), None);
    fixture.put(1);
    assert_eq!(fixture.files(), 1);
    let reopened = BaseCache::open(&cache.folder, 3 * BYTES).unwrap();
    assert_eq!(reopened.get(&id(1), 0..BYTES).unwrap(), content(1));
}

#[test]
fn a_file_that_cannot_be_linked_is_copied() {
    let fixture = Fixture::new(3);
    // A file that had a name and lost it cannot be linked any more.
    let named = tempfile::NamedTempFile::new().unwrap();
    let mut file = named.reopen().unwrap();
    file.write_all(&content(1)).unwrap();
    drop(named);
    assert!(fixture.cache.link(&file).is_err());
    fixture.cache.put(&id(1), &file, BYTES);
    assert_eq!(fixture.cache.get(&id(1), 0..BYTES).unwrap(), content(1));
}

#[test]
fn what_was_not_used_for_longest_goes_first() {
    let fixture = Fixture::new(3);
    for number in 1..=3 {
        fixture.put(number);
        fixture.age(number, 100 - 10 * u64::from(number));
    }
    assert!(fixture.cache.get(&id(1), 0..1).is_some());
    fixture.put(4);
    assert_eq!(fixture.held(), [1, 3, 4]);
    fixture.put(5);
    assert_eq!(fixture.held(), [1, 4, 5]);
    BaseCache::open(&fixture.cache.folder, 0).unwrap();
    assert!(fixture.held().is_empty());
}

#[test]
fn a_pack_is_touched_once_a_minute() {
    let fixture = Fixture::new(3);
    fixture.put(1);
    let used = || fs::metadata(fixture.cache.path(&id(1))).unwrap().modified().unwrap();
    let file = File::open(fixture.cache.path(&id(1))).unwrap();
    let recently = SystemTime::now() - Duration::from_secs(30);
    file.set_modified(recently).unwrap();
    assert!(fixture.cache.get(&id(1), 0..1).is_some());
    assert_eq!(used(), recently);
    for other in [SystemTime::now() - Duration::from_mins(2), SystemTime::now() + Duration::from_mins(90)] {
        file.set_modified(other).unwrap();
        assert!(fixture.cache.get(&id(1), 0..1).is_some());
        assert!(used() > recently && used() <= SystemTime::now(), "{other:?}");
    }
}

#[test]
fn what_does_not_fit_is_left_out() {
    let fixture = Fixture::new(1);
    fixture.put(1);
    let mut large = spooled(fixture.folder.path(), 2);
    large.write_all(b"more").unwrap();
    fixture.cache.put(&id(2), &large, BYTES + 4);
    // The length is not that of the file.
    fixture.cache.put(&id(3), &large, BYTES);
    assert_eq!(fixture.held(), [1]);
    assert_eq!(fixture.files(), 1);
}

#[test]
fn damage_counts_as_absent() {
    let fixture = Fixture::new(5);
    for number in 1..=4 {
        fixture.put(number);
    }
    let path = |number| fixture.cache.path(&id(number));
    fs::write(path(1), &content(1)[..500]).unwrap();
    fs::write(path(2), b"").unwrap();
    fs::remove_file(path(3)).unwrap();
    fs::create_dir(path(3)).unwrap();
    fs::write(path(4), vec![0; content(4).len()]).unwrap();
    assert!(fixture.held().is_empty());
    for number in 1..=3 {
        assert_eq!(fixture.cache.get(&id(number), 400..600), None, "{number}");
    }
    let backwards = Range { start: 9, end: 8 };
    assert_eq!(fixture.cache.get(&id(1), backwards), None);
    assert_eq!(fixture.cache.get(&id(1), 0..u64::MAX), None);
    for number in [1, 2, 4] {
        fixture.put(number);
        assert_eq!(fixture.cache.get(&id(number), 0..BYTES).unwrap(), content(number));
    }
}

#[test]
fn a_folder_that_is_gone_fails_nothing() {
    let fixture = Fixture::new(3);
    fixture.put(1);
    fs::remove_dir_all(&fixture.cache.folder).unwrap();
    fixture.put(2);
    assert!(fixture.held().is_empty());
    assert_eq!(fixture.cache.get(&id(1), 0..1), None);
}

#[test]
fn what_a_dead_process_left_is_removed_in_time() {
    let fixture = Fixture::new(3);
    let (old, new) = (fixture.cache.folder.join(".tmpold"), fixture.cache.folder.join(".tmpnew"));
    for path in [&old, &new] {
        fs::write(path, b"part of a pack").unwrap();
    }
    File::open(&old).unwrap().set_modified(SystemTime::now() - Duration::from_hours(2)).unwrap();
    fixture.put(1);
    assert!(!old.exists() && new.exists());
}

#[test]
fn several_processes_share_a_folder() {
    let fixture = Fixture::new(3);
    let caches: Vec<_> = (0..4).map(|_| BaseCache::open(&fixture.cache.folder, 3 * BYTES).unwrap()).collect();
    std::thread::scope(|scope| {
        for cache in &caches {
            let spool = fixture.folder.path();
            scope.spawn(move || {
                for number in (0..10).cycle().take(60) {
                    cache.put(&id(number), &spooled(spool, number), BYTES);
                    if let Some(bytes) = cache.get(&id(number), 0..BYTES) {
                        assert_eq!(bytes, content(number));
                    }
                }
            });
        }
    });
    fixture.put(9);
    assert!(fixture.held().contains(&9) && fixture.files() <= 3, "{:?}", fixture.held());
}
