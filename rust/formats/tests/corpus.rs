//! Every input that the fuzzers kept, replayed: what was covered or found once stays so without a fuzzer.

mod invariants;

use std::fs;
use std::path::Path;

/// Runs `check` over a target's corpus; returns how many inputs were accepted and how many rejected.
fn replay<T>(target: &str, check: impl Fn(&[u8]) -> Result<T, String>) -> (usize, usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target);
    let (mut accepted, mut rejected) = (0, 0);
    for file in fs::read_dir(&folder).expect("the corpus is part of the repository") {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        match check(&bytes) {
            Ok(_) => accepted += 1,
            Err(_) => rejected += 1,
        }
    }
    (accepted, rejected)
}

#[test]
fn safetensors_corpus() {
    let (accepted, rejected) = replay("safetensors", invariants::check_safetensors);
    assert!(accepted > 10 && rejected > 50, "{accepted}, {rejected}");
}

#[test]
fn idx_corpus() {
    let (accepted, rejected) = replay("idx", invariants::check_idx);
    assert!(accepted > 5 && rejected > 5, "{accepted}, {rejected}");
}
