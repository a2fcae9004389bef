//! Samples of a store: what is read, what is said of it, and what is remembered.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use yester::journal::RunOutcome;

use crate::harness::{Lab, noise, sized_packs, succeed};

/// Makes snapshots that each have packs of their own.
fn lab_with_packs(snapshots: u64) -> Lab {
    let lab = Lab::new();
    let file = lab.path("file");
    for number in 0..snapshots {
        fs::write(&file, noise(number + 1, 200_000)).unwrap();
        lab.run([Path::new("ingest"), &file, Path::new("--source"), Path::new("s")]).succeeds();
    }
    lab
}

#[test]
fn twenty_samples_cover_a_store() {
    let lab = lab_with_packs(6);
    let all = sized_packs(&lab.store()).len() as u64;
    let first = lab.run(["verify", "--sample", "5%"]);
    first.succeeds();
    assert!(first.stderr.contains(" % of the bytes in packs ("), "{}", first.stderr);
    assert!(first.stderr.contains("packs never verified"), "{}", first.stderr);
    let mut never = all;
    for _ in 1..20 {
        let coverage = lab.run(["verify", "--sample", "5%", "--json"]).json()["coverage"].clone();
        assert_eq!(coverage["packs"].as_u64(), Some(all));
        assert!(coverage["packs_taken"].as_u64().unwrap() < all, "{coverage}");
        // The index is deleted in between; what is remembered lies elsewhere.
        let _ = fs::remove_dir_all(lab.path("cache"));
        never = coverage["packs_never_verified"].as_u64().unwrap();
    }
    assert_eq!(never, 0);
}

#[test]
fn a_sample_comes_to_what_is_damaged_and_names_the_file() {
    let lab = lab_with_packs(3);
    lab.run(["verify"]).succeeds();
    let (size, pack) = sized_packs(&lab.store()).into_iter().max().unwrap();
    let mut mode = fs::metadata(&pack).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o600);
    fs::set_permissions(&pack, mode).unwrap();
    let file = fs::OpenOptions::new().read(true).write(true).open(&pack).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, size / 2).unwrap();
    file.write_all_at(&[byte[0] ^ 1], size / 2).unwrap();
    let said = (0..10)
        .map(|_| lab.run(["verify", "--sample", "20%"]))
        .find_map(|ran| (!ran.stderr.contains("no damage found")).then(|| ran.fails(13).to_owned()))
        .expect("ten samples of 20 % come to everything");
    assert!(said.contains(pack.file_name().unwrap().to_str().unwrap()), "{said}");
    assert!(said.contains(&format!("{}\n", lab.path("file").display())), "{said}");
    assert!(said.contains("hint: `yester verify` without --sample tells what else is damaged"), "{said}");

    let runs = lab.runs();
    assert_eq!((runs[0].operation.as_str(), runs[0].outcome), ("verify", RunOutcome::Failed));
    assert_eq!(runs[0].message, "found 1 damaged object");
    let whole = runs.iter().rfind(|run| run.operation == "verify").unwrap();
    assert_eq!((whole.outcome, whole.bytes > 600_000), (RunOutcome::Succeeded, true));
}

#[test]
fn a_journal_that_cannot_be_written_is_no_reason_not_to_verify() {
    let lab = lab_with_packs(2);
    let state = lab.path("state");
    fs::remove_file(state.join("journal.sqlite")).unwrap();
    fs::create_dir(state.join("journal.sqlite")).unwrap();
    for arguments in [&["verify", "--sample", "1%"][..], &["verify"]] {
        let ran = lab.run(arguments);
        ran.succeeds();
        assert!(ran.stderr.contains("journal"), "{}", ran.stderr);
        assert!(ran.stderr.contains("no damage found"), "{}", ran.stderr);
    }
}

#[test]
fn shares_that_mean_nothing_are_refused() {
    let lab = Lab::empty();
    for share in ["0", "101%", "five"] {
        let ran = lab.run(["verify", "--sample", share]);
        assert!(ran.fails(2).contains("is not a share such as 5%"), "{}", ran.stderr);
    }
    lab.run(["verify", "latest", "--sample", "5"]).fails(2);
}

#[test]
fn a_copy_of_a_store_is_verified_by_itself() {
    let lab = lab_with_packs(2);
    let copy = lab.path("copy");
    succeed(std::process::Command::new("cp").arg("-r").arg(lab.store()).arg(&copy));
    // The copy lags behind.
    let file = lab.path("file");
    fs::write(&file, noise(9, 200_000)).unwrap();
    lab.run([Path::new("ingest"), &file, Path::new("--source"), Path::new("s")]).succeeds();
    let sample = |store: &Path, share: &str| {
        let mut command = lab.command(["verify", "--sample", share, "--json"]);
        crate::harness::Ran::of(command.env("YESTER_STORE", store)).json()["coverage"].clone()
    };
    assert_eq!(sample(&lab.store(), "100%")["packs_never_verified"], 0);
    let lagging = sample(&copy, "1%");
    let (packs, taken) = (lagging["packs"].as_u64().unwrap(), lagging["packs_taken"].as_u64().unwrap());
    assert_eq!(lagging["packs_never_verified"], packs - taken, "{lagging}");
    assert_eq!(sample(&lab.store(), "1%")["packs_never_verified"], 0);
}
