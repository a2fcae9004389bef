//! Metrics, as a file that node_exporter's textfile collector reads.
//!
//! Owns their names and labels, in the text format of Prometheus. A time is in seconds since 1970; 0 stands for never.

use std::fmt::Write as _;
use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::config::Metrics;
use super::health::{Health, SourceHealth, StoreHealth};
use crate::journal::Run;

/// Why metrics cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the metrics {}", path.display())]
pub struct MetricsError {
    /// The file.
    pub path: PathBuf,
    /// Why not.
    pub source: io::Error,
}

/// Writes the metrics of a host to the configured file, all at once: whoever reads sees the old ones or the new ones.
///
/// # Errors
/// Fails if the file cannot be written; its folder has to be there.
pub fn write(metrics: &Metrics, health: &Health, host: &str) -> Result<(), MetricsError> {
    let path = &metrics.textfile;
    let text = render(health, host, metrics.aliases);
    replace(path, &text).map_err(|source| MetricsError { path: path.clone(), source })
}

/// The collector runs as somebody else, and takes files that end in `.prom` alone.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file =
        tempfile::Builder::new().prefix(".yester-").tempfile_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

/// Returns the metrics of a host as text.
#[must_use]
pub fn render(health: &Health, host: &str, aliases: bool) -> String {
    let mut page = Page { host, text: String::new() };
    for metric in SOURCE_METRICS.iter().filter(|metric| aliases || !metric.is_alias) {
        page.family(metric.name, metric.help);
        for source in &health.sources {
            page.sample(
                metric.name,
                &[("source", &source.name), ("store", &source.store)],
                (metric.value)(source),
            );
        }
    }
    if aliases {
        backup_status(&mut page, &health.sources);
    }
    for metric in STORE_METRICS.iter().filter(|metric| aliases || !metric.is_alias) {
        page.family(metric.name, metric.help);
        for store in &health.stores {
            if let Some(value) = (metric.value)(store) {
                page.sample(metric.name, &[("store", &store.name)], value);
            }
        }
    }
    let name = "yester_copy_behind_snapshots";
    page.family(name, "Snapshots of a source that a store of copies lacks.");
    for store in &health.stores {
        for (source, behind) in &store.behind {
            page.sample(name, &[("source", source), ("store", &store.name)], *behind as f64);
        }
    }
    page.text
}

/// A metric that every subject has, or that some lack.
struct Metric<S, V> {
    name: &'static str,
    help: &'static str,
    /// Whether it is there for the sake of runbooks.
    is_alias: bool,
    value: fn(&S) -> V,
}

const fn own<S, V>(name: &'static str, help: &'static str, value: fn(&S) -> V) -> Metric<S, V> {
    Metric { name, help, is_alias: false, value }
}

const fn alias<S, V>(name: &'static str, help: &'static str, value: fn(&S) -> V) -> Metric<S, V> {
    Metric { name, help, is_alias: true, value }
}

const SOURCE_METRICS: [Metric<SourceHealth, f64>; 10] = [
    own("yester_last_success_timestamp_seconds", "When the last good backup ended.", last_success),
    own("yester_last_attempt_timestamp_seconds", "When the last backup began.", last_attempt),
    own("yester_last_run_success", "Whether the last backup that has ended was good.", |source| {
        flag(last_ended(source) == Some(true))
    }),
    own("yester_consecutive_failures", "Failed backups since the last good one.", |source| {
        source.failures.into()
    }),
    own("yester_duration_seconds", "How long the last good backup took.", |source| {
        source.durations.last().map_or(0.0, |duration| duration.as_secs_f64())
    }),
    own("yester_source_bytes", "Bytes of the last good backup.", |source| {
        source.last_good.as_ref().map_or(0.0, |run| run.bytes as f64)
    }),
    own("yester_added_bytes", "Bytes of it that were new to the store.", |source| {
        source.last_good.as_ref().map_or(0.0, |run| run.added_bytes as f64)
    }),
    alias("last_successful_backup_timestamp", "When the last good backup ended.", last_success),
    alias("backup_last_success_timestamp", "When the last good backup ended.", last_success),
    alias("backup_last_attempt_timestamp", "When the last backup began.", last_attempt),
];

