//! What may wait for the host: done by another thread, with nothing of the session but open files.

use std::fs::File;
use std::sync::Arc;

use fuse_backend_rs::abi::fuse_abi::WriteOut;
use rustix::fs::{FallocateFlags, copy_file_range, fallocate, fdatasync, fsync};
use rustix::io::Errno;

use super::io::errno;
use super::{Bulk, Reply, Res};
use crate::virtio::fs::buffers::Target;

/// A call on open files. It can be done on any thread, in any order with others: the guest does not send a
/// request that depends on another before that is answered.
#[derive(Debug)]
pub(in crate::virtio::fs) enum Job {
    /// Reads on at `offset + done` until `len` bytes are there.
    Read {
        file: Arc<File>,
        offset: u64,
        len: usize,
        done: usize,
    },
    Write {
        file: Arc<File>,
        target: Target,
        len: usize,
        /// All of it, or an error: nobody looks how much it was.
        whole: bool,
    },
    Sync {
        file: Arc<File>,
        data_only: bool,
    },
    Fallocate {
        file: Arc<File>,
        mode: FallocateFlags,
        offset: u64,
        len: u64,
    },
    Copy {
        from: Arc<File>,
        from_offset: u64,
        to: Arc<File>,
        to_offset: u64,
        len: usize,
    },
}

impl Job {
    pub fn run(&self, bulk: &mut Bulk) -> Res<Reply> {
        match *self {
            Job::Read { ref file, offset, len, done } => read_on(bulk, file, offset, len, done),
            Job::Write { ref file, target: Target::At(offset), len, whole: true } => {
                write_all(bulk, file, offset, len)
            }
            Job::Write { ref file, target, len, .. } => {
                bulk.readable.drain(file, len, target).map_err(|e| errno(&e)).map(written)
            }
            Job::Sync { ref file, data_only } => {
                if data_only { fdatasync(file) } else { fsync(file) }.map(|()| Reply::Empty)
            }
            Job::Fallocate { ref file, mode, offset, len } => {
                fallocate(file, mode, offset, len).map(|()| Reply::Empty)
            }
            Job::Copy { ref from, from_offset, ref to, to_offset, len } => {
                let (mut at, mut put) = (from_offset, to_offset);
                copy_file_range(from, Some(&mut at), to, Some(&mut put), len).map(written)
            }
        }
    }
}

pub(super) fn read_on(bulk: &mut Bulk, file: &File, offset: u64, len: usize, done: usize) -> Res<Reply> {
    let mut done = done;
    while done < len {
        let at = offset.saturating_add(done as u64);
        match bulk.writable.fill(file, len.saturating_sub(done), at, true) {
            Ok(0) => break,
            Ok(more) => done = done.saturating_add(more),
            // Also if there is something before it: Linux takes a short answer for the end of the file, and asks page
            // by page after an error.
            Err(e) => return Err(errno(&e)),
        }
    }
    Ok(Reply::Placed(done))
}

fn write_all(bulk: &mut Bulk, file: &File, offset: u64, len: usize) -> Res<Reply> {
    let mut done = 0;
    while done < len {
        let at = Target::At(offset.saturating_add(done as u64));
        match bulk.readable.drain(file, len.saturating_sub(done), at) {
            Ok(0) => return Err(Errno::IO),
            Ok(more) => done = done.saturating_add(more),
            Err(e) => return Err(errno(&e)),
        }
    }
    Ok(written(done))
}

pub(super) fn written(size: usize) -> Reply {
    Reply::Written(WriteOut { size: u32::try_from(size).unwrap_or(u32::MAX), padding: 0 })
}

/// Where the files of a host device are, as far as it matters for waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::virtio::fs) enum Medium {
    /// In memory: nothing waits.
    Memory,
    /// Elsewhere, but the host tells whether a read would wait (`RWF_NOWAIT`).
    Tells,
    /// Elsewhere, and everything may wait.
    Waits,
}

/// The media of the devices a share was seen on.
#[derive(Debug, Default)]
pub(super) struct Media(Vec<(u64, Medium)>);

/// Devices remembered; of others everything is asked again.
const MAX_MEDIA: usize = 64;

