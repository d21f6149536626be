//! Initial RAM disks made by this library, in real kernels. The guest's first program is that of `purlin-test-guest`.

use purlin::initramfs::SENTINEL;
use purlin::initramfs::shell::{BaseCache, Compression, InitramfsBuilder};
use purlin::{Console, Exec, ExitReason};
use tempfile::TempDir;

use crate::support::{wait, without_root};

/// An archive whose first program reports these files and its own of every run.
fn archive(cache: &TempDir, report: &[&str]) -> InitramfsBuilder {
    let report = [report, &["/etc/run", SENTINEL]].concat().join("\n");
    InitramfsBuilder::new()
        .cache(BaseCache::directory(cache.path()))
        .content("/init", 0o755, purlin_test_guest::binary())
        .content(purlin_test_guest::REPORT, 0o644, report)
}

/// What the guest reported.
struct Report(String);

impl Report {
    fn of(console: &str) -> Self {
        let start = console.find("guest: begin").unwrap_or_else(|| panic!("no report:\n{console}"));
        assert!(console.contains("guest: end"), "{console}");
        Report(console[start..].replace('\r', ""))
    }

    /// The lines of a file.
    fn lines(&self, path: &str) -> Vec<&str> {
        let start = format!("guest: {path}: ");
        self.0.lines().filter_map(|line| line.strip_prefix(start.as_str())).map(str::trim).collect()
    }
}

/// The bundle's kernel unpacks plain archives only.
#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn a_plain_archive_in_libkrunfws_kernel() {
    let dir = tempfile::tempdir().unwrap();
    let console = dir.path().join("console");
    let disk = archive(&dir, &[]).compression(Compression::None).per_run("/etc/run", 0o644, &b"first\n"[..]);
    let machine = without_root(Exec::new("/init")).console(Console::file(&console));
    let vm = machine.memory_deferred(16).initramfs(disk).build().unwrap();
    assert_eq!(wait(vm.start().unwrap()).reason, ExitReason::GuestReset);
    let report = Report::of(&std::fs::read_to_string(console).unwrap());
    assert_eq!(report.lines("/etc/run"), ["first"]);
    assert_eq!(report.lines(SENTINEL).len(), 1, "the end of the archive is there");
}
