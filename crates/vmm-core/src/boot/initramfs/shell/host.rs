//! The host's files as [`Files`].

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::super::MAX_UNPACKED;
use super::super::closure::Files;
use super::super::tree::Content;

/// Configuration of the host's loader.
const LOADER_CONFIG: &str = "/etc/ld.so.conf";
/// Most directories taken from it, and how deep its files may include others.
const MAX_DIRECTORIES: usize = 256;
const MAX_DEPTH: u32 = 4;
/// Largest configuration file in bytes.
const MAX_CONFIG: u64 = 64 << 10;

/// The files of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostFiles;

impl HostFiles {
    /// The directories that the host's loader is configured to search (`ldconfig(8)`), as far as the configuration
    /// can be read.
    pub fn configured_directories() -> Vec<String> {
        let mut directories = Vec::new();
        read_config(Path::new(LOADER_CONFIG), MAX_DEPTH, &mut directories);
        directories
    }
}

impl Files for HostFiles {
    fn read(&self, path: &str) -> io::Result<Option<Content>> {
        let file = match open(Path::new(path)) {
            Ok(file) => file,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(e) => return Err(e),
        };
        if !file.metadata()?.is_file() {
            return Ok(None);
        }
        read(file).map(|bytes| Some(bytes.into()))
    }

    fn real_directory(&self, path: &str) -> Option<String> {
        let real = fs::canonicalize(path).ok().filter(|real| real.is_dir())?;
        real.to_str().map(str::to_owned)
    }
}

/// Opens without waiting for what is no file.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path)
}

/// The content and permission bits of a regular file.
pub(super) fn read_file(path: &Path) -> io::Result<(Vec<u8>, u32)> {
    let file = open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o7777;
    Ok((read(file)?, mode))
}

fn read(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let size = usize::try_from(file.metadata()?.len().min(MAX_UNPACKED)).unwrap_or(0);
    bytes.try_reserve_exact(size).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let len = file.take(MAX_UNPACKED.saturating_add(1)).read_to_end(&mut bytes)?;
    if len as u64 > MAX_UNPACKED {
        return Err(io::Error::other(format!("larger than {MAX_UNPACKED} bytes")));
    }
    Ok(bytes)
}

fn read_config(path: &Path, depth: u32, directories: &mut Vec<String>) {
    let mut text = String::new();
    let Ok(file) = open(path) else { return };
    if file.take(MAX_CONFIG).read_to_string(&mut text).is_err() {
        return;
    }
    for line in text.lines().map(|line| line.split('#').next().unwrap_or("").trim()) {
        match line.strip_prefix("include").filter(|rest| rest.starts_with([' ', '\t'])) {
            Some(pattern) if depth > 0 => {
                for file in matching(path, pattern.trim()) {
                    read_config(Path::new(&file), depth.saturating_sub(1), directories);
                }
            }
            Some(_) => {}
            None if line.starts_with('/') && directories.len() < MAX_DIRECTORIES => {
                directories.push(line.to_owned());
            }
            None => {}
        }
    }
}

/// Files of a pattern with at most one `*`, in its last part, as distributions write it.
fn matching(from: &Path, pattern: &str) -> Vec<String> {
    let pattern = from.parent().unwrap_or(Path::new("/")).join(pattern);
    let (Some(directory), Some(name)) =
        (pattern.parent(), pattern.file_name().and_then(|name| name.to_str()))
    else {
        return Vec::new();
    };
    let Some((start, end)) = name.split_once('*') else {
        return pattern.to_str().map(str::to_owned).into_iter().collect();
    };
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.path().to_str().map(str::to_owned));
    let mut found: Vec<String> = names
        .filter(|path| {
            let name = path.rsplit('/').next().unwrap_or(path);
            name.len() >= start.len().saturating_add(end.len())
                && name.starts_with(start)
                && name.ends_with(end)
        })
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_directories_and_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        fs::write(path("file"), b"x").unwrap();
        std::os::unix::fs::symlink(".", path("link")).unwrap();
        assert_eq!(HostFiles.read(&path("file")).unwrap().unwrap().bytes(), b"x");
        assert!(HostFiles.read(&path("none")).unwrap().is_none());
        assert!(HostFiles.read(&path("file/none")).unwrap().is_none());
        assert!(HostFiles.read(&path("link")).unwrap().is_none(), "a directory is no file");
        let real = fs::canonicalize(dir.path()).unwrap();
        assert_eq!(HostFiles.real_directory(&path("link")).as_deref(), real.to_str());
        assert_eq!(HostFiles.real_directory(&path("file")), None);
        assert!(read_file(dir.path()).is_err());
    }

    #[test]
    fn the_loaders_configuration_with_includes() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("d")).unwrap();
        fs::write(at("main"), "include d/*.conf\n/opt/a # here\nrelative\ninclude main\n").unwrap();
        fs::write(at("d/2.conf"), "/opt/c\n").unwrap();
        fs::write(at("d/1.conf"), "/opt/b\n").unwrap();
        fs::write(at("d/1.off"), "/opt/x\n").unwrap();
        let mut got = Vec::new();
        read_config(&at("main"), 0, &mut got);
        assert_eq!(got, ["/opt/a"], "includes end at the depth limit");
        got.clear();
        read_config(&at("main"), 1, &mut got);
        assert_eq!(got, ["/opt/b", "/opt/c", "/opt/a", "/opt/a"]);
    }
}
