//! What a stream turned out to be: how the manifest says it, and the last look at a dump that was completed.

use super::super::IngestError;
use crate::dump::{DumpFormat, DumpReport, Verdict, pg_custom};
use crate::format::content::Content;
use crate::format::snapshot::{Completeness, Dump, DumpCheck};
use crate::repo::Repository;
use crate::repo::content::ContentReader;

/// Longest reason in a manifest, in bytes: it may quote names that stand in the dump.
const REASON_MAX_BYTES: usize = 1000;

/// What was found out about a stream, and what is still to be looked at before the commit.
pub(in super::super) struct TakenDump {
    /// What it is.
    pub(in super::super) report: DumpReport,
    /// A dump whose head was held back, as it was stored.
    pub(super) completed: Option<Completed>,
}

/// A dump that was stored with a head that came last.
pub(super) struct Completed {
    pub(super) name: String,
    pub(super) content: Content,
    pub(super) head_bytes: usize,
}

impl TakenDump {
    /// Returns what the manifest says of it.
    pub(in super::super) fn stored(&self) -> Dump {
        let report = &self.report;
        let (check, reason) = match &report.verdict {
            Verdict::Whole => (DumpCheck::Whole, ""),
            Verdict::Unchecked(why) => (DumpCheck::Unchecked, why.as_str()),
            Verdict::Broken(why) => (DumpCheck::Broken, why.as_str()),
        };
        Dump {
            formats: report.formats.iter().map(|format| format.name().to_owned()).collect(),
            check,
            reason: shortened(reason).to_owned(),
            compressed: report.compressed,
            filled_offsets: report.filled_offsets,
        }
    }

    /// Returns how good a snapshot of it is.
    pub(in super::super) fn completeness(&self) -> Completeness {
        match self.report.verdict {
            Verdict::Whole | Verdict::Unchecked(_) => Completeness::Complete,
            Verdict::Broken(_) => Completeness::Suspicious,
        }
    }

    /// Reads back from the store, where everything lies by now, what pg_restore will look for first in a dump that
    /// is whole and whose head was held back: that head, and the beginning of each entry's data.
    ///
    /// # Errors
    /// [`IngestError::ReadBack`] if it is not there, [`IngestError::Unreadable`] if it cannot be read.
    pub(in super::super) fn check_stored(&self, repo: &Repository) -> Result<(), IngestError> {
        let Some(completed) = &self.completed else { return Ok(()) };
        if self.report.verdict != Verdict::Whole || self.report.formats.first() != Some(&DumpFormat::PgCustom)
        {
            return Ok(());
        }
        let reader = ContentReader::new(&completed.content);
        let read = &mut |offset: u64, length: usize| {
            // A damaged head could ask for anything.
            let rest = reader.length().saturating_sub(offset);
            let mut bytes = vec![0; length.min(usize::try_from(rest).unwrap_or(usize::MAX))];
            let filled = reader.read_at(repo, offset, &mut bytes)?;
            bytes.truncate(filled);
            Ok(bytes)
        };
        let name = || completed.name.clone();
        match pg_custom::check_stored(completed.head_bytes, read) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => Err(IngestError::ReadBack { name: name(), why }),
            Err(error) => Err(IngestError::Unreadable(name(), error)),
        }
    }
}

fn shortened(text: &str) -> &str {
    text.get(..text.floor_char_boundary(REASON_MAX_BYTES)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(verdict: Verdict) -> TakenDump {
        let formats = vec![DumpFormat::Gzip, DumpFormat::PgSql];
        TakenDump {
            report: DumpReport { formats, verdict, compressed: true, filled_offsets: 3 },
            completed: None,
        }
    }

    #[test]
    fn only_what_is_broken_is_suspicious() {
        let cases = [
            (Verdict::Whole, DumpCheck::Whole, "", Completeness::Complete),
            (Verdict::Unchecked("why".into()), DumpCheck::Unchecked, "why", Completeness::Complete),
            (Verdict::Broken("how".into()), DumpCheck::Broken, "how", Completeness::Suspicious),
        ];
        for (verdict, check, reason, completeness) in cases {
            let taken = taken(verdict);
            let expected = Dump {
                formats: vec!["gzip".into(), "pg-sql".into()],
                check,
                reason: reason.into(),
                compressed: true,
                filled_offsets: 3,
            };
            assert_eq!((taken.stored(), taken.completeness()), (expected, completeness));
        }
    }

    #[test]
    fn reasons_are_cut_between_characters() {
        let dump = taken(Verdict::Broken("ä".repeat(2000))).stored();
        assert_eq!(dump.reason, "ä".repeat(500));
        let dump = taken(Verdict::Broken(format!("a{}", "ä".repeat(2000)))).stored();
        assert_eq!(dump.reason.len(), 999);
    }
}
