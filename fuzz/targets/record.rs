//! Records: burnpack, safetensors and PyTorch files. The first bytes decide which, so each has a corpus of its own.
#![no_main]

use burn_kindling::record::Record;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(record) = Record::from_bytes(bytes.to_vec()) else {
        return;
    };
    // Whatever can be read can be written, and is then the same record.
    let written = record.to_bytes().expect("what was read can be written");
    let again = Record::from_bytes(written.clone()).expect("what was written can be read");
    assert!(again.names().eq(record.names()), "the names differ");
    assert_eq!(again.to_bytes().expect("it was written before"), written);
});
