//! Where diagnostics go: to standard error, as text or as JSON lines.

use std::fmt;

use jiff::Timestamp;
use rustix::fs::{FileType, fstat};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::context::{GlobalArgs, LogFormat};
use crate::human;

/// Starts the log of this process. `YESTER_LOG` takes a filter of its own, such as `yester::repo=debug`.
pub(super) fn start(global: &GlobalArgs) {
    let level = match (global.quiet, global.verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "info",
        (false, 2) => "debug",
        (false, _) => "trace",
    };
    let filter =
        EnvFilter::try_from_env("YESTER_LOG").unwrap_or_else(|_| EnvFilter::new(format!("yester={level}")));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Whoever runs the library inside a larger program may have a log already: that one stays.
    let _ = match global.log_format {
        LogFormat::Text => {
            builder.with_ansi(super::output::stderr_has_colour()).event_format(PlainLines).try_init()
        }
        LogFormat::Json => builder.with_target(false).json().flatten_event(true).try_init(),
    };
}

/// One line an event: `warning: what it is`, as all messages look. A file has no clock, so that lines in one begin
/// with the time: the log of a mount is such a file from the moment on when it leaves the terminal.
struct PlainLines;

impl<S, N> FormatEvent<S, N> for PlainLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if stderr_is_a_file() {
            write!(writer, "{} ", human::time(Timestamp::now()))?;
        }
        let (word, colour) = match *event.metadata().level() {
            Level::ERROR => ("error", "31"),
            Level::WARN => ("warning", "33"),
            Level::INFO => ("info", "32"),
            Level::DEBUG => ("debug", "34"),
            Level::TRACE => ("trace", "35"),
        };
        if writer.has_ansi_escapes() {
            write!(writer, "\x1b[{colour}m{word}:\x1b[0m ")?;
        } else {
            write!(writer, "{word}: ")?;
        }
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

fn stderr_is_a_file() -> bool {
    fstat(rustix::stdio::stderr())
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
}
