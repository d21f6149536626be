//! The cache: what is downloaded or generated once and kept outside the source tree. Each part is a directory that
//! carries the recipe it was made with, appears complete or not at all, and is made by one process at a time.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::FlockOperation;

use crate::proc::say;

/// Name of the file inside a part that says how the part was made.
const RECIPE: &str = ".recipe";

/// The cache directory: `$PURLIN_CACHE`, else `purlin` under `$XDG_CACHE_HOME` or `~/.cache`.
pub struct Cache {
    dir: PathBuf,
}

/// An exclusive lock between processes, released on drop.
pub struct Lock {
    _file: File,
}

impl Cache {
    /// Opens the cache directory and creates it if need be.
    pub fn open() -> Result<Self> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let dir = variable("PURLIN_CACHE")
            .or_else(|| variable("XDG_CACHE_HOME").map(|dir| dir.join("purlin")))
            .or_else(|| variable("HOME").map(|dir| dir.join(".cache/purlin")))
            .context("no place for the cache: set PURLIN_CACHE or HOME")?;
        Self::at(std::path::absolute(dir)?)
    }

    fn at(dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(&dir)
            .with_context(|| format!("cannot create {}; set PURLIN_CACHE", dir.display()))?;
        Ok(Self { dir })
    }

    /// Takes the lock `name`, and says so when another process has it.
    pub fn lock(&self, name: &str) -> Result<Lock> {
        let path = self.dir.join(format!("{name}.lock"));
        let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            say(format_args!("another process is preparing the same ({name}), waiting"));
            rustix::fs::flock(&file, FlockOperation::LockExclusive).context("cannot wait for the lock")?;
        }
        Ok(Lock { _file: file })
    }

    /// The directory of the part `name`, which `build` fills, if it was not made with exactly this `recipe` before.
    pub fn part(&self, name: &str, recipe: &str, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let dir = self.dir.join(name);
        if is_made(&dir, recipe) {
            return Ok(dir);
        }
        let _lock = self.lock(name)?;
        if is_made(&dir, recipe) {
            return Ok(dir);
        }
        let fresh = self.dir.join(format!("{name}.new"));
        remove_dir(&fresh)?;
        fs::create_dir(&fresh).with_context(|| format!("cannot create {}", fresh.display()))?;
        build(&fresh)?;
        fs::write(fresh.join(RECIPE), recipe)?;
        remove_dir(&dir)?;
        fs::rename(&fresh, &dir).with_context(|| format!("cannot put {} in place", dir.display()))?;
        Ok(dir)
    }
}

fn is_made(dir: &Path, recipe: &str) -> bool {
    fs::read_to_string(dir.join(RECIPE)).is_ok_and(|made| made == recipe)
}

/// Removes a directory that may not exist.
pub fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// A short name for the content of all `inputs` (FNV-1a, 64 bit): the same everywhere and for ever, not a secret.
pub fn fingerprint<'a>(inputs: impl IntoIterator<Item = &'a [u8]>) -> String {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for input in inputs {
        // The length goes in too, so that moving a byte from one input to the next changes the result.
        for byte in (input.len() as u64).to_le_bytes().iter().chain(input) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
    }
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn a_part_is_made_once_per_recipe() {
        let home = tempfile::tempdir().unwrap();
        let cache = Cache::at(home.path().join("cache")).unwrap();
        let made = Cell::new(0);
        let part = |recipe: &str| {
            cache
                .part("thing", recipe, |dir| {
                    made.set(made.get() + 1);
                    Ok(fs::write(dir.join("made"), recipe)?)
                })
                .unwrap()
        };
        part("one");
        let dir = part("one");
        assert_eq!(made.get(), 1);
        part("two");
        assert_eq!((made.get(), fs::read_to_string(dir.join("made")).unwrap()), (2, "two".into()));
    }

    #[test]
    fn a_failed_part_does_not_appear_and_keeps_the_old_one() {
        let home = tempfile::tempdir().unwrap();
        let cache = Cache::at(home.path().to_owned()).unwrap();
        let dir = cache.part("thing", "one", |dir| Ok(fs::write(dir.join("made"), "one")?)).unwrap();
        assert!(cache.part("thing", "two", |_| anyhow::bail!("no network")).is_err());
        assert!(is_made(&dir, "one"));
    }

    #[test]
    fn the_fingerprint_depends_on_every_byte_and_boundary() {
        let base = fingerprint([b"ab".as_slice(), b"c"]);
        assert_eq!(base, fingerprint([b"ab".as_slice(), b"c"]));
        for other in [[b"a".as_slice(), b"bc"], [b"ab", b"d"], [b"abc", b""]] {
            assert_ne!(base, fingerprint(other));
        }
    }

    #[test]
    fn the_fingerprint_is_the_published_function() {
        // One input of length zero is eight zero bytes to the hash.
        let mut expected: u64 = 0xcbf2_9ce4_8422_2325;
        for _ in 0..8 {
            expected = expected.wrapping_mul(0x0000_0100_0000_01b3);
        }
        assert_eq!(fingerprint([b"".as_slice()]), format!("{expected:016x}"));
    }
}
