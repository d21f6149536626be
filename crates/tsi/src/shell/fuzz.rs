//! The rings of a driver made of arbitrary bytes, without a thread or a socket, so that every run is the same.

use std::sync::Arc;

use purlin_devices::testing::DriverRing;
use purlin_devices::virtio::{DeviceQueue, RingError};
use purlin_vmm_core::memory::{Bytes, GuestAddress, GuestMemory, GuestRam, SharedRam, VolatileSlice};
use virtio_queue::QueueT;

use super::rx::RxRing;
use super::turn::Turn;
use super::tx::{TxRing, copy};
use crate::wire::{HEADER_LEN, Header};

/// Guest RAM has a hole, and every address of 16 bits lies in it or in a region.
const REGIONS: [(GuestAddress, usize); 2] =
    [(GuestAddress(0), 0x8000), (GuestAddress(0xc000), 0x1_0000 - 0xc000)];
/// Where the rings are, all in one region or in both.
const RX_AT: u64 = 0;
const TX_AT: u64 = 0x800;
const TX_ELSEWHERE: u64 = 0xc000;
const SPAN: u64 = 0x800;
const SIZE: u16 = 16;
/// Packets or buffers used by one step.
const MOST: u8 = 32;

struct Run {
    ram: SharedRam,
    event_idx: bool,
    tx_at: u64,
    drivers: [DriverRing; 2],
    rx: RxRing,
    tx: TxRing,
    /// Packets taken and not given back.
    held: Vec<u16>,
}

/// Body of a fuzz target: bytes as writes to guest memory (rings included), notifications, and what the device's thread
/// does with either ring.
///
/// # Panics
///
/// If a packet is not what its chain says, a buffer is not what was promised of it, or the rings are used as they must
/// not be. What the driver does is never wrong, though it may have to reset the device.
pub fn vsock_rings(data: &[u8]) {
    let (options, rest) = data.split_first().map_or((0, data), |(first, rest)| (*first, rest));
    let mut run = Run::new(options & 1 != 0, if options & 2 == 0 { TX_AT } else { TX_ELSEWHERE });
    for op in rest.chunks(8) {
        let mut bytes = [0; 8];
        bytes.iter_mut().zip(op).for_each(|(to, from)| *to = *from);
        if run.step(bytes).is_err() {
            run = Run::new(run.event_idx, run.tx_at);
        }
    }
}

impl Run {
    #[expect(clippy::expect_used, reason = "test support")]
    fn new(event_idx: bool, tx_at: u64) -> Self {
        let ram = Arc::new(GuestRam::from_ranges(&REGIONS).expect("guest RAM"));
        let drivers = [RX_AT, tx_at].map(|at| DriverRing::new(&ram, at, SPAN, SIZE));
        let [rx, tx] = &drivers;
        let rx = RxRing::new(rx.device_queue(0, event_idx), Arc::default());
        let tx = TxRing::new(tx.device_queue(1, event_idx), Arc::default());
        Run { ram, event_idx, tx_at, drivers, rx, tx, held: Vec::new() }
    }

    fn driver(&mut self, which: u8) -> &mut DriverRing {
        let [rx, tx] = &mut self.drivers;
        if which & 1 == 0 { rx } else { tx }
    }

    fn step(&mut self, [kind, a, b, c, p @ ..]: [u8; 8]) -> Result<(), RingError> {
        let [p0, p1, p2, p3] = p;
        let at = GuestAddress(u16::from_le_bytes([b, c]).into());
        let number = u16::from_le_bytes([p0, p1]);
        match kind % 12 {
            // Into a hole if the driver likes.
            0 | 1 => drop(self.ram.write_slice(&p, at)),
            2 => {
                let header = Header { len: number.into(), src_port: p2.into(), ..Header::default() };
                drop(self.ram.write_slice(&header.emit(), at));
            }
            3 => {
                let addr = if p2 & 0x80 == 0 { at.0 } else { !at.0 };
                let len = if p2 & 0x40 == 0 { number.into() } else { u32::MAX - u32::from(number) };
                // Some lead out of the table.
                let next = u16::from(p3) % (SIZE + 2);
                self.driver(a).write_descriptor(u16::from(a >> 1) % SIZE, addr, len, (p2 & 7).into(), next);
            }
            4 => {
                for head in p.into_iter().take(usize::from(b) % 5) {
                    self.driver(a).publish(u16::from(head) % (SIZE + 2));
                }
            }
            5 => self.driver(a).set_avail_idx(number % 64),
            6 => self.take(a % MOST)?,
            7 => self.give_back()?,
            8 => self.fill(a % MOST, number, usize::from(p2) << 4, p3 & 1 == 0)?,
            9 => {
                self.rx.unread();
                if a & 1 == 0 {
                    self.resume();
                }
            }
            10 => self.tell()?,
            _ => *self = Run::new(self.event_idx, self.tx_at),
        }
        Ok(())
    }

