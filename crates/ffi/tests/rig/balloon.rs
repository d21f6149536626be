//! Memory that goes back to the host.

use std::io::{BufRead, BufReader, Write};
use std::time::{Duration, Instant};

use purlin::Vm;

use crate::support::{LIMIT, config, sh, wait};

/// No other machine of this process has RAM of this size, so its mapping is found by it.
const MIB: u64 = 407;

/// Resident MiB of the guest's RAM.
fn resident() -> u64 {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut lines = smaps.lines().skip_while(|l| *l != format!("Size:           {:>8} kB", MIB << 10));
    let kib = lines.find_map(|l| l.strip_prefix("Rss:")).expect("a mapping of the size of RAM");
    kib.split_whitespace().next().unwrap().parse::<u64>().unwrap() >> 10
}

/// Looks until `good`, which takes some seconds of the guest's time.
fn until(what: &str, mut good: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !good() {
        assert!(Instant::now() < end, "{what}: {} MiB resident", resident());
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn free_mib(vm: &Vm) -> u64 {
    vm.balloon().ask_stats(LIMIT).unwrap().free.unwrap() >> 20
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn memory_goes_back_when_the_guest_frees_it_and_when_it_is_asked_for() {
    let script = "mount -t tmpfs none /tmp; dd if=/dev/zero of=/tmp/big bs=1M count=200 2>/dev/null; echo full; \
                  read go; rm /tmp/big; echo freed; read go; free -m | grep Mem: ; read go; exit 3";
    let vm = config(sh(script)).memory_mib(MIB).build().unwrap();
    let mut stdin = vm.take_stdin().unwrap();
    let mut lines = BufReader::new(vm.take_stdout().unwrap()).lines().map(Result::unwrap);
    vm.start().unwrap();
    assert_eq!(lines.next().unwrap(), "full");
    let full = resident();
    assert!(full > 200, "{full} MiB resident with a file of 200 MiB");
    stdin.write_all(b"\n").unwrap();
    assert_eq!(lines.next().unwrap(), "freed");
    // Free page reporting, without anybody asking. Not all: only whole free blocks are reported, and other memory
    // may have become resident in the meantime.
    until("reporting", || resident() + 150 < full);
    assert!(vm.balloon().counters().reported >= 150 << 20);
    assert_eq!(vm.balloon().actual(), 0);

    // The guest gives half of what it has and takes it back.
    let before = free_mib(&vm);
    vm.balloon().set_target(150 << 20);
    until("inflating", || vm.balloon().actual() == 150 << 20);
    assert!(vm.balloon().counters().inflated >= 140 << 20, "{:?}", vm.balloon().counters());
    let less = free_mib(&vm);
    // Other memory may have become free meanwhile.
    assert!(less + 100 < before, "{before} MiB free, then {less}");
    vm.pause().unwrap();
    assert_eq!(vm.device_state().unwrap(), vm.device_state().unwrap());
    vm.resume().unwrap();
    vm.balloon().set_target(0);
    until("deflating", || vm.balloon().actual() == 0);
    until("free again", || free_mib(&vm) + 20 > before);
    let counters = vm.balloon().counters();
    assert_eq!(counters.refused, 0, "{counters:?}");
    stdin.write_all(b"\n").unwrap();
    assert!(lines.next().unwrap().starts_with("Mem:"));
    stdin.write_all(b"\n").unwrap();
    assert_eq!(wait(&vm).code, 3);
}
