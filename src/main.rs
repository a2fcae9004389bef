//! The `yester` program: hands the command line to the library and its exit code to the system.

use std::process::ExitCode;

fn main() -> ExitCode {
    yester::cli::run(std::env::args_os())
}
