//! Nights of a changing dump: what is similar is stored as a difference, and comes back like anything else.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

use data_encoding::HEXLOWER;
use rustix::io::Errno;
use serde_json::Value;

use crate::harness::{Lab, Need, Ran, can, flip_middle, noise, sized_packs, succeed};

/// Rows of the dump: some 20 MB.
const ROWS: u64 = 200_000;
/// Of so many rows, one changes in a night.
const ONE_CHANGES_OF: u64 = 200;

/// Returns the dump of a night: rows of which a few in every piece were changed since the night before.
fn dump(night: u64) -> Vec<u8> {
    let mut text = String::with_capacity(22_000_000);
    for row in 0..ROWS {
        let age = (0..=night).rev().find(|night| changes(row, *night)).unwrap_or(0);
        let random = noise(row * 64 + age, 24);
        let hex = HEXLOWER.encode(&random);
        let shelf = row % 97;
        text += &format!("{row}\tcustomer of shelf {shelf}\t{hex}\tsent on day {}\n", age + row % 7);
    }
    text.into_bytes()
}

fn changes(row: u64, night: u64) -> bool {
    night > 0 && ((row * 2_654_435_761 + night * 40_503) % 1_000_003).is_multiple_of(ONE_CHANGES_OF)
}

fn ingest(lab: &Lab, night: u64, arguments: &[&str]) -> Value {
    let path = lab.path("dump");
    fs::write(&path, dump(night)).unwrap();
    let name = format!("night{night}.sql");
    let mut command = lab.command(["ingest", "--json", "--source", "shop", "--as", &name]);
    Ran::of(command.args(arguments).stdin(File::open(&path).unwrap())).json()
}

fn packs_bytes(lab: &Lab) -> u64 {
    sized_packs(&lab.store()).iter().map(|(bytes, _)| bytes).sum()
}

fn read(lab: &Lab, night: u64) -> Vec<u8> {
    let snapshots = lab.snapshots();
    let name = format!("night{night}.sql");
    let snapshot = snapshots.iter().find(|one| one["paths"][0] == name.as_str()).unwrap();
    let ran = lab.run(["cat", snapshot["id"].as_str().unwrap(), &name]);
    ran.succeeds();
    ran.stdout
}

/// Copies an empty store with its key, which decides where chunks end: with another one, sizes differ by a percent.
fn twin(lab: &Lab) -> Lab {
    let twin = Lab::empty();
    succeed(Command::new("cp").arg("-r").arg(lab.store()).arg(lab.path("key")).arg(twin.path(".")));
    twin
}

#[test]
fn a_night_costs_what_changed() {
    let with = Lab::new();
    let without = twin(&with);
    let first = ingest(&with, 0, &[]);
    assert_eq!(first["bytes"], dump(0).len() as u64);
    ingest(&without, 0, &["--no-delta"]);
    let before = (packs_bytes(&with), packs_bytes(&without));
    assert!(before.0 < before.1 + before.1 / 100, "a first night costs no more: {before:?}");

    let second = ingest(&with, 1, &[]);
    let plain = ingest(&without, 1, &["--no-delta"]);
    let growth = (packs_bytes(&with) - before.0, packs_bytes(&without) - before.1);
    assert!(growth.0 * 10 < growth.1, "{growth:?}");
    assert_eq!(plain["deltas"]["frames"], 0, "{plain}");
    let deltas = &second["deltas"];
    assert!(deltas["frames"].as_u64().unwrap() > 20, "{second}");
    assert!(deltas["bytes"].as_u64().unwrap() > 10_000_000, "{second}");
    let (stored, saved) = (deltas["stored_bytes"].as_u64().unwrap(), deltas["saved_bytes"].as_u64().unwrap());
    assert!(stored <= growth.0 && saved > growth.1 / 2, "{second}: {growth:?}");

    // A host that never saw the store finds what is similar, too.
    with.cool();
    let before = packs_bytes(&with);
    let third = ingest(&with, 2, &["--host", "another"]);
    assert!(third["deltas"]["frames"].as_u64().unwrap() > 20, "{third}");
    assert!((packs_bytes(&with) - before) * 10 < growth.1, "{third}");

    // Where deltas are off, those of others are read all the same.
    let off = ingest(&with, 3, &["--no-delta"]);
    assert_eq!(off["deltas"]["frames"], 0, "{off}");
    with.run(["verify"]).succeeds();
    with.cool();
    for night in 0..4 {
        assert!(read(&with, night) == dump(night), "night {night}");
    }
    with.run(["verify"]).succeeds();
}