const STORE_METRICS: [Metric<StoreHealth, Option<f64>>; 5] = [
    own("yester_store_bytes", "Bytes of all that is in the store, when that was measured last.", |store| {
        store.size.map(|size| size.bytes as f64)
    }),
    own("yester_store_free_bytes", "Bytes that are free on the file system of the store.", |store| {
        store.disk.map(|disk| disk.free_bytes as f64)
    }),
    own(
        "yester_verify_last_success_timestamp_seconds",
        "When the last verification ended that found everything whole.",
        |store| Some(store.last_verified.as_ref().map_or(0.0, ended)),
    ),
    own("yester_verify_failed", "Whether the last verification failed.", verify_failed),
    alias("backup_verification_failed", "Whether the last verification failed.", verify_failed),
];

fn last_success(source: &SourceHealth) -> f64 {
    source.last_good.as_ref().map_or(0.0, ended)
}

fn last_attempt(source: &SourceHealth) -> f64 {
    source.last_attempt.as_ref().map_or(0.0, |run| seconds(run.started))
}

fn verify_failed(store: &StoreHealth) -> Option<f64> {
    Some(flag(store.verify_failed))
}

/// Tells whether the last backup that has ended was good; nothing if none has.
fn last_ended(source: &SourceHealth) -> Option<bool> {
    if source.failures > 0 { Some(false) } else { source.last_good.as_ref().map(|_| true) }
}

/// One series for each way it can be, of which one is 1: `backup_status{status="failed"} == 1` is what runbooks ask.
fn backup_status(page: &mut Page<'_>, sources: &[SourceHealth]) {
    let name = "backup_status";
    page.family(name, "How the last backup that has ended did: one of the two is 1, once there was any.");
    for source in sources {
        for (status, is_good) in [("success", true), ("failed", false)] {
            let labels = [("source", source.name.as_str()), ("store", &source.store), ("status", status)];
            page.sample(name, &labels, flag(last_ended(source) == Some(is_good)));
        }
    }
}

fn flag(is_so: bool) -> f64 {
    if is_so { 1.0 } else { 0.0 }
}

fn ended(run: &Run) -> f64 {
    seconds(run.finished.unwrap_or(run.started))
}

fn seconds(time: Timestamp) -> f64 {
    time.as_millisecond() as f64 / 1000.0
}

struct Page<'a> {
    host: &'a str,
    text: String,
}

impl Page<'_> {
    fn family(&mut self, name: &str, help: &str) {
        // Writing to text does not fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} gauge");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let host = [("host", self.host)];
        let labels =
            labels.iter().chain(&host).map(|(label, value)| format!("{label}=\"{}\"", escape(value)));
        let _ = writeln!(self.text, "{name}{{{}}} {value}", labels.collect::<Vec<_>>().join(","));
    }
}

