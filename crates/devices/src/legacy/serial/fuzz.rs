//! What the fuzz target `serial_ops` does: accesses of a guest and bytes of the host, held against a model, and saved
//! states, also foreign ones.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use purlin_snapshot::Section;
use purlin_vmm_core::bus::BusDevice;
use purlin_vmm_core::irq::IrqLine;

use super::Serial;
use super::uart::{FIFO, OUTBOX_FULL, OUTBOX_LIMIT, Uart};
use super::worker::lock;
use crate::shell::EventLoop;

struct Silent;

impl IrqLine for Silent {
    fn trigger(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Most operations of an input, so that it takes bounded time.
const MAX_OPERATIONS: usize = 256;

/// A quiesced line without ends: its bytes are the target's.
#[expect(clippy::expect_used, reason = "test support")]
fn line(host: &EventLoop) -> Serial {
    let mut line = Serial::new(None, None, Arc::new(Silent), host.handle()).expect("a serial line");
    line.quiesce(Instant::now() + Duration::from_secs(10)).expect("a line at rest");
    line
}

/// Appends a byte, if there are fewer than `limit`.
fn push(bytes: &mut VecDeque<u8>, limit: usize, byte: u8) {
    if bytes.len() < limit {
        bytes.push_back(byte);
    }
}

/// The bytes that are on their way, and the registers that say where they go.
struct Model {
    sent: VecDeque<u8>,
    received: VecDeque<u8>,
    line_control: u8,
    modem_control: u8,
}

impl Model {
    /// Of a line that nobody has used: eight bits, no parity.
    fn new() -> Self {
        Model { sent: VecDeque::new(), received: VecDeque::new(), line_control: 3, modem_control: 0 }
    }

    fn divisor(&self) -> bool {
        self.line_control & 0x80 != 0
    }

    fn looped(&self) -> bool {
        self.modem_control & 0x10 != 0
    }

    fn write(&mut self, register: u64, value: u8) {
        match register {
            0 if self.divisor() => {}
            0 if self.looped() => push(&mut self.received, FIFO as usize, value),
            0 => push(&mut self.sent, OUTBOX_LIMIT, value),
            3 => self.line_control = value,
            4 => self.modem_control = value,
            _ => {}
        }
    }

    fn receive(&mut self, bytes: &[u8]) -> usize {
        let room = if self.looped() { 0 } else { (FIFO as usize).saturating_sub(self.received.len()) };
        let taken = bytes.len().min(room);
        self.received.extend(bytes.iter().take(taken));
        taken
    }

    /// Whether the registers tell of these bytes.
    fn compare(&self, uart: &mut Uart) {
        let mut status = [0];
        uart.read(5, &mut status);
        let [status] = status;
        assert_eq!(uart.unsent(), self.sent.len());
        assert_eq!(status & 1 != 0, !self.received.is_empty());
        let full = self.sent.len() >= OUTBOX_FULL;
        assert_eq!(status & 0x60, if full { 0 } else { 0x60 });
    }
}

/// Operations of three bytes: what, where, and a value. After a foreign saved state was taken nothing is compared any more but
/// saved states with each other.
///
/// # Panics
///
/// If a property does not hold: that is what a fuzzer looks for.
#[expect(clippy::expect_used, reason = "a failure is a finding")]
pub fn serial_ops(data: &[u8]) {
    let host = EventLoop::spawn("fuzz").expect("a loop");
    let (mut line_now, mut model) = (line(&host), Some(Model::new()));
    let mut operations = data;
    for _ in 0..MAX_OPERATIONS {
        let Some((&[operation, register, value], rest)) = operations.split_first_chunk() else { return };
        operations = rest;
        let uart = || lock(&line_now.uart);
        match operation % 8 {
            0..=2 => access(&mut uart(), model.as_mut(), [operation, register, value]),
            3 => {
                let bytes: Vec<u8> = (0..value).collect();
                let taken = uart().receive(&bytes);
                assert!(taken <= bytes.len());
                if let Some(model) = &mut model {
                    assert_eq!(taken, model.receive(&bytes));
                }
            }
            4 => take(uart(), model.as_mut(), usize::from(register) * 64 + 1),
            5 => {
                for _ in 0..usize::from(register) * 64 {
                    uart().write(0, &[value]);
                    model.iter_mut().for_each(|model| model.write(0, value));
                }
            }
            6 => {
                let section = line_now.save(0);
                line_now = again(&host, &section).expect("what was saved is taken");
            }
            _ => {
                let before = line_now.save(0);
                let foreign = Section::new(before.id, rest.to_vec());
                if line_now.restore(&foreign).is_ok() {
                    assert!(again(&host, &line_now.save(0)).is_some());
                    model = None;
                } else {
                    assert!(line_now.save(0) == before, "a refused state changes nothing");
                }
            }
        }
        let mut uart = lock(&line_now.uart);
        assert!(uart.unsent() <= OUTBOX_LIMIT);
        model.iter().for_each(|model| model.compare(&mut uart));
    }
}

fn access(uart: &mut Uart, model: Option<&mut Model>, [operation, register, value]: [u8; 3]) {
    let register = u64::from(register % 16);
    // A byte, as drivers do it, or any width.
    let width = if operation & 0x80 == 0 { 1 } else { usize::from(operation >> 3 & 15) };
    if operation % 8 == 0 {
        uart.write(register, &vec![value; width]);
        model.into_iter().filter(|_| width == 1).for_each(|model| model.write(register, value));
        return;
    }
    let mut read = vec![value; width];
    uart.read(register, &mut read);
    let Some(model) = model else { return };
    let given = match (register, width) {
        (0, 1) if !model.divisor() => model.received.pop_front().unwrap_or(0),
        (3, 1) => model.line_control,
        (_, 1) => return,
        _ => 0,
    };
    assert!(read.iter().all(|byte| *byte == given), "register {register}");
}

/// The host takes up to so many bytes.
fn take(mut uart: MutexGuard<'_, Uart>, model: Option<&mut Model>, count: usize) {
    let mut bytes = vec![0; count];
    let seen = uart.peek(&mut bytes);
    bytes.truncate(seen);
    uart.take(seen);
    if let Some(model) = model {
        let expected: Vec<u8> = model.sent.drain(..count.min(model.sent.len())).collect();
        assert!(bytes == expected, "{seen} bytes");
    }
}

/// Another line with the state `section`, if that is taken. What it saves then does not change by doing so again.
fn again(host: &EventLoop, section: &Section) -> Option<Serial> {
    let (mut second, mut third) = (line(host), line(host));
    second.restore(section).ok()?;
    let settled = second.save(0);
    assert!(third.restore(&settled).is_ok() && third.save(0) == settled);
    Some(second)
}
