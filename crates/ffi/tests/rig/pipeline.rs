//! The boot pipeline with a stock kernel: an initial RAM disk made on the host, whose base machines share, memory sized by
//! it, and NUMA nodes.

use purlin::initramfs::shell::{BaseCache, InitramfsBuilder};
use purlin::numa::{Node, Topology};
use purlin::{BootMethod, InitramfsStats, RamDisk};

use crate::stock::Guest;
use crate::support::rootfs;

const MIB: u64 = 1 << 20;
const FILLER: usize = 64 << 20;
/// Linux fills the initial RAM disk with a pattern when it is done with it, and has a copy of all of it then. Not so if it
/// is told to keep it.
const WORDS: &str = "quiet retain_initrd";

/// PID 1: a shell on the serial line, and what the tests ask for.
const INIT: &str = "\
#!/bin/sh
export PATH=/bin PS1=
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
exec </dev/ttyS0 >/dev/ttyS0 2>&1
mount -t proc proc /proc
mount -t sysfs sys /sys
echo shell-ready
exec setsid -c sh
";

fn disk(cache: &BaseCache, filler: usize, run: u32) -> InitramfsBuilder {
    // Nothing that packs: the base is as large packed as it is unpacked.
    let mut x = 1u64;
    let noise = std::iter::repeat_with(|| {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        x ^ (x >> 29)
    });
    let noise: Vec<u8> = noise.take(filler / 8).flat_map(u64::to_le_bytes).collect();
    InitramfsBuilder::new()
        .cache(cache.clone())
        .file("/bin/busybox", Some(0o755), rootfs().join("bin/busybox"))
        .symlink("/bin/sh", "busybox")
        .directory("/dev", 0o755)
        .directory("/proc", 0o755)
        .directory("/sys", 0o755)
        .content("/init", 0o755, INIT.as_bytes())
        .content("/filler", 0o644, noise)
        .per_run("/run-number", 0o644, format!("run {run}\n").into_bytes())
}

/// Sums of the mappings of files below this directory, in KiB: resident, and of it changed by this process.
fn mapped_from(dir: &std::path::Path) -> (u64, u64) {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut inside, mut sums) = (false, (0, 0));
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next().unwrap_or_default() {
            first if !first.ends_with(':') => inside = line.contains(dir.to_str().unwrap()),
            "Rss:" if inside => sums.0 += words.next().unwrap().parse::<u64>().unwrap(),
            "Anonymous:" if inside => sums.1 += words.next().unwrap().parse::<u64>().unwrap(),
            _ => {}
        }
    }
    sums
}

/// The second machine finds the base and copies nothing of it; the guest unpacks all of it.
#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn a_stock_kernel_unpacks_what_machines_share() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let cache = BaseCache::directory(dir.path());
    for run in [1, 2] {
        let disk = RamDisk::from(disk(&cache, FILLER, run));
        let mut guest =
            Guest::start(BootMethod::Auto, WORDS, |config| config.initramfs(disk).memory_deferred(64));
        let before = guest.vm.stats().unwrap();
        guest.until("shell-ready");
        assert!(guest.run("cat /run-number").contains(&format!("run {run}")));
        assert!(guest.run("wc -c </filler").contains(&FILLER.to_string()));
        let InitramfsStats { copied, mapped, .. } = before.initramfs.unwrap();
        let (resident, changed) = mapped_from(dir.path());
        let regions = guest.vm.memory().unwrap().regions().iter().map(|region| region.len).sum::<u64>();
        println!(
            "machine {run}: {} MiB of RAM; of the initial RAM disk {copied} bytes copied, {mapped} mapped; after the boot \
             {resident} KiB of the mapping resident, {changed} KiB of them the machine's own",
            regions / MIB
        );
        for phase in &before.boot {
            println!("  {:>9.3?} {}", phase.took, phase.name);
        }
        assert!(mapped >= FILLER as u64, "{mapped} bytes mapped");
        // Less than a block: the files of this run, and what ends the archive.
        assert!(copied < 4096, "{copied} bytes copied");
        // Shared also after the guest has read it: all but the end, where the suffix begins.
        assert!(resident > 60 << 10 && changed < 1 << 10, "{resident} KiB resident, {changed} KiB changed");
        guest.end("poweroff -f");
    }
}

/// Three nodes, of which one has no processor.
#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn a_stock_kernel_sees_the_nodes() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let cache = BaseCache::directory(dir.path());
    let nodes = vec![Node::new(256 * MIB).cpus([0]), Node::new(128 * MIB).cpus([1]), Node::new(128 * MIB)];
    let topology = Topology::new(nodes).unwrap().distance(0, 2, 30).unwrap();
    let disk = RamDisk::from(disk(&cache, 1 << 20, 1));
    let mut guest = Guest::start(BootMethod::Auto, "quiet", |config| {
        config.initramfs(disk).vcpus(2).memory_mib(512).numa(topology)
    });
    guest.until("shell-ready");
    let node = |guest: &mut Guest, file: &str| guest.run(&format!("cat /sys/devices/system/node/{file}"));
    let expected = [
        ("online", "0-2"),
        ("has_cpu", "0-1"),
        ("node1/cpulist", "1"),
        ("node0/distance", "10 20 30"),
        ("node2/distance", "30 20 10"),
    ];
    for (file, start) in expected {
        let text = node(&mut guest, file);
        assert!(text.starts_with(start), "{file}: {text}");
    }
    for (number, mib) in [(0, 256), (1, 128), (2, 128)] {
        let info = node(&mut guest, &format!("node{number}/meminfo"));
        let line = info.lines().find(|line| line.contains("MemTotal:")).unwrap();
        let kib: u64 = line.split_ascii_whitespace().nth(3).unwrap().parse().unwrap();
        // Without the kernel's own, most of which is in the first.
        assert!(kib <= mib << 10 && kib > (mib - 72) << 10, "{line}");
    }
    guest.end("poweroff -f");
}
