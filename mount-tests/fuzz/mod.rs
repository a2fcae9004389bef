//! Fuzzing of the dump parsers, the short form: the same few thousand streams in every run.
//!
//! `scripts/fuzz` is the long one, in which coverage leads libFuzzer; it begins with the same samples, and holds what
//! it finds against the same promises (`harness`). What it found that broke one is a test here.

mod dice;
mod harness;
mod mutate;
mod samples;

use yester::dump::{DumpFormat, Treatment, Verdict};

use dice::Dice;
use harness::{check_archive, check_stream, read_all};
use samples::SAMPLES;

/// Changed versions of each sample.
const MUTATIONS: u64 = 200;

#[test]
fn samples_are_whole() {
    for sample in &SAMPLES {
        let report = check_stream(sample.bytes);
        assert_eq!(report.verdict, Verdict::Whole, "{}", sample.name);
        assert_eq!(report.formats, sample.formats, "{}", sample.name);
        check_archive(sample.bytes);
    }
}

#[test]
fn piped_archives_are_completed() {
    let filled = |name: &str| {
        let sample = SAMPLES.iter().find(|sample| sample.name == name).unwrap();
        read_all(sample.bytes, Treatment::CheckAndComplete, None).report.filled_offsets
    };
    // Three tables and a large object; the file that pg_dump wrote itself has all it needs.
    assert_eq!(filled("pg15-piped.dump"), 4);
    assert_eq!(filled("pg15-compressed.dump"), 4);
    assert_eq!(filled("pg16-piped.dump"), 4);
    assert_eq!(filled("pg18-piped.dump"), 4);
    assert_eq!(filled("pg15-file.dump"), 0);
    assert_eq!(filled("pg15-schema.dump"), 0);
}

#[test]
fn no_sample_is_whole_when_it_is_cut_short() {
    for sample in &SAMPLES {
        // The first field of a tar archive is a name, which tells nothing.
        let recognised = if sample.name.contains("tar") { 124 } else { 1 };
        for length in recognised..sample.bytes.len() - sample.spare_bytes {
            let verdict = read_all(&sample.bytes[..length], Treatment::CheckAndComplete, None).report.verdict;
            assert!(matches!(verdict, Verdict::Broken(_)), "{length} bytes of {}: {verdict:?}", sample.name);
        }
    }
}

#[test]
fn changed_samples_keep_every_promise() {
    let mut dice = Dice::new(1);
    let mut broken = 0;
    for sample in &SAMPLES {
        for _ in 0..MUTATIONS {
            let other = dice.one_of(&SAMPLES.each_ref()).bytes;
            let report = check_stream(&mutate::mutated(sample.bytes, other, &mut dice));
            broken += u64::from(matches!(report.verdict, Verdict::Broken(_)));
        }
    }
    // A gate that lets everything pass would keep the promises too.
    assert!(broken > MUTATIONS * SAMPLES.len() as u64 / 2, "{broken} were broken");
}

#[test]
fn changed_archives_keep_every_promise() {
    let archives: Vec<_> = SAMPLES.iter().filter(|sample| sample.formats == [DumpFormat::PgCustom]).collect();
    let mut dice = Dice::new(2);
    for sample in &archives {
        for _ in 0..4 * MUTATIONS {
            let other = dice.one_of(&archives).bytes;
            check_archive(&mutate::mutated(sample.bytes, other, &mut dice));
        }
    }
}

/// A length of 2 GiB in the head of an archive must not make yester wait for so many bytes.
#[test]
fn a_table_of_contents_without_an_end_is_not_held_back() {
    // The name of the database stands behind the beginning and eight integers of five bytes.
    let (before, length) = SAMPLES[0].bytes[..56].split_at(51);
    assert_eq!(length, [0, 1, 0, 0, 0]);
    let mut endless = [before, &[0, 0xff, 0xff, 0xff, 0x7f]].concat();
    endless.resize(harness::HELD_BACK_MAX + (1 << 20), b'x');
    let outcome = read_all(&endless, Treatment::CheckAndComplete, None);
    assert!(matches!(outcome.report.verdict, Verdict::Unchecked(_)), "{:?}", outcome.report);
    assert!(outcome.stored == endless);
}
