//! What messages are sent to: a small web server, and aiosmtpd for mail.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::harness::{Lab, Process, eventually};

/// A request that arrived.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) path: String,
    pub(super) headers: Vec<String>,
    pub(super) body: String,
}

impl Request {
    /// Returns the body as JSON.
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// A web server that accepts everything. It ends with the process of the tests.
pub(super) struct WebSink {
    port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl WebSink {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::default();
        let kept: Arc<Mutex<Vec<Request>>> = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                kept.lock().unwrap().push(answer(stream.unwrap()));
            }
        });
        Self { port, requests }
    }

    /// Returns the address of a path.
    pub(super) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Takes what arrived for a path and those below since the last time, in order.
    pub(super) fn take(&self, path: &str) -> Vec<Request> {
        self.requests.lock().unwrap().extract_if(.., |request| request.path.starts_with(path)).collect()
    }
}

fn answer(stream: TcpStream) -> Request {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let length = |line: &String| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok();
    let mut body = vec![0; lines.iter().find_map(length).unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    let reply = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    reader.into_inner().write_all(reply).unwrap();
    let path = lines[0].split(' ').nth(1).unwrap().to_owned();
    Request { path, headers: lines.split_off(1), body: String::from_utf8(body).unwrap() }
}

/// Serves a file at every path, as node_exporter serves what is written for it; returns the port. It ends with the
/// process of the tests.
pub(super) fn serve(file: PathBuf) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|length| length > 2) {
                line.clear();
            }
            let text = fs::read_to_string(&file).unwrap_or_default();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\n";
            let reply = format!("{head}Content-Length: {}\r\n\r\n{text}", text.len());
            // Whoever asked may have gone.
            let _ = reader.into_inner().write_all(reply.as_bytes());
        }
    });
    port
}

/// A mail server that keeps everything.
pub(super) struct MailSink {
    _server: Process,
    port: u16,
    folder: PathBuf,
}

impl MailSink {
    pub(super) fn start(lab: &Lab) -> Self {
        // Nobody takes the port in the moment between.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = lab.path("mail");
        let mut command = Command::new("/usr/bin/aiosmtpd");
        command
            .args(["-n", "-l", &format!("127.0.0.1:{port}"), "-c", "aiosmtpd.handlers.Mailbox"])
            .arg(&folder);
        let server = Process::start(command.stdin(Stdio::null()));
        eventually("the mail server listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { _server: server, port, folder }
    }

    pub(super) fn url(&self) -> String {
        format!("smtp://127.0.0.1:{}", self.port)
    }

    /// Takes the mails that arrived since the last time, in order.
    pub(super) fn take(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.folder.join("new")) else { return Vec::new() };
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort_by_key(|path| fs::metadata(path).unwrap().modified().unwrap());
        let take = |path: PathBuf| {
            let text = fs::read_to_string(&path).unwrap();
            fs::remove_file(path).unwrap();
            text
        };
        paths.into_iter().map(take).collect()
    }

    /// Takes the subjects of the mails that arrived since the last time.
    pub(super) fn subjects(&self) -> Vec<String> {
        let subject =
            |mail: &String| mail.lines().find_map(|line| line.strip_prefix("Subject: ").map(str::to_owned));
        self.take().iter().filter_map(subject).collect()
    }
}
