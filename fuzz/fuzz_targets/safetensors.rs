//! Any bytes as a safetensors file: a clean error, or a header that fits it and that the format's own reader shares.
#![no_main]

#[path = "../../rust/formats/tests/invariants/mod.rs"]
mod invariants;

libfuzzer_sys::fuzz_target!(|file: &[u8]| {
    let _ = invariants::check_safetensors(file);
});
