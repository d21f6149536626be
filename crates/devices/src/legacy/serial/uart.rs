//! The 16550 as the guest sees it, with bytes on both sides. Pure but for the interrupt line it pulls.
//!
//! The registers are vm-superio's, whose transmitter is always empty. Here it is full while the host does not
//! take what was sent (LSR bits 5 and 6 are clear, PC16550D data sheet §8.6.3), and a driver that waits for it
//! loses nothing.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;

use purlin_snapshot::{DecodeError, Reader, Writer};
use purlin_vmm_core::bus::BusDevice;
use purlin_vmm_core::irq::IrqLine;
use vm_superio::Trigger;
use vm_superio::serial::{NoEvents, Serial, SerialState};
use vmm_sys_util::eventfd::EventFd;

/// Bytes the receiver holds (the FIFO of a 16550A is 16; drivers cope with more).
pub(super) const FIFO: u32 = 64;
/// Bytes sent that the host has not taken, from which on the transmitter is full. A driver may send a FIFO's
/// worth after it last looked.
pub(super) const OUTBOX_FULL: usize = 64 << 10;
/// Bytes kept at most; a driver that does not look loses the rest.
pub(super) const OUTBOX_LIMIT: usize = OUTBOX_FULL + 4096;

const DATA: u64 = 0;
const IER: u8 = 1;
const LCR: u8 = 3;
const LSR: u64 = 5;
/// Divisor latch access: registers 0 and 1 are others.
const LCR_DLAB: u8 = 1 << 7;
/// Transmitter holding register and shift register empty.
const LSR_EMPTY: u8 = 1 << 5 | 1 << 6;

/// The line to the interrupt controller.
struct Line(Arc<dyn IrqLine>);

impl Trigger for Line {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.trigger()
    }
}

/// What the guest sent.
#[derive(Default)]
struct Outbox {
    bytes: VecDeque<u8>,
    lost: u64,
}

impl Write for Outbox {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = OUTBOX_LIMIT.saturating_sub(self.bytes.len());
        self.bytes.extend(bytes.iter().take(room));
        self.lost = self.lost.saturating_add(bytes.len().saturating_sub(room) as u64);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Registers and bytes. On the bus it is eight ports long; accesses of other widths than a byte read 0.
pub(super) struct Uart {
    registers: Serial<Line, NoEvents, Outbox>,
    irq: Arc<dyn IrqLine>,
    /// Told when there is something to do for the worker.
    wake: Arc<EventFd>,
    /// The worker was told and has not come yet.
    told: bool,
    /// The worker has bytes for the guest that were not taken.
    input_waits: bool,
}

impl Uart {
    pub fn new(irq: Arc<dyn IrqLine>, wake: Arc<EventFd>) -> Self {
        let registers = Serial::new(Line(irq.clone()), Outbox::default());
        Uart { registers, irq, wake, told: false, input_waits: false }
    }

    fn tell_worker(&mut self) {
        let news = self.input_waits || !self.registers.writer().bytes.is_empty();
        if news && !std::mem::replace(&mut self.told, true) {
            // Fails only when 2^64 - 2 events are pending.
            let _ = self.wake.write(1);
        }
    }

    fn is_full(&self) -> bool {
        self.registers.writer().bytes.len() >= OUTBOX_FULL
    }

    /// The worker is there: it is told of anything new from here on.
    pub fn worker_came(&mut self) {
        self.told = false;
    }

    /// The first bytes the guest sent, as many as `bytes` takes.
    pub fn peek(&self, bytes: &mut [u8]) -> usize {
        let sent = &self.registers.writer().bytes;
        bytes.iter_mut().zip(sent).map(|(to, from)| *to = *from).count()
    }

    /// The host took that many of them.
    pub fn take(&mut self, count: usize) {
        let was_full = self.is_full();
        let sent = &mut self.registers.writer_mut().bytes;
        let count = count.min(sent.len());
        drop(sent.drain(..count));
        if was_full && !self.is_full() {
            self.announce_empty();
        }
    }

