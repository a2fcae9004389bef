//! The operations of S3 on the [`storage`](crate::storage).
//!
//! Files are read and written on the threads of the runtime: they lie in the page cache, and handing each piece to
//! another thread would take longer than the piece.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use data_encoding::{BASE64, BASE64URL_NOPAD};
use http_body_util::BodyExt;
use hyper::body::Frame;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::{
    Checksum, ChecksumMode, ChecksumType, CommonPrefix, CreateBucketInput, CreateBucketOutput,
    DeleteObjectInput, DeleteObjectOutput, ETag, ETagCondition, GetBucketLocationInput,
    GetBucketLocationOutput, GetObjectInput, GetObjectOutput, HeadBucketInput, HeadBucketOutput,
    HeadObjectInput, HeadObjectOutput, ListObjectsV2Input, ListObjectsV2Output, Object, ObjectStorageClass,
    PutObjectInput, PutObjectOutput, ServerSideEncryption, StorageClass, StreamingBlob,
};
use s3s::{Body, S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use crate::rights::MayList;
use crate::storage::{Listing, Object as Stored, Overwrite, Storage, StorageError, Upload};

/// Bytes that are read from a file at once.
const PIECE_BYTES: u64 = 256 * 1024;

/// Keys on a page of a listing, at most.
const PAGE_KEYS: i32 = 1000;

/// What an operation is told to do wrong; it comes with the request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lie {
    /// A page of a listing ends after so many keys, as if there were no more.
    Short { keys: usize },
    /// A listing shows what there was so many changes ago.
    Stale { changes: u64 },
    /// A put overwrites what is there, whatever its condition.
    Unconditional,
}

/// The operations.
#[derive(Debug)]
pub(crate) struct Objects(pub(crate) Arc<Storage>);

type Reply<T> = S3Result<S3Response<T>>;

#[async_trait::async_trait]
impl S3 for Objects {
    async fn create_bucket(&self, request: S3Request<CreateBucketInput>) -> Reply<CreateBucketOutput> {
        if self.0.create_bucket(&request.input.bucket).map_err(StorageError::Io)? {
            return Ok(S3Response::new(CreateBucketOutput::default()));
        }
        Err(s3_error!(BucketAlreadyOwnedByYou, "The bucket is yours already."))
    }

