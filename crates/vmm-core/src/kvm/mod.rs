//! The shell over `/dev/kvm`: virtual machines and vCPU threads.
//!
//! [`KvmVm`] owns the VM descriptor, its memory slots and interrupt chip. [`KvmVcpu`] is one vCPU that is
//! not running. [`VcpuGroup`] runs all vCPUs, each on its own thread, through the states of
//! [`RunState`](crate::run_state::RunState).
//!
//! # Signals
//!
//! A vCPU thread is taken out of `KVM_RUN` by the signal [`kick_signal`] (SIGRTMIN+0), whose process-wide
//! handler only marks the thread it runs on. The handler is installed when the first group is made; an
//! application that uses this signal for itself must choose another one.

pub mod affinity;
mod error;
mod group;
mod irq;
mod machine;
mod pit;
mod posted;
mod probe;
mod registers;
mod stats;
mod sys;
mod thread;
mod tsc;
mod vcpu;
mod vm;

pub use error::KvmError;
pub use group::{GroupError, OnEnd, VcpuEvent, VcpuGroup};
pub use irq::IrqChipLine;
pub use machine::VcpuCommand;
pub use probe::{HostKvm, probe};
pub use stats::{ExitCounters, ExitCounts};
pub use sys::kick_signal;
pub use thread::Buses;
pub use vcpu::{BootState, KvmVcpu, VcpuEnd};
pub use vm::{BlankVm, KvmVm};
