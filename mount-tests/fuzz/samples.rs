//! The samples that all fuzzing begins with: small dumps, all but two made by the real programs.
//!
//! Those named `pgN-…` were made by pg_dump N (`-Fc -Z0` into a pipe, unless their name says more) of two small
//! tables, an empty one, a view and a large object, `redis.rdb` by `redis-cli --rdb -` of Redis 7, which left its
//! mark of 40 bytes at the end. `mysql.sql` was written after what mysqldump 8 writes, and `mongo.archive` after what
//! mongodump 100 does: no server made these two.

use yester::dump::DumpFormat;

/// A dump that is whole.
#[derive(Debug)]
pub(crate) struct Sample {
    /// The name of its file.
    pub(crate) name: &'static str,
    /// What it holds.
    pub(crate) bytes: &'static [u8],
    /// What it is, outermost first.
    pub(crate) formats: &'static [DumpFormat],
    /// How many bytes at its end say nothing: without them it is whole as well.
    pub(crate) spare_bytes: usize,
}

macro_rules! sample {
    ($name:literal, $formats:expr, $spare_bytes:expr) => {
        Sample {
            name: $name,
            bytes: include_bytes!(concat!("samples/", $name)),
            formats: &$formats,
            spare_bytes: $spare_bytes,
        }
    };
}

/// Every sample.
pub(crate) const SAMPLES: [Sample; 17] = [
    sample!("pg15-piped.dump", [DumpFormat::PgCustom], 0),
    sample!("pg15-file.dump", [DumpFormat::PgCustom], 0),
    sample!("pg15-compressed.dump", [DumpFormat::PgCustom], 0),
    sample!("pg15-schema.dump", [DumpFormat::PgCustom], 0),
    sample!("pg16-piped.dump", [DumpFormat::PgCustom], 0),
    sample!("pg18-piped.dump", [DumpFormat::PgCustom], 0),
    sample!("pg15.sql", [DumpFormat::PgSql], 0),
    sample!("pg15-globals.sql", [DumpFormat::PgSql], 0),
    sample!("mysql.sql", [DumpFormat::MySql], 0),
    sample!("sqlite.sql", [DumpFormat::SqliteSql], 0),
    sample!("mongo.archive", [DumpFormat::MongoArchive], 0),
    sample!("redis.rdb", [DumpFormat::Rdb], 40),
    sample!("pg15.tar", [DumpFormat::Tar], 0),
    sample!("files.tar", [DumpFormat::Tar], 0),
    sample!("pg15.sql.gz", [DumpFormat::Gzip, DumpFormat::PgSql], 0),
    sample!("pg15-piped.dump.gz", [DumpFormat::Gzip, DumpFormat::PgCustom], 0),
    sample!("sqlite.sql.zst", [DumpFormat::Zstd, DumpFormat::SqliteSql], 0),
];
