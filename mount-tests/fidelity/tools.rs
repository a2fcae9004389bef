//! What the tools of an administrator say of a tree, as text that is the same for a copy that is the same.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use super::portrait::Copy;
use crate::harness::{Need, Ran, succeed};

/// All that is run here, and root for owners and devices.
pub(super) const NEEDS: [Need; 10] = [
    Need::Root,
    Need::Tool("rsync"),
    Need::Tool("tar"),
    Need::Tool("bsdtar"),
    Need::Tool("mtree"),
    Need::Tool("setcap"),
    Need::Tool("setfacl"),
    Need::Tool("setfattr"),
    Need::Tool("diff"),
    Need::Tool("sha256sum"),
];

/// How the text of a tool is put in order: file systems list names as they like.
#[derive(Clone, Copy)]
enum Pieces {
    /// Each line stands for itself.
    Lines,
    /// Each part between two zero bytes stands for itself, since names may hold newlines.
    Records,
    /// Each part between two empty lines stands for itself.
    Paragraphs,
}

/// A view of a tree: a shell command that is run in it.
struct View {
    name: &'static str,
    script: &'static str,
    pieces: Pieces,
}

/// What is compared of every tree, however it was made.
const VIEWS: [View; 8] = [
    View {
        name: "find, everything but directories",
        script: r"find . ! -type d ! -type s -printf '%P %y %m %U %G %s %T@ %l\0'",
        pieces: Pieces::Records,
    },
    View {
        name: "find, directories",
        script: r"find . -type d -printf '%P %m %U %G %T@\0'",
        pieces: Pieces::Records,
    },
    View {
        name: "stat, devices",
        script: r"find . ! -type s -exec stat --printf '%n %F %t:%T %a\0' {} +",
        pieces: Pieces::Records,
    },
    View { name: "sha256sum", script: "find . -type f -exec sha256sum -z {} +", pieces: Pieces::Records },
    View {
        name: "mtree",
        script: "mtree -c -k type,mode,uid,gid,size,time,link,sha256,device",
        pieces: Pieces::Lines,
    },
    View {
        name: "bsdtar",
        script: "bsdtar -cf - --format=mtree --options='!all,type,mode,uid,gid,size,time,link,sha256,device' .",
        pieces: Pieces::Lines,
    },
    View { name: "getfacl", script: "getfacl -R -n -p .", pieces: Pieces::Paragraphs },
    View { name: "getfattr", script: "getfattr -R -h -d -m - -e hex .", pieces: Pieces::Paragraphs },
];

/// Expects every tool to say the same of both trees.
#[track_caller]
pub(super) fn assert_same(original: &Path, copy: &Path, what: Copy) {
    for view in &VIEWS {
        let expected = pieces_of(original, view, what);
        let found = pieces_of(copy, view, what);
        assert!(!expected.is_empty(), "{} says nothing", view.name);
        if expected != found {
            let missing = expected.iter().filter(|piece| found.binary_search(piece).is_err()).take(10);
            let more = found.iter().filter(|piece| expected.binary_search(piece).is_err()).take(10);
            let show = |pieces: &mut dyn Iterator<Item = &Vec<u8>>| {
                pieces.map(|piece| format!("  {}\n", piece.escape_ascii())).collect::<String>()
            };
            panic!(
                "{} of a tree that is {what:?}\nexpected:\n{}found:\n{}",
                view.name,
                show(&mut missing.into_iter()),
                show(&mut more.into_iter())
            );
        }
    }
    assert_eq!(rsync(original, copy, what), "", "rsync, {what:?}");
    assert_eq!(diff(original, copy, what), "", "diff, {what:?}");
}

