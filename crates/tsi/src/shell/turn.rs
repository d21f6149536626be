//! Guest memory as one turn of the thread sees it: what is needed again and again is looked up once.

use purlin_devices::virtio::{RingError, RingView};
use purlin_vmm_core::memory::{
    GuestAddress, GuestMemory, GuestMemoryError, GuestMemoryRegion, GuestRam, VolatileSlice,
};

use super::rx::RxRing;
use super::tx::TxRing;

/// Guest RAM is in one piece or two.
const REGIONS: usize = 2;

/// Guest RAM and the two rings that move bytes.
pub(super) struct Turn<'m> {
    pub ram: &'m GuestRam,
    pub rx: RingView<'m>,
    pub tx: RingView<'m>,
    regions: [Option<(u64, VolatileSlice<'m>)>; REGIONS],
}

impl<'m> Turn<'m> {
    pub fn new(ram: &'m GuestRam, rx: &RxRing, tx: &TxRing) -> Result<Self, RingError> {
        let mut regions = [None; REGIONS];
        for (place, region) in regions.iter_mut().zip(ram.iter()) {
            *place = Some((region.start_addr().0, region.as_volatile_slice()?));
        }
        let view = |queue| RingView::new(queue, ram);
        Ok(Turn { ram, rx: view(&rx.queue.queue)?, tx: view(&tx.queue.queue)?, regions })
    }

    /// `len` bytes at `addr`, in one piece.
    #[inline]
    pub fn slice(&self, addr: GuestAddress, len: u32) -> Result<VolatileSlice<'m>, GuestMemoryError> {
        for (start, region) in self.regions.iter().flatten() {
            if let Some(offset) = addr.0.checked_sub(*start).and_then(|o| usize::try_from(o).ok())
                && let Ok(slice) = region.subslice(offset, len as usize)
            {
                return Ok(slice);
            }
        }
        self.ram.get_slice(addr, len as usize)
    }
}
