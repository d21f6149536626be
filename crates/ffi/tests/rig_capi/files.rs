//! Shares and files in memory.

use crate::guest::Host;

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
