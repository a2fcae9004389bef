//! What a request asks for, told from its head alone.

use std::fmt;

use http::{HeaderMap, Method, Uri};

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// `PutObject`
    Put,
    /// `GetObject`
    Get,
    /// `HeadObject`
    Head,
    /// `DeleteObject`
    Delete,
    /// `ListObjectsV2`
    List,
    /// `HeadBucket`
    HeadBucket,
    /// `CreateBucket`
    CreateBucket,
    /// `GetBucketLocation`
    BucketLocation,
    /// Anything else.
    Other,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 9] = [
        Self::Put,
        Self::Get,
        Self::Head,
        Self::Delete,
        Self::List,
        Self::HeadBucket,
        Self::CreateBucket,
        Self::BucketLocation,
        Self::Other,
    ];

    /// Returns its name, as in a document of counts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Head => "head",
            Self::Delete => "delete",
            Self::List => "list",
            Self::HeadBucket => "head_bucket",
            Self::CreateBucket => "create_bucket",
            Self::BucketLocation => "bucket_location",
            Self::Other => "other",
        }
    }

    /// Returns the right that it needs, by its name at AWS.
    pub(crate) fn right(self) -> &'static str {
        match self {
            Self::Put => "s3:PutObject",
            Self::Get | Self::Head => "s3:GetObject",
            Self::Delete => "s3:DeleteObject",
            Self::List | Self::HeadBucket => "s3:ListBucket",
            Self::CreateBucket => "s3:CreateBucket",
            Self::BucketLocation => "s3:GetBucketLocation",
            Self::Other => "s3:*",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A request as the server met it.
#[derive(Debug, Clone)]
pub struct Request {
    /// What it is for.
    pub operation: Operation,
    /// The bucket; empty where it names none.
    pub bucket: String,
    /// The key; of a listing its prefix; else empty.
    pub key: String,
    /// The value of its `Range` header.
    pub range: Option<String>,
    /// All its headers.
    pub headers: HeaderMap,
    /// How it was answered; nothing while it runs, and where the connection was closed instead.
    pub status: Option<u16>,
    /// The kind of the fault that it met.
    pub fault: Option<&'static str>,
}

impl Request {
    pub(crate) fn new(method: &Method, uri: &Uri, headers: &HeaderMap) -> Self {
        let path = percent_decoded(uri.path().trim_start_matches('/'));
        let (bucket, key) = path.split_once('/').unwrap_or((&path, ""));
        let query: Vec<(String, String)> = uri.query().unwrap_or("").split('&').map(parameter).collect();
        let parameter = |name: &str| query.iter().find(|(found, _)| found == name).map(|(_, value)| value);
        let of_object = !key.is_empty() && query.iter().all(|(name, _)| name.is_empty() || name == "x-id");
        let of_bucket = !bucket.is_empty() && key.is_empty();
        let operation = match *method {
            Method::PUT if of_object => Operation::Put,
            Method::GET if of_object => Operation::Get,
            Method::HEAD if of_object => Operation::Head,
            Method::DELETE if of_object => Operation::Delete,
            Method::GET if of_bucket && parameter("list-type").is_some() => Operation::List,
            Method::GET if of_bucket && parameter("location").is_some() => Operation::BucketLocation,
            Method::HEAD if of_bucket => Operation::HeadBucket,
            Method::PUT if of_bucket => Operation::CreateBucket,
            _ => Operation::Other,
        };
        let key = match parameter("prefix") {
            Some(prefix) if operation == Operation::List => prefix.clone(),
            _ => key.to_owned(),
        };
        let range = headers.get(http::header::RANGE).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let headers = headers.clone();
        Self { operation, bucket: bucket.to_owned(), key, range, headers, status: None, fault: None }
    }

    /// Returns a header's value, if it is there once and is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

fn parameter(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (percent_decoded(name), percent_decoded(&value.replace('+', " ")))
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = after
            .get(..2)
            .filter(|_| *first == b'%')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart_by_their_heads() {
        let told = |method: Method, uri: &'static str| {
            let request = Request::new(&method, &Uri::from_static(uri), &HeaderMap::new());
            (request.operation, request.bucket, request.key)
        };
        let expected = |operation, bucket: &str, key: &str| (operation, bucket.to_owned(), key.to_owned());
        assert_eq!(told(Method::GET, "/b/a%2Fb/c?x-id=GetObject"), expected(Operation::Get, "b", "a/b/c"));
        assert_eq!(told(Method::PUT, "/b/config/1.json"), expected(Operation::Put, "b", "config/1.json"));
        assert_eq!(told(Method::HEAD, "/b/k"), expected(Operation::Head, "b", "k"));
        assert_eq!(told(Method::DELETE, "/b/k"), expected(Operation::Delete, "b", "k"));
        assert_eq!(told(Method::GET, "/b/?list-type=2&prefix=p%2F"), expected(Operation::List, "b", "p/"));
        assert_eq!(told(Method::GET, "/b?location"), expected(Operation::BucketLocation, "b", ""));
        assert_eq!(told(Method::HEAD, "/b/"), expected(Operation::HeadBucket, "b", ""));
        assert_eq!(told(Method::PUT, "/b"), expected(Operation::CreateBucket, "b", ""));
        assert_eq!(told(Method::PUT, "/b/k?partNumber=1&uploadId=2"), expected(Operation::Other, "b", "k"));
        assert_eq!(told(Method::GET, "/"), expected(Operation::Other, "", ""));
    }

    #[test]
    fn what_is_no_escape_stays() {
        assert_eq!(percent_decoded("a%2"), "a%2");
        assert_eq!(percent_decoded("%zz%41"), "%zzA");
    }
}