    /// Packets of the guest, each beside what its chain is by the standard.
    fn take(&mut self, most: u8) -> Result<(), RingError> {
        let ram = self.ram.clone();
        let turn = Turn::new(&ram, &self.rx, &self.tx)?;
        let mut pieces = Vec::new();
        for _ in 0..most {
            let at = self.tx.queue.queue.next_avail();
            let Some(packet) = self.tx.next(&turn, &mut pieces)? else { break };
            assert!(packet.head < SIZE, "a head without a descriptor");
            assert_eq!(self.tx.queue.queue.next_avail(), at.wrapping_add(1));
            let expected = self.packet(&turn, packet.head);
            assert_eq!(packet.whole, expected.is_some(), "{packet:?}");
            if let Some((header, payload)) = expected {
                assert_eq!(packet.header, Some(header));
                assert_eq!(total(&pieces), payload.len());
                let mut copied = vec![0; payload.len()];
                copy(&pieces, &mut copied);
                assert_eq!(copied, payload);
            }
            self.held.push(packet.head);
        }
        Ok(())
    }

    /// A packet read the plain way: `None` if its chain does not hold as much as its header says.
    fn packet(&self, turn: &Turn<'_>, head: u16) -> Option<(Header, Vec<u8>)> {
        let [_, driver] = &self.drivers;
        let (table, ..) = driver.addresses();
        let mut bytes = Vec::new();
        let mut next = Some(head);
        for _ in 0..SIZE {
            let Some(index) = next.filter(|index| *index < SIZE) else { break };
            let mut raw = [0; 16];
            let place = GuestAddress(table + 16 * u64::from(index));
            self.ram.read_slice(&mut raw, place).ok()?;
            let raw = u128::from_le_bytes(raw);
            let (addr, len, flags) = (raw as u64, (raw >> 64) as u32, (raw >> 96) as u16);
            next = (flags & 1 != 0).then_some((raw >> 112) as u16);
            if flags & 4 != 0 {
                break;
            }
            if flags & 2 != 0 {
                return None;
            }
            let (mut addr, mut len) = (addr, len as usize);
            // The header is read before anybody knows how long the payload is.
            if bytes.len() < HEADER_LEN {
                let part = len.min(HEADER_LEN - bytes.len());
                let Some(more) = read(turn, addr, part) else { break };
                bytes.extend(more);
                (addr, len) = (addr.wrapping_add(part as u64), len - part);
            }
            let Some(raw) = bytes.first_chunk() else { continue };
            let part = len.min(HEADER_LEN + Header::parse(raw).len as usize - bytes.len());
            if part > 0 {
                let Some(more) = read(turn, addr, part) else { break };
                bytes.extend(more);
            }
        }
        let header = Header::parse(bytes.first_chunk()?);
        let payload = bytes.split_off(HEADER_LEN);
        (payload.len() == header.len as usize).then_some((header, payload))
    }

    fn give_back(&mut self) -> Result<(), RingError> {
        let ram = self.ram.clone();
        let turn = Turn::new(&ram, &self.rx, &self.tx)?;
        let before = self.tx.queue.queue.next_used();
        let count = self.held.len() as u16;
        self.tx.give_back(&turn, self.held.drain(..))?;
        assert_eq!(self.tx.queue.queue.next_used().wrapping_sub(before), count);
        Ok(())
    }

    /// Buffers of the guest: looked at, and the first one used.
    fn fill(&mut self, packets: u8, least: u16, most: usize, put: bool) -> Result<(), RingError> {
        let ram = self.ram.clone();
        let turn = Turn::new(&ram, &self.rx, &self.tx)?;
        // A caller needs room for a header.
        let least = usize::from(least).max(HEADER_LEN);
        if !self.rx.has(&turn, least)? {
            return Ok(());
        }
        let room = self.rx.payload_room() as usize;
        assert!(room + HEADER_LEN >= least, "a buffer that is smaller than was asked for");
        let mut pieces = Vec::new();
        let gathered = self.rx.gather(&turn, usize::from(packets).max(1), most, &mut pieces)?;
        assert_eq!(total(&pieces), gathered);
        assert!(gathered <= most && gathered >= most.min(room), "{gathered} bytes of {most}, {room} in one");
        pieces.clear();
        assert_eq!(self.rx.gather(&turn, 1, usize::MAX, &mut pieces)?, room);

        let payload: Vec<u8> = (0..room.min(most)).map(|n| n as u8).collect();
        let header = Header { len: payload.len() as u32, ..Header::default() }.emit();
        let at = self.rx.queue.queue.next_used();
        if put {
            self.rx.put(&turn, &header, &payload, false)?;
        } else {
            self.rx.complete(&turn, &header, payload.len() as u32)?;
        }
        assert_eq!(self.rx.queue.queue.next_used(), at.wrapping_add(1));
        if put && self.are_apart(&pieces) {
            let mut copied = vec![0; payload.len()];
            copy(&pieces, &mut copied);
            assert_eq!(copied, payload);
        }
        let [driver, _] = &self.drivers;
        let (.., used) = driver.addresses();
        let entry: u64 = self.ram.read_obj(GuestAddress(used + 4 + 8 * u64::from(at % SIZE)))?;
        let (head, len) = (entry as u32, (entry >> 32) as usize);
        assert!(head < SIZE.into(), "a head without a descriptor");
        assert_eq!(len, HEADER_LEN + payload.len());
        Ok(())
    }

