//! A session without device and threads: requests through a ring, served where they are called. For fuzz targets
//! and benches.

use std::sync::Arc;

use fuse_backend_rs::abi::fuse_abi::{InHeader, Opcode};
use purlin_snapshot::{Reader, Writer};
use purlin_vmm_core::memory::{ByteValued, SharedRam};
use virtio_queue::{Queue, QueueOwnedT, QueueT};

use super::config::{FsConfig, FsConfigError};
use super::exchange::{Outcome, Rest, Scratch, exchange};
use super::server::{FileServer, Share};
use super::state::{load_session, save_session};
use crate::testing::{Buf, DriverRing, guest_ram};

/// Guest RAM: rings and buffers.
const RAM: usize = 4 << 20;

/// A guest's session with a share, INIT done.
pub struct Direct {
    server: FileServer,
    scratch: Scratch,
    ram: SharedRam,
    ring: DriverRing,
    queue: Queue,
    unique: u64,
}

impl Direct {
    /// A session with a share of this configuration, without a thread of its own.
    ///
    /// # Errors
    ///
    /// [`FsConfigError`].
    pub fn new(config: FsConfig) -> Result<Self, FsConfigError> {
        let share = Share::new(config)?;
        let ram = guest_ram(RAM);
        let ring = DriverRing::new(&ram, 0, RAM as u64 / 2, 512);
        let queue = ring.device_queue(1, true).queue;
        let (server, scratch) = (FileServer::new(share), Scratch::default());
        let mut direct = Direct { server, scratch, ram, ring, queue, unique: 0 };
        let mut body: Vec<u8> =
            [7u32, 38, 1 << 17, u32::MAX, u32::MAX].iter().flat_map(|w| w.to_le_bytes()).collect();
        body.resize(64, 0);
        let _ = direct.call(Opcode::Init as u32, 0, &body, 64);
        Ok(direct)
    }

    /// Guest RAM; its upper half is free for the caller.
    pub fn ram(&self) -> &SharedRam {
        &self.ram
    }

    /// The driver's side of the queue.
    pub fn ring(&mut self) -> &mut DriverRing {
        &mut self.ring
    }

    /// Serves the next published request; returns how many bytes were written to it.
    pub fn serve(&mut self) -> u32 {
        let ram = &*self.ram;
        let Ok(Some(chain)) = self.queue.iter(ram).map(|mut chains| chains.next()) else { return 0 };
        let head = chain.head_index();
        let written = match exchange(&mut self.server, &mut self.scratch, &self.ram, chain) {
            Outcome::Written(written) => written,
            Outcome::Later(mut task) => task.run(),
        };
        let _ = self.queue.add_used(ram, head, written);
        written
    }

    /// Sends raw buffers; returns how many bytes were written, and all of the writable ones.
    pub fn send(&mut self, bufs: &[Buf<'_>]) -> (u32, Vec<u8>) {
        self.ring.submit(bufs);
        let written = self.serve();
        (written, self.ring.used().pop().map(|used| used.data).unwrap_or_default())
    }

    /// One request of root's with `room` for the body of the reply; the body, or the error number.
    ///
    /// # Errors
    ///
    /// That of the reply; EIO if there is none.
    pub fn call(&mut self, opcode: u32, nodeid: u64, body: &[u8], room: u32) -> Result<Vec<u8>, i32> {
        self.unique = self.unique.wrapping_add(1);
        let len = u32::try_from(size_of::<InHeader>().saturating_add(body.len())).unwrap_or(u32::MAX);
        let header = InHeader { len, opcode, unique: self.unique, nodeid, ..InHeader::default() };
        let message = [header.as_slice(), body].concat();
        let (written, mut data) = self.send(&[Buf::Read(&message), Buf::Write(room.saturating_add(16))]);
        data.truncate(written as usize);
        let error = data.get(4..8).and_then(|b| b.try_into().ok()).map_or(-libc::EIO, i32::from_le_bytes);
        if error == 0 { Ok(data.split_off(16)) } else { Err(error.saturating_neg()) }
    }

    /// Saves the session and loads it again. False, and the session as it was, if it cannot be saved.
    ///
    /// # Panics
    ///
    /// If what was saved does not load, or is another session then.
    pub fn reload(&mut self) -> bool {
        let mut first = Writer::new();
        if save_session(&mut first, &self.server, true).is_err() {
            return false;
        }
        let first = first.into_bytes();
        let share = Arc::clone(&self.server.share);
        let mut reader = Reader::new(&first);
        let loaded = match load_session(&mut reader, &share, None, true) {
            Ok(loaded) if reader.finish().is_ok() => loaded,
            other => fail(&format!("a saved session does not load: {:?}", other.err())),
        };
        let mut second = Writer::new();
        if save_session(&mut second, &loaded, true).is_err() || second.into_bytes() != first {
            fail("a loaded session is another one");
        }
        self.server = loaded;
        true
    }
}

#[expect(clippy::panic, reason = "a failure is a finding")]
pub(super) fn fail(what: &str) -> ! {
    panic!("{what}")
}
