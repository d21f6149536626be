//! The event ring: telling the guest that its transport was reset (virtio 1.2 §5.10.6.7).

use purlin_devices::virtio::DeviceQueue;
use purlin_vmm_core::memory::{Bytes, GuestRam};
use virtio_queue::{QueueOwnedT, QueueT};

use super::worker::RingError;

/// VIRTIO_VSOCK_EVENT_TRANSPORT_RESET.
const TRANSPORT_RESET: u32 = 0;

/// How far the guest knows of a reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum ResetNews {
    /// There is none.
    #[default]
    None,
    /// The guest has to be told.
    Due,
    /// It was told when its available index was this. It offers a new buffer once it has acted on it; until
    /// then nothing is sent, as it would reach connections that are about to end.
    Told(u16),
}

/// The ring.
pub(super) struct EventRing {
    pub queue: DeviceQueue,
    pub news: ResetNews,
}

impl EventRing {
    /// Goes on as far as the guest lets it. True if the guest is to be interrupted.
    pub fn serve(&mut self, ram: &GuestRam) -> Result<bool, RingError> {
        match self.news {
            ResetNews::None => Ok(false),
            ResetNews::Due => self.tell(ram),
            ResetNews::Told(at) => {
                if self.avail(ram)? != at {
                    self.news = ResetNews::None;
                }
                Ok(false)
            }
        }
    }

    /// True while the guest must not be sent anything.
    pub fn holds(&self) -> bool {
        self.news != ResetNews::None
    }

    fn avail(&mut self, ram: &GuestRam) -> Result<u16, RingError> {
        self.queue.queue.enable_notification(ram)?;
        Ok(self.queue.queue.avail_idx(ram, std::sync::atomic::Ordering::Acquire)?.0)
    }

    fn tell(&mut self, ram: &GuestRam) -> Result<bool, RingError> {
        let at = self.avail(ram)?;
        let Some(chain) = self.queue.queue.iter(ram)?.next() else { return Ok(false) };
        let head = chain.head_index();
        let room = chain.writable().next().filter(|d| d.len() >= 4);
        let written = match room {
            Some(descriptor) => {
                ram.write_obj(TRANSPORT_RESET.to_le(), descriptor.addr())?;
                self.news = ResetNews::Told(at);
                4
            }
            None => 0,
        };
        self.queue.queue.add_used(ram, head, written)?;
        Ok(self.queue.queue.needs_notification(ram).unwrap_or(true))
    }
}
