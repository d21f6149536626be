//! Mounts that the host asks for: disks, a disk as the root. A disk is a file behind a loop device here.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::machine::Machine;

/// A disk with an ext4 file system.
struct Disk {
    device: PathBuf,
    _image: TempDir,
}

impl Disk {
    /// With a copy of the directory `content` on it; `None` with a line that says what this host lacks.
    fn new(content: &Path) -> Option<Self> {
        let image = tempfile::tempdir().unwrap();
        let file = image.path().join("disk");
        let made = Command::new("mkfs.ext4").args(["-q", "-d"]).arg(content).arg(&file).arg("16M").output();
        if !made.is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: no mkfs.ext4");
            return None;
        }
        let output = Command::new("losetup").args(["--find", "--show"]).arg(&file).output();
        let Some(output) = output.ok().filter(|output| output.status.success()) else {
            eprintln!("skipped: no loop devices");
            return None;
        };
        let device = String::from_utf8(output.stdout).unwrap().trim().into();
        Some(Self { device, _image: image })
    }

    fn node(&self) -> &str {
        self.device.to_str().unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.device).status();
    }
}

#[test]
fn disks_are_mounted_with_or_without_their_type() {
    let content = tempfile::tempdir().unwrap();
    std::fs::write(content.path().join("file"), "from the disk\n").unwrap();
    let Some(disk) = Disk::new(content.path()) else { return };
    for (kind, end, options) in [("ext4", "", "rw"), ("", ":ro", "ro"), ("auto", ":rw", "rw")] {
        let script = "cat /made/for/it/file; grep ' /made/for/it ' /proc/mounts";
        let Some(machine) = Machine::shell(script) else { return };
        let words = format!("{}:{kind}:/made/for/it{end}", disk.node());
        let outcome = machine.env("PURLIN_DISK_MOUNTS", &words).run();
        let expected = format!("from the disk\n{} /made/for/it ext4 {options},", disk.node());
        assert!(outcome.output().starts_with(&expected), "{} {}", outcome.stdout, outcome.stderr);
        assert_eq!(outcome.stderr, "");
    }
}

#[test]
fn mounts_that_fail_are_named_and_the_boot_goes_on() {
    let Some(machine) = Machine::shell("echo on") else { return };
    let machine = machine.env("PURLIN_DISK_MOUNTS", "/dev/missing:ext4:/a,/dev/null::/b");
    let outcome = machine.env("AGX_VIRTIOFS_MOUNTS", "tag:/c").run();
    assert_eq!(outcome.output(), "on\n");
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    let [share, missing, null] = lines[..] else { panic!("{lines:?}") };
    assert!(share.starts_with("purlin-init: mount tag /c: "), "{share}");
    assert_eq!(missing, "purlin-init: mount /dev/missing /a: ENOENT");
    assert!(null.starts_with("purlin-init: mount /dev/null /b: "), "{null}");
}

#[test]
fn a_disk_becomes_the_root() {
    let content = tempfile::tempdir().unwrap();
    Machine::populate(content.path());
    std::fs::write(content.path().join("only-here"), "disk\n").unwrap();
    let Some(disk) = Disk::new(content.path()) else { return };
    let script = "cat /only-here; test -e /init.krun && echo first root; test -e /dev/null && echo dev; \
                  grep -c ' /proc proc' /proc/mounts; grep ' / ext4' /proc/mounts; echo kept > /written; exit 7";
    for kind in ["ext4", ""] {
        let Some(machine) = Machine::shell(script) else { return };
        let machine = machine.env("KRUN_BLOCK_ROOT_DEVICE", disk.node()).env("KRUN_BLOCK_ROOT_FSTYPE", kind);
        let outcome = machine.env("KRUN_BLOCK_ROOT_OPTIONS", "noatime,nosuid,commit=9").run();
        assert_eq!(outcome.code(), 7, "{}", outcome.stderr);
        let (before, root) = outcome.stdout.split_at("disk\ndev\n1\n".len());
        assert_eq!(before, "disk\ndev\n1\n");
        let options = root.split(' ').nth(3).unwrap_or_default();
        for word in ["rw", "nosuid", "noatime", "commit=9"] {
            assert!(options.split(',').any(|option| option == word), "{word}: {root}");
        }
        assert!(!machine_path_exists(&content, "written"), "the image was copied");
    }
}

fn machine_path_exists(content: &TempDir, name: &str) -> bool {
    content.path().join(name).exists()
}

#[test]
fn a_root_that_cannot_be_mounted_ends_the_boot() {
    let Some(machine) = Machine::shell("echo no") else { return };
    let outcome =
        machine.env("KRUN_BLOCK_ROOT_DEVICE", "/dev/missing").env("KRUN_BLOCK_ROOT_FSTYPE", "ext4").run();
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (125, ""));
    assert_eq!(outcome.stderr, "purlin-init: mount /dev/missing /newroot: ENOENT\n");
}
