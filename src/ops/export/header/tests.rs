//! Tests of headers: what crate `tar` reads is what was written.

use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use tar::Archive;

use super::*;

fn attributes() -> Attributes {
    Attributes { mode: 0o6755, uid: 1000, gid: 100, ..Attributes::default() }
}

fn encode_one(path: &[u8], attributes: &Attributes, kind: MemberKind<'_>) -> Vec<u8> {
    encode(&Member { path, attributes, xattrs: &[], kind })
}

/// The records of a member, as they stand before it.
fn records(bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let header = Header::from_byte_slice(&bytes[..512]);
    if header.entry_type() != EntryType::XHeader {
        return Vec::new();
    }
    let mut rest = &bytes[512..512 + usize::try_from(header.size().unwrap()).unwrap()];
    let mut found = Vec::new();
    while !rest.is_empty() {
        let digits = rest.iter().position(|byte| *byte == b' ').unwrap();
        let length: usize = std::str::from_utf8(&rest[..digits]).unwrap().parse().unwrap();
        let (record, after) = rest.split_at(length);
        let record = record[digits + 1..].strip_suffix(b"\n").unwrap();
        let equals = record.iter().position(|byte| *byte == b'=').unwrap();
        found.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
        rest = after;
    }
    found
}

fn record(bytes: &[u8], key: &str) -> Option<String> {
    let found = records(bytes).into_iter().find(|(found, _)| found == key.as_bytes());
    found.map(|(_, value)| String::from_utf8(value).unwrap())
}

/// Names that the crate's own reader can take: it splits records at line ends.
fn some_path() -> impl Strategy<Value = Vec<u8>> {
    let name = proptest::collection::vec(prop_oneof![9 => 0x20..0x7f_u8, 1 => 0x80..=0xff_u8], 1..120);
    let name = name.prop_map(|mut name| {
        name.iter_mut().filter(|byte| **byte == b'/').for_each(|byte| *byte = b'_');
        name
    });
    proptest::collection::vec(name, 1..5).prop_map(|names| names.join(&b'/'))
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        path in some_path(),
        target in some_path(),
        mode in 0..0o10000_u16,
        (uid, gid) in (any::<u32>(), any::<u32>()),
        size in prop_oneof![0..1000_u64, Just((1 << 33) - 1), Just(1 << 33), Just(i64::MAX.cast_unsigned() / 2)],
        (seconds, nanoseconds) in (0..1_i64 << 34, prop_oneof![Just(0), 0..1_000_000_000_u32]),
        value in proptest::collection::vec(any::<u8>().prop_filter("line ends", |byte| *byte != b'\n'), 0..2000),
    ) {
        let attributes = Attributes {
            mode, uid, gid, mtime: Time { seconds, nanoseconds }, user: Some(b"someone".to_vec()), ..Attributes::default()
        };
        let xattrs = [(b"user.y".to_vec(), value.clone())];
        let file = Member {
            path: &path, attributes: &attributes, xattrs: &xattrs, kind: MemberKind::File { bytes: size },
        };
        let link = Member { xattrs: &[], kind: MemberKind::HardLink(&target), ..file.clone() };
        // The link comes first: the content of the other is not there.
        let bytes = [encode(&link), encode(&file)].concat();
        prop_assert_eq!(bytes.len() % 512, 0);
        let mut archive = Archive::new(&bytes[..]);
        let mut entries = archive.entries().unwrap();
        let found = entries.next().unwrap().unwrap();
        prop_assert_eq!(found.header().entry_type(), EntryType::Link);
        prop_assert_eq!(found.path_bytes().into_owned(), path.clone());
        prop_assert_eq!(found.link_name_bytes().unwrap().into_owned(), target.clone());
        prop_assert_eq!(found.size(), 0);
        let mut found = entries.next().unwrap().unwrap();
        prop_assert_eq!(found.path_bytes().into_owned(), path.clone());
        prop_assert_eq!(found.size(), size);
        prop_assert_eq!(found.header().mode().unwrap(), u32::from(mode));
        prop_assert_eq!(found.header().username_bytes().unwrap(), b"someone");
        let mut times = Vec::new();
        for extension in found.pax_extensions().unwrap().unwrap() {
            let extension = extension.unwrap();
            match extension.key().unwrap() {
                "SCHILY.xattr.user.y" => prop_assert_eq!(extension.value_bytes(), &value[..]),
                "mtime" => times.push(extension.value().unwrap().to_owned()),
                "uid" => prop_assert_eq!(extension.value().unwrap(), uid.to_string()),
                "gid" => prop_assert_eq!(extension.value().unwrap(), gid.to_string()),
                "hdrcharset" => prop_assert!(std::str::from_utf8(&path).is_err()),
                "path" | "size" => {}
                other => panic!("nobody wrote {other}"),
            }
        }
        if uid < 1 << 21 {
            prop_assert_eq!(found.header().uid().unwrap(), u64::from(uid));
        }
        let expected = if nanoseconds == 0 { seconds.to_string() } else { format!("{seconds}.{nanoseconds:09}") };
        match times.first() {
            Some(time) => prop_assert_eq!(time, &expected),
            None => prop_assert_eq!((nanoseconds, found.header().mtime().unwrap()), (0, seconds.cast_unsigned())),
        }
    }

    #[test]
    fn records_count_their_own_digits(length in 0..12_000_usize) {
        let mut bytes = Vec::new();
        append_record(&mut bytes, b"key", &vec![b'x'; length]);
        let text = String::from_utf8(bytes).unwrap();
        prop_assert_eq!(text.split(' ').next().unwrap(), text.len().to_string());
    }
}

