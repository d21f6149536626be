//! Bodies of fuzz targets: what must hold for any bytes. They panic if it does not.

use alloc::vec::Vec;

use crate::control::{Decoder, Event, MAX_PAYLOAD, Outbox, Request};
use crate::ports::{Ports, directory_entries};
use crate::workload::Workload;
use crate::{cmdline, netlink, rlimit};

/// The control channel, from either end: frames are bounded, and the cutting of the stream does not matter.
pub fn control(bytes: &[u8]) {
    let frames = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut decoder, mut found) = (Decoder::new(), Vec::new());
        for mut piece in pieces {
            while let Some(frame) = decoder.next(&mut piece) {
                assert!(frame.payload.len() <= MAX_PAYLOAD);
                found.push((frame.kind, frame.payload.len(), Request::decode(frame), Event::decode(frame)));
            }
            assert!(piece.is_empty());
        }
        found
    };
    let whole = frames(&mut core::iter::once(bytes));
    assert!(whole == frames(&mut bytes.chunks(1)));

    let mut outbox = Outbox::new();
    for event in whole.iter().filter_map(|(_, _, _, event)| event.as_ref()) {
        outbox.push(&event.encode());
        assert!(outbox.pending().len() <= Outbox::CAPACITY);
    }
}

/// The workload file: what is read is what would be written.
pub fn workload(bytes: &[u8]) {
    if let Ok(workload) = Workload::decode(bytes) {
        assert!(workload.encode().is_ok_and(|file| file == bytes));
    }
}

/// What PID 1 reads from its kernel, and the texts in its environment.
pub fn kernel_texts(bytes: &[u8]) {
    let _ = cmdline::has_word(bytes, b"tsi_hijack");
    let _ = netlink::result(bytes);
    let mut ports = Ports::default();
    for entry in directory_entries(bytes) {
        ports.add(entry, bytes);
    }
    for limit in rlimit::items(bytes).filter_map(rlimit::Rlimit::parse) {
        assert!(limit.soft <= limit.hard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADS: [&[u8]; 3] = [b"\x01\x01\x04\0", b"PRLNEXEC\x01\0\0\0\x01\0\0\0", b"\"7=1:"];

    proptest! {
        #[test]
        fn targets_hold_for_arbitrary_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
            control(&bytes);
            workload(&bytes);
            kernel_texts(&bytes);
        }

        #[test]
        fn targets_hold_for_nearly_valid_bytes(
            head in proptest::sample::select(&HEADS[..]),
            bytes in proptest::collection::vec(0..6_u8, 0..200),
        ) {
            let bytes = [head, &bytes].concat();
            control(&bytes);
            workload(&bytes);
            kernel_texts(&bytes);
        }
    }
}
