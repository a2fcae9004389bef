//! How messages name things of an archive: entries, and numbers of bytes.

/// Bytes of a name that a label shows; SQL names have at most 63, but functions carry their arguments.
const NAME_BYTES_MAX: usize = 120;

/// Returns what an entry is and its name, with its namespace unless that is the usual one: `TABLE DATA orders`,
/// `TABLE DATA sales.orders`.
pub(super) fn entry_label(description: &[u8], namespace: Option<&[u8]>, tag: &[u8]) -> String {
    let mut label = String::new();
    push_printable(&mut label, description);
    if tag == description {
        return label;
    }
    if !description.is_empty() && !tag.is_empty() {
        label.push(' ');
    }
    if let Some(namespace) = namespace.filter(|name| !name.is_empty() && *name != b"public") {
        push_printable(&mut label, namespace);
        label.push('.');
    }
    push_printable(&mut label, tag);
    label
}

/// Appends a name from the archive: control characters as escapes, its end cut if it is long.
fn push_printable(label: &mut String, name: &[u8]) {
    let shown = name.get(..NAME_BYTES_MAX).unwrap_or(name);
    for character in String::from_utf8_lossy(shown).chars() {
        if character.is_control() {
            label.extend(character.escape_default());
        } else {
            label.push(character);
        }
    }
    if shown.len() < name.len() {
        label.push('…');
    }
}

/// Returns a number with thousands separators.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_says_what_and_which() {
        assert_eq!(entry_label(b"TABLE DATA", Some(b"public"), b"orders"), "TABLE DATA orders");
        assert_eq!(entry_label(b"TABLE DATA", Some(b"sales"), b"orders"), "TABLE DATA sales.orders");
        assert_eq!(entry_label(b"BLOBS", None, b"BLOBS"), "BLOBS");
        assert_eq!(entry_label(b"", None, b""), "");
    }

    #[test]
    fn a_label_is_printable_and_short() {
        assert_eq!(entry_label(b"TABLE", None, b"a\nb\x1b[31m\xff"), "TABLE a\\nb\\u{1b}[31m\u{fffd}");
        let label = entry_label(&[b'x'; 1_000_000], Some(&[b'y'; 1_000_000]), &[0xff; 1_000_000]);
        assert!(label.chars().count() < 400, "{}", label.len());
        assert!(label.ends_with('…'));
    }

    #[test]
    fn numbers_have_separators() {
        let numbers = [0, 12, 999, 1_000, 1_234_567, u64::MAX].map(count);
        assert_eq!(numbers, ["0", "12", "999", "1,000", "1,234,567", "18,446,744,073,709,551,615"]);
    }
}
