//! A command that is told by JSON on its standard input.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::SendError;
use crate::jobs::outside::{self, End};

/// A command that takes longer hangs.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Runs a command with a document, and a line end, on its standard input. What it says is nobody's: it may hold
/// secrets.
pub(super) fn run(argv: &[String], document: &Value) -> Result<(), SendError> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err(SendError::Lasting("the command of the alert is empty".to_owned()));
    };
    let input = format!("{document}\n");
    let ended = outside::ask(Command::new(program).args(arguments), Some(input.as_bytes()), TIMEOUT)
        .map_err(|error| SendError::Lasting(format!("cannot start {program}: {error}")))?;
    match ended.end {
        End::Exited(0) => Ok(()),
        End::TimedOut => {
            Err(SendError::Lasting(format!("{program} was ended after {} s", TIMEOUT.as_secs())))
        }
        end => Err(SendError::Passing(format!("{program} failed: {end}"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn argv(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_command_reads_one_document() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("told");
        let script = format!("cat > {}", file.display());
        run(&argv(&["sh", "-c", &script]), &json!({"event": "test"})).unwrap();
        assert_eq!(std::fs::read_to_string(file).unwrap(), "{\"event\":\"test\"}\n");
        run(&argv(&["true"]), &json!({})).unwrap();
        assert!(matches!(run(&argv(&["false"]), &json!({})), Err(SendError::Passing(_))));
        assert!(matches!(run(&argv(&["/nonexistent/x"]), &json!({})), Err(SendError::Lasting(_))));
    }
}
