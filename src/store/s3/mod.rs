//! A store in a bucket of S3, or of any server that speaks its language.
//!
//! Objects are objects, one put each; `place.rs` says where. Each call becomes requests that are watched ([`watch`]), sent
//! again while that may help ([`failure`], [`super::retry`]), and counted. Nothing is believed that was not checked: a
//! reply has exactly the bytes that were asked for, a listing has all its pages, and an upload carries a checksum.
//!
//! Creation is conditional (`If-None-Match: *`). AWS keeps that; of other servers nobody knows, so that they are asked
//! first whether there is an object, which at least never overwrites one that has been there for a while. A pack needs no
//! such question: its name says what is in it.

mod body;
mod connect;
mod failure;
mod place;
mod watch;

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumMode, ServerSideEncryption as Algorithm, StorageClass};
use data_encoding::BASE64;
use tokio::sync::Semaphore;

use self::body::{Pace, Source, Upload};
use self::failure::{Failure, Remedy};
pub use self::place::{S3Access, S3Options, S3Place, ServerSideEncryption, parse_storage_class};
use self::watch::Pulse;
use super::key::{ObjectKey, Prefix};
use super::retry;
use super::runtime::Runtime;
use super::throttle::Throttle;
use super::traffic::{Meter, Request, Traffic};
use super::{Creation, ObjectInfo, ObjectStore, Payload, StoreError, StoreErrorKind, range_within};

/// No more memory than this is taken for a reply before its bytes are there.
const BUFFER_MAX_BYTES: usize = 80 << 20;

/// A store in a bucket.
pub struct S3Store {
    place: S3Place,
    options: S3Options,
    client: Client,
    /// The server, if it is not that of AWS.
    endpoint: Option<String>,
    /// Whether uploads carry a checksum.
    checksums: bool,
    runtime: Runtime,
    connections: Semaphore,
    meter: Arc<Meter>,
    uploads: Option<Arc<Throttle>>,
    downloads: Option<Arc<Throttle>>,
    /// Whether people were told that the bucket keeps what is deleted.
    told_of_versions: AtomicBool,
}

/// What to do with a range that reaches beyond the end of its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    MustBeThere,
    MayBeMissing,
}

/// One page of a listing.
struct ListedPage {
    objects: Vec<ObjectInfo>,
    /// Where the next page begins, if there is one.
    next: Option<String>,
}

impl S3Store {
    /// Sends a request until it is answered, fails for good, or patience ends. Returns the answer and how often it failed
    /// before.
    fn ask<T>(
        &self,
        kind: Request,
        operation: &'static str,
        object: &str,
        attempt: impl AsyncFn(Pulse) -> Result<T, Failure>,
    ) -> Result<(T, u32), StoreError> {
        let begun = Instant::now();
        let silence = self.options.silence();
        let asked = self.runtime.wait(async {
            // What failures took. The time in which a slow upload came forward before it broke off does not count, nor that
            // in which this process was stopped: otherwise neither would ever be sent again.
            let (mut failures, mut lost) = (0, Duration::ZERO);
            loop {
                let (result, took) = {
                    // Held during an attempt alone, so that others go on while this one waits to be sent again.
                    let _permit = self.connections.acquire().await;
                    let begun = Instant::now();
                    self.meter.request(kind);
                    let pulse = Pulse::default();
                    let result = pulse.watch(silence, attempt(pulse.clone())).await.unwrap_or_else(|| {
                        Err(Failure::transient(format!(
                            "nothing was heard for {} seconds",
                            silence.as_secs_f32()
                        )))
                    });
                    (result, begun.elapsed())
                };
                let failure = match result {
                    Ok(answer) => return Ok((answer, failures)),
                    Err(failure) => failure,
                };
                failures += 1;
                lost += took.min(silence);
                let delay = match failure.remedy {
                    Remedy::Again => self.options.patience.delay(failures, lost, retry::random()),
                    Remedy::Once if failures == 1 => Some(Duration::ZERO),
                    _ => None,
                };
                let Some(delay) = delay else { return Err((failure, failures)) };
                tracing::debug!("cannot {operation} {object}: {}; trying again", failure.what);
                self.meter.retry();
                lost += delay;
                tokio::time::sleep(delay).await;
            }
        });
        let asked = asked.map_err(|error| StoreError::from_io(operation, object.to_owned(), error))?;
        asked.map_err(|(mut failure, failures)| {
            if failures > 1 {
                failure.what =
                    format!("{} (tried {failures} times in {} s)", failure.what, begun.elapsed().as_secs());
            }
            failure.into_error(operation, object.to_owned())
        })
    }

