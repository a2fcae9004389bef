//! A command that is told by JSON on its standard input.

use std::io::{self, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::SendError;

/// A command that takes longer hangs.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Runs a command with a document, and a line end, on its standard input.
pub(super) fn run(argv: &[String], document: &Value) -> Result<(), SendError> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err(SendError::Lasting("the command of the alert is empty".to_owned()));
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| SendError::Lasting(format!("cannot start {program}: {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command may not care to read; a document is shorter than what a pipe holds.
        let _ = stdin.write_all(format!("{document}\n").as_bytes());
    }
    match wait(&mut child, TIMEOUT) {
        Ok(Some(status)) if status.success() => Ok(()),
        Ok(Some(status)) => Err(SendError::Passing(format!("{program} failed ({status})"))),
        Ok(None) => Err(SendError::Lasting(format!("{program} was ended after {} s", TIMEOUT.as_secs()))),
        Err(error) => Err(SendError::Passing(format!("cannot wait for {program}: {error}"))),
    }
}

/// Waits for the end of a process; one that takes longer is killed, and nothing returned.
fn wait(child: &mut Child, timeout: Duration) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(20));
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

    #[test]
    fn a_command_that_hangs_is_ended() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        assert_eq!(wait(&mut child, Duration::from_millis(50)).unwrap(), None);
    }
}
