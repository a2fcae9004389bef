//! What is disturbed at a chosen call: every command that changes a store, on a store where it has all its work to do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::choice::Chooser;
use crate::content;
use crate::lab::{Host, Lab, Ran};
use crate::oracle::{Depth, LastCollection, Ledger, Version};

/// A command that is disturbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Case {
    /// Another version of a tree.
    Ingest,
    /// The same by a host that never saw the store.
    IngestOfNewHost,
    /// Another version of a stream.
    IngestOfStream,
    /// Rules that forget most of the snapshots.
    ForgetByRules,
    ForgetByName,
    Undo,
    Protect,
    /// A collection with packs to delete and packs to write anew.
    Collect,
    /// A collection that goes on where a killed one ended.
    CollectAgain,
}

impl Case {
    pub(crate) const ALL: [Self; 9] = [
        Self::Ingest,
        Self::IngestOfNewHost,
        Self::IngestOfStream,
        Self::ForgetByRules,
        Self::ForgetByName,
        Self::Undo,
        Self::Protect,
        Self::Collect,
        Self::CollectAgain,
    ];
}

const TREE: u64 = 0;
const OTHER_TREE: u64 = 1;
const STREAM: u64 = content::FIRST_STREAM;
/// Versions that are in the store already.
const VERSIONS: u64 = 4;
/// What a reset brings back.
const FOLDERS: [&str; 3] = ["store", "hosts", "sources"];

/// A store in the same state before each disturbance.
pub(crate) struct Scenario {
    pub(crate) lab: Lab,
    base: Ledger,
    /// A forgotten snapshot.
    forgotten: String,
    /// One that is not.
    kept: String,
}

/// One disturbance: a command to run, and who runs it.
pub(crate) struct Attempt {
    pub(crate) ledger: Ledger,
    pub(crate) host: Host,
    pub(crate) arguments: Vec<String>,
    pub(crate) stdin: PathBuf,
    case: Case,
    writer: u64,
    doubtful: std::collections::BTreeMap<String, Version>,
}

impl Scenario {
    /// Makes the store, in `lab` whose store is empty.
    pub(crate) fn new(seed: u64, lab: Lab) -> Self {
        let base = Ledger::new(seed);
        let mut ids = Vec::new();
        for version in 1..=VERSIONS {
            for (host, writer) in [("one", TREE), ("two", OTHER_TREE), ("three", STREAM)] {
                let ran = base.ingest(&lab.host(host), Version { writer, version }, &[]).succeeds();
                ids.push(crate::oracle::id_of(&ran.json()));
            }
        }
        // One version of each is left between others.
        let mut forgotten = String::new();
        for nth in [0, 1, 2, 6, 7] {
            forgotten = ids[nth].clone();
            base.forgetting(&forgotten);
            lab.host("one").run(&["forget", "--force", &forgotten]).succeeds();
        }
        for folder in FOLDERS {
            copy(&lab.path().join(folder), &lab.path().join("base").join(folder));
        }
        Self { kept: ids[3].clone(), lab, base, forgotten }
    }

    /// Brings the store back to what it was, and prepares a command.
    pub(crate) fn attempt(&self, case: Case) -> Attempt {
        let lab = &self.lab;
        for folder in FOLDERS {
            let path = lab.path().join(folder);
            empty(&path);
            copy(&lab.path().join("base").join(folder), &path);
        }
        let (name, writer) = match case {
            Case::IngestOfNewHost => ("four", TREE),
            Case::IngestOfStream => ("three", STREAM),
            _ => ("one", TREE),
        };
        let (host, ledger) = (lab.host(name), self.base.clone());
        let mut attempt = Attempt {
            ledger,
            host,
            arguments: Vec::new(),
            stdin: "/dev/null".into(),
            case,
            writer,
            doubtful: Default::default(),
        };
        let words: Vec<&str> = match case {
            Case::Ingest | Case::IngestOfNewHost | Case::IngestOfStream => {
                let next = Version { writer, version: VERSIONS + 1 };
                let command = attempt.ledger.ingest_command(&attempt.host, next, &[]);
                attempt.arguments =
                    command.get_args().map(|word| word.to_str().unwrap().to_owned()).collect();
                if writer == STREAM {
                    attempt.stdin = attempt.host.source().join(content::STREAM);
                }
                return attempt;
            }
            Case::ForgetByRules => {
                attempt.doubtful = attempt.ledger.thinning(None);
                vec!["forget", "--keep-last", "1", "--force", "--json"]
            }
            Case::ForgetByName => {
                attempt.ledger.forgetting(&self.kept);
                vec!["forget", "--force", "--json", &self.kept]
            }
            Case::Undo => vec!["forget", "--undo", "--json", &self.forgotten],
            Case::Protect => {
                attempt.ledger.protecting(&self.kept);
                vec!["protect", "--json", &self.kept]
            }
            Case::Collect | Case::CollectAgain => vec!["gc", "--grace", "0", "--wait", "0", "--json"],
        };
        attempt.arguments = words.into_iter().map(str::to_owned).collect();
        attempt
    }
}

impl Attempt {
    /// Takes note of what a command said that ended by itself.
    pub(crate) fn heard(&self, ran: &Ran) {
        let fine = !ran.stderr.contains("panicked") && ran.code != Some(101);
        assert!(fine, "{}\n{}", ran.line, ran.stderr);
        if ran.code != Some(0) {
            return;
        }
        let (said, ledger) = (ran.json(), &self.ledger);
        match self.case {
            Case::Ingest | Case::IngestOfNewHost | Case::IngestOfStream => ledger.committed(&said),
            Case::ForgetByRules | Case::ForgetByName => {
                let series = said["series"].as_array().unwrap();
                for snapshot in series.iter().flat_map(|series| series["snapshots"].as_array().unwrap()) {
                    match snapshot["kept"].as_bool().unwrap() {
                        true => ledger.kept(&self.doubtful, snapshot),
                        false => ledger.forgotten(snapshot),
                    }
                }
            }
            Case::Undo => said.as_array().unwrap().iter().for_each(|snapshot| ledger.committed(snapshot)),
            Case::Protect => said.as_array().unwrap().iter().for_each(|snapshot| ledger.protected(snapshot)),
            Case::Collect | Case::CollectAgain => {}
        }
    }

    /// Judges the store after the disturbance: as the host sees it to which it happened, and as others do.
    pub(crate) fn judge(&self, lab: &Lab, chooser: &mut Chooser) {
        self.ledger.judge(lab, &self.host, Depth::Sample(3), chooser);
        let next = Version { writer: self.writer, version: VERSIONS + 2 };
        let collected = self.ledger.work_goes_on(&self.host, next, LastCollection::Polite);
        assert_eq!(
            collected["waiting_for"].as_array().unwrap().len(),
            0,
            "the dead are waited for: {collected}"
        );
        let condemned =
            content::read(&lab.store()).into_keys().find(|key| key.to_str().unwrap().ends_with(".condemned"));
        assert_eq!(condemned, None, "a collection was left");
        self.ledger.judge(lab, &self.host, Depth::Sample(1), chooser);
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let copied = Command::new("cp").args(["-a", "-T"]).args([from, to]).status().unwrap();
    assert!(copied.success());
}

/// Empties a folder, on which a file system may be mounted.
fn empty(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => fs::remove_dir_all(entry.path()).unwrap(),
            false => fs::remove_file(entry.path()).unwrap(),
        }
    }
}
