//! The buffers of one request: found once, in a form that another thread can keep.
//!
//! A chain is read from guest memory exactly once. What is kept of a descriptor is the host memory it named
//! then, so nothing the driver writes into its tables later changes what is read or written.

mod sys;

use std::fs::File;
use std::io;

use purlin_vmm_core::memory::{ByteValued, GuestRam, SharedRam, Window};
use virtio_queue::DescriptorChain;

use sys::HostBuffer;

/// Most descriptors of a chain: the queue's size. The rest of a longer one (there is no indirect table, which
/// is not offered) is cut off, and a file takes no more in one call (`IOV_MAX`).
const MAX_DESCRIPTORS: usize = 1024;

/// Where in a file bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    At(u64),
    /// Wherever the file ends then.
    End,
}

/// One direction of a chain; reading or writing takes from the front.
#[derive(Debug)]
pub(super) struct Buffers {
    // These keep what the list points to. A program that runs from the window, or has mapped a file in it, may hand a
    // part of it to read(2) or write(2), and its kernel passes the address on.
    ram: SharedRam,
    window: Option<Window>,
    list: Vec<HostBuffer>,
    /// The first buffer that is not used up.
    next: usize,
    left: usize,
}

/// A chain, parsed.
#[derive(Debug)]
pub(super) struct Chain {
    /// What the driver sent.
    pub readable: Buffers,
    /// Where the reply goes.
    pub writable: Buffers,
    /// False if a buffer was neither in RAM nor in the window, lay across two regions of it, or came in the wrong order (virtio 1.2
    /// §2.7.4.2). Such buffers, and what follows in their direction, are left out.
    pub whole: bool,
}

impl Chain {
    pub fn parse(ram: &SharedRam, window: Option<&Window>, chain: DescriptorChain<&GuestRam>) -> Self {
        let mut readable = Buffers::new(ram, window);
        let mut writable = Buffers::new(ram, window);
        let mut whole = [true, true];
        let mut count = 0;
        for descriptor in chain.take(MAX_DESCRIPTORS + 1) {
            count += 1;
            let (side, good) = match (&mut whole, descriptor.is_write_only()) {
                ([_, good], true) => (&mut writable, good),
                ([good, _], false) => {
                    *good &= writable.list.is_empty();
                    (&mut readable, good)
                }
            };
            *good = *good
                && count <= MAX_DESCRIPTORS
                && side.push(descriptor.addr().0, descriptor.len() as usize);
        }
        Chain { readable, writable, whole: whole == [true, true] }
    }
}

impl Buffers {
    fn new(ram: &SharedRam, window: Option<&Window>) -> Self {
        Buffers { ram: SharedRam::clone(ram), window: window.cloned(), list: Vec::new(), next: 0, left: 0 }
    }

    /// Adds guest memory; false if it is not there.
    fn push(&mut self, addr: u64, len: usize) -> bool {
        if len == 0 {
            return true;
        }
        let buffer = HostBuffer::in_ram(&self.ram, addr, len)
            .or_else(|| HostBuffer::in_window(self.window.as_ref()?, addr, len));
        let (Some(buffer), Some(left)) = (buffer, self.left.checked_add(len)) else {
            return false;
        };
        // Pages next to each other are one piece for a file.
        if self.list.last_mut().is_none_or(|last| !last.append(buffer)) {
            self.list.push(buffer);
        }
        self.left = left;
        true
    }

    /// Bytes that are left.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Takes up to `len` bytes off as buffers of their own.
    pub fn split_front(&mut self, len: usize) -> Buffers {
        let mut front = Buffers::new(&self.ram, self.window.as_ref());
        while front.left < len {
            let Some(buffer) = self.list.get_mut(self.next) else { break };
            let part = buffer.len().min(len - front.left);
            front.list.push(buffer.split_front(part));
            front.left += part;
            self.left -= part;
            self.next += usize::from(buffer.len() == 0);
        }
        front
    }

    /// Fills `to` from the front. False, with everything left as it was, if there is less; false too if a part of it
    /// is in the window.
    pub fn read(&mut self, to: &mut [u8]) -> bool {
        if to.len() > self.left {
            return false;
        }
        let mut rest = to;
        self.walk(rest.len(), |ram, buffer| {
            let (part, tail) = std::mem::take(&mut rest).split_at_mut(buffer.len());
            rest = tail;
            buffer.read(ram, part)
        })
    }

    /// Takes a structure from the front, if there is enough for one.
    pub fn read_obj<T: ByteValued + Default>(&mut self) -> Option<T> {
        let mut value = T::default();
        self.read(value.as_mut_slice()).then_some(value)
    }

    /// Writes `from` to the front. False, with nothing written, if there is too little room; false too if a part of
    /// it is in the window.
    pub fn write(&mut self, from: &[u8]) -> bool {
        if from.len() > self.left {
            return false;
        }
        let mut rest = from;
        self.walk(rest.len(), |ram, buffer| {
            let (part, tail) = rest.split_at(buffer.len());
            rest = tail;
            buffer.write(ram, part)
        })
    }

    /// Reads up to `len` bytes of `file` from `offset` on into the front.
    ///
    /// # Errors
    ///
    /// Of preadv2(2); EAGAIN if `wait` is false and not a byte is there without waiting.
    pub fn fill(&mut self, file: &File, len: usize, offset: u64, wait: bool) -> io::Result<usize> {
        self.transfer(len, |list| sys::read_file(file, list, offset, wait))
    }

    /// Writes up to `len` bytes from the front to `file`.
    ///
    /// # Errors
    ///
    /// Of pwritev2(2).
    pub fn drain(&mut self, file: &File, len: usize, target: Target) -> io::Result<usize> {
        self.transfer(len, |list| match sys::write_file(file, list, target) {
            // A host that cannot append by itself: to where the file ends now, which is where the guest, having asked,
            // takes it to end.
            Err(e) if target == Target::End && e.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                sys::write_file(file, list, Target::At(file.metadata()?.len()))
            }
            result => result,
        })
    }

    /// Calls `each` with the first `len` bytes, which must be there, piece by piece, and takes them off. False if
    /// `each` was, once.
    fn walk(&mut self, len: usize, mut each: impl FnMut(&GuestRam, HostBuffer) -> bool) -> bool {
        let mut wanted = len;
        let mut good = true;
        while wanted > 0 {
            let Some(buffer) = self.list.get_mut(self.next) else { return false };
            let part = buffer.len().min(wanted);
            good &= each(&self.ram, buffer.split_front(part));
            wanted -= part;
            self.left -= part;
            self.next += usize::from(buffer.len() == 0);
        }
        good
    }

    /// Lets `call` work on the first `len` bytes and takes off as many as it says.
    fn transfer(
        &mut self,
        len: usize,
        call: impl FnOnce(&[HostBuffer]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if len == 0 {
            return call(&[]);
        }
        let mut total = 0;
        let mut end = self.next;
        for buffer in self.list.get(self.next..).unwrap_or(&[]) {
            total += buffer.len();
            end += 1;
            if total >= len {
                break;
            }
        }
        // The last buffer is shortened for the call.
        let excess = total.saturating_sub(len);
        let last = end.checked_sub(1).and_then(|last| self.list.get_mut(last));
        let whole = last.map(|last| std::mem::replace(last, last.without_tail(excess)));
        let done = self.list.get(self.next..end).map_or(Ok(0), call);
        if let (Some(whole), Some(last)) =
            (whole, end.checked_sub(1).and_then(|last| self.list.get_mut(last)))
        {
            *last = whole;
        }
        let done = done?;
        self.walk(done, |_, _| true);
        Ok(done)
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
