//! What database dumps and archives look like, so that one that is cut short or damaged is known as such.
//!
//! ```text
//! stream ──► DumpReader ──► body (to be stored as it comes)
//!                └── finish() ──► head (held back: pg_dump's table of contents, with its offsets filled in)
//!                                 report: what it is, whether it is whole, what it costs
//! ```
//! Parsers here take bytes in pieces of any size, never fail on any bytes, and keep no more than a bounded part
//! of them. What is done about a broken dump is the caller's to decide.

mod bson;
mod compressed;
mod custom;
mod inspection;
mod line_ends;
mod mongo;
pub mod pg_custom;
mod rdb;
mod reader;
mod recognise;
mod sql;
mod tar;
#[cfg(test)]
mod tests;

pub use reader::DumpReader;

/// A format that is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DumpFormat {
    /// The custom format of pg_dump (`-Fc`).
    PgCustom,
    /// Plain SQL of pg_dump or pg_dumpall.
    PgSql,
    /// Plain SQL of mysqldump or mariadb-dump.
    MySql,
    /// Plain SQL of SQLite's `.dump`.
    SqliteSql,
    /// A Redis database file.
    Rdb,
    /// An archive of mongodump.
    MongoArchive,
    /// A tar archive, `pg_dump -Ft` and `pg_basebackup -Ft` included.
    Tar,
    /// A gzip stream.
    Gzip,
    /// A Zstandard stream.
    Zstd,
}

impl DumpFormat {
    /// Returns its name in manifests and JSON: lower case, without spaces.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PgCustom => "pg-custom",
            Self::PgSql => "pg-sql",
            Self::MySql => "mysql-sql",
            Self::SqliteSql => "sqlite-sql",
            Self::Rdb => "rdb",
            Self::MongoArchive => "mongo-archive",
            Self::Tar => "tar",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// Returns what people call it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::PgCustom => "a custom-format dump of pg_dump",
            Self::PgSql => "an SQL dump of PostgreSQL",
            Self::MySql => "an SQL dump of MySQL or MariaDB",
            Self::SqliteSql => "an SQL dump of SQLite",
            Self::Rdb => "a Redis database file",
            Self::MongoArchive => "an archive of mongodump",
            Self::Tar => "a tar archive",
            Self::Gzip => "a gzip stream",
            Self::Zstd => "a zstd stream",
        }
    }
}

/// Whether a stream is whole, by the rules of its format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It has everything up to its own end.
    Whole,
    /// It cannot be told; a sentence says why.
    Unchecked(String),
    /// It is cut short or damaged; a sentence says how.
    Broken(String),
}

/// What was found out about a stream that was read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpReport {
    /// What it is, outermost first: `[Gzip, PgSql]`. Empty if it was not recognised.
    pub formats: Vec<DumpFormat>,
    /// Whether it is whole.
    pub verdict: Verdict,
    /// Whether most of its content came compressed.
    pub compressed: bool,
    /// How many offsets were filled in at its head.
    pub filled_offsets: u64,
}

/// How a stream is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// Recognised streams are checked, and what pg_dump could not write into a pipe is filled in.
    CheckAndComplete,
    /// Recognised streams are checked, and stored exactly as they come.
    Verbatim,
}
