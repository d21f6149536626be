//! How guests end, and how they are ended.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use purlin_vmm_core::bundle::{Bundle, BundleSource};
use purlin_vmm_core::memory::{Bytes, GuestAddress, MemoryLayout, RamConfig, alloc::allocate};

use crate::guest::{Host, done, finish, firmware, piped};

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn the_process_exits_as_the_workload() {
    let host = Host::new();
    assert_eq!(host.run(&[], "exit 0", b""), done(0, "", ""));
    assert_eq!(host.run(&[], "cat; echo err >&2; exit 7", b"in\n"), done(7, "in\n", "err\n"));
    assert_eq!(host.run(&[], "kill -9 $$", b"").code, Some(137));
    let nowhere = host.run(&["-d", "/no/such/place"], "true", b"");
    let said = "exit code 125: the workload was not started: ";
    assert!(nowhere.code == Some(125) && nowhere.stderr.contains(said), "{nowhere:?}");
    assert!(nowhere.stderr.contains("/no/such/place"), "{nowhere:?}");
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn arguments_environment_directory_and_limits() {
    let host = Host::new();
    let script = "echo \"$0|$1|$PWD|$ODD|$(ulimit -n)\"";
    let mut command = host.sh(&["-d", "/tmp", "-r", "7=100:200"], script);
    command.args(["zero", "with \"quotes\"  and -- spaces"]).env("ODD", "a\nb");
    let ended = finish(piped(&mut command).spawn().unwrap());
    assert_eq!(ended, done(0, "zero|with \"quotes\"  and -- spaces|/tmp|a\nb|100\n", ""));
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn a_reader_that_leaves_does_not_end_the_guest() {
    let host = Host::new();
    let mut child = piped(&mut host.sh(&[], "while echo y; do :; done 2>/dev/null; exit 3")).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "y\n");
    assert_eq!(finish(child).code, Some(3));
}

/// A pipe that the child has as this descriptor.
fn stop_pipe(command: &mut Command, as_fd: i32) -> std::io::PipeWriter {
    let (reader, writer) = std::io::pipe().unwrap();
    // SAFETY: dup2 is async-signal-safe, and `reader` is open in the child as it is here.
    unsafe {
        command.pre_exec(move || match libc::dup2(reader.as_raw_fd(), as_fd) {
            -1 => Err(std::io::Error::last_os_error()),
            _ => Ok(()),
        })
    };
    writer
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn the_shutdown_descriptor_stops_the_guest() {
    use std::io::Write;

    let host = Host::new();
    let mut command = host.sh(&["-x", "100"], "echo up; exec sleep 1000");
    let mut writer = stop_pipe(&mut command, 100);
    let mut child = piped(&mut command).spawn().unwrap();
    let mut up = [0; 3];
    child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    writer.write_all(b"x").unwrap();
    assert_eq!(finish(child).code, Some(143));
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn sigint_reaches_the_guest_and_sigterm_the_process() {
    let host = Host::new();
    let script = "trap 'echo int; exit 9' INT; echo up; while :; do sleep 1; done";
    for (signal, code, end) in [(libc::SIGINT, Some(9), None), (libc::SIGTERM, None, Some(libc::SIGTERM))] {
        let mut child = piped(&mut host.sh(&[], script)).spawn().unwrap();
        let mut up = [0; 3];
        child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
        // SAFETY: sends a signal to a child that was not waited for.
        assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
        let status = child.wait().unwrap();
        assert_eq!((status.code(), status.signal()), (code, end));
    }
}

/// The guest's kernel out of its library, as an ELF image of one segment.
fn elf_of(bundle: &Bundle) -> Vec<u8> {
    let layout = MemoryLayout::new(128 << 20).unwrap();
    let ram = allocate(&layout, &RamConfig::default()).unwrap();
    bundle.copy_to(&ram).unwrap();
    let mut kernel = vec![0; bundle.size() as usize];
    ram.read_slice(&mut kernel, GuestAddress(bundle.load_addr())).unwrap();
    let mut image = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    for word in [bundle.entry(), 64, 0] {
        image.extend(word.to_le_bytes());
    }
    image.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0]);
    let load = bundle.load_addr();
    for word in [4096, load, load, bundle.size(), bundle.size(), 4096] {
        image.extend(word.to_le_bytes());
    }
    image.resize(4096, 0);
    image.extend(kernel);
    image
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn a_kernel_in_a_file() {
    let host = Host::new();
    let bundle = Bundle::open(&BundleSource::Path(firmware())).unwrap();
    let file = host.bench.path("vmlinux");
    std::fs::write(&file, elf_of(&bundle)).unwrap();
    let ended = host.run(&["-k", file.to_str().unwrap()], "echo from a file; exit 5", b"");
    assert_eq!(ended, done(5, "from a file\n", ""));
}

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn another_user_has_no_more_than_its_rights() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    let host = Host::new();
    let public = host.bench.path("public");
    std::fs::create_dir(&public).unwrap();
    std::fs::set_permissions(&public, std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::set_permissions(host.bench.path("."), std::fs::Permissions::from_mode(0o755)).unwrap();
    let kvm = std::fs::metadata("/dev/kvm").unwrap().mode();
    let ended = host.run(&["-u", "65534"], "true", b"");
    if kvm & 0o006 == 0o006 {
        assert_eq!(ended, done(0, "", ""));
    } else {
        assert_eq!(ended.code, Some(100), "{ended:?}");
        assert!(ended.stderr.contains("Permission denied") && ended.stderr.contains("/dev/kvm"), "{ended:?}");
    }
}