    async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> Reply<HeadBucketOutput> {
        self.find_bucket(&request.input.bucket)?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> Reply<GetBucketLocationOutput> {
        self.find_bucket(&request.input.bucket)?;
        Ok(S3Response::new(GetBucketLocationOutput::default()))
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> Reply<PutObjectOutput> {
        let input = request.input;
        self.find_bucket(&input.bucket)?;
        let mut overwrite = match (&input.if_none_match, &input.if_match) {
            (None, None) => Overwrite::Always,
            (Some(ETagCondition::Any), None) => Overwrite::Never,
            _ => return Err(s3_error!(NotImplemented, "of conditions there is If-None-Match: *")),
        };
        if matches!(request.extensions.get(), Some(Lie::Unconditional)) {
            overwrite = Overwrite::Always;
        }
        let announced =
            request.headers.get("x-amz-trailer").and_then(|names| names.to_str().ok()).unwrap_or("");
        let mut expected = Expected::new(&input, announced);
        let upload = self.0.upload().map_err(StorageError::Io)?;
        let received = receive(&upload, input.body, &mut expected).await?;
        if input.content_length.is_some_and(|length| length != received) {
            return Err(s3_error!(IncompleteBody));
        }
        let trailers = request.trailing_headers.and_then(|trailers| trailers.take()).unwrap_or_default();
        let checksum = expected.met(&trailers)?;
        let described = |object: &mut Stored| {
            object.checksum = checksum;
            object.storage_class = input.storage_class.map(|class| class.as_str().to_owned());
            object.encryption = input.server_side_encryption.map(|kind| kind.as_str().to_owned());
        };
        let object = self.0.commit(&input.bucket, &input.key, upload, overwrite, described)?;
        Ok(S3Response::new(PutObjectOutput {
            e_tag: Some(ETag::Strong(object.etag())),
            checksum_crc32: object.checksum.checksum_crc32,
            checksum_crc32c: object.checksum.checksum_crc32c,
            checksum_crc64nvme: object.checksum.checksum_crc64nvme,
            checksum_sha1: object.checksum.checksum_sha1,
            checksum_sha256: object.checksum.checksum_sha256,
            checksum_type: object.checksum.checksum_type,
            server_side_encryption: object.encryption.map(ServerSideEncryption::from),
            ..PutObjectOutput::default()
        }))
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> Reply<GetObjectOutput> {
        let input = &request.input;
        let opened = self.0.open_object(&input.bucket, &input.key);
        let (object, file) = opened.map_err(|error| not_shown(error, &request))?;
        let (at, status) = match input.range {
            None => (0..object.bytes, None),
            Some(range) => (range.check(object.bytes)?, Some(http::StatusCode::PARTIAL_CONTENT)),
        };
        if status.is_some() && at.is_empty() {
            return Err(s3_error!(InvalidRange));
        }
        let bytes = signed(at.end - at.start);
        let range = status.map(|_| format!("bytes {}-{}/{}", at.start, at.end - 1, object.bytes));
        // The checksum is of the whole object.
        let checksum = match &input.checksum_mode {
            Some(mode) if mode.as_str() == ChecksumMode::ENABLED && range.is_none() => {
                object.checksum.clone()
            }
            _ => Checksum::default(),
        };
        let output = GetObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            body: Some(Body::http_body(FileBody { file, at: at.start, end: at.end }).into()),
            content_length: Some(bytes),
            content_range: range,
            content_type: Some("application/octet-stream".to_owned()),
            e_tag: Some(ETag::Strong(object.etag())),
            last_modified: Some(object.modified.into()),
            checksum_crc32: checksum.checksum_crc32,
            checksum_crc32c: checksum.checksum_crc32c,
            checksum_crc64nvme: checksum.checksum_crc64nvme,
            checksum_sha1: checksum.checksum_sha1,
            checksum_sha256: checksum.checksum_sha256,
            checksum_type: checksum.checksum_type,
            storage_class: object.storage_class.map(StorageClass::from),
            server_side_encryption: object.encryption.map(ServerSideEncryption::from),
            ..GetObjectOutput::default()
        };
        Ok(S3Response { status, ..S3Response::new(output) })
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> Reply<HeadObjectOutput> {
        let input = &request.input;
        let found = self.0.object(&input.bucket, &input.key);
        let object = found.map_err(|error| not_shown(error, &request))?;
        Ok(S3Response::new(HeadObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            content_length: Some(signed(object.bytes)),
            content_type: Some("application/octet-stream".to_owned()),
            e_tag: Some(ETag::Strong(object.etag())),
            last_modified: Some(object.modified.into()),
            storage_class: object.storage_class.map(StorageClass::from),
            server_side_encryption: object.encryption.map(ServerSideEncryption::from),
            ..HeadObjectOutput::default()
        }))
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> Reply<DeleteObjectOutput> {
        self.0.delete(&request.input.bucket, &request.input.key)?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn list_objects_v2(&self, request: S3Request<ListObjectsV2Input>) -> Reply<ListObjectsV2Output> {
        let input = request.input;
        let Ok(limit) = usize::try_from(input.max_keys.unwrap_or(PAGE_KEYS).min(PAGE_KEYS)) else {
            return Err(s3_error!(InvalidArgument, "max-keys is negative"));
        };
        let after = match &input.continuation_token {
            Some(token) => key_of(token)?,
            None => input.start_after.clone().unwrap_or_default(),
        };
        let lie: Option<Lie> = request.extensions.get().copied();
        let changes_ago = if let Some(Lie::Stale { changes }) = lie { changes } else { 0 };
        let prefix = input.prefix.as_deref().unwrap_or_default();
        // Any number of keys may be one group.
        let delimiter = input.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
        let enough = if delimiter.is_some() { usize::MAX - 1 } else { limit };
        let listing = Listing { prefix, after: &after, limit: enough, changes_ago };
        let (found, more) = self.0.list(&input.bucket, &listing)?;
        let mut page = Page::new(found, more);
        if let Some(delimiter) = delimiter {
            page = page.grouped(prefix, delimiter, limit);
        }
        if let Some(Lie::Short { keys }) = lie {
            page.objects.truncate(keys);
            page.last = None;
        }
        let next = page.last.map(|key| BASE64URL_NOPAD.encode(key.as_bytes()));
        let keys = i32::try_from(page.objects.len() + page.groups.len()).ok();
        let group = |prefix| CommonPrefix { prefix: Some(prefix) };
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: input.prefix,
            max_keys: i32::try_from(limit).ok(),
            key_count: keys,
            is_truncated: Some(next.is_some()),
            continuation_token: input.continuation_token,
            next_continuation_token: next,
            start_after: input.start_after,
            delimiter: input.delimiter,
            common_prefixes: Some(page.groups.into_iter().map(group).collect()),
            contents: Some(page.objects.into_iter().map(|(key, object)| listed(key, object)).collect()),
            ..ListObjectsV2Output::default()
        }))
    }
}

impl Objects {
    fn find_bucket(&self, name: &str) -> S3Result<()> {
        if self.0.has_bucket(name) { Ok(()) } else { Err(StorageError::NoSuchBucket.into()) }
    }
}

/// A page of a listing.
struct Page {
    objects: Vec<(String, Stored)>,
    /// What keys have in common up to a delimiter, in their place.
    groups: Vec<String>,
    /// The last key it speaks of, if there are more. Who asks for no keys is told that there are none.
    last: Option<String>,
}

impl Page {
    fn new(objects: Vec<(String, Stored)>, more: bool) -> Self {
        let last = objects.last().filter(|_| more).map(|(key, _)| key.clone());
        Self { objects, groups: Vec::new(), last }
    }

