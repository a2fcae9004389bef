//! Where a store in S3 is and how it is kept there: what people say on the command line.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::super::retry::Patience;

/// A bucket, and the beginning of all keys in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Place {
    bucket: String,
    /// Without slashes at its ends; empty for the whole bucket.
    prefix: String,
}

impl S3Place {
    /// Parses what stands behind `s3://`: a bucket, and a prefix if it is not to be the whole bucket.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (bucket, prefix) = text.split_once('/').unwrap_or((text, ""));
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if bucket.is_empty() || bucket.len() > 255 || !bucket.bytes().all(is_plain) {
            return Err(
                "the name of a bucket has letters, digits, dots and hyphens, as in s3://bucket/prefix",
            );
        }
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        let segment_is_valid = |segment: &str| {
            !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(is_plain)
        };
        if !prefix.is_empty() && !prefix.split('/').all(segment_is_valid) || prefix.len() > 500 {
            return Err("a prefix has letters, digits, dots, hyphens and underscores between its slashes");
        }
        Ok(Self { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }

    /// Returns the bucket.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Returns the key in the bucket of what has this name in the store.
    pub(super) fn key(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) }
    }

    /// Returns the name in the store of what has this key in the bucket.
    pub(super) fn name<'a>(&self, key: &'a str) -> Option<&'a str> {
        if self.prefix.is_empty() { Some(key) } else { key.strip_prefix(&self.prefix)?.strip_prefix('/') }
    }
}

impl fmt::Display for S3Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.key_of_bucket())
    }
}

impl S3Place {
    fn key_of_bucket(&self) -> String {
        if self.prefix.is_empty() { self.bucket.clone() } else { format!("{}/{}", self.bucket, self.prefix) }
    }
}

/// How objects are kept and transferred.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Options {
    /// Requests under way at the same time, at least 1.
    pub connections: usize,
    /// Bytes a second that are sent, over all connections.
    pub upload_limit: Option<u64>,
    /// Bytes a second that are received, over all connections.
    pub download_limit: Option<u64>,
    /// How long a request is tried again.
    pub patience: Patience,
    /// Storage class of packs; all else is small, read often, and stays in the bucket's default.
    pub storage_class: Option<String>,
    /// How the server encrypts what it stores, besides that it is sealed already.
    pub encryption: Option<ServerSideEncryption>,
    /// Where the server is, and who asks it.
    pub access: S3Access,
}

/// Where the server of a bucket is, and who asks it. What is not said here comes from the environment, from the shared
/// files of AWS, or from the instance, as with every program of AWS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct S3Access {
    /// The server, if it is not that of AWS.
    pub endpoint: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// The profile of the shared files that has the credentials.
    pub profile: Option<String>,
    /// The shared file that has the credentials.
    pub credentials_file: Option<PathBuf>,
}

/// How the server encrypts what it stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerSideEncryption {
    /// With keys of the storage service.
    S3,
    /// With a key of the key management service: its id, or the default one.
    Kms(Option<String>),
}

impl fmt::Display for ServerSideEncryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 => f.write_str("AES256"),
            Self::Kms(None) => f.write_str("aws:kms"),
            Self::Kms(Some(key)) => write!(f, "aws:kms:{key}"),
        }
    }
}

impl FromStr for ServerSideEncryption {
    type Err = &'static str;

    /// Parses what AWS calls it: `AES256`, `aws:kms`, or `aws:kms:KEY`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text, text.strip_prefix("aws:kms:")) {
            ("AES256", _) => Ok(Self::S3),
            ("aws:kms", _) => Ok(Self::Kms(None)),
            (_, Some(key)) if !key.is_empty() => Ok(Self::Kms(Some(key.to_owned()))),
            _ => Err("one of AES256, aws:kms and aws:kms:KEY"),
        }
    }
}

/// Parses a storage class, of which what it holds can be read when it is needed.
///
/// # Errors
/// Says what is wrong with it.
pub fn parse_storage_class(text: &str) -> Result<String, String> {
    let is_name = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    match text {
        "GLACIER" | "DEEP_ARCHIVE" => {
            Err("nothing can be read from an archive while a backup is needed; GLACIER_IR can be".to_owned())
        }
        "" => Err("it is empty".to_owned()),
        _ if text.bytes().all(is_name) => Ok(text.to_owned()),
        _ => Err("such as STANDARD_IA or GLACIER_IR".to_owned()),
    }
}

impl Default for S3Options {
    fn default() -> Self {
        Self {
            connections: 8,
            upload_limit: None,
            download_limit: None,
            patience: Patience::DEFAULT,
            storage_class: None,
            encryption: None,
            access: S3Access::default(),
        }
    }
}

impl S3Options {
    /// Returns how long a request may make no progress at all.
    pub(super) fn silence(&self) -> Duration {
        self.patience.silence()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_buckets_and_prefixes() {
        let whole = S3Place::parse("acme-backups").unwrap();
        assert_eq!(whole.to_string(), "s3://acme-backups");
        assert_eq!(whole.key("config/1.json"), "config/1.json");
        assert_eq!(whole.name("config/1.json"), Some("config/1.json"));
        let part = S3Place::parse("acme/hosts/db0/").unwrap();
        assert_eq!(part.to_string(), "s3://acme/hosts/db0");
        assert_eq!(part.key("config/1.json"), "hosts/db0/config/1.json");
        assert_eq!(part.name("hosts/db0/config/1.json"), Some("config/1.json"));
        assert_eq!(part.name("hosts/db01/config/1.json"), None);
        assert_eq!(S3Place::parse("acme/").unwrap(), S3Place::parse("acme").unwrap());
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in ["", "/prefix", "a b", "acme//x", "acme/../x", "acme/x//", "acme/ä", "user:secret@acme/x"]
        {
            assert!(S3Place::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn encryption_is_named_as_aws_names_it() {
        let key = "arn:aws:kms:eu-central-1:1:key/2".to_owned();
        for (text, how) in [
            ("AES256", ServerSideEncryption::S3),
            ("aws:kms", ServerSideEncryption::Kms(None)),
            ("aws:kms:arn:aws:kms:eu-central-1:1:key/2", ServerSideEncryption::Kms(Some(key))),
        ] {
            assert_eq!(how.to_string(), text);
            assert_eq!(text.parse(), Ok(how));
        }
        for text in ["", "aes", "aws:kms:"] {
            assert!(text.parse::<ServerSideEncryption>().is_err(), "{text}");
        }
    }

    #[test]
    fn archives_are_no_place_for_packs() {
        assert!(parse_storage_class("STANDARD_IA").is_ok());
        for text in ["GLACIER", "DEEP_ARCHIVE", "", "standard", "A B"] {
            assert!(parse_storage_class(text).is_err(), "{text}");
        }
    }
}