    fn pace(&self, throttle: Option<&Arc<Throttle>>, pulse: Pulse) -> Pace {
        Pace { throttle: throttle.cloned(), meter: Arc::clone(&self.meter), pulse }
    }

    /// Sends one put. The object is new and ours if this succeeds.
    async fn put(
        &self,
        key: &ObjectKey,
        source: &Source,
        crc32c: Option<u32>,
        pulse: Pulse,
    ) -> Result<(), Failure> {
        let body =
            ByteStream::from_body_1_x(Upload::new(source.clone(), self.pace(self.uploads.as_ref(), pulse)));
        let length = i64::try_from(source.length())
            .map_err(|error| Failure::lasting(StoreErrorKind::Unavailable, error.to_string()))?;
        let mut request = self
            .client
            .put_object()
            .bucket(self.place.bucket())
            .key(self.place.key(key.as_str()))
            .if_none_match("*")
            .content_length(length)
            .set_checksum_crc32_c(crc32c.map(|crc| BASE64.encode(&crc.to_be_bytes())))
            .body(body);
        if key.has_prefix(Prefix::Packs)
            && let Some(class) = &self.options.storage_class
        {
            request = request.storage_class(StorageClass::from(class.as_str()));
        }
        request = match &self.options.encryption {
            None => request,
            Some(ServerSideEncryption::S3) => request.server_side_encryption(Algorithm::Aes256),
            Some(ServerSideEncryption::Kms(key)) => {
                request.server_side_encryption(Algorithm::AwsKms).set_ssekms_key_id(key.clone())
            }
        };
        let answer = request.send().await.map_err(|error| failure::of(&error))?;
        // Every server says so of what it stored; an error page that calls itself a success does not.
        if answer.e_tag().is_none() {
            return Err(Failure::transient("the server does not say what it stored"));
        }
        Ok(())
    }

    /// Sends one get, and checks that its answer is what was asked for.
    async fn fetch(
        &self,
        key: &ObjectKey,
        range: Option<&Range<u64>>,
        rest: Rest,
        pulse: Pulse,
    ) -> Result<Vec<u8>, Failure> {
        let mut request =
            self.client.get_object().bucket(self.place.bucket()).key(self.place.key(key.as_str()));
        request = match range {
            Some(range) => request.range(format!("bytes={}-{}", range.start, range.end - 1)),
            // A checksum is that of the whole object.
            None => request.checksum_mode(ChecksumMode::Enabled),
        };
        let mut answer = request.send().await.map_err(|error| failure::of(&error))?;
        pulse.beat();
        // An error that calls itself a success would be taken for the object.
        if answer.e_tag().is_none() {
            return Err(Failure::transient("the reply is no object"));
        }
        let length = answer.content_length().and_then(|length| u64::try_from(length).ok());
        let length = length.ok_or_else(|| Failure::transient("the reply does not say how long it is"))?;
        if let Some(range) = range {
            check_range(range, rest, length, answer.content_range())?;
        }
        let length = usize::try_from(length)
            .map_err(|error| Failure::lasting(StoreErrorKind::Unavailable, error.to_string()))?;
        let pace = self.pace(self.downloads.as_ref(), pulse);
        let mut bytes = Vec::with_capacity(length.min(BUFFER_MAX_BYTES));
        while let Some(block) = answer.body.next().await {
            let block = block.map_err(|error| Failure::transient(format!("the reply broke off: {error}")))?;
            self.meter.received(block.len());
            pace.pulse.beat();
            if bytes.len() + block.len() > length {
                return Err(Failure::transient("the reply is longer than it said"));
            }
            bytes.extend_from_slice(&block);
            if let Some(wait) = pace.wait(block.len()) {
                wait.await;
                pace.pulse.beat();
            }
        }
        if bytes.len() == length { Ok(bytes) } else { Err(Failure::transient("the reply broke off")) }
    }

