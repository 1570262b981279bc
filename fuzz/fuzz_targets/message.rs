#![no_main]

#[path = "../src/replay.rs"]
mod replay;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    replay::message(input);
});
