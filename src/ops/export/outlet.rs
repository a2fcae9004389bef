//! Where the bytes of an archive go: to the thread that writes them, in blocks, while more is read.

use std::io::{self, Write};

use crossbeam_channel::{Receiver, Sender};

use crate::ops::list::write_zeros;
use crate::repo::read::Chunk;

/// Blocks that wait to be written. Each may hold a whole decoded frame.
pub(super) const BLOCKS_AHEAD: usize = 16;
/// Small pieces are joined until they are as long as this.
const JOIN_BYTES: usize = 128 << 10;
/// A chunk as long as this is not copied.
const LARGE_BYTES: usize = 32 << 10;

/// A piece of the archive.
pub(super) enum Block {
    Bytes(Vec<u8>),
    Chunk(Chunk),
    Zeros(u64),
}

/// The other side takes no more: it failed, and says so itself.
#[derive(Debug)]
pub(super) struct HungUp;

/// Takes the bytes of an archive in order.
pub(super) struct Outlet {
    sender: Sender<Block>,
    joined: Vec<u8>,
    bytes: u64,
}

impl Outlet {
    pub(super) fn new(sender: Sender<Block>) -> Self {
        Self { sender, joined: Vec::with_capacity(JOIN_BYTES), bytes: 0 }
    }

    /// Returns how many bytes it took.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), HungUp> {
        self.bytes += bytes.len() as u64;
        self.joined.extend_from_slice(bytes);
        self.flush_if_full()
    }

    pub(super) fn write_chunk(&mut self, chunk: Chunk) -> Result<(), HungUp> {
        if chunk.len() < LARGE_BYTES {
            return self.write(&chunk);
        }
        self.bytes += chunk.len() as u64;
        self.flush()?;
        self.send(Block::Chunk(chunk))
    }

    pub(super) fn write_zeros(&mut self, count: u64) -> Result<(), HungUp> {
        match usize::try_from(count) {
            Ok(count) if count < LARGE_BYTES => {
                self.bytes += count as u64;
                self.joined.resize(self.joined.len() + count, 0);
                self.flush_if_full()
            }
            _ => {
                self.bytes += count;
                self.flush()?;
                self.send(Block::Zeros(count))
            }
        }
    }

    /// Hands over what was joined so far.
    pub(super) fn flush(&mut self) -> Result<(), HungUp> {
        if self.joined.is_empty() {
            return Ok(());
        }
        let joined = std::mem::replace(&mut self.joined, Vec::with_capacity(JOIN_BYTES));
        self.send(Block::Bytes(joined))
    }

    fn flush_if_full(&mut self) -> Result<(), HungUp> {
        if self.joined.len() >= JOIN_BYTES { self.flush() } else { Ok(()) }
    }

    fn send(&self, block: Block) -> Result<(), HungUp> {
        self.sender.send(block).map_err(|_| HungUp)
    }
}

/// Writes blocks as they come, until no more can come.
pub(super) fn write_blocks(blocks: &Receiver<Block>, output: &mut dyn Write) -> io::Result<()> {
    for block in blocks {
        match block {
            Block::Bytes(bytes) => output.write_all(&bytes)?,
            Block::Chunk(chunk) => output.write_all(&chunk)?,
            Block::Zeros(count) => write_zeros(output, count)?,
        }
    }
    output.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_short_runs_of_zeros_are_handed_over() {
        let (sender, blocks) = crossbeam_channel::unbounded();
        let mut outlet = Outlet::new(sender);
        for _ in 0..1000 {
            outlet.write_zeros(1000).unwrap();
            assert!(outlet.joined.len() < JOIN_BYTES);
        }
        outlet.flush().unwrap();
        drop(outlet);
        let mut written = Vec::new();
        write_blocks(&blocks, &mut written).unwrap();
        assert_eq!(written, vec![0; 1_000_000]);
    }
}
