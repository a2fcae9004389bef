//! Reading a large file on a thread of its own, so that who cuts it into chunks does not wait for the disk.

use std::io::{self, Read};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

/// What is read at a time.
const BLOCK_BYTES: usize = 1 << 20;
/// Blocks that wait to be taken.
const BLOCKS_AHEAD: usize = 2;

/// Has a thread of its own read ahead of `take`, which is given what `reader` yields.
///
/// # Errors
/// Fails if the thread cannot be started; errors of the reader are told to `take`.
pub(super) fn read_ahead<T>(
    reader: impl Read + Send,
    take: impl FnOnce(&mut dyn Read) -> T,
) -> io::Result<T> {
    thread::scope(|scope| {
        let (filled, blocks) = bounded(BLOCKS_AHEAD);
        let (used, free) = bounded(BLOCKS_AHEAD + 1);
        let fill = move || fill(reader, &filled, &free);
        thread::Builder::new().name("read-ahead".to_owned()).spawn_scoped(scope, fill)?;
        Ok(take(&mut Blocks { blocks, used, block: Vec::new(), at: 0 }))
    })
}

/// Fills blocks until the reader has ended or failed, or nobody takes them any more.
fn fill(mut reader: impl Read, filled: &Sender<io::Result<Vec<u8>>>, free: &Receiver<Vec<u8>>) {
    loop {
        let mut block = free.try_recv().unwrap_or_default();
        block.resize(BLOCK_BYTES, 0);
        let read = fill_block(&mut reader, &mut block);
        let goes_on = matches!(read, Ok(BLOCK_BYTES));
        let block = read.map(|length| {
            block.truncate(length);
            block
        });
        if filled.send(block).is_err() || !goes_on {
            return;
        }
    }
}

/// Returns how many bytes there were: fewer than `block` holds only at the end.
fn fill_block(reader: &mut impl Read, block: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = block.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// The blocks as one stream.
struct Blocks {
    blocks: Receiver<io::Result<Vec<u8>>>,
    /// Takes back those that are to be filled again.
    used: Sender<Vec<u8>>,
    block: Vec<u8>,
    at: usize,
}

impl Read for Blocks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.block.len() {
            // The thread ends behind the last block.
            let Ok(next) = self.blocks.recv() else { return Ok(0) };
            let used = std::mem::replace(&mut self.block, next?);
            self.at = 0;
            let _ = self.used.try_send(used);
        }
        let mut rest = self.block.get(self.at..).unwrap_or_default();
        let read = rest.read(buffer)?;
        self.at += read;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::restore::fixture::noise;

    /// Yields some bytes, and then an error.
    struct Failing<'a>(&'a [u8]);

    impl Read for Failing<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::Error::other("meant to fail")),
                read => Ok(read),
            }
        }
    }

    /// Is interrupted before every few bytes.
    struct Halting<'a>(&'a [u8], bool);

    impl Read for Halting<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let length = buffer.len().min(70_001);
            self.0.read(&mut buffer[..length])
        }
    }

    #[test]
    fn all_comes_in_order_however_it_is_read() {
        for length in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 7 * BLOCK_BYTES + 5] {
            let bytes = noise(1, length);
            let mut read = Vec::new();
            read_ahead(&bytes[..], |blocks| blocks.read_to_end(&mut read)).unwrap().unwrap();
            assert!(read == bytes, "{length}");
            read.clear();
            read_ahead(Halting(&bytes, false), |blocks| blocks.read_to_end(&mut read)).unwrap().unwrap();
            assert!(read == bytes, "{length}, with interruptions");
        }
    }

    #[test]
    fn an_error_follows_the_blocks_before_it() {
        let bytes = noise(1, 3 * BLOCK_BYTES);
        let mut read = Vec::new();
        let result = read_ahead(Failing(&bytes), |blocks| blocks.read_to_end(&mut read)).unwrap();
        assert_eq!(result.unwrap_err().to_string(), "meant to fail");
        assert!(read == bytes);
    }

    #[test]
    fn who_stops_early_waits_for_nothing() {
        let first = read_ahead(io::repeat(7), |blocks| {
            let mut first = [0; 10];
            blocks.read_exact(&mut first).map(|()| first)
        });
        assert_eq!(first.unwrap().unwrap(), [7; 10]);
    }
}
