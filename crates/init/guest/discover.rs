//! Finds the named virtio console ports.

use crate::abi::PORTS_PATIENCE_MS;
use crate::console::say;
use crate::ports::{CLASS_DIRECTORY, Ports, Role, directory_entries, name_file};
use crate::sys::{self, Fd, flag};

/// Longest port name that is read, bytes.
const MAX_NAME: usize = 64;

/// Pause between two looks, milliseconds.
const PAUSE: u64 = 1;

/// The ports there are, waiting for the expected ones.
pub fn ports(expected: &[Role]) -> Ports {
    let mut deadline = None;
    loop {
        let ports = look();
        if expected.iter().all(|&role| ports.has(role)) {
            return ports;
        }
        let now = sys::now();
        if now >= *deadline.get_or_insert(now.saturating_add(PORTS_PATIENCE_MS)) {
            say("a port that the host has announced is missing");
            return ports;
        }
        sys::poll(&mut [], Some(PAUSE));
    }
}

/// The ports there are now; none if the kernel has no virtio console. What cannot be read is skipped.
fn look() -> Ports {
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
