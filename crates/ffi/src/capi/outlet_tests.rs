use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, pipe};
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixStream;

use rustix::io::ioctl_fionbio;

use super::*;

/// Writes until no more is taken.
fn fill(writer: impl AsFd) {
    while try_write(writer.as_fd(), &[b'x'; PIECE]).is_ok_and(|taken| taken > 0) {}
}

/// What there is to read.
fn drain(reader: &mut (impl Read + AsFd)) -> String {
    ioctl_fionbio(&*reader, true).unwrap();
    let (mut all, mut some) = (Vec::new(), [0; 8192]);
    while let Ok(count @ 1..) = reader.read(&mut some) {
        all.extend(&some[..count]);
    }
    String::from_utf8(all).unwrap()
}

fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = pipe().unwrap();
    fill(&writer);
    (reader, writer)
}

#[test]
fn what_a_full_pipe_does_not_take_is_counted() {
    let (mut reader, writer) = full_pipe();
    let mut outlet = Outlet::new(writer);
    for record in ["a\n", "b\n", "c\n"] {
        outlet.write_all(record.as_bytes()).unwrap();
    }
    assert!(drain(&mut reader).chars().all(|c| c == 'x'));
    for record in ["d\n", "e\n"] {
        outlet.write_all(record.as_bytes()).unwrap();
    }
    assert_eq!(drain(&mut reader), "(3 log records left out: not read in time)\nd\ne\n");
}

#[test]
fn a_record_that_is_cut_gets_an_end() {
    let (mut reader, writer) = full_pipe();
    // One piece fits.
    reader.read_exact(&mut [0; PIECE]).unwrap();
    let mut outlet = Outlet::new(writer);
    outlet.write_all(&[b'y'; 2 * PIECE]).unwrap();
    outlet.write_all(b"a\n").unwrap();
    assert_eq!(drain(&mut reader).trim_start_matches('x'), "y".repeat(PIECE));
    outlet.write_all(b"b\n").unwrap();
    assert_eq!(drain(&mut reader), "\n(2 log records left out: not read in time)\nb\n");
}

#[test]
fn a_record_of_many_pieces_is_whole() {
    let (mut reader, writer) = pipe().unwrap();
    let record = "z".repeat(3 * PIECE + 1);
    Outlet::new(writer).write_all(record.as_bytes()).unwrap();
    assert!(drain(&mut reader) == record);
}

#[test]
fn a_file_keeps_its_position() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut outlet = Outlet::new(file.as_file());
    outlet.write_all(b"a\n").unwrap();
    outlet.write_all(b"b\n").unwrap();
    assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "a\nb\n");
}

#[test]
fn sockets_are_not_waited_for() {
    let (mut reader, writer) = UnixStream::pair().unwrap();
    let mut outlet = Outlet::new(&writer);
    outlet.write_all(b"a\n").unwrap();
    assert_eq!(drain(&mut reader), "a\n");
    fill(&writer);
    outlet.write_all(b"b\n").unwrap();
    drain(&mut reader);
    outlet.write_all(b"c\n").unwrap();
    assert!(drain(&mut reader).ends_with("(1 log records left out: not read in time)\nc\n"));
}

/// Either side of a terminal whose other side nobody reads, with less room than a record needs.
#[test]
fn terminals_are_not_waited_for() {
    let (mut master, mut slave) = (-1, -1);
    let none = std::ptr::null_mut();
    // SAFETY: the pointers are to two integers, and to nothing.
    assert_eq!(unsafe { libc::openpty(&mut master, &mut slave, none, none.cast(), none.cast()) }, 0);
    // SAFETY: new, and nobody else's.
    let (mut master, slave) = unsafe { (File::from_raw_fd(master), File::from_raw_fd(slave)) };
    fill(&slave);
    let mut outlet = Outlet::new(&slave);
    outlet.write_all(b"a\n").unwrap();
    drain(&mut master);
    outlet.write_all(b"b\n").unwrap();
    assert!(drain(&mut master).ends_with("(1 log records left out: not read in time)\r\nb\r\n"));

    Outlet::new(&master).write_all(b"c\n").unwrap();
    let mut line = [0; 2];
    (&slave).read_exact(&mut line).unwrap();
    assert_eq!(&line, b"c\n");
}