    /// Puts groups in the place of keys, so that objects and groups are so many together.
    fn grouped(self, prefix: &str, delimiter: &str, limit: usize) -> Self {
        let mut page = Self::new(Vec::new(), false);
        let mut last = None;
        for (key, object) in self.objects {
            let end = key[prefix.len()..].find(delimiter).map(|at| prefix.len() + at + delimiter.len());
            let group = end.map(|end| key[..end].to_owned());
            if group.is_none() || page.groups.last() != group.as_ref() {
                if page.objects.len() + page.groups.len() == limit {
                    page.last = last;
                    break;
                }
                page.groups.extend(group.clone());
            }
            last = Some(key.clone());
            if group.is_none() {
                page.objects.push((key, object));
            }
        }
        page
    }
}

/// The checksums that a client gave, or will give behind the body, and those of the bytes so far.
struct Expected {
    given: Checksum,
    content_md5: Option<String>,
    md5: Option<Md5>,
    hasher: ChecksumHasher,
}

impl Expected {
    fn new(input: &PutObjectInput, announced: &str) -> Self {
        let given = Checksum {
            checksum_crc32: input.checksum_crc32.clone(),
            checksum_crc32c: input.checksum_crc32c.clone(),
            checksum_crc64nvme: input.checksum_crc64nvme.clone(),
            checksum_sha1: input.checksum_sha1.clone(),
            checksum_sha256: input.checksum_sha256.clone(),
            checksum_type: None,
        };
        let announced = announced.to_ascii_lowercase();
        let wants = |given: &Option<String>, name: &str| given.is_some() || announced.contains(name);
        let hasher = ChecksumHasher {
            crc32: wants(&given.checksum_crc32, "checksum-crc32")
                .then(s3s::crypto::Crc32::new)
                .filter(|_| given.checksum_crc32.is_some() || !announced.contains("checksum-crc32c")),
            crc32c: wants(&given.checksum_crc32c, "checksum-crc32c").then(s3s::crypto::Crc32c::new),
            crc64nvme: wants(&given.checksum_crc64nvme, "checksum-crc64nvme")
                .then(s3s::crypto::Crc64Nvme::new),
            sha1: wants(&given.checksum_sha1, "checksum-sha1").then(s3s::crypto::Sha1::new),
            sha256: wants(&given.checksum_sha256, "checksum-sha256").then(s3s::crypto::Sha256::new),
        };
        let md5 = input.content_md5.is_some().then(Md5::new);
        Self { given, content_md5: input.content_md5.clone(), md5, hasher }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        if let Some(md5) = &mut self.md5 {
            md5.update(bytes);
        }
    }

