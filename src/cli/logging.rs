//! Where diagnostics go: to standard error, as text or as JSON lines.

use tracing_subscriber::filter::EnvFilter;

use super::context::{GlobalArgs, LogFormat};

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
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // Whoever runs the library inside a larger program may have a log already: that one stays.
    let _ = match global.log_format {
        LogFormat::Text => {
            builder.with_ansi(super::output::stderr_has_colour()).without_time().compact().try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
