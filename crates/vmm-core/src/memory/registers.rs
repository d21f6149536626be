//! Pages of device registers that a guest may read as memory, without leaving the guest.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// 32-bit words of a page.
const WORDS: usize = 1024;

/// A page of its own, so that nothing else is in what the guest sees.
#[repr(C, align(4096))]
struct Words([AtomicU32; WORDS]);

/// The registers of a device, as a page of memory: all zero at first, changed by whoever has a reference.
pub struct RegisterPage(Box<Words>);

impl RegisterPage {
    /// Bytes of a page.
    pub const LEN: u64 = size_of::<Words>() as u64;

    /// The 32-bit register that `offset`, in bytes from the start of the page, is in; modulo the page's length.
    pub fn word(&self, offset: u64) -> &AtomicU32 {
        let Words(words) = &*self.0;
        let [first, ..] = words;
        let index = offset % Self::LEN / size_of::<u32>() as u64;
        words.get(index as usize).unwrap_or(first)
    }

    /// The same, with a reference to the page.
    pub fn register(self: &Arc<Self>, offset: u64) -> Register {
        Register { page: self.clone(), offset }
    }

    /// Where it is in this process.
    pub fn host_addr(&self) -> u64 {
        (&raw const *self.0) as u64
    }
}

impl Default for RegisterPage {
    fn default() -> Self {
        RegisterPage(Box::new(Words([const { AtomicU32::new(0) }; WORDS])))
    }
}

/// One register of a page.
#[derive(Clone)]
pub struct Register {
    page: Arc<RegisterPage>,
    offset: u64,
}

impl fmt::Debug for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Register({:#x}: {:#x})", self.offset, self.load(Ordering::Relaxed))
    }
}

impl Deref for Register {
    type Target = AtomicU32;

    fn deref(&self) -> &AtomicU32 {
        self.page.word(self.offset)
    }
}

/// Where a guest can be shown a page of registers. While it is shown, the guest reads the page; it does not leave for that, but does
/// for every write, as before.
pub trait RegisterWindow: Send {
    /// Reads no longer leave the guest. The page must be what they would give from now on.
    ///
    /// # Errors
    ///
    /// The hypervisor refuses; reads go on to leave the guest.
    fn show(&self) -> io::Result<()>;

    /// Reads leave the guest again, from the moment this returns.
    ///
    /// # Errors
    ///
    /// The hypervisor refuses; the page is still shown.
    fn hide(&self) -> io::Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_a_word_for_every_offset() {
        let page = Arc::<RegisterPage>::default();
        assert_eq!((page.host_addr() % 4096, RegisterPage::LEN), (0, 4096));
        for (at, value) in [(0, 1), (0x60, 2), (4092, 3)] {
            page.register(at).store(value, Ordering::Relaxed);
        }
        for (at, value) in [(0, 1), (3, 1), (4, 0), (0x63, 2), (4095, 3), (4096, 1), (u64::MAX, 3)] {
            assert_eq!(page.word(at).load(Ordering::Relaxed), value, "{at}");
        }
    }
}
