//! What was stored is read back and held against its own table of contents.

use super::*;

/// Reads back an archive that lies in memory.
pub(super) fn check(bytes: &[u8], head_length: usize) -> Result<(), String> {
    let stored: Result<Result<(), String>, String> = check_stored(head_length, &mut |offset, length| {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let end = start.saturating_add(length).min(bytes.len());
        Ok(bytes[start..end].to_vec())
    });
    stored.unwrap()
}

#[test]
fn what_pg_dump_wrote_to_a_file_fits() {
    for pair in PAIRS {
        assert_eq!(check(pair.file, head_of(pair.file).length), Ok(()), "{}", pair.name);
    }
}

#[test]
fn a_head_without_offsets_does_not_fit() {
    for pair in PAIRS {
        let why = check(pair.piped, head_of(pair.piped).length).unwrap_err();
        assert_eq!(why, format!("the offset of {} is not filled in", pair.data[0]), "{}", pair.name);
    }
}

#[test]
fn an_offset_that_points_elsewhere_does_not_fit() {
    for pair in PAIRS {
        let head = head_of(pair.file);
        for entry in head.entries.iter().filter(|entry| entry.data != DataState::None) {
            for change in [1, 0x80] {
                let mut bytes = pair.file.to_vec();
                bytes[entry.field + 1] ^= change;
                let why = check(&bytes, head.length).unwrap_err();
                assert!(why.starts_with(&format!("no data of {} begins at byte", entry.label)), "{why}");
                let mut far = pair.file.to_vec();
                far[entry.field + 8] = 0xff;
                assert!(check(&far, head.length).is_err());
            }
        }
    }
}

#[test]
fn another_length_of_the_head_does_not_fit() {
    let pair = &PAIRS[0];
    let length = head_of(pair.file).length;
    assert_eq!(check(pair.file, length - 1), Err("it ends within its head".to_owned()));
    assert_eq!(check(&pair.file[..length - 1], length), Err("it ends within its head".to_owned()));
    assert!(check(pair.file, length + 1).unwrap_err().starts_with("its head was stored with"));
    assert_eq!(check(b"no archive at all", 17), Err("it does not begin with PGDMP".to_owned()));
}

#[test]
fn a_body_that_is_cut_or_changed_at_a_block_does_not_fit() {
    for pair in PAIRS {
        let head = head_of(pair.file);
        assert!(check(&pair.file[..head.length], head.length).is_err());
        for entry in &head.entries {
            let DataState::At(offset) = entry.data else { continue };
            for place in 0..BLOCK_HEADER_BYTES {
                let mut bytes = pair.file.to_vec();
                bytes[usize::try_from(offset).unwrap() + place] ^= 0x40;
                let why = check(&bytes, head.length).unwrap_err();
                assert!(why.starts_with(&format!("no data of {} begins", entry.label)), "{why}");
            }
        }
    }
}

#[test]
fn a_failure_to_read_is_handed_on() {
    let pair = &PAIRS[0];
    let length = head_of(pair.file).length;
    let mut reads = 0;
    let failed = check_stored(length, &mut |offset, wanted| {
        reads += 1;
        if offset == 0 { Ok(pair.file[..wanted].to_vec()) } else { Err("the store is gone") }
    });
    assert_eq!((failed, reads), (Err("the store is gone"), 2));
}
