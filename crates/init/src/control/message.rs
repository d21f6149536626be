//! What the frames mean.

use alloc::string::String;
use alloc::vec::Vec;

use super::frame::Frame;
use crate::errno::Errno;

/// Version of the messages, sent in [`Event::Hello`]. A change that an older peer would misread raises it.
pub const PROTOCOL_VERSION: u32 = 1;

/// Longest text of [`Event::SetupFailed`], bytes.
pub const MAX_MESSAGE: usize = 512;

const HELLO: u8 = 0x01;
const STARTED: u8 = 0x02;
const SETUP_FAILED: u8 = 0x03;
const EXITED: u8 = 0x04;
const STOPPING: u8 = 0x05;
const PONG: u8 = 0x06;
const STOP: u8 = 0x81;
const PING: u8 = 0x82;
const SET_TIME: u8 = 0x83;

/// Where setting up the guest failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Reading the workload file.
    WorkloadFile,
    /// Mounting and preparing file systems.
    Mount,
    /// Network interfaces.
    Network,
    /// Hostname, terminal and other traits of the system.
    System,
    /// Changing to the working directory.
    WorkingDirectory,
    /// Creating the workload's process.
    Spawn,
    /// Executing the program.
    Execute,
    /// A defect of PID 1 itself.
    Internal,
    /// Reading who the workload is from the configuration file.
    ConfigFile,
    /// Becoming the workload's user.
    User,
    /// A stage this crate does not know.
    Other(u8),
}

impl Stage {
    const KNOWN: [(u8, Stage); 10] = [
        (1, Stage::WorkloadFile),
        (2, Stage::Mount),
        (3, Stage::Network),
        (4, Stage::System),
        (5, Stage::WorkingDirectory),
        (6, Stage::Spawn),
        (7, Stage::Execute),
        (8, Stage::Internal),
        (9, Stage::ConfigFile),
        (10, Stage::User),
    ];

    fn number(self) -> u8 {
        match self {
            Self::Other(number) => number,
            known => Self::KNOWN.iter().find(|(_, stage)| *stage == known).map_or(0, |(number, _)| *number),
        }
    }

    fn from_number(number: u8) -> Self {
        Self::KNOWN
            .iter()
            .find(|(known, _)| *known == number)
            .map_or(Self::Other(number), |(_, stage)| *stage)
    }
}

/// From the guest to the host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The first message: PID 1 is there. Payload: u32 [`PROTOCOL_VERSION`].
    Hello {
        /// The guest's protocol version.
        version: u32,
    },
    /// The program was executed. Payload: u32 process id.
    Started {
        /// The workload's process id in the guest.
        pid: u32,
    },
    /// The program was not executed; [`Exited`](Self::Exited) follows with 125 to 127. Payload: u8 stage, u32 error
    /// number (0 if there is none), text.
    SetupFailed {
        /// What failed.
        stage: Stage,
        /// The system call's error, if it was one.
        errno: Option<Errno>,
        /// For people; at most [`MAX_MESSAGE`] bytes, with anything that is not UTF-8 replaced, and control characters, which
        /// could be meant for a terminal or a log.
        message: String,
    },
    /// The last message: everything is written back and the machine restarts now, which the host need not wait for.
    /// Payload: i32 code.
    Exited {
        /// Exit status of the workload, 128 + signal number, or 125 to 127 (see [`crate::abi`]).
        code: i32,
    },
    /// A [`Request::Stop`] was received and the workload was told. Empty.
    Stopping,
    /// The answer to [`Request::Ping`]. Payload: u32 token.
    Pong {
        /// The token of the request.
        token: u32,
    },
}

impl Event {
    /// The frame's bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Hello { version } => frame(HELLO, &version.to_le_bytes()),
            Self::Started { pid } => frame(STARTED, &pid.to_le_bytes()),
            Self::SetupFailed { stage, errno, message } => {
                let message = message.as_bytes();
                let mut payload = Vec::from([stage.number()]);
                payload.extend_from_slice(&errno.map_or(0, |errno| errno.0).to_le_bytes());
                payload.extend_from_slice(message.get(..MAX_MESSAGE).unwrap_or(message));
                frame(SETUP_FAILED, &payload)
            }
            Self::Exited { code } => frame(EXITED, &code.to_le_bytes()),
            Self::Stopping => frame(STOPPING, &[]),
            Self::Pong { token } => frame(PONG, &token.to_le_bytes()),
        }
    }

    /// The meaning of a frame; `None` if its kind is unknown or its payload too short.
    pub fn decode(frame: Frame<'_>) -> Option<Self> {
        let payload = frame.payload;
        Some(match frame.kind {
            HELLO => Self::Hello { version: u32::from_le_bytes(field(payload, 0)?) },
            STARTED => Self::Started { pid: u32::from_le_bytes(field(payload, 0)?) },
            SETUP_FAILED => {
                let text = payload.get(5..)?;
                let text = text.get(..MAX_MESSAGE).unwrap_or(text);
                let errno = i32::from_le_bytes(field(payload, 1)?);
                Self::SetupFailed {
                    stage: Stage::from_number(*payload.first()?),
                    errno: (errno != 0).then_some(Errno(errno)),
                    message: printable(text),
                }
            }
            EXITED => Self::Exited { code: i32::from_le_bytes(field(payload, 0)?) },
            STOPPING => Self::Stopping,
            PONG => Self::Pong { token: u32::from_le_bytes(field(payload, 0)?) },
            _ => return None,
        })
    }
}

