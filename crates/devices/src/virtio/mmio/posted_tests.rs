//! Acknowledgements that take effect later: no interrupt is lost, and none outlives a reset or a snapshot.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use proptest::prelude::*;
use purlin_vmm_core::irq::IrqLine;
use purlin_vmm_core::memory::{Register, RegisterPage};

use super::interrupt::MmioInterrupt;
use crate::virtio::{Interrupt, Signal};

/// Where the worker lets the guest run: before it settles, before it sets the bit, before the edge and after it.
const POINTS: usize = 4;

/// Acknowledgements that may wait; more leave the guest.
const CAPACITY: usize = 2;

/// What the machine and its guest share.
#[derive(Default)]
struct Machine {
    word: OnceLock<Register>,
    posted: Mutex<VecDeque<u32>>,
    guest: Mutex<Guest>,
    /// What has happened, and how often: used buffers, configuration changes.
    happened: [AtomicU32; 2],
    /// Steps of the guest at each point still to come.
    turns: Mutex<VecDeque<usize>>,
    hypervisor: Hypervisor,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Hypervisor {
    /// A read of the status leaves the guest, and settles.
    #[default]
    Answers,
    /// The guest reads the status as memory, in which posted acknowledgements have not taken effect.
    ShowsMemory,
    /// It does not settle for the worker, to see that the model finds it out.
    Forgets,
}

#[derive(Debug, Default)]
struct Guest {
    edge: bool,
    at: Step,
    seen: [u32; 2],
}

/// Linux's handler: read, acknowledge, then look at what the bits were for.
#[derive(Debug, Default, Clone, Copy)]
enum Step {
    #[default]
    Idle,
    Read,
    Acknowledge(u32),
    Configuration(u32),
    Rings(u32),
}

struct Line(Arc<Machine>);

impl IrqLine for Line {
    fn trigger(&self) -> io::Result<()> {
        self.0.guest_turn();
        self.0.guest.lock().unwrap().edge = true;
        self.0.guest_turn();
        Ok(())
    }

    fn settle(&self) {
        self.0.guest_turn();
        if self.0.hypervisor != Hypervisor::Forgets {
            self.0.apply();
        }
        self.0.guest_turn();
    }
}

impl Machine {
    fn apply(&self) {
        let Some(word) = self.word.get() else { return };
        for bits in self.posted.lock().unwrap().drain(..) {
            word.fetch_and(!bits, Ordering::AcqRel);
        }
    }

    fn guest_turn(&self) {
        let steps = self.turns.lock().unwrap().pop_front().unwrap_or(0);
        for _ in 0..steps {
            self.guest_step();
        }
    }

    /// One step of the guest; false if it is idle.
    fn guest_step(&self) -> bool {
        let mut guest = self.guest.lock().unwrap();
        let at = guest.at;
        guest.at = match at {
            Step::Idle if !std::mem::take(&mut guest.edge) => return false,
            Step::Idle => Step::Read,
            Step::Read => {
                if self.hypervisor != Hypervisor::ShowsMemory {
                    self.apply();
                }
                match self.word.get().unwrap().load(Ordering::Acquire) {
                    0 => Step::Idle,
                    bits => Step::Acknowledge(bits),
                }
            }
            Step::Acknowledge(bits) => {
                let mut posted = self.posted.lock().unwrap();
                if posted.len() < CAPACITY {
                    posted.push_back(bits);
                } else {
                    self.word.get().unwrap().fetch_and(!bits, Ordering::AcqRel);
                }
                Step::Configuration(bits)
            }
            Step::Configuration(bits) => {
                if bits & 2 != 0 {
                    guest.seen[1] = self.happened[1].load(Ordering::Acquire);
                }
                Step::Rings(bits)
            }
            Step::Rings(bits) => {
                if bits & 1 != 0 {
                    guest.seen[0] = self.happened[0].load(Ordering::Acquire);
                }
                Step::Idle
            }
        };
        true
    }
}

/// What the worker signals, with the guest's steps at each of its points.
type Event = (Signal, [usize; POINTS]);

/// What happened and what the guest has seen, after it has become idle.
fn run(events: &[Event], hypervisor: Hypervisor) -> ([u32; 2], [u32; 2]) {
    let machine = Arc::new(Machine { hypervisor, ..Machine::default() });
    let interrupt = MmioInterrupt::new(Arc::new(Line(machine.clone())), &Arc::<RegisterPage>::default());
    machine.word.set(interrupt.word().clone()).unwrap();
    for (signal, turns) in events {
        let kind = usize::from(*signal == Signal::Config);
        machine.happened[kind].fetch_add(1, Ordering::AcqRel);
        *machine.turns.lock().unwrap() = turns.iter().copied().collect();
        interrupt.trigger(*signal);
    }
    while machine.guest_step() {}
    let happened = machine.happened.each_ref().map(|count| count.load(Ordering::Acquire));
    let seen = machine.guest.lock().unwrap().seen;
    (happened, seen)
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let signal = prop_oneof![3 => Just(Signal::Queue(0)), 1 => Just(Signal::Config)];
    prop::collection::vec((signal, prop::array::uniform(0usize..7)), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]
    /// Whatever the order of the guest's and the worker's steps, an idle guest has seen everything.
    #[test]
    fn no_interrupt_is_lost(events in events()) {
        for hypervisor in [Hypervisor::Answers, Hypervisor::ShowsMemory] {
            let (happened, seen) = run(&events, hypervisor);
            prop_assert_eq!(happened, seen, "{:?}", hypervisor);
        }
    }
}

/// The model is able to lose one: an acknowledgement of the first event clears the bit of the second.
#[test]
fn without_settling_one_is_lost() {
    let events = [(Signal::Queue(0), [0, 0, 0, 5]), (Signal::Queue(0), [0; POINTS])];
    assert_eq!(run(&events, Hypervisor::Forgets), ([2, 0], [1, 0]));
    assert_eq!(run(&events, Hypervisor::Answers), ([2, 0], [2, 0]));
}
