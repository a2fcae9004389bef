//! Names and paths inside a snapshot: raw bytes, validated once, and their printable form.

use std::fmt;

/// Longest name of an entry, in bytes.
pub const NAME_MAX_BYTES: usize = 1024;

/// Why bytes are not a name or a path inside a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The name is empty, `.`, `..`, too long, or holds `/` or a zero byte.
    #[error("{0:?} is not a valid name in a snapshot")]
    BadName(String),
}

/// The name of one entry of a directory.
///
/// 1 to 1,024 bytes; never `.` or `..`; never holds `/` or a zero byte. Ordered as raw bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

impl Name {
    /// Validates `bytes` as a name.
    ///
    /// # Errors
    /// Refuses what the type's invariants exclude.
    pub fn new(bytes: &[u8]) -> Result<Self, PathError> {
        let bad = bytes.is_empty()
            || bytes.len() > NAME_MAX_BYTES
            || bytes == b"."
            || bytes == b".."
            || bytes.iter().any(|byte| matches!(byte, b'/' | 0));
        if bad { Err(PathError::BadName(escape(bytes))) } else { Ok(Self(bytes.into())) }
    }

    /// Returns the raw bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Name {
    /// Writes the name, escaped for terminals.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(&self.0))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}

/// A path below the root of a snapshot.
///
/// Never starts or ends with `/`; every component is a valid [`Name`]; the root itself is empty. Ordered by
/// components, so a directory stands right before what it holds.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TreePath(Vec<Name>);

impl TreePath {
    /// Returns the root of a snapshot.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// Parses a path as people write it: leading, trailing and repeated `/` and `.` components are dropped.
    ///
    /// # Errors
    /// Refuses `..` and components that are no valid names.
    pub fn parse(bytes: &[u8]) -> Result<Self, PathError> {
        bytes
            .split(|byte| *byte == b'/')
            .filter(|part| !part.is_empty() && *part != b".")
            .map(Name::new)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Returns the components from the root down.
    #[must_use]
    pub fn components(&self) -> &[Name] {
        &self.0
    }

    /// Tells whether this is the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the path of `name` below this one.
    #[must_use]
    pub fn join(&self, name: &Name) -> Self {
        let mut components = self.0.clone();
        components.push(name.clone());
        Self(components)
    }

    /// Returns the path above and the last component; nothing for the root.
    #[must_use]
    pub fn split_last(&self) -> Option<(Self, &Name)> {
        self.0.split_last().map(|(last, above)| (Self(above.to_vec()), last))
    }

    /// Tells whether `self` is `other` or lies above it.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }

    /// Returns the components joined with `/`, without a leading one; empty for the root.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().map(Name::as_bytes).collect::<Vec<_>>().join(&b'/')
    }
}

impl fmt::Display for TreePath {
    /// Writes the path with a leading `/`, escaped for terminals.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", escape(&self.to_bytes()))
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TreePath({self})")
    }
}

/// Returns `bytes` as text that is safe on a terminal: control characters and what is not UTF-8 become
/// `\n`, `\x1b` and the like, a backslash is doubled, everything else stays.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len());
    for piece in bytes.utf8_chunks() {
        for character in piece.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                // Bidirectional overrides can make a name look like another one.
                '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    text.extend(character.escape_unicode());
                }
                c if c.is_control() => text.extend(c.escape_default()),
                c => text.push(c),
            }
        }
        for byte in piece.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_a_directory_are_refused() {
        for bad in [&b""[..], b".", b"..", b"a/b", b"a\0b", &[b'x'; NAME_MAX_BYTES + 1]] {
            assert!(Name::new(bad).is_err());
        }
        assert!(Name::new(&[b'x'; NAME_MAX_BYTES]).is_ok());
        assert!(Name::new(b"...").is_ok());
    }

    #[test]
    fn paths_are_normalised_and_never_climb() {
        let path = TreePath::parse(b"//etc/./ssh/").unwrap();
        assert_eq!(path.to_bytes(), b"etc/ssh");
        assert_eq!(path.to_string(), "/etc/ssh");
        assert!(TreePath::parse(b"etc/../root").is_err());
        assert!(TreePath::parse(b"/").unwrap().is_root());
        assert!(TreePath::parse(b"/etc").unwrap().contains(&path));
        assert!(!TreePath::parse(b"/et").unwrap().contains(&path));
    }

    #[test]
    fn escapes_cannot_reach_a_terminal() {
        assert_eq!(escape(b"a\x1b[31mb\n\xff\\"), "a\\u{1b}[31mb\\n\\xff\\\\");
        assert_eq!(escape("müde".as_bytes()), "müde");
        assert_eq!(escape("a\u{202e}b".as_bytes()), "a\\u{202e}b");
    }
}