    fn read(&self, key: &ObjectKey, range: Option<&Range<u64>>, rest: Rest) -> Result<Vec<u8>, StoreError> {
        let attempt = async |pulse| self.fetch(key, range, rest, pulse).await;
        self.ask(Request::Get, "read", key.as_str(), attempt).map(|(bytes, _)| bytes)
    }

    async fn look(&self, key: &ObjectKey) -> Result<u64, Failure> {
        let request = self.client.head_object().bucket(self.place.bucket()).key(self.place.key(key.as_str()));
        let answer = request.send().await.map_err(|error| failure::of(&error))?;
        let length = answer.content_length().and_then(|length| u64::try_from(length).ok());
        length.ok_or_else(|| Failure::transient("the server does not say how long the object is"))
    }

    async fn list_page(&self, prefix: Prefix, after: Option<&str>) -> Result<ListedPage, Failure> {
        let answer = self
            .client
            .list_objects_v2()
            .bucket(self.place.bucket())
            .prefix(self.place.key(prefix.as_str()))
            .set_continuation_token(after.map(str::to_owned))
            .send()
            .await
            .map_err(|error| failure::of(&error))?;
        let is_cut = answer.is_truncated().ok_or_else(|| Failure::transient("the reply is no listing"))?;
        if answer.key_count().is_some_and(|count| usize::try_from(count) != Ok(answer.contents().len())) {
            return Err(Failure::transient("the reply lists another number of keys than it says"));
        }
        let next = answer.next_continuation_token().map(str::to_owned);
        // A listing that ends early must not look complete.
        if is_cut && next.is_none() {
            return Err(Failure::transient("the reply lists a part and does not say where the rest is"));
        }
        let mut objects = Vec::with_capacity(answer.contents().len());
        for object in answer.contents() {
            let Some(key) = object.key() else {
                return Err(Failure::transient("the reply lists a key without a name"));
            };
            // What somebody else put there is no object.
            if let Some(key) =
                self.place.name(key).and_then(ObjectKey::parse).filter(|key| key.has_prefix(prefix))
            {
                let bytes = object.size().and_then(|bytes| u64::try_from(bytes).ok());
                objects.push(ObjectInfo { key, bytes });
            }
        }
        Ok(ListedPage { objects, next: next.filter(|_| is_cut) })
    }

    /// Tells whether the object under a key is the one that we tried to put there: a reply may have been lost.
    fn is_ours(&self, key: &ObjectKey, source: &Source) -> Result<bool, StoreError> {
        if self.size(key)? != source.length() {
            return Ok(false);
        }
        source
            .is(&self.get(key, None)?)
            .map_err(|error| StoreError::from_io("create", key.to_string(), error))
    }
}

impl ObjectStore for S3Store {
    fn create(&self, key: &ObjectKey, payload: Payload<'_>) -> Result<Creation, StoreError> {
        let failed = |error| StoreError::from_io("create", key.to_string(), error);
        let source = Source::new(payload).map_err(failed)?;
        let is_pack = key.has_prefix(Prefix::Packs);
        if self.endpoint.is_some() && !is_pack {
            match self.size(key) {
                Ok(_) => return Ok(Creation::AlreadyExists),
                // A host may have the right to create alone.
                Err(error) if matches!(error.kind(), StoreErrorKind::NotFound | StoreErrorKind::Denied) => {}
                Err(error) => return Err(error),
            }
        }
        let crc32c = if self.checksums { Some(source.crc32c().map_err(failed)?) } else { None };
        let put = self.ask(Request::Put, "create", key.as_str(), async |pulse| {
            match self.put(key, &source, crc32c, pulse).await {
                Err(failure) if failure.exists => Ok(Creation::AlreadyExists),
                other => other.map(|()| Creation::Created),
            }
        });
        match put? {
            // Sent twice, it may have met itself.
            (Creation::AlreadyExists, failures)
                if failures > 0 && !is_pack && self.is_ours(key, &source).unwrap_or(false) =>
            {
                Ok(Creation::Created)
            }
            (creation, _) => Ok(creation),
        }
    }

