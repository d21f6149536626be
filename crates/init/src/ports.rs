//! Named virtio console ports and what they are for.

use alloc::ffi::CString;
use alloc::vec::Vec;
use core::ffi::CStr;

use crate::abi::{PORT_CONTROL, PORT_STDERR, PORT_STDIN, PORT_STDOUT};

/// The directory with one entry per port; its file `<entry>/name` holds the port's name.
pub const CLASS_DIRECTORY: &CStr = c"/sys/class/virtio-ports";

/// What a port is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The control channel.
    Control,
    /// One of the workload's standard descriptors, 0 to 2.
    Stdio(u8),
}

impl Role {
    /// The role of a port by its name, as the `name` file gives it (a line feed at the end is ignored).
    pub fn of(name: &[u8]) -> Option<Self> {
        let name = name.trim_ascii_end();
        [
            (PORT_CONTROL, Self::Control),
            (PORT_STDIN, Self::Stdio(0)),
            (PORT_STDOUT, Self::Stdio(1)),
            (PORT_STDERR, Self::Stdio(2)),
        ]
        .into_iter()
        .find_map(|(known, role)| (known.as_bytes() == name).then_some(role))
    }
}

/// The ports found, as paths of their device nodes. Of two ports with the same name the first is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// Node of the control port.
    pub control: Option<CString>,
    /// Nodes for descriptors 0, 1 and 2.
    pub stdio: [Option<CString>; 3],
}

impl Ports {
    /// Whether there is a port with this role.
    pub fn has(&self, role: Role) -> bool {
        match role {
            Role::Control => self.control.is_some(),
            Role::Stdio(fd) => self.stdio.get(usize::from(fd)).is_some_and(Option::is_some),
        }
    }

    /// Notes that the class entry `entry` has the name `name`.
    pub fn add(&mut self, entry: &[u8], name: &[u8]) {
        let slot = match Role::of(name) {
            Some(Role::Control) => Some(&mut self.control),
            Some(Role::Stdio(fd)) => self.stdio.get_mut(usize::from(fd)),
            None => None,
        };
        if let Some(slot) = slot
            && slot.is_none()
        {
            *slot = concatenate(b"/dev/", entry);
        }
    }
}

/// The path of an entry's `name` file, relative to [`CLASS_DIRECTORY`].
pub fn name_file(entry: &[u8]) -> Option<CString> {
    concatenate(entry, b"/name")
}

fn concatenate(first: &[u8], second: &[u8]) -> Option<CString> {
    let mut path = Vec::with_capacity(first.len() + second.len() + 1);
    path.extend_from_slice(first);
    path.extend_from_slice(second);
    CString::new(path).ok()
}

/// The names in a buffer filled by `getdents64` (record: u64 inode, u64 offset, u16 record length, u8 type, name with
/// its NUL), without those that start with a dot.
pub fn directory_entries(mut records: &[u8]) -> impl Iterator<Item = &[u8]> {
    const NAME: usize = 19;
    core::iter::from_fn(move || {
        loop {
            let length = usize::from(u16::from_le_bytes(records.get(16..18)?.try_into().ok()?));
            let record = records.get(..length)?;
            let name = record.get(NAME..)?;
            records = records.get(length..)?;
            let name = name.split(|&byte| byte == 0).next()?;
            if !name.is_empty() && !name.starts_with(b".") {
                return Some(name);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str) -> Vec<u8> {
        let length = (19 + name.len() + 1).next_multiple_of(8);
        let mut record = Vec::from([7; 16]);
        record.extend(u16::try_from(length).unwrap().to_le_bytes());
        record.push(10);
        record.extend(name.as_bytes());
        record.resize(length, 0);
        record
    }

    #[test]
    fn roles() {
        assert_eq!(Role::of(b"purlin-control\n"), Some(Role::Control));
        assert_eq!(Role::of(b"krun-stdin"), Some(Role::Stdio(0)));
        assert_eq!(Role::of(b"krun-stdout\n"), Some(Role::Stdio(1)));
        assert_eq!(Role::of(b"krun-stderr\n"), Some(Role::Stdio(2)));
        assert_eq!(Role::of(b"krun-std"), None);
        assert_eq!(Role::of(b""), None);
    }

    #[test]
    fn ports_become_nodes_and_the_first_of_a_name_is_kept() {
        let mut ports = Ports::default();
        ports.add(b"vport1p1", b"krun-stdout\n");
        ports.add(b"vport2p1", b"krun-stdout\n");
        ports.add(b"vport1p2", b"purlin-control\n");
        ports.add(b"vport1p3", b"other\n");
        assert_eq!(ports.stdio, [None, Some(c"/dev/vport1p1".to_owned()), None]);
        assert_eq!(ports.control, Some(c"/dev/vport1p2".to_owned()));
        assert!(ports.has(Role::Stdio(1)) && ports.has(Role::Control));
        assert!(!ports.has(Role::Stdio(0)) && !ports.has(Role::Stdio(3)));
    }

    #[test]
    fn directory_records() {
        let buffer = [record("."), record("vport0p0"), record(".."), record("vport1p10")].concat();
        let names: Vec<_> = directory_entries(&buffer).collect();
        assert_eq!(names, [b"vport0p0".as_slice(), b"vport1p10"]);
    }

    #[test]
    fn broken_directory_records_end_the_list() {
        assert_eq!(directory_entries(&[]).count(), 0);
        assert_eq!(directory_entries(&[0; 64]).count(), 0);
        let mut short = record("vport0p0");
        short.truncate(20);
        assert_eq!(directory_entries(&short).count(), 0);
    }
}