/// From the host to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// End the workload: SIGTERM now, SIGKILL after the grace time. The guest then kills what is left and restarts.
    /// Repeated, the earlier of the two ends of the grace time counts. Payload: u32 milliseconds.
    Stop {
        /// Milliseconds between the two signals; 0 sends both at once.
        grace_ms: u32,
    },
    /// Answered by [`Event::Pong`]. Payload: u32 token.
    Ping {
        /// Given back in the answer.
        token: u32,
    },
    /// The host's clock, after a time in which the guest did not run: the guest sets its own unless both agree (see
    /// [`crate::clock`]). Payload: u64 nanoseconds since 1970.
    SetTime {
        /// Nanoseconds since 1970-01-01 00:00 UTC.
        nanoseconds: u64,
    },
}

impl Request {
    /// The frame's bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Stop { grace_ms } => frame(STOP, &grace_ms.to_le_bytes()),
            Self::Ping { token } => frame(PING, &token.to_le_bytes()),
            Self::SetTime { nanoseconds } => frame(SET_TIME, &nanoseconds.to_le_bytes()),
        }
    }

    /// The meaning of a frame; `None` if its kind is unknown or its payload too short.
    pub fn decode(frame: Frame<'_>) -> Option<Self> {
        let number = || field(frame.payload, 0).map(u32::from_le_bytes);
        Some(match frame.kind {
            STOP => Self::Stop { grace_ms: number()? },
            PING => Self::Ping { token: number()? },
            SET_TIME => Self::SetTime { nanoseconds: u64::from_le_bytes(field(frame.payload, 0)?) },
            _ => return None,
        })
    }
}

fn printable(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 4);
    Frame { kind, payload }.encode(&mut out);
    out
}

fn field<const N: usize>(payload: &[u8], at: usize) -> Option<[u8; N]> {
    payload.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Decoder;
    use alloc::string::ToString;
    use proptest::prelude::*;

    fn event(bytes: &[u8]) -> Option<Event> {
        Event::decode(Decoder::new().next(&mut &*bytes)?)
    }

    fn request(bytes: &[u8]) -> Option<Request> {
        Request::decode(Decoder::new().next(&mut &*bytes)?)
    }

    #[test]
    fn golden_events() {
        let failed = Event::SetupFailed {
            stage: Stage::Mount,
            errno: Some(Errno::NOENT),
            message: "mount /x".to_string(),
        };
        let table: [(Event, &[u8]); 6] = [
            (Event::Hello { version: 1 }, b"\x01\x01\x04\0\x01\0\0\0"),
            (Event::Started { pid: 258 }, b"\x02\x01\x04\0\x02\x01\0\0"),
            (failed, b"\x03\x01\x0d\0\x02\x02\0\0\0mount /x"),
            (Event::Exited { code: -1 }, b"\x04\x01\x04\0\xff\xff\xff\xff"),
            (Event::Stopping, b"\x05\x01\0\0"),
            (Event::Pong { token: 7 }, b"\x06\x01\x04\0\x07\0\0\0"),
        ];
        for (message, bytes) in table {
            assert_eq!(message.encode(), bytes, "{message:?}");
            assert_eq!(event(bytes), Some(message));
        }
    }

    #[test]
    fn golden_requests() {
        let table: [(Request, &[u8]); 3] = [
            (Request::Stop { grace_ms: 5000 }, b"\x81\x01\x04\0\x88\x13\0\0"),
            (Request::Ping { token: 0x0102_0304 }, b"\x82\x01\x04\0\x04\x03\x02\x01"),
            (Request::SetTime { nanoseconds: 0x0102 }, b"\x83\x01\x08\0\x02\x01\0\0\0\0\0\0"),
        ];
        for (message, bytes) in table {
            assert_eq!(message.encode(), bytes, "{message:?}");
            assert_eq!(request(bytes), Some(message));
        }
    }

    #[test]
    fn every_stage_has_its_own_number() {
        for number in 0..=u8::MAX {
            assert_eq!(Stage::from_number(number).number(), number);
        }
    }

    #[test]
    fn newer_peers_are_understood_and_short_payloads_are_not() {
        assert_eq!(event(b"\x04\x01\x06\0\x07\0\0\0zz"), Some(Event::Exited { code: 7 }));
        assert_eq!(event(b"\x04\x01\x03\0\x07\0\0"), None);
        assert_eq!(event(b"\x03\x01\x04\0\x02\0\0\0"), None);
        assert_eq!(event(b"\x7f\x01\x04\0\x07\0\0\0"), None);
        assert_eq!(request(b"\x81\x01\0\0"), None);
        assert_eq!(request(b"\x83\x01\x04\0\0\0\0\0"), None);
        assert_eq!(request(b"\xff\x01\x04\0\x07\0\0\0"), None);
    }

    /// The host prints it.
    #[test]
    fn texts_cannot_command_a_terminal() {
        let said = event(b"\x03\x01\x0e\0\x07\x02\0\0\0\x1b[2J\na\xc2\x9b\xff");
        let Some(Event::SetupFailed { message, .. }) = said else { panic!("{said:?}") };
        assert_eq!(message, "\u{fffd}[2J\u{fffd}a\u{fffd}\u{fffd}");
    }

    #[test]
    fn long_texts_are_cut() {
        let long =
            Event::SetupFailed { stage: Stage::Internal, errno: None, message: "x".repeat(MAX_MESSAGE + 1) };
        assert_eq!(long.encode().len(), 4 + 5 + MAX_MESSAGE);
    }

    proptest! {
        #[test]
        fn no_frame_makes_the_decoders_panic(kind: u8, payload in proptest::collection::vec(any::<u8>(), 0..600)) {
            let frame = Frame { kind, payload: &payload };
            let _ = Request::decode(frame);
            if let Some(Event::SetupFailed { message, .. }) = Event::decode(frame) {
                prop_assert!(message.chars().count() <= MAX_MESSAGE);
            }
        }
    }
}
