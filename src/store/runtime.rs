//! The one asynchronous island: the threads that serve stores over a network.
//!
//! Everything else blocks. A caller hands a future over and waits for it on its own thread; connections live on the
//! runtime's threads.

use std::future::Future;
use std::io;

use tokio::runtime::{Builder, Handle, Runtime as Tokio};

/// Connections are few and wait for the network most of the time.
const THREADS: usize = 2;

/// The threads of one store.
#[derive(Debug)]
pub(super) struct Runtime(Option<Tokio>);

impl Runtime {
    /// Starts the threads.
    pub(super) fn start() -> io::Result<Self> {
        let tokio = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("network")
            .enable_all()
            .build()?;
        Ok(Self(Some(tokio)))
    }

    /// Waits for a future on the calling thread, which must not be one of the runtime's own.
    pub(super) fn wait<F: Future>(&self, future: F) -> io::Result<F::Output> {
        self.handle().map(|handle| handle.block_on(future))
    }

    fn handle(&self) -> io::Result<&Handle> {
        self.0.as_ref().map(Tokio::handle).ok_or_else(|| io::Error::other("the network's threads have ended"))
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // What hangs on a connection must not hold up the end of the program.
        if let Some(tokio) = self.0.take() {
            tokio.shutdown_background();
        }
    }
}
