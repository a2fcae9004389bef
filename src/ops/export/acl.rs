//! POSIX ACLs: from the form of the kernel to the text that archives hold.

/// Version of the kernel's form.
const VERSION: [u8; 4] = 2_u32.to_le_bytes();
/// Bytes of one entry: tag, permissions, id.
const ENTRY_BYTES: usize = 8;

/// Returns the key of the record for an attribute that holds an ACL.
pub(super) fn record_key(attribute: &[u8]) -> Option<&'static str> {
    match attribute {
        b"system.posix_acl_access" => Some("SCHILY.acl.access"),
        b"system.posix_acl_default" => Some("SCHILY.acl.default"),
        _ => None,
    }
}

/// Returns an ACL as text, with owners by number; nothing if the bytes are no ACL.
pub(super) fn text(value: &[u8]) -> Option<String> {
    let (version, entries) = value.split_first_chunk()?;
    let (entries, rest) = entries.as_chunks::<ENTRY_BYTES>();
    if *version != VERSION || entries.is_empty() || !rest.is_empty() {
        return None;
    }
    let texts: Option<Vec<String>> = entries.iter().map(entry_text).collect();
    Some(texts?.join(","))
}

fn entry_text(&[t0, t1, p0, p1, i0, i1, i2, i3]: &[u8; ENTRY_BYTES]) -> Option<String> {
    let id = u32::from_le_bytes([i0, i1, i2, i3]);
    let who = match u16::from_le_bytes([t0, t1]) {
        0x01 => "user:".to_owned(),
        0x02 => format!("user:{id}"),
        0x04 => "group:".to_owned(),
        0x08 => format!("group:{id}"),
        0x10 => "mask:".to_owned(),
        0x20 => "other:".to_owned(),
        _ => return None,
    };
    let permissions = u16::from_le_bytes([p0, p1]);
    if permissions > 7 {
        return None;
    }
    let letter = |bit: u16, letter: char| if permissions & bit != 0 { letter } else { '-' };
    Some(format!("{who}:{}{}{}", letter(4, 'r'), letter(2, 'w'), letter(1, 'x')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut bytes = VERSION.to_vec();
        for (tag, permissions, id) in entries {
            bytes.extend_from_slice(&tag.to_le_bytes());
            bytes.extend_from_slice(&permissions.to_le_bytes());
            bytes.extend_from_slice(&id.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn acls_become_text() {
        let none = u32::MAX;
        let value = acl(&[
            (1, 6, none),
            (2, 7, 12_345),
            (4, 4, none),
            (8, 1, 54_321),
            (0x10, 7, none),
            (0x20, 0, none),
        ]);
        assert_eq!(
            text(&value).unwrap(),
            "user::rw-,user:12345:rwx,group::r--,group:54321:--x,mask::rwx,other::---"
        );
    }

    #[test]
    fn what_is_no_acl_has_no_text() {
        let good = acl(&[(1, 6, 0)]);
        assert!(text(&good).is_some());
        let mut longer = good.clone();
        longer.push(0);
        let mut other_version = good.clone();
        other_version[0] = 3;
        for bad in [&b""[..], &good[..4], &good[..11], &longer, &other_version, &acl(&[(3, 6, 0)])] {
            assert_eq!(text(bad), None);
        }
        assert_eq!(text(&acl(&[(1, 8, 0)])), None);
    }
}
