//! The bytes of an upload on their way: read block by block, at the speed that is allowed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use super::watch::Pulse;
use crate::store::throttle::{BLOCK_MAX_BYTES, Throttle};
use crate::store::traffic::Meter;
use crate::store::{Payload, short_payload};

/// The bytes of a new object, owned: a connection may outlive the call that began it.
#[derive(Debug, Clone)]
pub(super) enum Source {
    Memory(Bytes),
    File { file: Arc<File>, bytes: u64 },
}

impl Source {
    /// Takes hold of a payload. A file that is shorter than announced fails here, before anything is sent.
    pub(super) fn new(payload: Payload<'_>) -> io::Result<Self> {
        match payload {
            Payload::Bytes(bytes) => Ok(Self::Memory(Bytes::copy_from_slice(bytes))),
            Payload::File { file, bytes } => {
                if file.metadata()?.len() < bytes {
                    return Err(short_payload(bytes));
                }
                Ok(Self::File { file: Arc::new(file.try_clone()?), bytes })
            }
        }
    }

    /// Returns the number of bytes.
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { bytes, .. } => *bytes,
        }
    }

    /// Returns the CRC-32C, with which the server checks what it received.
    pub(super) fn crc32c(&self) -> io::Result<u32> {
        let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
        let mut position = 0;
        while let Some(block) = self.block(position, BLOCK_MAX_BYTES)? {
            digest.update(&block);
            position += block.len() as u64;
        }
        // A checksum of 32 bits in a wider type.
        Ok(u32::try_from(digest.finalize()).unwrap_or(u32::MAX))
    }

    /// Returns at most `most` bytes from `position`; nothing at the end.
    fn block(&self, position: u64, most: usize) -> io::Result<Option<Bytes>> {
        let left = self.length().saturating_sub(position);
        if left == 0 {
            return Ok(None);
        }
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(most);
        match self {
            Self::Memory(bytes) => {
                let start = bytes.len() - usize::try_from(left).unwrap_or(bytes.len());
                Ok(Some(bytes.slice(start..start + wanted)))
            }
            Self::File { file, .. } => {
                let mut block = vec![0; wanted];
                file.read_exact_at(&mut block, position)?;
                Ok(Some(block.into()))
            }
        }
    }

    /// Compares with bytes in memory.
    pub(super) fn is(&self, bytes: &[u8]) -> io::Result<bool> {
        if self.length() != bytes.len() as u64 {
            return Ok(false);
        }
        let mut rest = bytes;
        let mut position = 0;
        while let Some(block) = self.block(position, BLOCK_MAX_BYTES)? {
            let Some((part, after)) = rest.split_at_checked(block.len()) else { return Ok(false) };
            if part != block {
                return Ok(false);
            }
            position += block.len() as u64;
            rest = after;
        }
        Ok(true)
    }
}

/// The body of one attempt to upload.
pub(super) struct Upload {
    source: Source,
    position: u64,
    pace: Pace,
    waits: Option<Pin<Box<Sleep>>>,
}

/// What passes bytes, and who is told of it.
#[derive(Clone)]
pub(super) struct Pace {
    pub(super) throttle: Option<Arc<Throttle>>,
    pub(super) meter: Arc<Meter>,
    pub(super) pulse: Pulse,
}

impl Pace {
    /// Returns how many bytes are to pass at a time.
    fn block_bytes(&self) -> usize {
        self.throttle.as_ref().map_or(BLOCK_MAX_BYTES, |throttle| throttle.block_bytes())
    }

    /// Returns what to wait for before or after so many bytes pass.
    pub(super) fn wait(&self, bytes: usize) -> Option<Sleep> {
        let wait = self.throttle.as_ref()?.book(bytes, Instant::now());
        (!wait.is_zero()).then(|| tokio::time::sleep(wait))
    }
}

impl Upload {
    /// Begins at the start.
    pub(super) fn new(source: Source, pace: Pace) -> Self {
        Self { source, position: 0, pace, waits: None }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(wait) = &mut self.waits {
            if wait.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.waits = None;
        }
        // A spool file lies in the page cache: reading a block takes no longer than copying it.
        let block = match self.source.block(self.position, self.pace.block_bytes()) {
            Ok(Some(block)) => block,
            Ok(None) => return Poll::Ready(None),
            Err(error) => return Poll::Ready(Some(Err(error))),
        };
        self.position += block.len() as u64;
        self.pace.meter.sent(block.len());
        self.pace.pulse.beat();
        self.waits = self.pace.wait(block.len()).map(Box::pin);
        Poll::Ready(Some(Ok(Frame::data(block))))
    }

    fn is_end_stream(&self) -> bool {
        self.position >= self.source.length()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.source.length().saturating_sub(self.position))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn files_and_memory_are_the_same_to_a_server() {
        let bytes: Vec<u8> = (0..=250).cycle().take(300_000).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        file.write_all(b"more than was announced").unwrap();
        let spooled = Source::new(Payload::File { file: &file, bytes: 300_000 }).unwrap();
        let memory = Source::new(Payload::Bytes(&bytes)).unwrap();
        assert_eq!(spooled.crc32c().unwrap(), memory.crc32c().unwrap());
        assert_eq!(Source::Memory(Bytes::from_static(b"123456789")).crc32c().unwrap(), 0xe306_9283);
        assert!(spooled.is(&bytes).unwrap() && memory.is(&bytes).unwrap());
        assert!(!spooled.is(&bytes[1..]).unwrap() && !memory.is(&[0; 300_000]).unwrap());
        let error = Source::new(Payload::File { file: &file, bytes: 400_000 }).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