    /// True if what is written to one piece stays there: nothing else lies on it.
    fn are_apart(&self, pieces: &[VolatileSlice<'_>]) -> bool {
        let [driver, _] = &self.drivers;
        let (.., used) = driver.addresses();
        let used = self.ram.get_slice(GuestAddress(used), SPAN as usize / 2).ok();
        let mut ranges: Vec<(usize, usize)> = pieces
            .iter()
            .chain(&used)
            .map(|piece| (piece.ptr_guard().as_ptr() as usize, piece.len()))
            .collect();
        ranges.sort_unstable();
        ranges.windows(2).all(|pair| matches!(pair, [a, b] if a.0 + a.1 <= b.0))
    }

    /// What a turn ends with.
    fn tell(&mut self) -> Result<(), RingError> {
        let ram = self.ram.clone();
        let turn = Turn::new(&ram, &self.rx, &self.tx)?;
        self.rx.publish(&turn)?;
        let _ = (self.rx.interrupt_is_urgent(), self.tx.interrupt_is_urgent());
        if self.rx.owes_interrupt() {
            let _ = self.rx.wants_interrupt(&turn);
        }
        assert!(!self.rx.owes_interrupt(), "everything was published");
        if self.tx.owes_interrupt() {
            let _ = self.tx.wants_interrupt(&turn);
        }
        assert!(!self.tx.owes_interrupt());
        let _ = (self.rx.ask_for_more(&turn)?, self.tx.ask_for_more(&turn)?);
        Ok(())
    }

    /// The device was taken off its rings at rest, and goes on from where it was.
    fn resume(&mut self) {
        let again = |driver: &DriverRing, index, before: &DeviceQueue| {
            let mut queue = driver.device_queue(index, self.event_idx);
            queue.queue.set_next_avail(before.queue.next_avail());
            queue.queue.set_next_used(before.queue.next_used());
            queue
        };
        let [rx, tx] = &self.drivers;
        let rx = RxRing::new(again(rx, 0, &self.rx.queue), Arc::default());
        let tx = TxRing::new(again(tx, 1, &self.tx.queue), Arc::default());
        (self.rx, self.tx) = (rx, tx);
    }
}

fn total(pieces: &[VolatileSlice<'_>]) -> usize {
    pieces.iter().map(VolatileSlice::len).sum()
}

/// Bytes in one piece of RAM.
fn read(turn: &Turn<'_>, addr: u64, len: usize) -> Option<Vec<u8>> {
    let slice = turn.slice(GuestAddress(addr), u32::try_from(len).ok()?).ok()?;
    let mut bytes = vec![0; len];
    slice.copy_to(bytes.as_mut_slice());
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_drivers(data in prop::collection::vec(any::<u8>(), 0..4000)) {
            vsock_rings(&data);
        }
    }

    /// What a target that cannot fail would let pass: the driver of the corpus reaches both rings.
    #[test]
    fn an_ordinary_driver_is_served() {
        let mut run = Run::new(true, TX_AT);
        let header = [2, 0, 0, 0x10, 4, 0, 7, 0];
        for op in [header, [3, 1, 0, 0x10, 48, 0, 0, 0], [4, 1, 1, 0, 0, 0, 0, 0], [6, 1, 0, 0, 0, 0, 0, 0]] {
            run.step(op).unwrap();
        }
        assert_eq!(run.held, [0], "a packet was taken");
        run.step([7, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        let [rx, tx] = &mut run.drivers;
        assert_eq!((tx.used().len(), rx.used().len()), (1, 0));
        for op in [
            [3, 0, 0, 0x20, 20, 0, 3, 1],
            [3, 2, 0, 0x30, 180, 0, 2, 0],
            [4, 0, 1, 0, 0, 0, 0, 0],
            [8, 1, 0, 0, 100, 0, 2, 0],
            [10, 0, 0, 0, 0, 0, 0, 0],
        ] {
            run.step(op).unwrap();
        }
        let [rx, _] = &mut run.drivers;
        assert_eq!(rx.used().first().map(|used| used.len), Some(44 + 32));
    }
}
