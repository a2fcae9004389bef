//! The oracle: what was promised of a store, and whether that holds.
//!
//! Every acknowledged snapshot restores byte by byte; every other one is absent or whole; what was protected is there, and
//! what was forgotten is not; a cold index says what the live one does; `verify` is clean; the next ingest and the next
//! collection work.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::choice::Chooser;
use crate::content;
use crate::lab::{Host, Lab, Ran};

/// The name of a host that never saw the store.
const COLD: &str = "cold";

/// What a snapshot holds: a writer's source in one of its versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    pub(crate) writer: u64,
    pub(crate) version: u64,
}

/// What was promised of a store.
pub(crate) struct Ledger {
    seed: u64,
    promises: Mutex<Promises>,
}

#[derive(Debug, Clone, Default)]
struct Promises {
    /// Commits that were reported, and that nobody began to forget.
    acknowledged: BTreeMap<String, Version>,
    /// Protections that were reported, and that nobody began to end.
    protected: BTreeMap<String, Version>,
    /// Snapshots that were reported as forgotten.
    forgotten: BTreeMap<String, Version>,
    /// Snapshots that somebody began to protect: they may be there although they were forgotten.
    perhaps_protected: BTreeSet<String>,
    /// Snapshots that somebody ever began to forget: once their protection ends, they may be gone.
    perhaps_forgotten: BTreeSet<String>,
}

/// How much is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// So many snapshots.
    Sample(usize),
    /// All of them.
    All,
}

/// What the collection does that ends a judgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LastCollection {
    /// It waits for sessions that seem to live.
    Polite,
    /// It fences what other hosts began.
    Exclusive,
}

impl Clone for Ledger {
    fn clone(&self) -> Self {
        Self { seed: self.seed, promises: Mutex::new(self.promises().clone()) }
    }
}

