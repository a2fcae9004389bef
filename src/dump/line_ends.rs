//! Whether a stream went through a terminal, which puts a carriage return before every line feed.

/// What is said of a stream that went through a terminal.
pub(super) const CHANGED: &str = "a terminal changed its line ends (docker exec -t, kubectl exec -t or ssh -t), or Windows did; dump without -t";

/// Counts line feeds for as long as each follows a carriage return.
#[derive(Debug, Default)]
pub(super) struct LineEnds {
    line_feeds: u64,
    /// Whether a line feed stood alone: then nothing needs to be looked at any more.
    sound: bool,
    last: u8,
}

impl LineEnds {
    /// Takes the next bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        if self.sound {
            return;
        }
        for at in memchr::memchr_iter(b'\n', bytes) {
            let before = if at == 0 { self.last } else { bytes[at - 1] };
            if before != b'\r' {
                self.sound = true;
                return;
            }
            self.line_feeds += 1;
        }
        self.last = bytes.last().copied().unwrap_or(self.last);
    }

    /// Tells whether there were at least `least` line feeds, all of them behind a carriage return.
    pub(super) fn are_changed(&self, least: u64) -> bool {
        !self.sound && self.line_feeds >= least
    }
}
