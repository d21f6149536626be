//! A host that refuses: no descriptors, no memory, closed standard streams. One test in a program of its own, because
//! it changes the limits of the whole process and counts what it has.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure is a failed test")]
#[allow(dead_code, reason = "shared with the other tests of small machines")]
#[path = "../native/guest.rs"]
mod guest;

use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::time::{Duration, Instant};

use guest::{Kernels, RESET, wait};
use purlin::{Console, Root, Vm, VmConfig, VmExit};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Everything that takes descriptors, threads and memory.
fn config(kernels: &Kernels) -> VmConfig {
    kernels.machine(RESET).vcpus(2).console(Console::pipe()).root(Root::dir("/"))
}

fn run(config: VmConfig) -> Result<VmExit, String> {
    let vm: Vm = config.build().map_err(|e| format!("{e}: {e:?}"))?;
    vm.start().map_err(|e| e.to_string())?;
    Ok(wait(&vm))
}

/// Runs with a soft limit.
fn limited(resource: Resource, limit: u64, config: VmConfig) -> Result<VmExit, String> {
    let old = getrlimit(resource);
    setrlimit(resource, Rlimit { current: Some(limit), maximum: old.maximum }).unwrap();
    let result = run(config);
    setrlimit(resource, old).unwrap();
    result
}

fn threads_and_descriptors() -> (usize, usize) {
    let count = |what: &str| std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
    (count("task"), count("fd"))
}

/// Waits until there are as many threads and descriptors as `before`: a joined thread is in `/proc` for a moment
/// more.
fn settles_at(before: (usize, usize), what: &str) {
    let until = Instant::now() + Duration::from_secs(20);
    while threads_and_descriptors() != before && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(threads_and_descriptors(), before, "{what}");
}

#[test]
fn a_host_that_refuses() {
    let kernels = Kernels::new();
    run(config(&kernels)).unwrap();
    let before = threads_and_descriptors();
    few_descriptors(&kernels, before);
    little_memory(&kernels, before);
    closed_standard_streams(&kernels, before);
}

/// At every call that needs a descriptor, there is none: an error, and nothing left.
fn few_descriptors(kernels: &Kernels, before: (usize, usize)) {
    let first_free = std::fs::File::open("/dev/null").unwrap().as_raw_fd() as u64;
    for (refusals, limit) in (first_free..first_free + 200).enumerate() {
        let outcome = limited(Resource::Nofile, limit, config(kernels));
        settles_at(before, &format!("a machine with {limit} descriptors: {outcome:?}"));
        match outcome {
            Ok(exit) => {
                assert_eq!(exit.code, 125);
                assert!(refusals > 20, "only {refusals} refusals");
                return;
            }
            Err(text) => {
                assert!(text.contains("code: 24") || text.contains("os error 24"), "{limit}: {text}")
            }
        }
    }
    panic!("no number of descriptors is enough");
}

/// The address space ends in the middle of guest RAM, and then among the stacks of its processors.
fn little_memory(kernels: &Kernels, before: (usize, usize)) {
    let outcome = limited(Resource::As, address_space() + (64 << 20), config(kernels).memory_mib(1024));
    let text = outcome.unwrap_err();
    assert!(text.contains("guest RAM") && text.contains("code: 12"), "{text}");
    settles_at(before, "a machine without RAM");

    // Room for the RAM, and for few of the processors' stacks of 2 MiB.
    let limit = address_space() + (76 << 20) + (1 << 19);
    let text = limited(Resource::As, limit, config(kernels).vcpus(64)).unwrap_err();
    assert!(text.contains("vCPU thread"), "{text}");
    settles_at(before, "a machine without stacks");
}

fn address_space() -> u64 {
    let pages: u64 =
        std::fs::read_to_string("/proc/self/statm").unwrap().split(' ').next().unwrap().parse().unwrap();
    pages * 4096
}

/// A closed descriptor is an absent stream, and its number is not given to anything of the machine's.
fn closed_standard_streams(kernels: &Kernels, before: (usize, usize)) {
    // Errors are printed to 2, which therefore stays open.
    for number in [0, 1] {
        // SAFETY: nothing else owns the standard descriptors in this program, whose only other thread waits.
        let stream = unsafe { OwnedFd::from_raw_fd(number) };
        let aside = stream.try_clone().unwrap();
        drop(stream);
        let vm = config(kernels).console(Console::inherit()).build().unwrap();
        let link = std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap();
        // A descriptor that can neither be read nor written.
        assert_eq!(link.to_str(), Some("/"));
        assert_eq!(wait(vm.start().unwrap()).code, 125);
        drop(vm);
        let again = rustix::io::fcntl_dupfd_cloexec(&aside, number).unwrap();
        assert_eq!(again.into_raw_fd(), number);
    }
    settles_at(before, "a machine without standard streams");
}
