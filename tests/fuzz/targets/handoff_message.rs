#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| uninterruptible_host::fuzz::handoff_message(bytes));
