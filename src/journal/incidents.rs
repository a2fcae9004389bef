//! What is wrong for how long, who was told of it, and which alerts did not arrive.
//!
//! An incident is one finding from when it was first seen until it is gone. It only grows graver: whoever was told of
//! the worst needs to hear of its end next. What is wrong, and who is to be told, is decided elsewhere.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;

use jiff::Timestamp;
use rusqlite::{OptionalExtension, Row, Transaction, TransactionBehavior};

use super::{Journal, JournalError, time};

/// Number of an incident in this journal, counted upwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IncidentId(i64);

/// How grave an incident is: from 1 for what is worth knowing to 3 for what cannot wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gravity(u8);

impl Gravity {
    /// Returns a gravity of 1 to 3, the nearest to a number.
    #[must_use]
    pub fn new(number: u8) -> Self {
        Self(number.clamp(1, 3))
    }

    /// Returns the number, from 1 to 3.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }
}

/// Something that is found to be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation<'a> {
    /// The rule that finds it.
    pub rule: &'a str,
    /// What it is wrong with.
    pub subject: &'a str,
    /// How grave it is.
    pub gravity: Gravity,
    /// What people should know of it.
    pub text: &'a str,
}

/// Something that is or was wrong. At most one incident of a rule and a subject is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// Its number.
    pub id: IncidentId,
    /// The rule that found it.
    pub rule: String,
    /// What it is wrong with.
    pub subject: String,
    /// How grave it was at its worst.
    pub gravity: Gravity,
    /// When it was first seen.
    pub began: Timestamp,
    /// When it became as grave as it is.
    pub since: Timestamp,
    /// When it was found to be gone.
    pub ended: Option<Timestamp>,
    /// What people should know of it, as it was seen last.
    pub text: String,
}

/// That an alert has told of an incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The alert.
    pub alert: String,
    /// How grave the incident was; nothing for its end.
    pub gravity: Option<Gravity>,
}

/// An alert that does not arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undelivered {
    /// The alert.
    pub alert: String,
    /// Since when.
    pub since: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// Why it does not, the last time.
    pub error: String,
}

const COLUMNS: &str = "id, rule, subject, severity, began, since, ended, text";

/// Keeps others from telling of incidents until it is dropped.
#[derive(Debug)]
pub struct NoticesLock {
    _file: File,
}

impl Journal {
    /// Keeps others from telling of incidents: two that do so at once would tell twice. Waits for them.
    ///
    /// # Errors
    /// Fails if the lock file cannot be created or locked.
    pub fn lock_notices(&self) -> Result<NoticesLock, JournalError> {
        let mut path = self.path.clone().into_os_string();
        path.push(".notices.lock");
        let open = || OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let lock = || -> std::io::Result<NoticesLock> {
            let file = open()?;
            file.lock()?;
            Ok(NoticesLock { _file: file })
        };
        lock().map_err(JournalError::folder(&self.path))
    }

    /// Takes over what is found to be wrong at `now`: what is new opens an incident, what is graver than before makes
    /// its incident so, and an incident whose rule `concerns` those that were looked at ends if it is not found any
    /// more.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn observe(
        &self,
        found: &[Observation<'_>],
        concerns: &dyn Fn(&str) -> bool,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        let mut connection = self.connection();
        let mut run = || -> rusqlite::Result<()> {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for observation in found {
                observe_one(&transaction, observation, now)?;
            }
            let open: Vec<Incident> = transaction
                .prepare_cached(&format!("SELECT {COLUMNS} FROM incidents WHERE ended IS NULL"))?
                .query_map([], read_incident)?
                .collect::<rusqlite::Result<_>>()?;
            let is_gone = |incident: &&Incident| {
                concerns(&incident.rule)
                    && !found.iter().any(|observation| {
                        observation.rule == incident.rule && observation.subject == incident.subject
                    })
            };
            for incident in open.iter().filter(is_gone) {
                transaction
                    .prepare_cached("UPDATE incidents SET ended = ?2 WHERE id = ?1")?
                    .execute((incident.id.0, now.as_millisecond()))?;
            }
            transaction.commit()
        };
        run().map_err(JournalError::database("update", &self.path))
    }