    fn get(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Vec<u8>, StoreError> {
        if let Some(range) = &range
            && (range.start >= range.end || range.end > i64::MAX.unsigned_abs())
        {
            // HTTP cannot ask for nothing, and few servers for what no object has.
            let within = self.size(key).map(|bytes| range_within(Some(range.clone()), bytes))?;
            return within
                .map(|_| Vec::new())
                .map_err(|error| StoreError::from_io("read", key.to_string(), error));
        }
        self.read(key, range.as_ref(), Rest::MustBeThere)
    }

    fn get_within(&self, key: &ObjectKey, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.read(key, Some(&range), Rest::MayBeMissing)
    }

    fn size(&self, key: &ObjectKey) -> Result<u64, StoreError> {
        self.ask(Request::Head, "find", key.as_str(), async |_| self.look(key).await).map(|(bytes, _)| bytes)
    }

    fn list(&self, prefix: Prefix, visit: &mut dyn FnMut(ObjectInfo)) -> Result<(), StoreError> {
        let mut after: Option<String> = None;
        loop {
            let (page, _) = self.ask(Request::List, "list", prefix.as_str(), async |_| {
                self.list_page(prefix, after.as_deref()).await
            })?;
            page.objects.into_iter().for_each(&mut *visit);
            match page.next {
                None => return Ok(()),
                next if next == after => {
                    let error = io::Error::other("the server lists the same part again and again");
                    return Err(StoreError::from_io("list", prefix.to_string(), error));
                }
                next => after = next,
            }
        }
    }

    fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let (kept, _) = self.ask(Request::Delete, "delete", key.as_str(), async |_| {
            let request =
                self.client.delete_object().bucket(self.place.bucket()).key(self.place.key(key.as_str()));
            match request.send().await.map_err(|error| failure::of(&error)) {
                Ok(answer) => Ok(answer.delete_marker().unwrap_or(false)),
                Err(failure) if failure.kind == StoreErrorKind::NotFound => Ok(false),
                Err(failure) => Err(failure),
            }
        })?;
        if kept && !self.told_of_versions.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "the bucket keeps versions: what is deleted takes space until a lifecycle rule ends old versions"
            );
        }
        Ok(())
    }

    fn requests_at_once(&self) -> usize {
        self.options.connections.max(1)
    }

    fn location(&self) -> String {
        match &self.endpoint {
            None => self.place.to_string(),
            Some(endpoint) => format!("{} at {endpoint}", self.place),
        }
    }

    fn traffic(&self) -> Option<Traffic> {
        Some(self.meter.traffic(self.endpoint.is_none()))
    }
}

/// Checks that a reply is the range that was asked for.
fn check_range(range: &Range<u64>, rest: Rest, length: u64, header: Option<&str>) -> Result<(), Failure> {
    let total = header.and_then(total_bytes);
    let expected = match total {
        Some(total) if range.end > total && (rest == Rest::MustBeThere || range.start >= total) => {
            let what = format!("it has {total} bytes, not those from {} to {}", range.start, range.end);
            return Err(Failure::lasting(StoreErrorKind::Truncated, what));
        }
        Some(total) => range.end.min(total) - range.start,
        // A server may send a whole object without saying that it is a range of it.
        None if range.start == 0 => range.end,
        None => return Err(Failure::transient("the reply does not say which range it is")),
    };
    if length == expected {
        Ok(())
    } else {
        Err(Failure::transient("the reply is not the range that was asked for"))
    }
}

/// Returns the length of the whole object from a `Content-Range` header.
fn total_bytes(header: &str) -> Option<u64> {
    header.rsplit_once('/')?.1.parse().ok()
}

#[cfg(test)]
mod tests;
