//! Pages of registers as read-only memory slots (`KVM_MEM_READONLY`, KVM API 4.35): reads are the processor's own, writes leave the
//! guest as those to registers without memory do.

use std::io;
use std::sync::Arc;

use super::sys::{MappedVm, PageSlot};
use crate::memory::{RegisterPage, RegisterWindow};

/// A place for `page` at `addr`.
pub(super) fn window(vm: &Arc<MappedVm>, page: &Arc<RegisterPage>, addr: u64) -> Box<dyn RegisterWindow> {
    Box::new(KvmRegisterWindow { slot: vm.page_slot(page.clone(), addr), vm: vm.clone() })
}

struct KvmRegisterWindow {
    vm: Arc<MappedVm>,
    slot: PageSlot,
}

impl RegisterWindow for KvmRegisterWindow {
    fn show(&self) -> io::Result<()> {
        Ok(self.vm.show_page(&self.slot, true)?)
    }

    fn hide(&self) -> io::Result<()> {
        Ok(self.vm.show_page(&self.slot, false)?)
    }
}
