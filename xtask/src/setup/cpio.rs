//! A writer of cpio archives in the "newc" form, as the kernel reads an initramfs
//! (kernel documentation, driver-api/early-userspace/buffer-format).

use anyhow::{Context, Result};

const DIRECTORY: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;
const LINK: u32 = 0o120_777;

/// An archive under construction. Everything in it belongs to root and has no time stamp.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds a directory; parents come first.
    pub fn directory(&mut self, name: &str) -> Result<()> {
        self.entry(name, DIRECTORY, &[])
    }

    /// Adds a file that everybody may execute.
    pub fn file(&mut self, name: &str, content: &[u8]) -> Result<()> {
        self.entry(name, EXECUTABLE, content)
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, name: &str, target: &str) -> Result<()> {
        self.entry(name, LINK, target.as_bytes())
    }

    /// The finished archive.
    pub fn finish(mut self) -> Result<Vec<u8>> {
        self.entry("TRAILER!!!", 0, &[])?;
        Ok(self.bytes)
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.entries += 1;
        let size = u32::try_from(content.len()).with_context(|| format!("{name} is too large for cpio"))?;
        let name_size = u32::try_from(name.len() + 1)?;
        // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::Archive;
    use crate::setup::BUSYBOX;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn headers_names_and_contents_are_aligned() {
        let mut archive = Archive::default();
        archive.directory("bin").unwrap();
        archive.file("bin/x", b"12345").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.starts_with("070701"));
        assert_eq!(text.find("12345").unwrap() % 4, 0);
        assert!(text.trim_end_matches('\0').ends_with("TRAILER!!!"));
    }

    #[test]
    fn busybox_reads_it_back() {
        if !std::path::Path::new(BUSYBOX).exists() {
            eprintln!("skipped: needs {BUSYBOX}");
            return;
        }
        let mut archive = Archive::default();
        archive.directory("bin").unwrap();
        archive.file("bin/x", b"hello").unwrap();
        let mut cpio = Command::new(BUSYBOX)
            .args(["cpio", "-i", "--to-stdout", "bin/x"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        cpio.stdin.take().unwrap().write_all(&archive.finish().unwrap()).unwrap();
        assert_eq!(cpio.wait_with_output().unwrap().stdout, b"hello");
    }
}
