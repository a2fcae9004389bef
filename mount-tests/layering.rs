//! The shape of the code: a module imports only lower layers, and some libraries stay where they belong.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The layer of every module. A module may use those of lower layers.
const LAYERS: [(&str, u8); 22] = [
    ("crypto", 0),
    ("human", 0),
    ("id", 0),
    ("path", 0),
    ("process", 0),
    ("progress", 0),
    ("recent", 0),
    ("uncached", 0),
    ("chunker", 1),
    ("dump", 1),
    ("format", 1),
    ("similarity", 1),
    ("store", 1),
    ("index", 2),
    ("journal", 2),
    ("repo", 3),
    ("ops", 4),
    ("vfs", 4),
    ("fuse", 5),
    ("jobs", 6),
    ("cli", 7),
    ("model", 8),
];

/// Modules that may use one of their own layer.
const SIBLINGS: [(&str, &str); 4] =
    [("crypto", "id"), ("format", "chunker"), ("human", "path"), ("store", "format")];

/// Where a library may be used, as beginnings of paths below `src`; elsewhere it may not.
const CONFINED: [(&str, &[&str]); 11] = [
    ("rusqlite", &["index/", "journal/"]),
    ("fuser", &["fuse.rs", "fuse/"]),
    ("clap", &["cli/", "main.rs"]),
    ("anyhow", &["cli/", "main.rs"]),
    ("aws_sdk_s3", &["store/s3/"]),
    ("aws_config", &["store/s3/"]),
    ("toml", &["jobs/config/"]),
    ("lettre", &["jobs/alert/send/"]),
    ("rustls", &["jobs/alert/send/"]),
    ("ureq", &["jobs/alert/send/"]),
    ("tokio", &["store/runtime.rs", "store/s3/"]),
];

/// A file longer than this, tests apart, has more than one subject.
const LINES_MAX: usize = 600;

#[test]
fn modules_use_lower_layers_alone() {
    let mut wrong = Vec::new();
    for (path, code) in sources() {
        let Some(module) = module_of(&path) else { continue };
        let layer = layer_of(&module).unwrap_or_else(|| panic!("{} has no layer", path.display()));
        for used in uses_of_crate(&code) {
            let Some(used_layer) = layer_of(&used) else { continue };
            let allowed =
                used == module || used_layer < layer || SIBLINGS.contains(&(module.as_str(), used.as_str()));
            if !allowed {
                wrong.push(format!("{}: {module} uses {used}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn libraries_stay_where_they_belong() {
    let mut wrong = Vec::new();
    for (path, code) in sources() {
        for (library, homes) in CONFINED {
            let at_home = homes.iter().any(|home| path.to_str().unwrap().starts_with(home));
            if !at_home && words(&code).any(|(word, rest)| word == library && rest.starts_with("::")) {
                wrong.push(format!("{} uses {library}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn files_have_one_subject_each() {
    let mut wrong = Vec::new();
    for (path, _) in sources() {
        let text = fs::read_to_string(source_folder().join(&path)).unwrap();
        assert!(text.starts_with("//!"), "{} does not say what it owns", path.display());
        let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
        if lines > LINES_MAX {
            wrong.push(format!("{}: {lines} lines", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_parser_sees_what_is_used() {
    let code =
        "use crate::{id::ChunkId, store::{self, key::ObjectKey}, path::Name}; fn f() { crate::repo::open() }";
    let used: Vec<_> = uses_of_crate(code).into_iter().collect();
    assert_eq!(used, ["id", "path", "repo", "store"]);
    assert!(uses_of_crate(&without_comments("// crate::cli\n/// [`crate::cli`]\nlet x = 1;")).is_empty());
}

fn source_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Returns every source file, relative to `src`, with its code without comments.
fn sources() -> Vec<(PathBuf, String)> {
    let mut folders = vec![source_folder()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let code = without_comments(&fs::read_to_string(&path).unwrap());
                sources.push((path.strip_prefix(source_folder()).unwrap().to_owned(), code));
            }
        }
    }
    assert!(sources.len() > 20);
    sources
}

fn without_comments(text: &str) -> String {
    let is_comment = |line: &&str| line.trim_start().starts_with("//");
    text.lines().filter(|line| !is_comment(line)).collect::<Vec<_>>().join("\n")
}

/// Returns the module a file belongs to; the roots of library and binary belong to none.
fn module_of(path: &Path) -> Option<String> {
    let first = path.components().next()?.as_os_str().to_str()?;
    let module = first.strip_suffix(".rs").unwrap_or(first);
    (!matches!(module, "lib" | "main")).then(|| module.to_owned())
}

fn layer_of(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

/// Returns the modules that follow `crate::`, alone or in the outermost braces.
fn uses_of_crate(code: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for (_, rest) in words(code).filter(|(word, _)| *word == "crate") {
        let Some(rest) = rest.strip_prefix("::") else { continue };
        match rest.strip_prefix('{') {
            Some(group) => used.extend(heads_of_group(group)),
            None => used.extend(words(rest).next().map(|(word, _)| word.to_owned())),
        }
    }
    used
}

/// Returns the first word of every element of a group whose opening brace is gone.
fn heads_of_group(group: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let (mut depth, mut begins_element) = (0_u32, true);
    for (word, rest) in words_and_marks(group) {
        match word {
            "{" => depth += 1,
            "}" if depth == 0 => break,
            "}" => depth -= 1,
            "," => begins_element = depth == 0,
            _ if begins_element => {
                heads.push(word.to_owned());
                begins_element = false;
            }
            _ => {}
        }
        if rest.is_empty() {
            break;
        }
    }
    heads
}

/// Returns every word of the code with what follows it.
fn words(code: &str) -> impl Iterator<Item = (&str, &str)> {
    words_and_marks(code).filter(|(word, _)| word.starts_with(|c: char| c.is_alphabetic() || c == '_'))
}

/// Returns words, and every other character that is no space by itself, each with what follows it.
fn words_and_marks(code: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = code;
    std::iter::from_fn(move || {
        rest = rest.trim_start();
        let first = rest.chars().next()?;
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let length =
            if is_word(first) { rest.find(|c| !is_word(c)).unwrap_or(rest.len()) } else { first.len_utf8() };
        let (word, after) = rest.split_at(length);
        rest = after;
        Some((word, after))
    })
}
