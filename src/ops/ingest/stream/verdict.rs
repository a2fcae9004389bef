//! What a stream turned out to be: how the manifest says it, and the last look at a dump that was completed.

use super::super::{FileDump, IngestError};
use crate::dump::{DumpFormat, Verdict, pg_custom};
use crate::format::content::Content;
use crate::format::snapshot::{Dump, DumpCheck};
use crate::repo::Repository;
use crate::repo::content::ContentReader;

/// Longest reason in a manifest, in bytes: it may quote names that stand in the dump.
const REASON_MAX_BYTES: usize = 1000;

/// What was found out about a stream, and what is still to be looked at before the commit.
pub(in super::super) struct TakenDump {
    /// What it is.
    pub(in super::super) file: FileDump,
    /// A dump whose head was held back, as it was stored.
    pub(super) completed: Option<Completed>,
}

/// A dump that was stored with a head that came last.
pub(super) struct Completed {
    pub(super) content: Content,
    pub(super) head_bytes: usize,
}

impl TakenDump {
    /// Returns what the manifest says of it.
    pub(in super::super) fn stored(&self) -> Dump {
        let report = &self.file.report;
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

    /// Reads back from the store, where everything lies by now, what pg_restore will look for first in a dump that
    /// is whole and whose head was held back: that head, and the beginning of each entry's data.
    ///
    /// # Errors
    /// [`IngestError::ReadBack`] if it is not there, [`IngestError::Unreadable`] if it cannot be read.
    pub(in super::super) fn check_stored(&self, repo: &Repository) -> Result<(), IngestError> {
        let Some(completed) = &self.completed else { return Ok(()) };
        let report = &self.file.report;
        if report.verdict != Verdict::Whole || report.formats.first() != Some(&DumpFormat::PgCustom) {
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
        let name = || self.file.name.to_string();
        match pg_custom::check_stored(completed.head_bytes, read) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => Err(IngestError::ReadBack { name: name(), why }),
            Err(error) => Err(IngestError::Unreadable(name(), error)),
        }
    }
}

/// Returns what a manifest says of all files together: what it says of the first of the worst.
pub(in super::super) fn worst(dumps: &[TakenDump]) -> Option<Dump> {
    dumps.iter().map(TakenDump::stored).min_by_key(|dump| match dump.check {
        DumpCheck::Broken => 0,
        DumpCheck::Unchecked => 1,
        DumpCheck::Whole => 2,
    })
}

fn shortened(text: &str) -> &str {
    text.get(..text.floor_char_boundary(REASON_MAX_BYTES)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dump::DumpReport;
    use crate::path::Name;

    fn taken(verdict: Verdict) -> TakenDump {
        let formats = vec![DumpFormat::Gzip, DumpFormat::PgSql];
        let report = DumpReport { formats, verdict, compressed: true, filled_offsets: 3 };
        TakenDump { file: FileDump { name: Name::new(b"shop").unwrap(), bytes: 1, report }, completed: None }
    }

    #[test]
    fn a_manifest_says_what_was_found() {
        let cases = [
            (Verdict::Whole, DumpCheck::Whole, ""),
            (Verdict::Unchecked("why".into()), DumpCheck::Unchecked, "why"),
            (Verdict::Broken("how".into()), DumpCheck::Broken, "how"),
        ];
        for (verdict, check, reason) in cases {
            let expected = Dump {
                formats: vec!["gzip".into(), "pg-sql".into()],
                check,
                reason: reason.into(),
                compressed: true,
                filled_offsets: 3,
            };
            assert_eq!(taken(verdict).stored(), expected);
        }
    }

    #[test]
    fn of_several_the_first_of_the_worst_counts() {
        let reason = |verdicts: &[Verdict]| {
            let dumps: Vec<_> = verdicts.iter().cloned().map(taken).collect();
            worst(&dumps).map(|dump| dump.reason)
        };
        let [whole, unchecked, first, second] = [
            Verdict::Whole,
            Verdict::Unchecked("unchecked".into()),
            Verdict::Broken("first".into()),
            Verdict::Broken("second".into()),
        ];
        assert_eq!(reason(&[]), None);
        assert_eq!(reason(&[whole.clone(), whole.clone()]).as_deref(), Some(""));
        assert_eq!(reason(&[whole.clone(), unchecked.clone(), whole.clone()]).as_deref(), Some("unchecked"));
        assert_eq!(reason(&[unchecked, first, whole, second]).as_deref(), Some("first"));
    }

    #[test]
    fn reasons_are_cut_between_characters() {
        let dump = taken(Verdict::Broken("ä".repeat(2000))).stored();
        assert_eq!(dump.reason, "ä".repeat(500));
        let dump = taken(Verdict::Broken(format!("a{}", "ä".repeat(2000)))).stored();
        assert_eq!(dump.reason.len(), 999);
    }
}
