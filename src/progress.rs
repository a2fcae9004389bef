//! How the library reports what it is doing, and puts errors in words. It never touches a terminal itself.

/// Something a person who waits would like to know.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Work was found: this many more files and bytes lie ahead.
    Found {
        /// Files found.
        files: u64,
        /// Bytes found.
        bytes: u64,
    },
    /// Everything there is to do was found; the sums of `Found` are totals now.
    FoundAll,
    /// Work was done.
    Done {
        /// Files finished.
        files: u64,
        /// Bytes finished.
        bytes: u64,
    },
    /// Work on this path (raw bytes) begins.
    Working(&'a [u8]),
    /// This path (raw bytes) is left out, for the reason given.
    LeftOut {
        /// The path.
        path: &'a [u8],
        /// The reason, in words.
        why: &'a str,
    },
    /// Something went wrong that does not stop the operation, as one sentence for people.
    Warning(&'a str),
}

/// Receives the events of one operation, from any thread.
pub trait Progress: Send + Sync {
    /// Takes note of an event. Must return quickly.
    fn event(&self, event: Event<'_>);
}

/// Discards every event.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _event: Event<'_>) {}
}

/// Returns an error and its causes as one sentence.
#[must_use]
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
