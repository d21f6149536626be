//! Shares and files in memory.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use crate::guest::{Host, finish, piped, rootfs};

#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn shares_and_files_in_memory() {
    let host = Host::new();
    let share = host.bench.path("share");
    std::fs::create_dir(&share).unwrap();
    std::fs::write(share.join("file"), "shared\n").unwrap();
    let script =
        "mkdir -p /tmp/s /tmp/m; mount -t virtiofs share /tmp/s && mount -t virtiofs memory /tmp/m || exit 1
        cat /tmp/s/file; echo x 2>/dev/null >/tmp/s/file || echo read-only
        cat /tmp/m/dir/file /tmp/m/once; ls /tmp/m
        echo x 2>/dev/null >/tmp/m/new || echo read-only too";
    let ended = host.run(&["-f", "-s", share.to_str().unwrap()], script, b"");
    // The kernel may complain of an interrupt line on standard error.
    let expected = "shared\nread-only\nfrom memory\nfrom memory\nread-only too\n";
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), expected), "{}", ended.stderr);
    assert_eq!(std::fs::read_to_string(share.join("file")).unwrap(), "shared\n");
}

/// What the guest makes has the modes its own masks leave, and the mask of the host's process is as it was.
#[test]
#[ignore = "needs a KVM that runs stock kernels: cargo xtask test"]
fn masks_of_guest_and_host_are_apart() {
    let host = Host::new();
    let name = format!("masks-{}", std::process::id());
    let dir = rootfs().join("tmp").join(&name);
    std::fs::create_dir(&dir).unwrap();
    let script = format!(
        "cd /tmp/{name} && umask 0 && : >open && mkdir directory && ln -s open link && mkfifo pipe &&
        umask 027 && : >masked && echo up && read word && exit 4"
    );
    let mut command = host.sh(&[], &script);
    // SAFETY: umask is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            libc::umask(0o077);
            Ok(())
        })
    };
    let mut child = piped(&mut command).spawn().unwrap();
    let mut up = [0; 3];
    child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    assert!(status.contains("Umask:\t0077"), "{status}");
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert_eq!(finish(child).code, Some(4));
    for (file, mode) in [("open", 0o666), ("directory", 0o777), ("pipe", 0o666), ("masked", 0o640)] {
        let metadata = std::fs::symlink_metadata(dir.join(file)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, mode, "{file}");
    }
    std::fs::remove_dir_all(dir).unwrap();
}