    /// Bytes the guest sent that nobody took.
    pub fn unsent(&self) -> usize {
        self.registers.writer().bytes.len()
    }

    /// Bytes that were lost since this was asked last.
    pub fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.registers.writer_mut().lost)
    }

    /// Makes the interrupts the driver may wait for, which come when they are enabled. While
    /// the divisor is set, register 1 is not the one that enables; the driver is then at its start.
    fn announce_empty(&mut self) {
        if self.registers.read(LCR) & LCR_DLAB == 0 {
            let enabled = self.registers.read(IER);
            self.registers_write(IER, enabled);
        }
    }

    /// Gives the guest bytes; how many it took. If not all, the worker is told when there is room.
    pub fn receive(&mut self, bytes: &[u8]) -> usize {
        let taken = match self.registers.enqueue_raw_bytes(bytes) {
            Ok(taken) => taken,
            Err(vm_superio::serial::Error::Trigger(e)) => {
                log::error!("serial line: interrupt: {e}");
                bytes.len()
            }
            // Full.
            Err(_) => 0,
        };
        self.input_waits = taken < bytes.len();
        taken
    }

    fn registers_write(&mut self, register: u8, value: u8) {
        // The outbox takes everything; only the interrupt line can fail.
        if let Err(e) = self.registers.write(register, value) {
            log::error!("serial line: {e}");
        }
    }

    /// Registers and bytes, for a snapshot.
    pub fn save(&self, w: &mut Writer) {
        let state = self.registers.state();
        for register in [
            state.baud_divisor_low,
            state.baud_divisor_high,
            state.interrupt_enable,
            state.interrupt_identification,
            state.line_control,
            state.line_status,
            state.modem_control,
            state.modem_status,
            state.scratch,
        ] {
            w.u8(register);
        }
        w.bytes(&state.in_buffer);
        let sent: Vec<u8> = self.registers.writer().bytes.iter().copied().collect();
        w.bytes(&sent);
    }

    /// Takes over saved registers and bytes.
    pub fn restore(&mut self, saved: Saved) {
        let outbox = Outbox { bytes: saved.sent.into(), lost: 0 };
        match Serial::from_state(&saved.state, Line(self.irq.clone()), NoEvents, outbox) {
            Ok(registers) => self.registers = registers,
            // No more bytes than fit were decoded, and no interrupt was pending.
            Err(e) => log::error!("serial line: {e}"),
        }
        self.announce_empty();
    }
}

/// A decoded state.
pub(super) struct Saved {
    state: SerialState,
    sent: Vec<u8>,
}

impl Saved {
    /// What [`Uart::save`] wrote.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut state = SerialState {
            baud_divisor_low: r.u8("divisor, low")?,
            baud_divisor_high: r.u8("divisor, high")?,
            interrupt_enable: r.u8("interrupt enable")?,
            interrupt_identification: r.u8("interrupt identification")?,
            line_control: r.u8("line control")?,
            line_status: r.u8("line status")?,
            modem_control: r.u8("modem control")?,
            modem_status: r.u8("modem status")?,
            scratch: r.u8("scratch")?,
            in_buffer: r.bytes("received", FIFO)?.to_vec(),
        };
        // Interrupts that were pending are made anew.
        state.interrupt_identification = SerialState::default().interrupt_identification;
        Ok(Saved { state, sent: r.bytes("sent", OUTBOX_LIMIT as u32)?.to_vec() })
    }
}

impl BusDevice for Uart {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let ([byte], Ok(register)) = (data, u8::try_from(offset)) else { return };
        *byte = self.registers.read(register);
        if offset == LSR && self.is_full() {
            *byte &= !LSR_EMPTY;
        }
        if offset == DATA {
            self.tell_worker();
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let (&[byte], Ok(register)) = (data, u8::try_from(offset)) else { return };
        self.registers_write(register, byte);
        self.tell_worker();
    }
}
