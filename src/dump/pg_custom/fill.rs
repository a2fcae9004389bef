//! Fills the offsets that a walk found into the head, and reads back what was stored.

use std::collections::HashMap;

use super::head::{decode_int, parse_head};
use super::label::count;
use super::{
    BLOCK_DATA, BLOCK_HEADER_BYTES, BLOCK_LARGE_OBJECTS, DataOffset, DataState, Head, HeadParse,
    OFFSET_BYTES, OFFSET_NOT_SET, OFFSET_SET, TocEntry,
};

/// Fills the offsets into the bytes of a head; returns how many.
///
/// `bytes` are those that `head` was read from. Where it has an offset already, it must be the same; nothing is
/// changed if one is not.
///
/// # Errors
/// A sentence, if the table of contents already has other ones.
pub fn fill_offsets(bytes: &mut [u8], head: &Head, offsets: &[DataOffset]) -> Result<u64, String> {
    let found: HashMap<i64, u64> = offsets.iter().map(|found| (found.dump_id, found.offset)).collect();
    let mut fields = Vec::new();
    for entry in &head.entries {
        match (entry.data, found.get(&entry.dump_id)) {
            (DataState::NotSet, Some(offset)) => fields.push((entry, *offset)),
            (DataState::NotSet | DataState::At(_), None) => {
                return Err(format!("the data of {} is missing", entry.label));
            }
            (DataState::At(stated), Some(offset)) if stated != *offset => {
                let (stated, offset) = (count(stated), count(*offset));
                return Err(format!(
                    "its table of contents has the data of {} at byte {stated}, but it begins at byte {offset}",
                    entry.label
                ));
            }
            (DataState::At(_), Some(_)) | (DataState::None, None) => {}
            (DataState::None, Some(_)) => {
                return Err(format!("{} has data, and should have none", entry.label));
            }
        }
    }
    for (entry, _) in &fields {
        if field_of(bytes, entry).is_none_or(|field| field.first() != Some(&OFFSET_NOT_SET)) {
            return Err(format!("the head has no offset of {} where it should be filled in", entry.label));
        }
    }
    for (entry, offset) in &fields {
        if let Some([flag, value @ ..]) = field_of(bytes, entry) {
            *flag = OFFSET_SET;
            value.copy_from_slice(&offset.to_le_bytes());
        }
    }
    Ok(fields.len() as u64)
}

/// Returns the field with the offset of an entry: flag byte and offset.
fn field_of<'a>(bytes: &'a mut [u8], entry: &TocEntry) -> Option<&'a mut [u8]> {
    let end = entry.field.checked_add(1 + OFFSET_BYTES)?;
    bytes.get_mut(entry.field..end)
}

/// Reads back an archive that was stored: its head, and the first bytes of each entry's data, which must be those of
/// a block of that entry. `read` returns so many bytes at an offset, fewer at the end.
///
/// # Errors
/// Whatever `read` fails with. The inner error is a sentence that says what does not fit.
pub fn check_stored<E>(
    head_length: usize,
    read: &mut dyn FnMut(u64, usize) -> Result<Vec<u8>, E>,
) -> Result<Result<(), String>, E> {
    let bytes = read(0, head_length)?;
    let head = match parse_head(&bytes) {
        HeadParse::Head(head) if head.length == head_length => head,
        HeadParse::Head(head) => {
            let (is, should) = (count(head.length as u64), count(head_length as u64));
            return Ok(Err(format!("its head was stored with {is} bytes instead of {should}")));
        }
        HeadParse::NeedMore => return Ok(Err("it ends within its head".to_owned())),
        HeadParse::Unknown(why) | HeadParse::Broken(why) => return Ok(Err(why)),
    };
    let mut blocks = Vec::new();
    for entry in &head.entries {
        match entry.data {
            DataState::None => {}
            DataState::NotSet => return Ok(Err(format!("the offset of {} is not filled in", entry.label))),
            DataState::At(offset) => blocks.push((offset, entry)),
        }
    }
    // In the order in which they lie, so that what is stored together is read once.
    blocks.sort_unstable_by_key(|(offset, _)| *offset);
    for (offset, entry) in blocks {
        let bytes = read(offset, BLOCK_HEADER_BYTES)?;
        if offset < head_length as u64 || !is_block_of(&bytes, entry) {
            let at = count(offset);
            return Ok(Err(format!(
                "no data of {} begins at byte {at}, where its offset points",
                entry.label
            )));
        }
    }
    Ok(Ok(()))
}

fn is_block_of(bytes: &[u8], entry: &TocEntry) -> bool {
    let kind = if entry.large_objects { BLOCK_LARGE_OBJECTS } else { BLOCK_DATA };
    match bytes.split_first() {
        Some((first, number)) => {
            let id = <[u8; BLOCK_HEADER_BYTES - 1]>::try_from(number).ok().and_then(decode_int);
            *first == kind && id == Some(entry.dump_id)
        }
        None => false,
    }
}