    /// Returns the checksums of the bytes, if they are those that were given.
    fn met(mut self, trailers: &http::HeaderMap) -> S3Result<Checksum> {
        let given = &mut self.given;
        for (name, given) in [
            ("x-amz-checksum-crc32", &mut given.checksum_crc32),
            ("x-amz-checksum-crc32c", &mut given.checksum_crc32c),
            ("x-amz-checksum-crc64nvme", &mut given.checksum_crc64nvme),
            ("x-amz-checksum-sha1", &mut given.checksum_sha1),
            ("x-amz-checksum-sha256", &mut given.checksum_sha256),
        ] {
            if let Some(value) = trailers.get(name) {
                *given = value.to_str().ok().map(str::to_owned);
            }
        }
        let mut found = self.hasher.finalize();
        if found != self.given {
            return Err(s3_error!(
                BadDigest,
                "The checksum you specified did not match the calculated checksum."
            ));
        }
        if self.md5.map(|md5| BASE64.encode(md5.finalize().as_ref())) != self.content_md5 {
            return Err(s3_error!(
                BadDigest,
                "The Content-MD5 you specified did not match what we received."
            ));
        }
        if found != Checksum::default() {
            found.checksum_type = Some(ChecksumType::from_static(ChecksumType::FULL_OBJECT));
        }
        Ok(found)
    }
}

/// Writes a body to a file; returns its length.
async fn receive(upload: &Upload, body: Option<StreamingBlob>, expected: &mut Expected) -> S3Result<i64> {
    let mut body = body.map_or_else(Body::empty, Body::from);
    let mut received = 0;
    while let Some(frame) = body.frame().await {
        let Ok(bytes) = frame.map_err(broken_body)?.into_data() else { continue };
        expected.update(&bytes);
        (&upload.file).write_all(&bytes).map_err(StorageError::Io)?;
        received += bytes.len() as u64;
    }
    Ok(signed(received))
}

/// A signature or checksum inside a body that does not match is told apart from a connection that broke.
fn broken_body(error: s3s::StdError) -> S3Error {
    S3Error::with_source(S3ErrorCode::IncompleteBody, error)
}

/// A part of a file as the body of a reply.
struct FileBody {
    file: File,
    at: u64,
    end: u64,
}

impl hyper::body::Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let bytes = PIECE_BYTES.min(self.end - self.at);
        if bytes == 0 {
            return Poll::Ready(None);
        }
        let mut piece = vec![0; usize::try_from(bytes).unwrap_or_default()];
        let read = self.file.read_exact_at(&mut piece, self.at);
        self.at += bytes;
        Poll::Ready(Some(read.map(|()| Frame::data(Bytes::from(piece)))))
    }
}

fn listed(key: String, object: Stored) -> Object {
    let class = object.storage_class.clone().unwrap_or_else(|| ObjectStorageClass::STANDARD.to_owned());
    Object {
        e_tag: Some(ETag::Strong(object.etag())),
        key: Some(key),
        last_modified: Some(object.modified.into()),
        size: Some(signed(object.bytes)),
        storage_class: Some(ObjectStorageClass::from(class)),
        ..Object::default()
    }
}

fn key_of(token: &str) -> S3Result<String> {
    let key = BASE64URL_NOPAD.decode(token.as_bytes()).ok().and_then(|key| String::from_utf8(key).ok());
    key.ok_or_else(|| s3_error!(InvalidArgument, "The continuation token provided is incorrect"))
}

/// Lengths are signed in the protocol.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Who may not list is not told that a key is absent.
fn not_shown<T>(error: StorageError, request: &S3Request<T>) -> S3Error {
    match (error, request.extensions.get()) {
        (StorageError::NoSuchKey, Some(MayList(false))) => s3_error!(AccessDenied, "Access Denied"),
        (error, _) => error.into(),
    }
}

impl From<StorageError> for S3Error {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::NoSuchBucket => s3_error!(NoSuchBucket, "The specified bucket does not exist"),
            StorageError::NoSuchKey => s3_error!(NoSuchKey, "The specified key does not exist."),
            StorageError::Exists => {
                s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold")
            }
            StorageError::Key => s3_error!(NotImplemented, "this server keeps no object under such a key"),
            StorageError::Io(error) => S3Error::with_source(S3ErrorCode::InternalError, Box::new(error)),
        }
    }
}
