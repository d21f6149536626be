//! A root directory for guests: a static busybox with a link for each of its commands.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cache::{Cache, fingerprint};

use super::{BUSYBOX, applets};

/// The root directory inside the part, so that the guest does not see the cache's own files.
pub const DIR: &str = "root";

const DIRECTORIES: [&str; 10] = ["bin", "sbin", "etc", "root", "tmp", "proc", "sys", "dev", "run", "var"];
const FILES: [(&str, &str); 4] = [
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("etc/hosts", "127.0.0.1 localhost\n"),
    ("etc/resolv.conf", "nameserver 1.1.1.1\n"),
];

/// Makes sure the root directory is there.
pub fn part(cache: &Cache) -> Result<PathBuf> {
    let busybox = fs::read(BUSYBOX).with_context(|| format!("cannot read {BUSYBOX}"))?;
    let recipe = format!("1 {DIRECTORIES:?} {FILES:?} {}", fingerprint([busybox.as_slice()]));
    cache.part("rootfs", &recipe, |dir| build(&dir.join(DIR)))
}

fn build(root: &Path) -> Result<()> {
    for name in DIRECTORIES {
        fs::create_dir_all(root.join(name))?;
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    for (name, content) in FILES {
        fs::write(root.join(name), content)?;
    }
    let busybox = root.join("bin/busybox");
    fs::copy(BUSYBOX, &busybox)?;
    fs::set_permissions(&busybox, fs::Permissions::from_mode(0o755))?;
    for applet in applets(&busybox).iter().filter(|applet| *applet != "busybox") {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_directory_has_a_shell_and_places_to_mount() {
        if applets(Path::new(BUSYBOX)).is_empty() {
            eprintln!("skipped: needs {BUSYBOX}");
            return;
        }
        let home = tempfile::tempdir().unwrap();
        build(home.path()).unwrap();
        assert_eq!(fs::read_link(home.path().join("bin/sh")).unwrap(), Path::new("busybox"));
        assert!(home.path().join("proc").is_dir());
        let mode = fs::metadata(home.path().join("tmp")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o1777);
    }
}
