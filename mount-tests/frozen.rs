//! Frozen stores, read by the program and by `mount-tests/reader.py`, which shares no code with it; and a store that the
//! program makes now, read by that reader.
//!
//! `mount-tests/stores/README.md` says what the stores are. Both readers must find in them what `expected.json` says.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::{BASE64, HEXLOWER};
use serde_json::{Map, Value};

use crate::harness::{Lab, Need, Ran, can, noise, succeed};

/// The stores, and what opens each of them: names of files beside it.
const STORES: [(&str, &[&str]); 6] = [
    ("chains", &["key"]),
    ("deltas", &["key"]),
    ("encrypted", &["key", "passphrase", "recovery-key"]),
    ("marks", &[]),
    ("plain", &[]),
    ("trees", &[]),
];

/// Fields of an entry that the program does not list.
const NOT_LISTED: [&str; 3] = ["link_group", "sha256", "xattrs"];

/// Who made a tree from a snapshot.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Maker {
    Program,
    /// Makes no device files, FIFOs and sockets, and leaves owners and extended attributes alone.
    Reader,
}

/// A frozen store, copied, since it must never change.
struct Frozen {
    lab: Lab,
    secrets: &'static [&'static str],
    snapshots: Vec<Value>,
}

impl Frozen {
    fn new(name: &str) -> Self {
        let (_, secrets) = *STORES.iter().find(|(known, _)| *known == name).unwrap();
        let lab = Lab::empty();
        let folder = stores().join(name);
        succeed(Command::new("cp").arg("-r").arg(folder.join("store")).arg(lab.store()));
        for secret in secrets {
            fs::copy(folder.join(secret), lab.path(secret)).unwrap();
            fs::set_permissions(lab.path(secret), fs::Permissions::from_mode(0o600)).unwrap();
        }
        let expected = fs::read(folder.join("expected.json")).unwrap();
        Self { lab, secrets, snapshots: serde_json::from_slice(&expected).unwrap() }
    }

    /// Returns each secret, or nothing once for a store that needs none.
    fn each_secret(&self) -> Vec<Option<&'static str>> {
        if self.secrets.is_empty() { vec![None] } else { self.secrets.iter().copied().map(Some).collect() }
    }

    /// Runs the program with a secret.
    fn program(&self, secret: Option<&str>, arguments: &[&str]) -> Ran {
        let mut command = self.lab.command(arguments);
        command.env_remove("YESTER_KEY_FILE");
        match secret {
            Some("key") => command.env("YESTER_KEY_FILE", self.lab.path("key")),
            // A recovery key works wherever a passphrase does.
            Some(file) => command.env("YESTER_PASSPHRASE_FILE", self.lab.path(file)),
            None => &mut command,
        };
        Ran::of(&mut command)
    }

    /// Runs the other reader with a secret.
    fn reader(&self, secret: Option<&str>, arguments: &[&str]) -> Ran {
        let option = match secret {
            Some("key") => "--key-file",
            Some("passphrase") => "--passphrase-file",
            _ => "--recovery-key",
        };
        let secret = secret.map(|file| [option.into(), self.lab.path(file).into_os_string()]);
        read(&self.lab, secret.as_ref().map_or(&[], |options| options), arguments)
    }
}

fn stores() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "mount-tests", "stores"].iter().collect()
}

/// Returns the Python that has what the reader needs: `scripts/test` installs it.
pub(crate) fn python() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "target", "reader", "bin", "python3"].iter().collect()
}

fn read(lab: &Lab, options: &[OsString], arguments: &[&str]) -> Ran {
    let reader: PathBuf = [env!("CARGO_MANIFEST_DIR"), "mount-tests", "reader.py"].iter().collect();
    // Without -B it would leave compiled files beside its sources.
    Ran::of(Command::new(python()).arg("-B").arg(reader).arg(lab.store()).args(options).args(arguments))
}