    /// Returns the incidents that are open or ended at `since` or later, oldest first, each with who was told.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is damaged.
    pub fn incidents(&self, since: Timestamp) -> Result<Vec<(Incident, Vec<Notice>)>, JournalError> {
        let connection = self.connection();
        let read = || -> rusqlite::Result<_> {
            let sql =
                format!("SELECT {COLUMNS} FROM incidents WHERE ended IS NULL OR ended >= ?1 ORDER BY id");
            let incidents: Vec<Incident> = connection
                .prepare_cached(&sql)?
                .query_map((since.as_millisecond(),), read_incident)?
                .collect::<rusqlite::Result<_>>()?;
            let sql = "SELECT incident, alert, severity FROM notices
                       WHERE incident IN (SELECT id FROM incidents WHERE ended IS NULL OR ended >= ?1)";
            let mut notices: BTreeMap<i64, Vec<Notice>> = BTreeMap::new();
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query((since.as_millisecond(),))?;
            while let Some(row) = rows.next()? {
                let gravity = Some(row.get(2)?).filter(|number| *number > 0).map(Gravity::new);
                notices.entry(row.get(0)?).or_default().push(Notice { alert: row.get(1)?, gravity });
            }
            let told = |incident: Incident| {
                let notices = notices.remove(&incident.id.0).unwrap_or_default();
                (incident, notices)
            };
            Ok(incidents.into_iter().map(told).collect())
        };
        read().map_err(JournalError::database("read", &self.path))
    }

    /// Records that an alert has told of an incident: how grave it is, or, with nothing, of its end.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn record_notice(
        &self,
        incident: IncidentId,
        notice: &Notice,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        let sql = "INSERT OR IGNORE INTO notices (incident, alert, severity, told) VALUES (?1, ?2, ?3, ?4)";
        let gravity = notice.gravity.map_or(0, Gravity::number);
        self.execute(sql, (incident.0, &notice.alert, gravity, now.as_millisecond()))
    }

    /// Records that an alert did not arrive.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn record_undelivered(&self, alert: &str, error: &str, now: Timestamp) -> Result<(), JournalError> {
        let sql = "INSERT INTO undelivered (alert, since, attempts, error) VALUES (?1, ?2, 1, ?3)
                   ON CONFLICT DO UPDATE SET attempts = attempts + 1, error = excluded.error";
        self.execute(sql, (alert, now.as_millisecond(), error))
    }

    /// Records that an alert arrives, or is no more.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn record_delivered(&self, alert: &str) -> Result<(), JournalError> {
        self.execute("DELETE FROM undelivered WHERE alert = ?1", (alert,))
    }

    /// Returns the alerts that did not arrive the last time, by name.
    ///
    /// # Errors
    /// Fails if the file cannot be read or is damaged.
    pub fn undelivered(&self) -> Result<Vec<Undelivered>, JournalError> {
        let sql = "SELECT alert, since, attempts, error FROM undelivered ORDER BY alert";
        let read = |row: &Row<'_>| {
            let since = time(row.get(1)?);
            Ok(Undelivered { alert: row.get(0)?, since, attempts: row.get(2)?, error: row.get(3)? })
        };
        let connection = self.connection();
        connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_map([], read)?.collect())
            .map_err(JournalError::database("read", &self.path))
    }

    fn execute(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<(), JournalError> {
        let connection = self.connection();
        connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute(parameters))
            .map(drop)
            .map_err(JournalError::database("update", &self.path))
    }
}

fn observe_one(
    transaction: &Transaction<'_>,
    found: &Observation<'_>,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let Observation { rule, subject, gravity, text } = *found;
    let sql = format!("SELECT {COLUMNS} FROM incidents WHERE rule = ?1 AND subject = ?2 AND ended IS NULL");
    let open = transaction.prepare_cached(&sql)?.query_row((rule, subject), read_incident).optional()?;
    let Some(open) = open else {
        let sql = "INSERT INTO incidents (rule, subject, severity, began, since, text)
                   VALUES (?1, ?2, ?3, ?4, ?4, ?5)";
        let row = (rule, subject, gravity.number(), now.as_millisecond(), text);
        return transaction.prepare_cached(sql)?.execute(row).map(drop);
    };
    let (gravity, since) = if gravity > open.gravity { (gravity, now) } else { (open.gravity, open.since) };
    transaction
        .prepare_cached("UPDATE incidents SET severity = ?2, since = ?3, text = ?4 WHERE id = ?1")?
        .execute((open.id.0, gravity.number(), since.as_millisecond(), text))
        .map(drop)
}

