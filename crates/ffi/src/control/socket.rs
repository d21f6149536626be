//! The socket in the file system: nobody else's from the first moment, and gone at the end.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with,
};

/// Clients that wait to be taken.
const BACKLOG: i32 = 16;

/// A listening socket. Dropping it removes its file.
pub(super) struct Socket {
    listener: OwnedFd,
    path: PathBuf,
    /// Device and inode, to remove no other file of that name.
    file: (u64, u64),
}

impl Socket {
    /// A new file, readable and writable by its owner alone. Fails if there is one of that name.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let address = SocketAddrUnix::new(path)?;
        if address.path().is_none() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        // Before there is a file, which gets the mode of the socket (Linux net/unix/af_unix.c, unix_bind_bsd()): the umask
        // is the whole process's.
        fchmod(&listener, Mode::RUSR | Mode::WUSR)?;
        // The working directory may be another one at the end.
        let path = std::path::absolute(path)?;
        bind(&listener, &address)?;
        let file = identity(&path)?;
        let socket = Socket { listener, path, file };
        listen(&socket.listener, BACKLOG)?;
        Ok(socket)
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// The next client; `WouldBlock` if there is none.
    pub fn accept(&self) -> io::Result<OwnedFd> {
        Ok(accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?)
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let data = fs::symlink_metadata(path)?;
    Ok((data.dev(), data.ino()))
}

impl Drop for Socket {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|file| file == self.file)
            && let Err(e) = fs::remove_file(&self.path)
        {
            log::warn!("control socket {:?} is not removed: {e}", self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let socket = Socket::bind(&path).unwrap();
        let mode = fs::symlink_metadata(&path).unwrap().mode();
        assert_eq!(mode & 0o777 & !0o600, 0);
        assert_eq!(mode & libc::S_IFMT, libc::S_IFSOCK);
        assert_eq!(Socket::bind(&path).err().unwrap().raw_os_error(), Some(libc::EADDRINUSE));
        assert!(path.exists());
        assert_eq!(socket.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(socket);
        assert!(!path.exists());

        // Somebody has put another file in its place.
        let socket = Socket::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "other").unwrap();
        drop(socket);
        assert_eq!(fs::read(&path).unwrap(), b"other");
    }

    #[test]
    fn names_that_cannot_be() {
        let dir = tempfile::tempdir().unwrap();
        for path in [Path::new(""), Path::new("/no/such/directory/x"), &dir.path().join("x".repeat(108))] {
            assert!(Socket::bind(path).is_err(), "{path:?}");
        }
    }
}
