//! Listing directories: order, positions, and many entries.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::Dir;

use super::{NEEDS, copy_of, snapshot_of};
use crate::harness::{Need, can, succeed};

/// More than a batch of the server, and than several answers to the kernel hold.
const MANY: usize = 2500;

/// Returns names and inode numbers as the kernel gives them, `.` and `..` included.
fn raw_entries(folder: &Path) -> Vec<(Vec<u8>, u64)> {
    let directory = Dir::read_from(File::open(folder).unwrap()).unwrap();
    directory
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().to_bytes().to_vec(), entry.ino()))
        .collect()
}

fn many_files(tree: &Path) {
    for number in 0..MANY {
        File::create(tree.join(format!("entry {number}"))).unwrap();
    }
}

#[test]
fn s30_names_come_sorted_by_their_bytes() {
    if !can(&NEEDS) {
        return;
    }
    let names: [&[u8]; 6] = [b"Z", b"a", b"a b", b"ab", b"b", b"\xff"];
    let (lab, tree) = snapshot_of(|tree| {
        for name in names {
            File::create(tree.join(OsStr::from_bytes(name))).unwrap();
        }
    });
    let mount = lab.mount(&[]);
    let copy = copy_of(&mount, &tree);
    let entries = raw_entries(&copy);
    let listed: Vec<&[u8]> = entries.iter().map(|(name, _)| name.as_slice()).collect();
    let expected: Vec<&[u8]> = [&b"."[..], b".."].into_iter().chain(names).collect();
    assert_eq!(listed, expected);
    let number = |path: &Path| fs::metadata(path).unwrap().ino();
    assert_eq!(entries[0].1, number(&copy));
    assert_eq!(entries[1].1, number(&copy.join("..")));
    for (_, inode) in &entries {
        assert_ne!(*inode, 0);
    }
}

const POSITIONS: &str = r#"
opendir(my $d, $ARGV[0]) or die $!;
my (@names, @at);
while (1) { push @at, telldir($d); my $n = readdir($d); last unless defined $n; push @names, $n; }
for (my $i = $#names; $i >= 0; $i -= 97) {
    seekdir($d, $at[$i]);
    my $n = readdir($d);
    die "at $i: $n instead of $names[$i]" unless $n eq $names[$i];
}
opendir(my $e, $ARGV[0]) or die $!;
readdir($e); seekdir($e, $at[1234]);
my $n = readdir($e);
die "in another handle: $n" unless $n eq $names[1234];
rewinddir($d);
my @again = readdir($d);
die "again" unless "@again" eq "@names";
print scalar(@names);
"#;

#[test]
fn s31_positions_stay_what_they_were() {
    if !can(&[Need::Root, Need::Fuse, Need::Tool("perl")]) {
        return;
    }
    let (lab, tree) = snapshot_of(many_files);
    let mount = lab.mount(&[]);
    let counted = succeed(Command::new("perl").args(["-e", POSITIONS]).arg(copy_of(&mount, &tree)));
    assert_eq!(counted, (MANY + 2).to_string());
}

#[test]
fn s32_many_entries_are_all_there_once() {
    if !can(&NEEDS) {
        return;
    }
    let (lab, tree) = snapshot_of(many_files);
    let mount = lab.mount(&[]);
    let copy = copy_of(&mount, &tree);
    let shell = |script: &str| succeed(Command::new("sh").args(["-c", script]).current_dir(&copy));
    assert_eq!(shell("ls -f | sort -u | wc -l").trim(), (MANY + 2).to_string());
    assert_eq!(shell("ls -l | wc -l").trim(), (MANY + 1).to_string());
    assert_eq!(shell("find . -type f | wc -l").trim(), MANY.to_string());
    let again = raw_entries(&copy);
    assert_eq!(again.len(), MANY + 2, "from the kernel's cache");
}
