//! Files and directories that are made or changed.

use alloc::ffi::CString;
use alloc::vec::Vec;
use core::ffi::CStr;

use crate::ca::{self, CaInstall};
use crate::errno::Errno;
use crate::sys::{self, Result, flag};

/// Makes a directory and its parents, as far as they are missing.
pub fn make_path(path: &CStr) -> Result<()> {
    match make(path) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    let bytes = path.to_bytes();
    for (at, _) in bytes.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/') {
        let part = bytes.get(..at).and_then(|part| CString::new(part).ok());
        make(&part.ok_or(Errno::INVAL)?)?;
    }
    make(path)
}

fn make(path: &CStr) -> Result<()> {
    tolerate(Errno::EXIST, sys::make_directory(path, 0o755))
}

/// Takes an error for success.
pub fn tolerate(expected: Errno, result: Result<()>) -> Result<()> {
    if result == Err(expected) { Ok(()) } else { result }
}

/// Replaces a file's content. A link that leads nowhere is replaced by a file: those that point at another program's
/// files do, in a guest without that program.
pub fn replace(path: &CStr, content: &[u8]) -> Result<()> {
    let create = || sys::create(path, flag::WRITE | flag::CREATE | flag::TRUNCATE, 0o644);
    let file = match create() {
        Err(Errno::NOENT) => {
            sys::unlink(path)?;
            create()?
        }
        other => other?,
    };
    sys::write_all(&file, content)
}

/// Makes programs trust a certificate authority. All that can be done is done; the first error counts.
pub fn install_ca(install: &CaInstall) -> Result<()> {
    let pem = sys::read_file(&install.source, ca::MAX_CERTIFICATE)?;
    if !ca::is_certificate(&pem) {
        return Err(Errno::INVAL);
    }
    let mut result = copy(&pem, &install.target);
    for bundle in ca::BUNDLES {
        result = result.and(add_to_bundle(bundle, &pem));
    }
    if let Some(link) = install.link() {
        // Without the directory there is nobody who would search it.
        let made = tolerate(Errno::EXIST, sys::symlink(&install.target, &link));
        result = result.and(tolerate(Errno::NOENT, made));
    }
    result
}

fn copy(pem: &[u8], target: &CStr) -> Result<()> {
    if sys::read_file(target, ca::MAX_CERTIFICATE).is_ok_and(|there| there == pem) {
        return Ok(());
    }
    if let Some(parent) = parent(target) {
        make_path(&parent)?;
    }
    replace(target, pem)
}

fn add_to_bundle(bundle: &CStr, pem: &[u8]) -> Result<()> {
    let there = match sys::read_file(bundle, ca::MAX_BUNDLE) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        other => other?,
    };
    match ca::addition(&there, pem) {
        None => Ok(()),
        Some(text) => sys::write_all(&sys::open(bundle, flag::WRITE | flag::APPEND)?, &text),
    }
}

/// The directory of a path with a slash behind its first byte.
fn parent(path: &CStr) -> Option<CString> {
    let bytes = path.to_bytes();
    let end = bytes.iter().rposition(|&byte| byte == b'/').filter(|&end| end > 0)?;
    CString::new(Vec::from(bytes.get(..end)?)).ok()
}