impl Ledger {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, promises: Mutex::default() }
    }

    fn promises(&self) -> MutexGuard<'_, Promises> {
        self.promises.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a commit that was reported by the document of a snapshot.
    pub(crate) fn committed(&self, snapshot: &Value) {
        self.promises().acknowledged.insert(id_of(snapshot), version_of(snapshot));
    }

    /// Takes note that somebody begins to forget a snapshot.
    pub(crate) fn forgetting(&self, id: &str) {
        let mut promises = self.promises();
        promises.acknowledged.remove(id);
        promises.perhaps_forgotten.insert(id.to_owned());
    }

    /// Takes note that somebody begins to thin out a source, all of it if none is given. Returns what that may forget.
    pub(crate) fn thinning(&self, writer: Option<u64>) -> BTreeMap<String, Version> {
        let mut promises = self.promises();
        let is_of_it = |version: &Version| writer.is_none_or(|writer| writer == version.writer);
        let doubtful: BTreeMap<_, _> = promises
            .acknowledged
            .iter()
            .filter(|(_, version)| is_of_it(version))
            .map(|(id, v)| (id.clone(), *v))
            .collect();
        promises.acknowledged.retain(|_, version| !is_of_it(version));
        promises.perhaps_forgotten.extend(doubtful.keys().cloned());
        doubtful
    }

    /// Takes note that what was in doubt was kept.
    pub(crate) fn kept(&self, doubtful: &BTreeMap<String, Version>, snapshot: &Value) {
        if let Some((id, version)) = doubtful.get_key_value(&id_of(snapshot)) {
            self.promises().acknowledged.insert(id.clone(), *version);
        }
    }

    /// Takes note of a snapshot that was reported as forgotten.
    pub(crate) fn forgotten(&self, snapshot: &Value) {
        self.promises().forgotten.insert(id_of(snapshot), version_of(snapshot));
    }

    /// Takes note that somebody begins to protect a snapshot.
    pub(crate) fn protecting(&self, id: &str) {
        self.promises().perhaps_protected.insert(id.to_owned());
    }

    /// Takes note of a protection that was reported.
    pub(crate) fn protected(&self, snapshot: &Value) {
        self.promises().protected.insert(id_of(snapshot), version_of(snapshot));
    }

    /// Takes note that somebody begins to end a protection.
    pub(crate) fn unprotecting(&self, id: &str) {
        let mut promises = self.promises();
        promises.protected.remove(id);
        if promises.perhaps_forgotten.contains(id) {
            promises.acknowledged.remove(id);
        }
    }

    /// Returns ids of snapshots that are acknowledged, protected, or forgotten.
    pub(crate) fn acknowledged(&self) -> Vec<String> {
        self.promises().acknowledged.keys().cloned().collect()
    }

    pub(crate) fn protected_ids(&self) -> Vec<String> {
        self.promises().protected.keys().cloned().collect()
    }

    pub(crate) fn forgotten_ids(&self) -> Vec<String> {
        self.promises().forgotten.keys().cloned().collect()
    }

    /// Judges a store at which nobody works just now, as `live` sees it and as a host that never saw it.
    pub(crate) fn judge(&self, lab: &Lab, live: &Host, depth: Depth, chooser: &mut Chooser) {
        lab.cool(COLD);
        let cold = lab.host(COLD);
        let listed = cold.run(&["snapshots", "--json"]).succeeds().json();
        let listed = listed.as_array().unwrap();
        self.all_promised_are_listed(listed);
        self.listed_are_whole(&cold, listed, depth, chooser);
        cold.run(&["verify"]).succeeds();

        assert_eq!(*listed, *live.run(&["snapshots", "--json"]).succeeds().json().as_array().unwrap());
        // A host brings its index up to date when it needs to; this does.
        live.run(&["verify"]).succeeds();
        let stats = |host: &Host| host.run(&["stats", "--json"]).succeeds().json();
        assert_eq!(
            stats(live),
            stats(&cold),
            "a cold index is another one than that of {}",
            live.folder().display()
        );
    }

    /// Shows that the next ingest and the next collection work on a host, and that nothing is lost by them.
    pub(crate) fn work_goes_on(&self, host: &Host, next: Version, last: LastCollection) -> Value {
        self.ingest(host, next, &[]).succeeds();
        let mut arguments = vec!["gc", "--grace", "0", "--wait", "0", "--json"];
        arguments.extend((last == LastCollection::Exclusive).then_some("--exclusive"));
        host.run(&arguments).succeeds().json()
    }

    /// Backs up a version on a host, and takes note of it if that is reported.
    pub(crate) fn ingest(&self, host: &Host, version: Version, more: &[&str]) -> Ran {
        let running = crate::lab::Running::start(self.ingest_command(host, version, more));
        let ran = running.end();
        self.heard_of_ingest(&ran);
        ran
    }

    /// Prepares to back up a version on a host.
    pub(crate) fn ingest_command(
        &self,
        host: &Host,
        version: Version,
        more: &[&str],
    ) -> std::process::Command {
        let Version { writer, version } = version;
        let folder = host.source();
        content::write(&folder, &content::files(self.seed, writer, version));
        let (source, tag) = (format!("w{writer}"), format!("v{version}"));
        let mut arguments = vec!["ingest", "--json", "--level", "1", "--source", &source, "--tag", &tag];
        arguments.extend(more);
        if writer >= content::FIRST_STREAM {
            arguments.extend(["--as", content::STREAM]);
            let mut command = host.command(&arguments);
            command.stdin(fs::File::open(folder.join(content::STREAM)).unwrap());
            return command;
        }
        arguments.push(folder.to_str().unwrap());
        host.command(&arguments)
    }

    /// Takes note of what an ingest said.
    pub(crate) fn heard_of_ingest(&self, ran: &Ran) {
        if ran.code == Some(0) {
            self.committed(&ran.json());
        }
    }

    fn all_promised_are_listed(&self, listed: &[Value]) {
        let ids: BTreeSet<String> = listed.iter().map(id_of).collect();
        let promises = self.promises();
        for (id, version) in &promises.acknowledged {
            assert!(ids.contains(id), "snapshot {id} of {version:?} was acknowledged and is gone");
        }
        for (id, version) in &promises.protected {
            assert!(ids.contains(id), "snapshot {id} of {version:?} was protected and is gone");
        }
        let risen = promises.forgotten.keys().filter(|id| !promises.perhaps_protected.contains(*id));
        for id in risen {
            assert!(!ids.contains(id), "snapshot {id} was forgotten and is back");
        }
    }

    fn listed_are_whole(&self, host: &Host, listed: &[Value], depth: Depth, chooser: &mut Chooser) {
        let mut chosen: Vec<&Value> = listed.iter().collect();
        if let Depth::Sample(size) = depth {
            let sampled = (0..size).filter_map(|_| chooser.pick(listed));
            chosen = sampled.collect();
        }
        for snapshot in chosen {
            self.restores(host, snapshot);
        }
    }

    fn restores(&self, host: &Host, snapshot: &Value) {
        let (id, Version { writer, version }) = (id_of(snapshot), version_of(snapshot));
        // In memory, where flushing costs nothing: it is the store that is on trial.
        let memory = Path::new("/dev/shm");
        let above = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let target = tempfile::Builder::new().prefix("yester-stress-").tempdir_in(above).unwrap();
        host.run(&["restore", &id, "--to", target.path().to_str().unwrap()]).succeeds();
        let mut root = target.path().to_owned();
        if writer < content::FIRST_STREAM {
            root.push(Path::new(snapshot["paths"][0].as_str().unwrap()).strip_prefix("/").unwrap());
        }
        let expected = content::files(self.seed, writer, version);
        let found = content::read(&root);
        let names = |files: &content::Files| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&found), names(&expected), "files of snapshot {id}");
        for (name, bytes) in &expected {
            assert!(found[name] == *bytes, "snapshot {id}: {} is not what was backed up", name.display());
        }
    }
}