#[test]
fn what_is_ordinary_takes_one_block() {
    let bytes = encode_one(b"etc/hosts", &attributes(), MemberKind::File { bytes: 7 });
    assert_eq!(bytes.len(), 512);
    let header = Header::from_byte_slice(&bytes);
    assert_eq!(&bytes[257..265], b"ustar\x0000");
    assert_eq!((header.size().unwrap(), header.mode().unwrap()), (7, 0o6755));
}

#[test]
fn times_before_1970_are_decimal_numbers() {
    for (seconds, nanoseconds, text) in [
        (-5, 123_456_789, "-4.876543211"),
        (-1, 500_000_000, "-0.500000000"),
        (-7, 0, "-7"),
        (0, 1, "0.000000001"),
        (i64::MIN, 0, "-9223372036854775808"),
        (i64::MAX, 999_999_999, "9223372036854775807.999999999"),
    ] {
        let attributes = Attributes { mtime: Time { seconds, nanoseconds }, ..attributes() };
        let bytes = encode_one(b"x", &attributes, MemberKind::Fifo);
        assert_eq!(record(&bytes, "mtime").unwrap(), text);
    }
}

#[test]
fn long_paths_are_split_before_they_become_records() {
    let (d, n) = ([b'd'; 155], [b'n'; 100]);
    let most = [&d[..], b"/", &n].concat();
    let bytes = encode_one(&most, &attributes(), MemberKind::Fifo);
    assert_eq!(bytes.len(), 512);
    assert_eq!(Header::from_byte_slice(&bytes).path_bytes().as_ref(), &most[..]);
    for too_long in [[&most[..], b"n"].concat(), [b"d", &most[..]].concat(), [b'n'; 101].to_vec()] {
        let bytes = encode_one(&too_long, &attributes(), MemberKind::Fifo);
        assert_eq!(record(&bytes, "path").unwrap().as_bytes(), too_long);
    }
    // A directory's slash counts.
    let bytes = encode_one(&[b'n'; 100], &attributes(), MemberKind::Directory);
    assert_eq!(record(&bytes, "path").unwrap(), "n".repeat(100) + "/");
}

#[test]
fn records_with_raw_names_say_so_first() {
    let raw = [&[b'n'; 110][..], b"\xff"].concat();
    let bytes = encode_one(b"x", &attributes(), MemberKind::Symlink(&raw));
    let found = records(&bytes);
    assert_eq!(found[0], (b"hdrcharset".to_vec(), b"BINARY".to_vec()));
    assert_eq!(found[1], (b"linkpath".to_vec(), raw.clone()));
    // In the fields of a block raw bytes are nothing special.
    assert_eq!(encode_one(b"\xff", &attributes(), MemberKind::Symlink(b"\xfe")).len(), 512);
}

#[test]
fn devices_and_owners_beyond_their_fields_have_records() {
    let device = Device { major: 1 << 21, minor: 3 };
    let attributes =
        Attributes { user: Some(vec![b'u'; 40]), group: Some(b"staff".to_vec()), ..attributes() };
    let bytes = encode_one(b"x", &attributes, MemberKind::BlockDevice(device));
    assert_eq!(record(&bytes, "SCHILY.devmajor").unwrap(), "2097152");
    assert_eq!(record(&bytes, "SCHILY.devminor"), None);
    assert_eq!(record(&bytes, "uname").unwrap(), "u".repeat(40));
    let header = Header::from_byte_slice(&bytes[bytes.len() - 512..]);
    assert_eq!(header.device_minor().unwrap(), Some(3));
    assert_eq!(header.groupname_bytes().unwrap(), b"staff");
}

#[test]
fn keys_of_attributes_never_hold_an_equals_sign() {
    for (name, key) in [
        (&b"user.plain"[..], &b"user.plain"[..]),
        (b"user.a=b", b"user.a%3Db"),
        (b"user.50%", b"user.50%"),
        (b"user.%3D", b"user.%253D"),
        (b"user.%25", b"user.%2525"),
    ] {
        assert_eq!(attribute_key(name), key);
    }
}

#[test]
fn acls_stand_as_text_and_as_they_are() {
    let value = [&2_u32.to_le_bytes()[..], &[1, 0, 6, 0, 255, 255, 255, 255]].concat();
    let xattrs = [(b"system.posix_acl_access".to_vec(), value.clone())];
    let attributes = attributes();
    let bytes =
        encode(&Member { path: b"x", attributes: &attributes, xattrs: &xattrs, kind: MemberKind::Fifo });
    assert_eq!(record(&bytes, "SCHILY.acl.access").unwrap(), "user::rw-");
    let raw = records(&bytes).into_iter().find(|(key, _)| key.ends_with(b"posix_acl_access"));
    assert_eq!(raw.unwrap().1, value);
}

#[test]
fn sparse_files_hide_their_name_from_who_cannot_read_them() {
    let kind = MemberKind::Sparse { archived_bytes: 512, real_bytes: 5 << 40 };
    let bytes = encode_one(b"var/lib/disk", &attributes(), kind);
    assert_eq!(record(&bytes, "GNU.sparse.name").unwrap(), "var/lib/disk");
    assert_eq!(record(&bytes, "GNU.sparse.realsize").unwrap(), (5_u64 << 40).to_string());
    let header = Header::from_byte_slice(&bytes[bytes.len() - 512..]);
    assert_eq!(header.path_bytes().as_ref(), b"GNUSparseFile.0/disk");
    assert_eq!(header.size().unwrap(), 512);
}
