//! The pages themselves.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use libc::{c_int, c_void, dl_phdr_info};

/// Bytes of an entry of `/proc/PID/pagemap`.
const ENTRY: usize = size_of::<u64>();

/// Unmaps the pages of this library's code and constants, whose next use maps them again.
pub(super) fn give_back_code() -> io::Result<()> {
    let page = rustix::param::page_size();
    let pagemap = File::open("/proc/self/pagemap")?;
    for segment in own_segments(page) {
        // SAFETY: the segment is mapped privately from the file of the object that this code is in, which stays loaded
        // while it runs. Nobody writes to it after the dynamic linker, which writes before: that is what its flags say.
        unsafe { unmap_unchanged(&pagemap, segment, page) }?;
    }
    Ok(())
}

/// Returns the free pages of the heap to the system.
pub(super) fn give_back_heap() {
    // SAFETY: may be called at any time, from any thread (man 3 malloc_trim).
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Unmaps pages that are as the file has them. A page that somebody changed, as debuggers and probes do, is kept.
///
/// # Safety
///
/// `range` is in whole pages and part of a private mapping of a file, which stays there during the call, and nobody writes to
/// it meanwhile.
unsafe fn unmap_unchanged(pagemap: &File, range: Range<usize>, page: usize) -> io::Result<()> {
    let mut entries = vec![0; range.len() / page * ENTRY];
    pagemap.read_exact_at(&mut entries, (range.start / page * ENTRY) as u64)?;
    let (entries, _) = entries.as_chunks::<ENTRY>();
    for run in super::unchanged(entries.iter().map(|entry| u64::from_ne_bytes(*entry))) {
        let address = (range.start + run.start * page) as *mut c_void;
        // SAFETY: the pages are part of `range` and equal to the file's, by the caller's word: reading them again finds the
        // same.
        let outcome = unsafe { libc::madvise(address, run.len() * page, libc::MADV_DONTNEED) };
        if outcome != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// The segments that are not writable of the object (library or program) that this code is in, in whole pages.
fn own_segments(page: usize) -> Vec<Range<usize>> {
    let mut search = Search { page, segments: Vec::new() };
    // SAFETY: `visit` may be called with a pointer to `search`, which outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut search).cast()) };
    search.segments
}

struct Search {
    page: usize,
    segments: Vec<Range<usize>>,
}

/// # Safety
///
/// As `dl_iterate_phdr` (3) calls it, with a pointer to a [`Search`] that nobody else uses.
unsafe extern "C" fn visit(info: *mut dl_phdr_info, _size: usize, search: *mut c_void) -> c_int {
    // SAFETY: by the contract above.
    let (info, search) = unsafe { (&*info, &mut *search.cast::<Search>()) };
    if info.dlpi_phdr.is_null() {
        return 0;
    }
    // SAFETY: the dynamic linker's table of so many program headers.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    let loaded = headers.iter().filter(|header| header.p_type == libc::PT_LOAD).map(|header| {
        // Addresses of this process, as the linker has computed them itself.
        let start = info.dlpi_addr.wrapping_add(header.p_vaddr) as usize;
        (start..start.wrapping_add(header.p_memsz as usize), header)
    });
    let own = visit as *const () as usize;
    if !loaded.clone().any(|(segment, _)| segment.contains(&own)) {
        return 0;
    }
    let fixed =
        loaded.filter(|(_, header)| header.p_flags & libc::PF_W == 0 && header.p_filesz == header.p_memsz);
    let page = search.page;
    search.segments =
        fixed.map(|(segment, _)| segment.start & !(page - 1)..segment.end.next_multiple_of(page)).collect();
    1
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn resident(segments: &[Range<usize>], page: usize) -> usize {
        let pagemap = File::open("/proc/self/pagemap").unwrap();
        let count = |segment: &Range<usize>| {
            let mut entries = vec![0; segment.len() / page * ENTRY];
            pagemap.read_exact_at(&mut entries, (segment.start / page * ENTRY) as u64).unwrap();
            super::super::unchanged(
                entries.as_chunks::<ENTRY>().0.iter().map(|entry| u64::from_ne_bytes(*entry)),
            )
            .iter()
            .map(Range::len)
            .sum::<usize>()
        };
        segments.iter().map(count).sum()
    }

    #[test]
    fn code_is_given_back_and_runs_again() {
        let page = rustix::param::page_size();
        let segments = own_segments(page);
        let own = give_back_code as *const () as usize;
        assert!(segments.iter().any(|segment| segment.contains(&own)), "{own:x} {segments:x?}");
        // Reading maps all of it.
        let memory = File::open("/proc/self/mem").unwrap();
        for segment in &segments {
            let mut bytes = vec![0; segment.len()];
            memory.read_exact_at(&mut bytes, segment.start as u64).unwrap();
        }
        let before = resident(&segments, page);
        give_back_code().unwrap();
        give_back_heap();
        let after = resident(&segments, page);
        assert!(after * 2 < before, "{after} of {before} pages");
    }

    #[test]
    fn a_changed_page_stays() {
        let page = rustix::param::page_size();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![b'f'; 3 * page]).unwrap();
        // SAFETY: a new mapping, of which nobody else knows.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                3 * page,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE,
                std::os::fd::AsRawFd::as_raw_fd(&file),
                0,
            )
        };
        assert_ne!(start, libc::MAP_FAILED);
        let range = start as usize..start as usize + 3 * page;
        // SAFETY: so long is the mapping, and this is the only reference to it.
        let bytes = unsafe { std::slice::from_raw_parts_mut(start.cast::<u8>(), 3 * page) };
        assert_eq!(bytes.iter().filter(|byte| **byte == b'f').count(), 3 * page);
        bytes[page] = b'w';
        assert_eq!(resident(std::slice::from_ref(&range), page), 2);

        let pagemap = File::open("/proc/self/pagemap").unwrap();
        // SAFETY: a private mapping of a file, and this thread's alone.
        unsafe { unmap_unchanged(&pagemap, range.clone(), page) }.unwrap();

        assert_eq!(resident(std::slice::from_ref(&range), page), 0);
        assert_eq!((bytes[0], bytes[page], bytes[page + 1], bytes[2 * page]), (b'f', b'w', b'f', b'f'));
        // SAFETY: nothing refers to it any more.
        assert_eq!(unsafe { libc::munmap(start, 3 * page) }, 0);
    }
}