pub(crate) fn id_of(snapshot: &Value) -> String {
    snapshot["id"].as_str().unwrap().to_owned()
}

/// Reads from source and tag what a snapshot should hold.
fn version_of(snapshot: &Value) -> Version {
    let number = |text: &Value| text.as_str().unwrap()[1..].parse().unwrap();
    Version { writer: number(&snapshot["source"]), version: number(&snapshot["tags"][0]) }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    /// Damages a store in a way, and tells whether the oracle notices.
    fn is_noticed(damage: impl FnOnce(&Lab, &Ledger, &str)) -> bool {
        let (lab, ledger) = (Lab::new(), Ledger::new(1));
        let host = lab.host("one");
        let mut id = String::new();
        for version in 1..3 {
            id = id_of(&ledger.ingest(&host, Version { writer: 0, version }, &[]).succeeds().json());
        }
        damage(&lab, &ledger, &id);
        let judge = || ledger.judge(&lab, &host, Depth::All, &mut Chooser::new(1, &[]));
        catch_unwind(AssertUnwindSafe(judge)).is_err()
    }

    /// Returns the largest object below a folder of the store.
    fn largest(lab: &Lab, folder: &str) -> std::path::PathBuf {
        let below = lab.store().join(folder);
        let objects = content::read(&below).into_iter().max_by_key(|(_, bytes)| bytes.len());
        below.join(objects.unwrap().0)
    }

    #[test]
    fn what_is_whole_is_not_blamed() {
        assert!(!is_noticed(|_, _, _| {}));
    }

    #[test]
    fn losses_are_noticed() {
        for folder in ["snapshots", "packs", "index"] {
            assert!(is_noticed(|lab, _, _| fs::remove_file(largest(lab, folder)).unwrap()), "{folder}");
            let cuts_short = |lab: &Lab| {
                let path = largest(lab, folder);
                let bytes = fs::read(&path).unwrap();
                fs::remove_file(&path).unwrap();
                fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
            };
            assert!(is_noticed(|lab, _, _| cuts_short(lab)), "{folder}");
        }
    }

    #[test]
    fn other_content_is_noticed() {
        let claims = |ledger: &Ledger, id: &str| {
            ledger.promises().acknowledged.insert(id.to_owned(), Version { writer: 0, version: 2 });
        };
        assert!(!is_noticed(|_, ledger, id| claims(ledger, id)));
        let mislabels = |lab: &Lab, ledger: &Ledger, _: &str| {
            let host = lab.host("one");
            content::write(&host.source(), &content::files(ledger.seed, 1, 9));
            let (tag, source) = ("v3", host.source());
            let words = ["ingest", "--source", "w0", "--tag", tag, source.to_str().unwrap()];
            host.run(&words).succeeds();
        };
        assert!(is_noticed(mislabels), "the content of another version");
    }

    #[test]
    fn broken_promises_are_noticed() {
        let forget = |lab: &Lab, id: &str| lab.host("two").run(&["forget", "--json", id]).succeeds().json();
        assert!(
            is_noticed(|lab, _, id| drop(forget(lab, id))),
            "it was acknowledged, and nobody said that it goes"
        );
        let said = |lab: &Lab, ledger: &Ledger, id: &str| {
            ledger.forgetting(id);
            let said = forget(lab, id);
            let snapshots = said["series"][0]["snapshots"].as_array().unwrap().clone();
            snapshots
                .iter()
                .filter(|snapshot| snapshot["kept"] == false)
                .for_each(|snapshot| ledger.forgotten(snapshot));
        };
        assert!(!is_noticed(said));
        let rises = |lab: &Lab, ledger: &Ledger, id: &str| {
            said(lab, ledger, id);
            for mark in content::read(&lab.store().join("marks")).into_keys() {
                fs::remove_file(lab.store().join("marks").join(mark)).unwrap();
            }
        };
        assert!(is_noticed(rises), "it was forgotten, and is back");
    }
}
