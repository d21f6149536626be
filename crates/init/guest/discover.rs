//! Finds the named virtio console ports.

use crate::ports::{CLASS_DIRECTORY, Ports, directory_entries, name_file};
use crate::sys::{self, Fd, flag};

/// Longest port name that is read, bytes.
const MAX_NAME: usize = 64;

/// The ports there are; none if the kernel has no virtio console. What cannot be read is skipped.
pub fn ports() -> Ports {
    let mut ports = Ports::default();
    let Ok(directory) = sys::open(CLASS_DIRECTORY, flag::READ | flag::DIRECTORY) else { return ports };
    let mut buffer = [0; 2048];
    while let Ok(length @ 1..) = sys::directory_records(&directory, &mut buffer) {
        for entry in directory_entries(buffer.get(..length).unwrap_or_default()) {
            add(&mut ports, &directory, entry);
        }
    }
    ports
}

fn add(ports: &mut Ports, directory: &Fd, entry: &[u8]) {
    let Some(path) = name_file(entry) else { return };
    // A port without a name has no such file.
    let Ok(file) = sys::open_at(directory, &path, flag::READ) else { return };
    let mut name = [0; MAX_NAME];
    if let Ok(length) = sys::read(&file, &mut name) {
        ports.add(entry, name.get(..length).unwrap_or_default());
    }
}
