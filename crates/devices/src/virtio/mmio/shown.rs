//! The registers as a page that the guest may be shown.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use purlin_vmm_core::memory::{RegisterPage, RegisterWindow};

use super::registers::CONFIG_SPACE;

/// The page, and whether the guest sees it.
pub(super) struct Shown {
    page: Arc<RegisterPage>,
    window: Option<Box<dyn RegisterWindow>>,
    shown: bool,
}

impl Shown {
    /// A page that nobody is shown.
    pub fn new(page: Arc<RegisterPage>) -> Self {
        Shown { page, window: None, shown: false }
    }

    pub fn page(&self) -> &Arc<RegisterPage> {
        &self.page
    }

    pub fn set_window(&mut self, window: Box<dyn RegisterWindow>) {
        self.window = Some(window);
    }

    /// True if there is a place to show the page in.
    pub fn is_possible(&self) -> bool {
        self.window.is_some()
    }

    pub fn is_shown(&self) -> bool {
        self.shown
    }

    /// The words before the configuration space, with their offsets.
    pub fn registers(&self) -> impl Iterator<Item = (u64, &AtomicU32)> {
        words(0..CONFIG_SPACE).map(|offset| (offset, self.page.word(offset)))
    }

    /// Fills the rest of the page with what `read` puts into zeros.
    pub fn put_config(&self, read: impl FnOnce(&mut [u8])) {
        let mut space = [0; (RegisterPage::LEN - CONFIG_SPACE) as usize];
        read(&mut space);
        let (space, _) = space.as_chunks();
        for (offset, word) in words(CONFIG_SPACE..RegisterPage::LEN).zip(space) {
            self.page.word(offset).store(u32::from_le_bytes(*word), Ordering::Release);
        }
    }

    pub fn show(&mut self) {
        let Some(window) = &self.window else { return };
        match window.show() {
            Ok(()) => self.shown = true,
            Err(e) => {
                log::warn!("registers of a device cannot be shown as memory: {e}");
                // It would not be otherwise after the next reset.
                self.window = None;
            }
        }
    }

    pub fn hide(&mut self) {
        let Some(window) = self.window.as_ref().filter(|_| self.shown) else { return };
        match window.hide() {
            Ok(()) => self.shown = false,
            // The page is kept as reads would be.
            Err(e) => log::error!("registers of a device are still shown as memory: {e}"),
        }
    }
}

fn words(offsets: std::ops::Range<u64>) -> impl Iterator<Item = u64> {
    offsets.step_by(size_of::<u32>())
}