fn pieces_of(tree: &Path, view: &View, what: Copy) -> Vec<Vec<u8>> {
    let ran = Ran::of(Command::new("sh").args(["-c", view.script]).current_dir(tree).env("LC_ALL", "C"));
    ran.succeeds();
    let text = ran.stdout;
    let mut pieces: Vec<Vec<u8>> = match view.pieces {
        Pieces::Lines => text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect(),
        Pieces::Records => text.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect(),
        Pieces::Paragraphs => paragraphs(&text),
    };
    // Comments tell of the folder and the hour; tar streams hold no sockets.
    let is_told = |piece: &[u8]| {
        let is_comment = matches!(view.pieces, Pieces::Lines) && piece.starts_with(b"#");
        let says = |word: &[u8]| piece.windows(word.len()).any(|found| found == word);
        let is_socket =
            what == Copy::Unpacked && (says(b"type=socket") || says(b"# file: ./special/socket\n"));
        !piece.is_empty() && !is_comment && !is_socket
    };
    pieces.retain(|piece| is_told(piece));
    pieces.sort();
    pieces
}

fn paragraphs(text: &[u8]) -> Vec<Vec<u8>> {
    let mut paragraphs = vec![Vec::new()];
    for line in text.split(|byte| *byte == b'\n') {
        if line.is_empty() {
            paragraphs.push(Vec::new());
        } else if let Some(last) = paragraphs.last_mut() {
            last.extend_from_slice(line);
            last.push(b'\n');
        }
    }
    paragraphs
}

/// Returns what `rsync` would do to make the copy like the original.
pub(super) fn rsync(original: &Path, copy: &Path, what: Copy) -> String {
    let mut command = Command::new("rsync");
    command.args(["-aHAXnci", "--numeric-ids", "--delete"]);
    if what == Copy::Unpacked {
        // What a stream lacks: the only socket of the tree.
        command.arg("--exclude=/special/socket");
    }
    succeed(command.args([slash(original), slash(copy)]))
}

/// Returns what `diff -r` says; it knows no special files, and says so of every one that is on both sides.
fn diff(original: &Path, copy: &Path, what: Copy) -> String {
    let mut command = Command::new("diff");
    command.args(["-r", "--no-dereference"]);
    if what == Copy::Unpacked {
        command.args(["-x", "socket"]);
    }
    let ran = Ran::of(command.args([original, copy]));
    let told = String::from_utf8_lossy(&ran.stdout).into_owned();
    let differs = |line: &&str| !(line.starts_with("File ") && line.contains(" while file "));
    told.lines().filter(differs).collect()
}

/// Packs a tree and lets GNU tar compare the stream with another one; returns what it says.
pub(super) fn tar_compare(original: &Path, copy: &Path) -> String {
    let script = r#"tar -C "$1" --numeric-owner -cf - . | tar -C "$2" --numeric-owner --compare"#;
    let ran =
        Ran::of(Command::new("sh").args(["-c", script, "sh"]).args([copy, original]).env("LC_ALL", "C"));
    // tar names the sockets that it leaves out.
    let told = ran.stderr.lines().filter(|line| !line.ends_with(": socket ignored"));
    let told: String = told.map(|line| format!("{line}\n")).collect();
    String::from_utf8_lossy(&ran.stdout).into_owned() + &told
}

/// Packs both trees with GNU tar and expects the same bytes. Copes with paths of any length, which comparing does
/// not. Extended attributes are left out, since each file system lists them in an order of its own.
#[track_caller]
pub(super) fn assert_same_stream(original: &Path, copy: &Path) {
    let script = "tar --sort=name --format=posix --pax-option=delete=atime,delete=ctime --numeric-owner \
                  --acls -cf - . | sha256sum";
    let stream = |tree: &Path| {
        let ran = Ran::of(Command::new("bash").args(["-o", "pipefail", "-c", script]).current_dir(tree));
        assert_eq!(ran.stderr.lines().find(|line| !line.ends_with(": socket ignored")), None);
        ran.succeeds()
    };
    assert_eq!(stream(copy), stream(original), "GNU tar makes another stream of the copy");
}

fn slash(path: &Path) -> OsString {
    let mut text = path.as_os_str().to_owned();
    text.push("/");
    text
}
