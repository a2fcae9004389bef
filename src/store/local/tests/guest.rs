//! Tests that are run by another kernel: User Mode Linux, an ordinary program, which has vfat as a module.
//!
//! The guest sees the files of this machine, read-only, and runs this very test executable.

use std::env;
use std::process::{Command, Stdio};

const INIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/local/tests/guest.sh");

/// Set by `guest.sh`: a guest that lacks what it was started for must not start another.
const INSIDE: &str = "YESTER_TEST_GUEST";

/// Runs a test of the parent module in a guest. Returns why that cannot be done; panics if the test fails.
pub(super) fn test(name: &str) -> Result<(), String> {
    if env::var_os(INSIDE).is_some() {
        return Err("this is the guest".to_owned());
    }
    let (_crate, module) = module_path!().split_once("::").unwrap();
    let test = format!("{}::{name}", module.trim_end_matches("::guest"));
    let state = tempfile::tempdir().unwrap();
    let output = Command::new("timeout")
        .args(["120", "linux.uml", "mem=256M", "quiet", "con=null", "con0=null,fd:1"])
        .arg(format!("uml_dir={}", state.path().display()))
        .args(["root=none", "rootfstype=hostfs", "rootflags=/", "ro", "init=/bin/sh", "--", INIT])
        .args([env::current_exe().unwrap().to_str().unwrap(), &test])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("timeout: {error}"))?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!said.contains("test result: FAILED"), "in a User Mode Linux guest:\n{said}");
    match said.contains("test result: ok. 1 passed") {
        true => Ok(()),
        false => Err(format!("no User Mode Linux guest either: {}", said.trim())),
    }
}
