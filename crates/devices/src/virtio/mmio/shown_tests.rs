//! Registers shown as memory: what a guest reads there is what a read would give.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use purlin_vmm_core::memory::RegisterWindow;

use super::tests::Setup;
use super::{MMIO_LEN, status};
use crate::virtio::Signal;

#[derive(Debug, Default)]
struct State {
    shown: bool,
    calls: usize,
    /// Calls are refused while this is set.
    refuses: bool,
}

struct Window(Arc<Mutex<State>>);

impl Window {
    fn call(&self, shown: bool) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.calls += 1;
        if state.refuses {
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        }
        assert_ne!(state.shown, shown, "a change");
        state.shown = shown;
        Ok(())
    }
}

impl RegisterWindow for Window {
    fn show(&self) -> io::Result<()> {
        self.call(true)
    }

    fn hide(&self) -> io::Result<()> {
        self.call(false)
    }
}

fn setup() -> (Setup, Arc<Mutex<State>>) {
    let mut s = Setup::new();
    let state = Arc::<Mutex<State>>::default();
    s.dev.show_registers_in(Box::new(Window(state.clone())));
    (s, state)
}

/// Registers of which memory and a read differ.
fn differences(s: &mut Setup) -> Vec<(u64, u32, u32)> {
    let page = s.dev.register_page().clone();
    let all = (0..MMIO_LEN).step_by(4);
    let both = all.map(|at| (at, page.word(at).load(Ordering::Acquire), s.get(at)));
    both.filter(|(_, memory, read)| memory != read).collect()
}

#[derive(Debug, Clone)]
enum Op {
    Write(u64, u32),
    Trigger(Signal),
    NeedsReset,
    /// Whether resets take their time from now on.
    Pending(bool),
    Activate,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let offset = prop_oneof![0u64..0x110, Just(0x14), Just(0x30), Just(0x64), Just(0x70), Just(0xac)];
    let value = prop_oneof![0u32..4, Just(0xf), Just(0x80), any::<u32>()];
    let signal = prop_oneof![Just(Signal::Queue(0)), Just(Signal::Config)];
    let op = prop_oneof![
        8 => (offset, value).prop_map(|(offset, value)| Op::Write(offset & !3, value)),
        2 => signal.prop_map(Op::Trigger),
        1 => Just(Op::NeedsReset),
        1 => any::<bool>().prop_map(Op::Pending),
        2 => Just(Op::Activate),
    ];
    prop::collection::vec(op, 1..40)
}

proptest! {
    #[test]
    fn memory_is_what_a_read_gives(ops in ops()) {
        let (mut s, state) = setup();
        for op in ops {
            match op {
                Op::Write(offset, value) => s.set(offset, value),
                Op::Activate => s.activate(),
                Op::Pending(pending) => s.log.lock().unwrap().pending = pending,
                Op::Trigger(signal) => if let Some(context) = &s.dev.device().context {
                    context.interrupt.trigger(signal);
                },
                Op::NeedsReset => if let Some(context) = &s.dev.device().context {
                    context.interrupt.needs_reset();
                },
            }
            // The device is active for as long as its driver has not asked for a reset.
            let shown = state.lock().unwrap().shown;
            let active = s.get(0x70) & status::DRIVER_OK != 0 && s.dev.device().context.is_some();
            prop_assert!(shown >= active, "an active device is shown");
            if shown {
                prop_assert_eq!(differences(&mut s), []);
            }
        }
        let pending = s.log.lock().unwrap().pending;
        s.set(0x70, 0);
        prop_assert!(!state.lock().unwrap().shown, "a reset is not waited for in memory, pending: {}", pending);
    }
}

#[test]
fn a_restored_device_is_shown() {
    let (mut s, _) = setup();
    s.activate();
    let saved = s.dev.save(0).unwrap();
    let (mut restored, state) = setup();
    restored.dev.restore(&saved).unwrap();
    assert!(state.lock().unwrap().shown);
    assert_eq!(differences(&mut restored), []);
}

#[test]
fn a_window_that_is_refused_is_not_asked_for_again() {
    let (mut s, state) = setup();
    state.lock().unwrap().refuses = true;
    for _ in 0..2 {
        s.activate();
        assert_eq!(s.get(0x70), 0xf);
        s.set(0x70, 0);
    }
    assert_eq!(state.lock().unwrap().calls, 1);
}

/// The driver waits for status 0 there.
#[test]
fn a_page_that_cannot_be_hidden_is_kept_right() {
    let (mut s, state) = setup();
    s.activate();
    state.lock().unwrap().refuses = true;
    s.set(0x70, 0);
    assert!(state.lock().unwrap().shown);
    assert_eq!(differences(&mut s), []);
    assert_eq!(s.dev.register_page().word(0x70).load(Ordering::Acquire), 0);
}
