//! Frames: cutting a byte stream into them, and a bounded queue of frames to send.

use alloc::vec::Vec;

/// Version byte of every frame.
pub(super) const FRAME_VERSION: u8 = 1;

/// Longest payload, bytes. Longer frames are skipped.
pub const MAX_PAYLOAD: usize = 4096;

const HEADER: usize = 4;

/// One frame as it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What the payload is.
    pub kind: u8,
    /// At most [`MAX_PAYLOAD`] bytes.
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// Appends the frame's bytes to `out`. A payload beyond [`MAX_PAYLOAD`] is cut off there.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let payload = self.payload.get(..MAX_PAYLOAD).unwrap_or(self.payload);
        let length = u16::try_from(payload.len()).unwrap_or(0);
        out.extend_from_slice(&[self.kind, FRAME_VERSION]);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(payload);
    }
}

/// Cuts a byte stream into frames, whatever pieces it arrives in. Any sequence of bytes is some sequence of frames, so
/// there are no errors; memory is bounded by one frame.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    state: State,
    buffer: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Header,
    Payload {
        kind: u8,
        length: usize,
    },
    /// The buffer holds a payload that the caller has seen.
    Given,
    /// In a frame that is not understood, with this many bytes to come.
    Skip(usize),
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes from the front of `input` until a frame of the known version is complete, and gives that. `None`
    /// once `input` is used up.
    pub fn next<'d>(&'d mut self, input: &mut &[u8]) -> Option<Frame<'d>> {
        loop {
            match self.state {
                State::Header => {
                    self.fill(input, HEADER);
                    let &[kind, version, low, high] = self.buffer.as_slice() else { return None };
                    self.buffer.clear();
                    let length = usize::from(u16::from_le_bytes([low, high]));
                    let known = version == FRAME_VERSION && length <= MAX_PAYLOAD;
                    self.state = if known { State::Payload { kind, length } } else { State::Skip(length) };
                }
                State::Payload { kind, length } => {
                    self.fill(input, length);
                    if self.buffer.len() < length {
                        return None;
                    }
                    self.state = State::Given;
                    return Some(Frame { kind, payload: &self.buffer });
                }
                State::Given => {
                    self.buffer.clear();
                    self.state = State::Header;
                }
                State::Skip(left) => {
                    let left = left.saturating_sub(take(input, left).len());
                    if left > 0 {
                        self.state = State::Skip(left);
                        return None;
                    }
                    self.state = State::Header;
                }
            }
        }
    }

    /// Moves bytes to the buffer until that has `length` of them.
    fn fill(&mut self, input: &mut &[u8], length: usize) {
        let missing = length.saturating_sub(self.buffer.len());
        self.buffer.extend_from_slice(take(input, missing));
    }
}

fn take<'a>(input: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at_checked(most).unwrap_or((input, &[]));
    *input = rest;
    taken
}

/// Bytes waiting to be written, bounded: a frame that does not fit whole is dropped. Half of the room is kept for the
/// frames that matter most, so that a peer that asks much and reads nothing cannot displace them.
#[derive(Clone, Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
}

impl Outbox {
    /// Most bytes that wait.
    pub const CAPACITY: usize = 2048;

    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Queues an encoded frame, and says whether it fitted.
    pub fn push(&mut self, frame: &[u8]) -> bool {
        self.push_within(frame, Self::CAPACITY)
    }

    /// Queues the encoded frame of an answer, in the half of the room that answers may fill.
    pub fn push_answer(&mut self, frame: &[u8]) -> bool {
        self.push_within(frame, Self::CAPACITY / 2)
    }

    fn push_within(&mut self, frame: &[u8], room: usize) -> bool {
        let fits = self.bytes.len().checked_add(frame.len()).is_some_and(|length| length <= room);
        if fits {
            self.bytes.extend_from_slice(frame);
        }
        fits
    }

    /// What is to be written next; empty if nothing is.
    pub fn pending(&self) -> &[u8] {
        &self.bytes
    }

    /// Notes that the first `count` pending bytes were written.
    pub fn written(&mut self, count: usize) {
        self.bytes.drain(..count.min(self.bytes.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn collect(decoder: &mut Decoder, mut input: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut frames = Vec::new();
        while let Some(frame) = decoder.next(&mut input) {
            frames.push((frame.kind, frame.payload.to_vec()));
        }
        assert!(input.is_empty());
        frames
    }

    fn encoded(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Frame { kind, payload }.encode(&mut out);
        out
    }

    #[test]
    fn golden() {
        assert_eq!(encoded(0x82, b"abc"), b"\x82\x01\x03\0abc");
    }

    #[test]
    fn unknown_versions_and_oversized_frames_are_skipped() {
        let mut stream = encoded(1, b"");
        stream.extend(b"\x01\x02\x02\0zz");
        stream.extend([1, FRAME_VERSION, 0x01, 0x10]); // 4097 bytes
        stream.extend([9; 4097]);
        stream.extend(b"\x01\x07\0\0");
        stream.extend(encoded(2, &[5; MAX_PAYLOAD]));
        let frames = collect(&mut Decoder::new(), &stream);
        assert_eq!(frames, [(1, Vec::new()), (2, Vec::from([5; MAX_PAYLOAD]))]);
    }

    #[test]
    fn a_payload_beyond_the_limit_is_cut() {
        let frames = collect(&mut Decoder::new(), &encoded(3, &[1; MAX_PAYLOAD + 5]));
        assert_eq!(frames, [(3, Vec::from([1; MAX_PAYLOAD]))]);
    }

    #[test]
    fn the_outbox_drops_whole_frames() {
        let mut outbox = Outbox::new();
        assert!(outbox.push(&[1; Outbox::CAPACITY - 1]));
        assert!(!outbox.push(&[2; 2]));
        outbox.written(5);
        assert!(outbox.push(&[2; 2]));
        assert_eq!(outbox.pending().len(), Outbox::CAPACITY - 4);
        outbox.written(usize::MAX);
        assert!(outbox.pending().is_empty());
    }

    #[test]
    fn answers_leave_room() {
        let mut outbox = Outbox::new();
        while outbox.push_answer(&[1; 8]) {}
        assert_eq!(outbox.pending().len(), Outbox::CAPACITY / 2);
        assert!(outbox.push(&[2; 8]));
    }

    proptest! {
        #[test]
        fn frames_survive_any_cutting(
            frames in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..300)), 0..8),
            pieces in proptest::collection::vec(1..200_usize, 1..40),
        ) {
            let stream: Vec<u8> = frames.iter().flat_map(|(kind, payload)| encoded(*kind, payload)).collect();
            let mut decoder = Decoder::new();
            let mut found = Vec::new();
            let mut rest = stream.as_slice();
            for piece in pieces.into_iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                found.extend(collect(&mut decoder, take(&mut rest, piece)));
            }
            prop_assert_eq!(found, frames);
        }

        #[test]
        fn hostile_bytes_are_consumed_and_memory_stays_bounded(stream in proptest::collection::vec(any::<u8>(), 0..9000)) {
            let mut decoder = Decoder::new();
            for (_, payload) in collect(&mut decoder, &stream) {
                prop_assert!(payload.len() <= MAX_PAYLOAD);
            }
            prop_assert!(decoder.buffer.capacity() <= 2 * MAX_PAYLOAD);
        }
    }
}
