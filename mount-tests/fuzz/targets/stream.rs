//! Fuzzes the reader through which every stream is ingested.
#![no_main]

#[path = "../dice.rs"]
mod dice;
#[path = "../harness.rs"]
#[allow(dead_code, reason = "each target checks a part")]
mod harness;
#[path = "../mutate.rs"]
mod mutate;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    harness::check_stream(bytes);
});

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    if seed % 4 != 0 {
        return libfuzzer_sys::fuzzer_mutate(data, size, max_size);
    }
    let sample = &data[..size];
    let mut mutated = mutate::mutated(sample, sample, &mut dice::Dice::new(seed.into()));
    mutated.truncate(max_size);
    data[..mutated.len()].copy_from_slice(&mutated);
    mutated.len()
});