/// Returns the lines of JSON that the reader prints.
#[track_caller]
fn lines(ran: &Ran) -> Vec<Value> {
    ran.succeeds().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_frozen_store_is_read_here() {
    let folders = fs::read_dir(stores()).unwrap().map(|entry| entry.unwrap().path());
    let found: BTreeSet<_> = folders.filter(|path| path.is_dir()).collect();
    assert_eq!(found, STORES.iter().map(|(name, _)| stores().join(name)).collect());
}

#[test]
fn the_program_reads_frozen_chains_of_deltas() {
    the_program_reads("chains");
}

#[test]
fn the_program_reads_frozen_delta_frames() {
    the_program_reads("deltas");
}

#[test]
fn the_program_reads_a_frozen_encrypted_store() {
    the_program_reads("encrypted");
}

#[test]
fn the_program_reads_frozen_marks() {
    the_program_reads("marks");
}

#[test]
fn the_program_reads_a_frozen_plain_store() {
    the_program_reads("plain");
}

#[test]
fn the_program_reads_frozen_trees() {
    the_program_reads("trees");
}

#[test]
fn the_reader_reads_frozen_chains_of_deltas() {
    the_reader_reads("chains");
}

#[test]
fn the_reader_reads_frozen_delta_frames() {
    the_reader_reads("deltas");
}

#[test]
fn the_reader_reads_a_frozen_encrypted_store() {
    the_reader_reads("encrypted");
}

#[test]
fn the_reader_reads_frozen_marks() {
    the_reader_reads("marks");
}

#[test]
fn the_reader_reads_a_frozen_plain_store() {
    the_reader_reads("plain");
}

#[test]
fn the_reader_reads_frozen_trees() {
    the_reader_reads("trees");
}

fn the_program_reads(name: &str) {
    // Owners, devices and what lies below a closed directory.
    if !can(&[Need::Root]) {
        return;
    }
    let frozen = Frozen::new(name);
    for secret in frozen.each_secret() {
        let listed = frozen.program(secret, &["snapshots", "--json"]).json();
        let mut listed: Vec<Value> = listed.as_array().unwrap().iter().map(own_fields).collect();
        let mut expected: Vec<Value> = frozen
            .snapshots
            .iter()
            .map(|snapshot| program_fields(&snapshot["snapshot"]))
            .filter(is_listed)
            .collect();
        for list in [&mut listed, &mut expected] {
            list.sort_by_key(|own| own["id"].as_str().unwrap().to_owned());
        }
        assert_eq!(listed, expected, "{secret:?}");
    }
    let secret = frozen.each_secret()[0];
    frozen.program(secret, &["verify"]).succeeds();
    for snapshot in &frozen.snapshots {
        let own = program_fields(&snapshot["snapshot"]);
        if !is_listed(&own) {
            continue;
        }
        let (id, expected) = (own["id"].as_str().unwrap(), snapshot["entries"].as_array().unwrap());
        let listed = frozen.program(secret, &["ls", "-R", "--json", id]).json();
        assert_same_entries(listed.as_array().unwrap().clone(), without(expected, &NOT_LISTED));
        if !can_hold(&frozen.lab.path(""), expected) {
            continue;
        }
        let target = frozen.lab.path(format!("restored-{id}"));
        frozen.program(secret, &["restore", id, "--to", target.to_str().unwrap()]).succeeds();
        assert_tree(&target, expected, Maker::Program);
    }
}

fn the_reader_reads(name: &str) {
    if !can(&[Need::Reader, Need::Root]) {
        return;
    }
    let frozen = Frozen::new(name);
    for secret in frozen.each_secret() {
        let with_standing = |snapshot: &Value| {
            let mut own = snapshot["snapshot"].clone();
            own["standing"] = standing(&snapshot["snapshot"]).into();
            own
        };
        let mut expected: Vec<_> = frozen.snapshots.iter().map(with_standing).collect();
        expected.sort_by_key(|own| own["id"].as_str().unwrap().to_owned());
        assert_eq!(lines(&frozen.reader(secret, &["list"])), expected, "{secret:?}");
    }
    let secret = frozen.each_secret()[0];
    let checked = frozen.reader(secret, &["check"]).json();
    let (fenced, deltas) = (u64::from(name == "encrypted"), matches!(name, "chains" | "deltas"));
    assert_eq!(checked["snapshots"], frozen.snapshots.len() as u64 + fenced, "{checked}");
    assert_eq!(checked["delta frames"] != 0, deltas, "{checked}");
    // The second time without index objects: packs have to do by themselves.
    for pass in ["with", "without"] {
        for snapshot in &frozen.snapshots {
            let id = snapshot["snapshot"]["id"].as_str().unwrap();
            let expected = snapshot["entries"].as_array().unwrap();
            let listed = lines(&frozen.reader(secret, &["ls", id]));
            assert_same_entries(listed, without(expected, &["sha256"]));
            if !can_hold(&frozen.lab.path(""), expected) {
                continue;
            }
            let target = frozen.lab.path(format!("{pass}-{id}"));
            frozen.reader(secret, &["extract", id, target.to_str().unwrap()]).succeeds();
            assert_tree(&target, expected, Maker::Reader);
        }
        let _ = fs::remove_dir_all(frozen.lab.store().join("index"));
    }
}

/// A reader that finds nothing wrong would find every store right.
#[test]
fn the_reader_refuses_a_wrong_key_and_every_changed_object() {
    if !can(&[Need::Reader]) {
        return;
    }
    let frozen = Frozen::new("encrypted");
    let other = Frozen::new("deltas");
    let key = other.lab.path("key").into_os_string();
    let wrong = read(&frozen.lab, &["--key-file".into(), key], &["list"]);
    assert!(wrong.fails(1).contains("no key slot opens"), "{wrong:?}");
    for kind in ["packs", "index", "sessions", "snapshots", "marks"] {
        let object = first_object(&frozen.lab.store().join(kind));
        let whole = fs::read(&object).unwrap();
        let mut changed = whole.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        fs::write(&object, changed).unwrap();
        let checked = frozen.reader(Some("key"), &["check"]);
        let name = object.strip_prefix(frozen.lab.store()).unwrap().to_str().unwrap();
        assert!(checked.fails(1).contains(name), "{checked:?}");
        fs::write(&object, whole).unwrap();
    }
    let config = frozen.lab.store().join("config/10.json");
    let text = fs::read_to_string(&config).unwrap();
    let changed = text.replacen("65536", "65538", 1);
    assert_ne!(changed, text);
    fs::write(&config, changed).unwrap();
    assert!(frozen.reader(Some("key"), &["list"]).fails(1).contains("the signature is wrong"));
}

/// What the program writes today follows the specification as the reader understands it.
#[test]
fn the_reader_reads_what_the_program_writes_now() {
    if !can(&[Need::Reader]) {
        return;
    }
    let lab = Lab::new();
    let source = lab.path("source");
    fs::create_dir_all(source.join("many")).unwrap();
    for number in 0..400 {
        fs::write(source.join(format!("many/{number:04}")), number.to_string()).unwrap();
    }
    // More than 32 chunks of at most 1 MiB, most of them holes between little data.
    let sparse = fs::File::create(source.join("sparse")).unwrap();
    for number in 0..40_u64 {
        std::os::unix::fs::FileExt::write_all_at(&sparse, b"island", number << 21).unwrap();
    }
    fs::write(source.join("noise"), noise(5, 3_000_000)).unwrap();
    fs::hard_link(source.join("noise"), source.join("noise again")).unwrap();
    fs::write(source.join(OsStr::from_bytes(b"\xff")), b"a name that is no text").unwrap();
    std::os::unix::fs::symlink("noise", source.join("link")).unwrap();
    let options = ["--key-file".into(), lab.path("key").into_os_string()];
    for _ in 0..2 {
        lab.run([OsStr::new("ingest"), source.as_os_str()]).succeeds();
        fs::write(source.join("noise"), noise(6, 2_000_000)).unwrap();
        fs::write(source.join("many/0200"), b"changed").unwrap();
        let id = lab.snapshots().pop().unwrap()["id"].as_str().unwrap().to_owned();
        let listed = lab.run(["ls", "-R", "--json", &id]).json();
        let read_by_other = without(&lines(&read(&lab, &options, &["ls", &id])), &NOT_LISTED);
        assert_same_entries(read_by_other, listed.as_array().unwrap().clone());
        let (restored, extracted) = (lab.path(format!("restored-{id}")), lab.path(format!("extracted-{id}")));
        lab.run(["restore", &id, "--to", restored.to_str().unwrap()]).succeeds();
        read(&lab, &options, &["extract", &id, extracted.to_str().unwrap()]).succeeds();
        let mut diff = Command::new("diff");
        assert_eq!(succeed(diff.args(["-r", "--no-dereference"]).args([&restored, &extracted])), "");
    }
    let checked = read(&lab, &options, &["check"]).json();
    assert_eq!((&checked["snapshots"], &checked["refused"]), (&2.into(), &0.into()), "{checked}");
}

fn first_object(folder: &Path) -> PathBuf {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let first = paths.remove(0);
    if first.is_dir() { first_object(&first) } else { first }
}

/// Returns what a snapshot is expected to be, in the words of the program.
fn program_fields(own: &Value) -> Value {
    let mut fields = own.clone();
    fields["id"] = own["id"].as_str().unwrap().split('-').nth(1).unwrap().into();
    fields["state"] = fields["completeness"].take();
    fields["marks"] = standing(own).into();
    own_fields(&fields)
}

/// Returns which of a snapshot's marks count, sorted: the last of each axis, unless it only ends another.
fn standing(own: &Value) -> Vec<&str> {
    let marks: Vec<&str> =
        own["marks"].as_array().unwrap().iter().map(|mark| mark.as_str().unwrap()).collect();
    let axes = [["accepted", ""], ["forgotten", "restored"], ["protected", "unprotected"]];
    let last = axes.map(|axis| (axis[0], marks.iter().rev().find(|mark| axis.contains(mark))));
    last.into_iter().filter(|(said, last)| *last == Some(said)).map(|(said, _)| said).collect()
}

/// Tells whether the program lists a snapshot, from its fields as the program shows them.
fn is_listed(own: &Value) -> bool {
    let marks = own["marks"].as_array().unwrap();
    !marks.contains(&"forgotten".into()) || marks.contains(&"protected".into())
}

/// Returns those fields that are compared.
fn own_fields(document: &Value) -> Value {
    let chosen = ["id", "time", "source", "host", "tags", "paths", "state"];
    let mut fields: Map<_, _> =
        chosen.iter().map(|name| ((*name).to_owned(), document[*name].clone())).collect();
    let mut marks = document["marks"].as_array().unwrap().clone();
    marks.sort_by_key(|mark| mark.as_str().unwrap().to_owned());
    fields.insert("marks".to_owned(), marks.into());
    fields.into()
}

/// Returns entries without some of their fields.
fn without(entries: &[Value], fields: &[&str]) -> Vec<Value> {
    let mut entries = entries.to_vec();
    for entry in &mut entries {
        entry.as_object_mut().unwrap().retain(|name, _| !fields.contains(&name.as_str()));
    }
    entries
}

#[track_caller]
fn assert_same_entries(mut found: Vec<Value>, mut expected: Vec<Value>) {
    for list in [&mut found, &mut expected] {
        list.sort_by_key(|entry| path_of(&entry["path"]));
    }
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
}

/// Returns the bytes that JSON shows as a text or as base64.
fn path_of(shown: &Value) -> PathBuf {
    match shown.as_str() {
        Some(text) => PathBuf::from(text),
        None => OsString::from_vec(BASE64.decode(shown["b64"].as_str().unwrap().as_bytes()).unwrap()).into(),
    }
}

/// Holds a tree on disk against what is expected of it.
#[track_caller]
fn assert_tree(top: &Path, entries: &[Value], maker: Maker) {
    let mut groups: HashMap<&str, u64> = HashMap::new();
    let mut expected = BTreeSet::new();
    for entry in entries {
        let path = top.join(path_of(&entry["path"]));
        let kind = entry["kind"].as_str().unwrap();
        if maker == Maker::Reader && !matches!(kind, "file" | "directory" | "symlink") {
            continue;
        }
        expected.insert(path.clone());
        let metadata = fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{entry}: {error}"));
        assert_eq!(kind_of(&metadata), kind, "{entry}");
        let mtime = (metadata.mtime().into(), metadata.mtime_nsec().into());
        let times = &entry["mtime"];
        assert_eq!(mtime, (times["seconds"].clone(), times["nanoseconds"].clone()), "{entry}");
        if kind == "symlink" {
            assert_eq!(fs::read_link(&path).unwrap(), path_of(&entry["target"]), "{entry}");
        } else {
            assert_eq!(format!("{:04o}", metadata.mode() & 0o7777), entry["mode"], "{entry}");
        }
        if kind == "file" {
            let bytes = fs::read(&path).unwrap();
            assert_eq!(HEXLOWER.encode(digest(&SHA256, &bytes).as_ref()), entry["sha256"], "{entry}");
        }
        if let Some(device) = entry["device"].as_str() {
            let number = metadata.rdev();
            let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
            assert_eq!(format!("{major},{minor}"), device, "{entry}");
        }
        if let Some(group) = entry["link_group"].as_str() {
            assert_eq!(*groups.entry(group).or_insert(metadata.ino()), metadata.ino(), "{entry}");
        }
        if maker == Maker::Program {
            assert_xattrs(&path, entry);
        }
    }
    assert_eq!(paths_below(top), expected);
}

/// Tells whether the file system at a folder takes the times and the attributes of these entries; says so if not.
fn can_hold(folder: &Path, entries: &[Value]) -> bool {
    let file = tempfile::NamedTempFile::new_in(folder).unwrap();
    let has_xattrs =
        entries.iter().any(|entry| entry["xattrs"].as_array().is_some_and(|all| !all.is_empty()));
    let takes_xattrs =
        rustix::fs::fsetxattr(&file, "user.large", &[7; 1000], rustix::fs::XattrFlags::empty());
    if has_xattrs && takes_xattrs.is_err() {
        return can(&[Need::Tool("a TMPDIR that takes user attributes")]);
    }
    let latest = entries.iter().filter_map(|entry| entry["mtime"]["seconds"].as_i64()).max().unwrap_or(0);
    let time = UNIX_EPOCH + Duration::from_secs(u64::try_from(latest).unwrap_or(0));
    let set = file.as_file().set_modified(time);
    if set.is_err() || file.as_file().metadata().unwrap().modified().unwrap() != time {
        return can(&[Need::Tool("a TMPDIR that takes times of the year 2200")]);
    }
    true
}

fn assert_xattrs(path: &Path, entry: &Value) {
    for xattr in entry["xattrs"].as_array().into_iter().flatten() {
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::lgetxattr(path, path_of(&xattr[0]), &mut value[..]).unwrap();
        let found = HEXLOWER.encode(digest(&SHA256, &value[..length]).as_ref());
        assert_eq!(
            (Value::from(length), Value::from(found)),
            (xattr[1].clone(), xattr[2].clone()),
            "{entry}"
        );
    }
}

fn kind_of(metadata: &fs::Metadata) -> &'static str {
    let kind = metadata.file_type();
    match () {
        () if kind.is_file() => "file",
        () if kind.is_dir() => "directory",
        () if kind.is_symlink() => "symlink",
        () if kind.is_fifo() => "fifo",
        () if kind.is_char_device() => "char_device",
        () if kind.is_block_device() => "block_device",
        () => "socket",
    }
}

fn paths_below(top: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            }
            found.insert(entry.path());
        }
    }
    found
}