#[test]
fn differences_come_back_from_a_mount_and_a_restore() {
    if !can(&[Need::Root, Need::Fuse]) {
        return;
    }
    let lab = Lab::new();
    ingest(&lab, 0, &[]);
    assert!(ingest(&lab, 1, &[])["deltas"]["frames"].as_u64().unwrap() > 20);
    lab.cool();
    let mount = lab.mount(&[]);
    let file = mount.path("latest/night1.sql");
    let expected = dump(1);
    // From the end, then as a whole.
    let open = File::open(&file).unwrap();
    for offset in (0..expected.len()).step_by(1_000_003).collect::<Vec<_>>().into_iter().rev() {
        let mut bytes = vec![0; 4096.min(expected.len() - offset)];
        open.read_exact_at(&mut bytes, offset as u64).unwrap();
        assert!(bytes == expected[offset..offset + bytes.len()], "at {offset}");
    }
    assert!(fs::read(&file).unwrap() == expected);
    drop((open, mount));

    lab.cool();
    let target = lab.path("restored");
    lab.run(["restore", "latest:shop", "--to", target.to_str().unwrap()]).succeeds();
    let mut cmp = std::process::Command::new("cmp");
    succeed(cmp.arg(target.join("night1.sql")).arg(lab.path("dump")));
}

#[test]
fn damage_to_a_base_is_damage_to_all_that_depends_on_it() {
    if !can(&[Need::Root, Need::Fuse]) {
        return;
    }
    let lab = Lab::new();
    ingest(&lab, 0, &[]);
    let bases: Vec<(u64, PathBuf)> = sized_packs(&lab.store());
    assert!(ingest(&lab, 1, &[])["deltas"]["frames"].as_u64().unwrap() > 20);
    let (_, pack) = bases.into_iter().max().unwrap();
    flip_middle(&pack);
    lab.cool();

    let verify = lab.run(["verify"]);
    let said = verify.fails(13);
    assert!(said.contains(pack.file_name().unwrap().to_str().unwrap()), "{said}");
    for night in 0..2 {
        assert!(said.contains(&format!("night{night}.sql")), "night {night} depends on it: {said}");
    }

    let mount = lab.mount(&[]);
    let mut failed = Vec::new();
    for snapshot in lab.snapshots() {
        let name = snapshot["paths"][0].as_str().unwrap();
        let night = if name == "night0.sql" { 0 } else { 1 };
        let expected = dump(night);
        let folder = fs::read_dir(mount.path("snapshots")).unwrap().flatten();
        let id = &snapshot["id"].as_str().unwrap()[..8];
        let folder =
            folder.map(|entry| entry.path()).find(|path| path.to_str().unwrap().ends_with(id)).unwrap();
        let open = File::open(folder.join(name)).unwrap();
        let mut errors = 0;
        let offsets: Vec<usize> = (0..expected.len()).step_by(65_536).collect();
        for offset in &offsets {
            let mut bytes = vec![0; 4096.min(expected.len() - offset)];
            match open.read_exact_at(&mut bytes, *offset as u64) {
                Ok(()) => assert!(bytes == expected[*offset..offset + bytes.len()], "{name}: wrong bytes"),
                Err(error) => {
                    assert_eq!(Errno::from_io_error(&error), Some(Errno::IO), "{name}: {error}");
                    errors += 1;
                }
            }
        }
        assert!(errors < offsets.len() / 4, "{name}: {errors} of {} reads fail", offsets.len());
        failed.push((night, errors > 0));
    }
    failed.sort_unstable();
    assert_eq!(failed, [(0, true), (1, true)]);
    drop(mount);

    flip_middle(&pack);
    lab.cool();
    lab.run(["verify"]).succeeds();
    assert!(read(&lab, 1) == dump(1));
}
