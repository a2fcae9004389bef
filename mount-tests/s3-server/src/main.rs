//! The server as a program, for benchmarks and other scripts.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program of scripts, which read what it prints"
)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use s3_server::{ACCESS_KEY, SECRET_KEY, Server, ServerOptions};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

const USAGE: &str = "\
usage: s3-server [--listen ADDRESS:PORT] [--folder DIR] [--bucket NAME]... [--latency MS]

Serves S3 over HTTP, prints `ready URL`, and ends on SIGTERM or SIGINT with its counts as a JSON object.
GET /_counts shows them meanwhile, DELETE /_counts sets them to zero. Without --folder the objects are in a
temporary folder. The keys are the following ones.
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), String> {
    let mut options = ServerOptions::default();
    let mut buckets = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--help" {
            print!("{USAGE}AWS_ACCESS_KEY_ID='{ACCESS_KEY}'\nAWS_SECRET_ACCESS_KEY='{SECRET_KEY}'\n");
            return Ok(());
        }
        let value = arguments.next().ok_or_else(|| format!("{argument} needs a value\n{USAGE}"))?;
        let wrong = || format!("{argument} cannot be {value}");
        match argument.as_str() {
            "--listen" => options.listen = Some(value.parse::<SocketAddr>().map_err(|_| wrong())?),
            "--folder" => options.folder = Some(PathBuf::from(value)),
            "--bucket" => buckets.push(value),
            "--latency" => options.latency = Duration::from_millis(value.parse().map_err(|_| wrong())?),
            _ => return Err(format!("there is no argument {argument}\n{USAGE}")),
        }
    }
    let server = Server::start_with(&options).map_err(|error| format!("cannot start: {error}"))?;
    for bucket in buckets {
        server.create_bucket(&bucket).map_err(|error| format!("cannot create bucket {bucket}: {error}"))?;
    }
    let mut signals =
        Signals::new([SIGTERM, SIGINT]).map_err(|error| format!("cannot wait for a signal: {error}"))?;
    println!("ready {}", server.url());
    signals.forever().next();
    println!("{}", server.counts().now());
    Ok(())
}