fn read_incident(row: &Row<'_>) -> rusqlite::Result<Incident> {
    Ok(Incident {
        id: IncidentId(row.get(0)?),
        rule: row.get(1)?,
        subject: row.get(2)?,
        gravity: Gravity::new(row.get(3)?),
        began: time(row.get(4)?),
        since: time(row.get(5)?),
        ended: row.get::<_, Option<i64>>(6)?.map(time),
        text: row.get(7)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn found<'a>(subject: &'a str, gravity: u8, text: &'a str) -> Observation<'a> {
        Observation { rule: "failures", subject, gravity: Gravity::new(gravity), text }
    }

    fn journal() -> (tempfile::TempDir, Journal) {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("journal.sqlite")).unwrap();
        (folder, journal)
    }

    #[test]
    fn an_incident_opens_once_grows_graver_and_ends() {
        let (_folder, journal) = journal();
        let all = |_: &str| true;
        let only = || journal.incidents(at(0)).unwrap().pop().unwrap().0;
        journal.observe(&[found("shop", 2, "one")], &all, at(10)).unwrap();
        journal.observe(&[found("shop", 2, "two")], &all, at(20)).unwrap();
        let first = only();
        assert_eq!((first.gravity.number(), first.began, first.since), (2, at(10), at(10)));
        assert_eq!(first.text, "two");
        journal.observe(&[found("shop", 3, "three"), found("etc", 1, "x")], &all, at(30)).unwrap();
        journal.observe(&[found("shop", 2, "less")], &all, at(40)).unwrap();
        let all_of_them = journal.incidents(at(0)).unwrap();
        let (shop, etc) = (&all_of_them[0].0, &all_of_them[1].0);
        assert_eq!((shop.gravity.number(), shop.began, shop.since, shop.ended), (3, at(10), at(30), None));
        assert_eq!((etc.subject.as_str(), etc.ended), ("etc", Some(at(40))));
        journal.observe(&[], &|rule| rule != "failures", at(50)).unwrap();
        assert_eq!(journal.incidents(at(0)).unwrap()[0].0.ended, None, "this rule was not looked at");
        journal.observe(&[], &all, at(60)).unwrap();
        journal.observe(&[found("shop", 2, "again")], &all, at(70)).unwrap();
        assert_eq!(journal.incidents(at(0)).unwrap().len(), 3);
        let later: Vec<_> =
            journal.incidents(at(61)).unwrap().into_iter().map(|found| found.0.text).collect();
        assert_eq!(later, ["again"]);
    }

    #[test]
    fn who_was_told_is_known_for_each_gravity() {
        let (_folder, journal) = journal();
        journal.observe(&[found("shop", 2, "one")], &|_| true, at(10)).unwrap();
        let id = journal.incidents(at(0)).unwrap()[0].0.id;
        let notice =
            |gravity: Option<u8>| Notice { alert: "mail".into(), gravity: gravity.map(Gravity::new) };
        for gravity in [Some(2), Some(2), Some(3), None] {
            journal.record_notice(id, &notice(gravity), at(20)).unwrap();
        }
        let told = journal.incidents(at(0)).unwrap().remove(0).1;
        assert_eq!(told, [notice(None), notice(Some(2)), notice(Some(3))]);
    }

    #[test]
    fn what_did_not_arrive_is_counted_until_it_does() {
        let (_folder, journal) = journal();
        journal.record_undelivered("mail", "refused", at(10)).unwrap();
        journal.record_undelivered("mail", "no route", at(20)).unwrap();
        let found = journal.undelivered().unwrap();
        assert_eq!((found.len(), found[0].since, found[0].attempts), (1, at(10), 2));
        assert_eq!(found[0].error, "no route");
        journal.record_delivered("mail").unwrap();
        assert_eq!(journal.undelivered().unwrap(), []);
    }

    #[test]
    fn sizes_of_stores_are_those_measured_last() {
        let (_folder, journal) = journal();
        let size = |bytes, second| super::super::StoreSize { bytes, measured: at(second) };
        assert_eq!(journal.store_size("/srv").unwrap(), None);
        journal.record_store_size("/srv", size(5, 10)).unwrap();
        journal.record_store_size("/srv", size(7, 20)).unwrap();
        journal.record_store_size("/mnt", size(u64::MAX, 30)).unwrap();
        assert_eq!(journal.store_size("/srv").unwrap(), Some(size(7, 20)));
        assert_eq!(journal.store_size("/mnt").unwrap(), Some(size(i64::MAX.cast_unsigned(), 30)));
    }
}