impl Media {
    pub fn of(&mut self, dev: u64, file: &File) -> Medium {
        match self.0.iter().find(|known| known.0 == dev) {
            Some((_, medium)) => *medium,
            None => {
                let medium = find(file);
                if self.0.len() < MAX_MEDIA {
                    self.0.push((dev, medium));
                }
                medium
            }
        }
    }

    /// The host does not tell, it turned out.
    pub fn waits(&mut self, dev: u64) {
        if let Some((_, medium)) = self.0.iter_mut().find(|known| known.0 == dev) {
            *medium = Medium::Waits;
        }
    }
}

fn find(file: &File) -> Medium {
    match rustix::fs::fstatfs(file).map(|st| st.f_type) {
        Ok(libc::TMPFS_MAGIC | RAMFS_MAGIC) => Medium::Memory,
        _ => Medium::Tells,
    }
}

/// `include/uapi/linux/magic.h`.
const RAMFS_MAGIC: i64 = 0x8584_58f6;

#[cfg(test)]
mod tests {
    use purlin_vmm_core::memory::{RamRange, Window};
    use virtio_queue::QueueOwnedT;

    use super::*;
    use crate::testing::{Buf, DriverRing, guest_ram};
    use crate::virtio::fs::buffers::Chain;

    const PAGE: u64 = 4096;

    /// A page behind which is one that can be neither read nor written, and a file whose offsets are their addresses:
    /// this process's memory, where two pages of a file of one are mapped.
    fn half_a_file() -> (Window, Arc<File>) {
        let window = Window::reserve(RamRange { start: 1 << 32, len: 2 << 20 }).unwrap();
        let one_page = tempfile::tempfile().unwrap();
        std::os::unix::fs::FileExt::write_all_at(&one_page, &[7; PAGE as usize], 0).unwrap();
        window.show_file(0, 2 * PAGE, &one_page, 0, true).unwrap();
        let memory = File::options().read(true).write(true).open("/proc/self/mem").unwrap();
        (window, Arc::new(memory))
    }

    fn chain(buf: Buf<'_>) -> Bulk {
        let ram = guest_ram(1 << 20);
        let mut ring = DriverRing::new(&ram, 0, 1 << 20, 16);
        ring.submit(&[buf]);
        let mut queue = ring.device_queue(0, false).queue;
        let chain = queue.iter(&*ram).unwrap().next().unwrap();
        let Chain { readable, writable, .. } = Chain::parse(&ram, None, chain);
        Bulk { readable, writable }
    }

    /// Linux does not look how much of a page of a mapping was written.
    #[test]
    fn pages_of_a_mapping_are_written_whole_or_not_at_all() {
        let (window, file) = half_a_file();
        let write = |len: usize, whole: bool| {
            let target = Target::At(window.host_addr());
            let job = Job::Write { file: Arc::clone(&file), target, len, whole };
            let result = job.run(&mut chain(Buf::Read(&[9; 2 * PAGE as usize])));
            result.map(|reply| match reply {
                Reply::Written(out) => out.size as usize,
                other => panic!("{other:?}"),
            })
        };
        let page = PAGE as usize;
        assert_eq!((write(page, true), write(0, true)), (Ok(page), Ok(0)));
        assert_eq!(write(2 * page, false), Ok(page), "who calls write(2) is told how much");
        assert_eq!(write(2 * page, true), Err(Errno::IO));
    }

    #[test]
    fn an_error_behind_some_bytes_is_no_end_of_the_file() {
        let (window, file) = half_a_file();
        let read = |from: u64, len: usize, ahead: usize| {
            let mut bulk = chain(Buf::Write(2 * PAGE as u32));
            // What was read before the job was made.
            bulk.writable.split_front(ahead);
            let offset = window.host_addr() + from;
            let job = Job::Read { file: Arc::clone(&file), offset, len, done: ahead };
            let result = job.run(&mut bulk);
            result.map(|reply| match reply {
                Reply::Placed(len) => len,
                other => panic!("{other:?}"),
            })
        };
        let page = PAGE as usize;
        assert_eq!(read(0, page, 0), Ok(page));
        assert_eq!(read(PAGE, page, 0), Err(Errno::IO));
        assert_eq!(read(0, 2 * page, 0), Err(Errno::IO), "a page of it was read");
        assert_eq!(read(0, 2 * page, page), Err(Errno::IO), "a page of it was there");
    }
}
