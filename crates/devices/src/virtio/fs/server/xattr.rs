//! Extended attributes.

use std::ffi::CStr;
use std::os::fd::AsFd;

use fuse_backend_rs::abi::fuse_abi::GetxattrOut;
use rustix::fs::{
    XattrFlags, fgetxattr, fgetxattr_query, getxattr, getxattr_query, listxattr, listxattr_query,
    removexattr, setxattr,
};
use rustix::io::Errno;

use super::{FileServer, Reply, Res};
use crate::virtio::fs::sys::ProcPath;

impl FileServer {
    fn proc_path(&mut self, node: u64) -> Res<(std::sync::Arc<std::os::fd::OwnedFd>, ProcPath)> {
        let fd = self.path_fd(node)?;
        let path = ProcPath::new(fd.as_fd());
        // The path is good while the descriptor is open.
        Ok((fd, path))
    }

    pub(super) fn getxattr(&mut self, node: u64, name: &CStr, size: u32) -> Res<Reply> {
        if self.is_virtual(node) {
            return Err(Errno::NODATA);
        }
        if size == 0 {
            // Before the first write to a file Linux asks whether it has a security.capability: it is open then, and
            // reaching it by its name would be most of the cost of creating it.
            if let Some(file) = self.open_already(node) {
                return count(fgetxattr_query(file, name)?);
            }
            let (_fd, path) = self.proc_path(node)?;
            return count(getxattr_query(path.as_c_str(), name)?);
        }
        let mut out = std::mem::take(&mut self.output);
        out.clear();
        out.resize(size as usize, 0);
        let result = match self.open_already(node) {
            Some(file) => fgetxattr(file, name, &mut out[..]),
            None => {
                self.proc_path(node).and_then(|(_fd, path)| getxattr(path.as_c_str(), name, &mut out[..]))
            }
        };
        out.truncate(*result.as_ref().unwrap_or(&0));
        self.output = out;
        result.map(|_| Reply::Bytes)
    }

    pub(super) fn listxattr(&mut self, node: u64, size: u32) -> Res<Reply> {
        if self.is_virtual(node) {
            self.output.clear();
            return if size == 0 { count(0) } else { Ok(Reply::Bytes) };
        }
        let (_fd, path) = self.proc_path(node)?;
        if size == 0 {
            return count(listxattr_query(path.as_c_str())?);
        }
        self.output.clear();
        self.output.resize(size as usize, 0);
        let len = listxattr(path.as_c_str(), &mut self.output[..])?;
        self.output.truncate(len);
        Ok(Reply::Bytes)
    }

    pub(super) fn setxattr(&mut self, node: u64, name: &CStr, value: &[u8], flags: u32) -> Res<()> {
        self.host_only(node)?;
        let (_fd, path) = self.proc_path(node)?;
        setxattr(path.as_c_str(), name, value, XattrFlags::from_bits_retain(flags))
    }

    pub(super) fn removexattr(&mut self, node: u64, name: &CStr) -> Res<()> {
        self.host_only(node)?;
        let (_fd, path) = self.proc_path(node)?;
        removexattr(path.as_c_str(), name)
    }
}

fn count(size: usize) -> Res<Reply> {
    Ok(Reply::Size(GetxattrOut { size: u32::try_from(size).map_err(|_| Errno::TOOBIG)?, padding: 0 }))
}