/// Writes the value of a label as the format wants it.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::SignedDuration;

    use super::*;
    use crate::jobs::health::DiskSpace;
    use crate::journal::{RunOutcome, StoreSize};

    fn run(started: i64, outcome: RunOutcome) -> Run {
        Run {
            id: "1".parse().unwrap(),
            store: None,
            place: "/srv/backup".into(),
            operation: "ingest".into(),
            source: "shop".into(),
            started: Timestamp::from_second(started).unwrap(),
            finished: Some(Timestamp::from_millisecond(started * 1000 + 61_500).unwrap()),
            outcome,
            snapshot: None,
            bytes: 1_000_000,
            added_bytes: 5000,
            message: String::new(),
        }
    }

    fn health() -> Health {
        let shop = SourceHealth {
            name: "shop".into(),
            store: "local".into(),
            worst: None,
            last_good: Some(run(1_700_000_000, RunOutcome::Succeeded)),
            last_attempt: Some(run(1_700_086_400, RunOutcome::Failed)),
            failures: 1,
            sizes: vec![1_000_000],
            durations: vec![SignedDuration::from_millis(61_500)],
            next: None,
        };
        let never = SourceHealth {
            name: "new".into(),
            last_good: None,
            last_attempt: None,
            failures: 0,
            sizes: Vec::new(),
            durations: Vec::new(),
            ..shop.clone()
        };
        let local = StoreHealth {
            name: "local".into(),
            location: "/srv/backup".into(),
            copy_from: None,
            worst: None,
            is_missing: false,
            size: Some(StoreSize { bytes: 77, measured: Timestamp::UNIX_EPOCH }),
            disk: Some(DiskSpace { total_bytes: 100, free_bytes: 40 }),
            last_verified: Some(run(1_700_000_000, RunOutcome::Succeeded)),
            verify_failed: true,
            last_copied: None,
            behind: BTreeMap::new(),
            next_copy: None,
        };
        let offsite = StoreHealth {
            name: "offsite".into(),
            size: None,
            disk: None,
            last_verified: None,
            verify_failed: false,
            behind: [("new".to_owned(), 0), ("shop".to_owned(), 3)].into(),
            ..local.clone()
        };
        Health { sources: vec![shop, never], stores: vec![local, offsite], findings: Vec::new() }
    }

    #[test]
    fn every_metric_has_its_labels() {
        let text = render(&health(), "db1", true);
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        insta::assert_snapshot!(samples.join("\n"), @r#"
        yester_last_success_timestamp_seconds{source="shop",store="local",host="db1"} 1700000061.5
        yester_last_success_timestamp_seconds{source="new",store="local",host="db1"} 0
        yester_last_attempt_timestamp_seconds{source="shop",store="local",host="db1"} 1700086400
        yester_last_attempt_timestamp_seconds{source="new",store="local",host="db1"} 0
        yester_last_run_success{source="shop",store="local",host="db1"} 0
        yester_last_run_success{source="new",store="local",host="db1"} 0
        yester_consecutive_failures{source="shop",store="local",host="db1"} 1
        yester_consecutive_failures{source="new",store="local",host="db1"} 0
        yester_duration_seconds{source="shop",store="local",host="db1"} 61.5
        yester_duration_seconds{source="new",store="local",host="db1"} 0
        yester_source_bytes{source="shop",store="local",host="db1"} 1000000
        yester_source_bytes{source="new",store="local",host="db1"} 0
        yester_added_bytes{source="shop",store="local",host="db1"} 5000
        yester_added_bytes{source="new",store="local",host="db1"} 0
        last_successful_backup_timestamp{source="shop",store="local",host="db1"} 1700000061.5
        last_successful_backup_timestamp{source="new",store="local",host="db1"} 0
        backup_last_success_timestamp{source="shop",store="local",host="db1"} 1700000061.5
        backup_last_success_timestamp{source="new",store="local",host="db1"} 0
        backup_last_attempt_timestamp{source="shop",store="local",host="db1"} 1700086400
        backup_last_attempt_timestamp{source="new",store="local",host="db1"} 0
        backup_status{source="shop",store="local",status="success",host="db1"} 0
        backup_status{source="shop",store="local",status="failed",host="db1"} 1
        backup_status{source="new",store="local",status="success",host="db1"} 0
        backup_status{source="new",store="local",status="failed",host="db1"} 0
        yester_store_bytes{store="local",host="db1"} 77
        yester_store_free_bytes{store="local",host="db1"} 40
        yester_verify_last_success_timestamp_seconds{store="local",host="db1"} 1700000061.5
        yester_verify_last_success_timestamp_seconds{store="offsite",host="db1"} 0
        yester_verify_failed{store="local",host="db1"} 1
        yester_verify_failed{store="offsite",host="db1"} 0
        backup_verification_failed{store="local",host="db1"} 1
        backup_verification_failed{store="offsite",host="db1"} 0
        yester_copy_behind_snapshots{source="new",store="offsite",host="db1"} 0
        yester_copy_behind_snapshots{source="shop",store="offsite",host="db1"} 3
        "#);
        for family in text.split("# HELP ").skip(1) {
            let name = family.split(' ').next().unwrap();
            assert!(family.lines().nth(1).unwrap() == format!("# TYPE {name} gauge"), "{family}");
            assert!(family.lines().skip(2).all(|line| line.starts_with(&format!("{name}{{"))), "{family}");
        }
    }

    #[test]
    fn aliases_are_left_out_unless_asked_for() {
        let text = render(&health(), "db1", false);
        assert!(text.lines().all(|line| line.starts_with("# ") || line.starts_with("yester_")), "{text}");
        assert!(!text.contains("backup_"), "{text}");
    }

    #[test]
    fn labels_are_escaped() {
        let text = render(&health(), "a\"b\\c\nd", false);
        assert!(text.contains("host=\"a\\\"b\\\\c\\nd\"} "), "{text}");
    }

    #[test]
    fn the_file_is_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let metrics = Metrics { textfile: folder.path().join("yester.prom"), aliases: false };
        for _ in 0..2 {
            write(&metrics, &health(), "db1").unwrap();
        }
        assert_eq!(std::fs::read_to_string(&metrics.textfile).unwrap(), render(&health(), "db1", false));
        let mode = std::fs::metadata(&metrics.textfile).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let nowhere = Metrics { textfile: folder.path().join("absent/yester.prom"), aliases: false };
        assert_eq!(write(&nowhere, &health(), "db1").unwrap_err().source.kind(), io::ErrorKind::NotFound);
    }
}
