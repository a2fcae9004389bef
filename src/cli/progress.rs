//! Shows the library's progress: a bar on a terminal, nothing elsewhere.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::human;
use crate::path::escape;
use crate::progress::{Event, Progress};

/// While the sums are not final the bar shows no share, since it would run backwards.
const SEARCHING: &str = "{spinner} {prefix}  {decimal_bytes} at {decimal_bytes_per_sec}  {wide_msg}";
const COUNTED: &str =
    "{bar:24} {percent:>3} % {prefix}  {decimal_bytes} of {decimal_total_bytes}, {eta} left  {wide_msg}";

/// Whether people want to see progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Show {
    /// A bar, where standard error is a terminal.
    OnTerminal,
    /// Nothing but warnings.
    Nothing,
}

/// Receives the progress of one operation for the person at the terminal.
pub(super) struct Reporter {
    bar: ProgressBar,
    found_bytes: AtomicU64,
    done_files: AtomicU64,
}

impl Reporter {
    /// Starts to show progress.
    pub(super) fn new(show: Show) -> Self {
        let visible = show == Show::OnTerminal && std::io::stderr().is_terminal();
        let target =
            if visible { ProgressDrawTarget::stderr_with_hz(8) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(style(SEARCHING));
        if visible {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self { bar, found_bytes: AtomicU64::new(0), done_files: AtomicU64::new(0) }
    }

    /// Removes the bar.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Progress for Reporter {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Found { bytes, .. } => {
                self.found_bytes.fetch_add(bytes, Ordering::Relaxed);
            }
            Event::FoundAll => {
                self.bar.set_length(self.found_bytes.load(Ordering::Relaxed));
                self.bar.set_style(style(COUNTED));
            }
            Event::Done { files, bytes } => {
                self.bar.inc(bytes);
                let done = self.done_files.fetch_add(files, Ordering::Relaxed).saturating_add(files);
                if files > 0 && !self.bar.is_hidden() {
                    self.bar.set_prefix(human::counted(done, "file"));
                }
            }
            Event::Working(path) if !self.bar.is_hidden() => self.bar.set_message(escape(path)),
            Event::Working(_) => {}
            Event::LeftOut { path, why } if tracing::enabled!(tracing::Level::INFO) => {
                self.bar.suspend(|| tracing::info!("left out {}: {why}", escape(path)));
            }
            Event::LeftOut { .. } => {}
            Event::Warning(text) => self.bar.suspend(|| tracing::warn!("{text}")),
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_valid() {
        for template in [SEARCHING, COUNTED] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
