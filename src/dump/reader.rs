//! The reader through which a stream is ingested: holds its head back, and shows every byte to the inspection.

use super::inspection::{Depth, Inspection};
use super::{DumpReport, Treatment};
use std::io::{self, Read};

/// Bytes read at once while the beginning is looked at.
const PIECE_BYTES: usize = 64 * 1024;

/// Reads a stream whose beginning may be held back until its end is known. As a [`Read`], it yields all the rest.
pub struct DumpReader<R> {
    reader: R,
    inspection: Inspection,
    /// What was read to find out what the stream is, without what is held back.
    ahead: Vec<u8>,
    /// How much of it was yielded.
    taken: usize,
}

impl<R: Read> DumpReader<R> {
    /// Reads the beginning of a stream, as much as it takes to know what it is.
    ///
    /// # Errors
    /// Fails if the stream cannot be read.
    pub fn open(mut reader: R, treatment: Treatment) -> io::Result<Self> {
        let mut inspection = Inspection::new(Depth::Outer, treatment);
        let mut ahead = Vec::new();
        let mut piece = vec![0; PIECE_BYTES];
        while !inspection.is_settled() {
            let length = match reader.read(&mut piece) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let read = piece.get(..length).unwrap_or_default();
            ahead.extend_from_slice(read);
            inspection.feed(read);
            if length == 0 {
                inspection.settle();
            }
        }
        ahead.drain(..inspection.head_length().min(ahead.len()));
        Ok(Self { reader, inspection, ahead, taken: 0 })
    }

    /// Returns, at the end of the stream, the head to be stored before what was read (empty where nothing was held
    /// back), and what was found out.
    #[must_use]
    pub fn finish(self) -> (Vec<u8>, DumpReport) {
        self.inspection.finish()
    }
}

impl<R: Read> Read for DumpReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let ahead = self.ahead.get(self.taken..).unwrap_or_default();
        if ahead.is_empty() {
            self.ahead = Vec::new();
            let length = self.reader.read(buffer)?;
            self.inspection.feed(buffer.get(..length).unwrap_or_default());
            return Ok(length);
        }
        let length = ahead.len().min(buffer.len());
        buffer[..length].copy_from_slice(&ahead[..length]);
        self.taken += length;
        Ok(length)
    }
}
