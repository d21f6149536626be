//! Initial RAM disks made on the host, memory sized by them, nodes and processors of the host.

use purlin::initramfs::shell::{BaseCache, InitramfsBuilder};
use purlin::numa::{Node, Topology};
use purlin::{ExitReason, Vm, VmConfig};
use tempfile::TempDir;

use crate::guest::{Kernels, RESET, SPIN, field, statuses, wait};

const MIB: u64 = 1 << 20;

/// Resets if the RAM disk of the zero page begins with the magic number of an LZ4 stream, and hangs otherwise:
/// mov eax,[0x7218]; cmp dword [rax],0x184c2102; jne to itself
fn look() -> Vec<u8> {
    let code = [0x8b, 0x04, 0x25, 0x18, 0x72, 0, 0, 0x81, 0x38, 0x02, 0x21, 0x4c, 0x18, 0x75, 0xfe];
    [&code, RESET].concat()
}

fn archive(cache: &TempDir) -> InitramfsBuilder {
    InitramfsBuilder::new()
        .cache(BaseCache::directory(cache.path()))
        .content("/init", 0o755, &b"#!/bin/sh\n"[..])
        .content("/zeros", 0o644, vec![0; 10 << 20])
}

fn ended(vm: &Vm) {
    let exit = wait(vm.start().unwrap());
    assert_eq!((exit.code, exit.reason), (125, ExitReason::GuestReset));
}

fn refused(config: VmConfig, words: &[&str]) {
    let text = config.build().err().expect("this cannot work").to_string();
    for word in words {
        assert!(text.contains(word), "{text:?} does not name {word:?}");
    }
}

/// From a builder, twice: the second machine finds the base and copies the end of the archive only. The guest sees it.
#[test]
fn the_second_machine_maps_what_the_first_one_made() {
    let (kernels, cache) = (Kernels::new(), tempfile::tempdir().unwrap());
    let machine = |n: u8| {
        let disk = archive(&cache).per_run("/run", 0o644, vec![n; 100]);
        kernels.machine(&look()).memory_deferred(16).initramfs(disk).build().unwrap()
    };
    for n in [1, 2] {
        let vm = machine(n);
        // 21 MiB (twice the archive, rounded up, and its packed form) · 64/63 + 256
        assert_eq!(vm.memory().unwrap().regions().iter().map(|r| r.len).sum::<u64>(), 280 * MIB);
        ended(&vm);
        let stats = vm.stats().unwrap().initramfs.unwrap();
        assert!(stats.copied > 0 && stats.copied < 1000, "{stats:?}");
        assert!(stats.mapped > 40_000, "{stats:?}");
    }
    let built = archive(&cache).build().unwrap();
    let vm = kernels.machine(&look()).memory_mib(280).initramfs(built).build().unwrap();
    ended(&vm);
    let names: Vec<&str> = vm.stats().unwrap().boot.iter().map(|phase| phase.name).collect();
    for name in ["kernel opened", "initramfs made", "memory mapped", "kernel loaded"] {
        assert!(names.contains(&name), "{names:?}");
    }
}

#[test]
fn memory_that_is_too_small_is_refused_with_all_sizes() {
    let (kernels, cache) = (Kernels::new(), tempfile::tempdir().unwrap());
    let small = kernels.machine(RESET).memory_mib(279).initramfs(archive(&cache));
    let sizes = archive(&cache).build().unwrap().sizes();
    let (unpacked, packed) = (sizes.unpacked.to_string(), sizes.packed().to_string());
    refused(small, &["memory_mib", "279 MiB", "280 MiB", &unpacked, &packed]);
    let without = kernels.machine(RESET).memory_deferred(0).build().unwrap();
    assert_eq!(without.memory().unwrap().regions()[0].len, 256 * MIB);
    let more = kernels.machine(RESET).memory_deferred(300).initramfs(archive(&cache)).build().unwrap();
    assert_eq!(more.memory().unwrap().regions()[0].len, 300 * MIB);
}

#[test]
fn what_cannot_be_made_is_refused_by_its_field() {
    let (kernels, cache) = (Kernels::new(), tempfile::tempdir().unwrap());
    let machine = || kernels.machine(RESET);
    refused(machine().initramfs(archive(&cache).init("/no/such/init")), &["initramfs", "/no/such/init"]);
    refused(machine().initramfs("/no/such/file"), &["initramfs", "/no/such/file"]);
    let file = kernels.path("disk");
    std::fs::write(&file, b"disk").unwrap();
    refused(machine().memory_deferred(0).initramfs(&*file), &["memory_deferred", "memory_mib"]);
    let one = |cpus: u32| Topology::new(vec![Node::new(64 * MIB).cpus(0..cpus)]).unwrap();
    refused(machine().numa(one(1)), &["numa", "ACPI"]);
    refused(machine().numa(one(2)), &["numa", "processor 1"]);
    refused(machine().memory_mib(65).numa(one(1)), &["numa", "67108864", "68157440"]);
    refused(machine().memory_deferred(64).numa(one(1)), &["memory_deferred", "numa"]);
    let elsewhere = Topology::new(vec![Node::new(64 * MIB).cpus([0]).host_nodes([1000])]).unwrap();
    refused(machine().numa(elsewhere), &["numa", "1000"]);
    refused(machine().pin_vcpu(1, [0]), &["pin_vcpu", "1"]);
    refused(machine().pin_vcpu(0, []), &["pin_vcpu"]);
    refused(machine().pin_vcpu(0, [1023]), &["pin_vcpu", "1023"]);
    refused(machine().worker_cpus([1024]), &["worker_cpus", "1024"]);
    refused(machine().worker_cpus([1023]), &["worker_cpus", "1023"]);
}

/// The processors that the kernel allows the threads of this process that have this name.
fn allowed(thread: &str) -> Vec<String> {
    statuses(thread).iter().map(|status| cpus(status)).collect()
}

/// Of a text like `/proc/self/status`.
fn cpus(status: &str) -> String {
    field(status, "Cpus_allowed_list").to_owned()
}

/// In a process of its own, as nextest has it; with plain cargo the names of other tests' threads are the same, so of
/// those with a name one is looked for.
#[test]
fn threads_run_where_they_are_pinned() {
    let here = || cpus(&std::fs::read_to_string("/proc/thread-self/status").unwrap());
    let before = here();
    let first: u32 = before.split(['-', ',']).next().unwrap().parse().unwrap();
    let kernels = Kernels::new();
    let vm = kernels.machine(SPIN).vcpus(9).pin_vcpu(8, [first]).worker_cpus([first]).build().unwrap();
    vm.start().unwrap();
    for worker in ["vcpu8", "purlin-devices", "purlin-vm"] {
        assert!(allowed(worker).contains(&first.to_string()), "{worker}");
    }
    assert!(allowed("vcpu7").contains(&before), "not a worker");
    assert_eq!(here(), before, "the caller is as before");
    vm.kill();
    wait(&vm);
}
