//! Any bytes as an IDX file: a clean error, or a header whose sizes multiply to what it says.
#![no_main]

#[path = "../../rust/formats/tests/invariants/mod.rs"]
mod invariants;

libfuzzer_sys::fuzz_target!(|file: &[u8]| {
    let _ = invariants::check_idx(file);
});
