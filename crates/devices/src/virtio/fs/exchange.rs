//! One request and its reply, between a descriptor chain and the file server.
//!
//! `fuse-backend-rs` gives the structures and the scatter lists (`Reader`, `VirtioFsWriter`). Its `Server`
//! (0.14.0) is not used: it reads the header from guest memory itself, so whatever was checked before can be
//! changed behind the check; it logs guest-given bytes and READDIR errors at error level, which a guest can
//! repeat at will; some malformed messages get no reply; the argument of an ioctl is dropped; and with trace
//! logging on it turns undefined opcodes into an enum by transmutation.

use std::fs::File;
use std::io::{self, Read, Write};

use fuse_backend_rs::abi::fuse_abi::{InHeader, OutHeader};
use fuse_backend_rs::transport::{Reader, VirtioFsWriter};
use purlin_vmm_core::memory::{ByteValued, Bytes, GuestRam};
use rustix::io::Errno;
use virtio_queue::DescriptorChain;

use super::message::{Answer, IN_HEADER, OUT_HEADER, Request, answer, body_len};
use super::server::{Data, FileServer, Reply};

/// Most descriptors of a chain: the queue's size. Longer ones (through an indirect table, which is not
/// offered) are refused, also because `preadv` takes no more.
const MAX_DESCRIPTORS: usize = 1024;

/// Buffers that are used again for every request.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    body: Vec<u8>,
    /// Bytes of the last request.
    pub taken: usize,
}

/// Guest memory of the bulk data of one request.
struct GuestData<'a> {
    reader: Reader<'a>,
    writer: VirtioFsWriter<'a>,
}

impl Data for GuestData<'_> {
    fn fill(&mut self, file: &mut File, len: usize, offset: u64) -> io::Result<usize> {
        self.writer.write_from_at(file, len, offset)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes)
    }

    fn drain(&mut self, file: &mut File, len: usize, offset: u64) -> io::Result<usize> {
        self.reader.read_to_at(file, len, offset)
    }

    fn room(&self) -> usize {
        self.writer.available_bytes()
    }

    fn left(&self) -> usize {
        self.reader.available_bytes()
    }
}

/// Serves the request in `chain`; returns the number of bytes written to it.
pub(super) fn exchange(
    server: &mut FileServer,
    scratch: &mut Scratch,
    ram: &GuestRam,
    chain: DescriptorChain<&GuestRam>,
) -> u32 {
    let Some((mut reader, mut writer)) = open_chain(ram, &chain) else {
        return refuse_chain(ram, chain);
    };
    let (readable, writable) = (reader.available_bytes(), writer.available_bytes());
    scratch.taken = readable;
    let Ok(header) = reader.read_obj::<InHeader>() else {
        return reply(&mut writer, 0, Err(Errno::INVAL));
    };
    let Ok(room) = writer.split_at(OUT_HEADER.min(writable)) else { return 0 };
    let mut data = GuestData { reader, writer: room };
    let result = serve(server, scratch, &header, &mut data, (readable, writable));
    match (answer(header.opcode), result) {
        (Answer::Silent, _) | (_, Ok(Reply::None)) => 0,
        (_, Ok(Reply::Placed(len))) => placed(&mut writer, header.unique, len),
        (_, Ok(r)) => finish(&mut writer, &mut data.writer, header.unique, &r, &server.output),
        (_, Err(e)) => reply(&mut writer, header.unique, Err(e)),
    }
}

fn open_chain<'a>(
    ram: &'a GuestRam,
    chain: &DescriptorChain<&'a GuestRam>,
) -> Option<(Reader<'a>, VirtioFsWriter<'a>)> {
    if chain.clone().nth(MAX_DESCRIPTORS).is_some() {
        return None;
    }
    let reader = Reader::from_descriptor_chain(ram, chain.clone()).ok()?;
    let writer = VirtioFsWriter::new(ram, chain.clone()).ok()?;
    Some((reader, writer))
}

/// A chain with buffers outside of RAM, or across two regions of it: says so to the driver if the header
/// and a place for the answer can be found.
fn refuse_chain(ram: &GuestRam, chain: DescriptorChain<&GuestRam>) -> u32 {
    let header = |head: &DescriptorChain<&GuestRam>| {
        let first = head.clone().readable().next().filter(|d| d.len() as usize >= IN_HEADER)?;
        ram.read_obj::<InHeader>(first.addr()).ok()
    };
    let Some(header) = header(&chain) else { return 0 };
    if answer(header.opcode) == Answer::Silent {
        return 0;
    }
    let out = OutHeader { len: OUT_HEADER as u32, error: -Errno::IO.raw_os_error(), unique: header.unique };
    let place = chain.writable().next().filter(|d| d.len() as usize >= OUT_HEADER);
    match place {
        Some(d) if ram.write_slice(out.as_slice(), d.addr()).is_ok() => out.len,
        _ => 0,
    }
}

fn serve(
    server: &mut FileServer,
    scratch: &mut Scratch,
    header: &InHeader,
    data: &mut GuestData<'_>,
    (readable, writable): (usize, usize),
) -> Result<Reply, Errno> {
    let len = body_len(header, readable, writable)?;
    scratch.body.clear();
    scratch.body.resize(len, 0);
    data.reader.read_exact(&mut scratch.body).map_err(|_| Errno::INVAL)?;
    let request = Request::parse(header.opcode, &scratch.body)?;
    if answer(header.opcode) == Answer::Reply && data.room() < request.reply_len() {
        return Err(Errno::INVAL);
    }
    server.serve(header, &request, data)
}

/// Writes a reply whose body is known. `output` is what [`Reply::Bytes`] stands for.
fn finish(
    head: &mut VirtioFsWriter<'_>,
    body: &mut VirtioFsWriter<'_>,
    unique: u64,
    r: &Reply,
    output: &[u8],
) -> u32 {
    let (first, second): (&[u8], &[u8]) = match r {
        Reply::None | Reply::Empty | Reply::Placed(_) => (&[], &[]),
        Reply::Entry(v) => (v.as_slice(), &[]),
        Reply::Created(entry, open) => (entry.as_slice(), open.as_slice()),
        Reply::Attr(v) => (v.as_slice(), &[]),
        Reply::Open(v) => (v.as_slice(), &[]),
        Reply::Written(v) => (v.as_slice(), &[]),
        Reply::Bytes => (output, &[]),
        Reply::Size(v) => (v.as_slice(), &[]),
        Reply::Offset(v) => (v.as_slice(), &[]),
        Reply::Statfs(v) => (v.as_slice(), &[]),
        Reply::Init(v) => (v.as_slice(), &[]),
        Reply::Ioctl(v) => (v.as_slice(), &[]),
    };
    match body.write_all(first).and_then(|()| body.write_all(second)) {
        Ok(()) => placed(head, unique, first.len().saturating_add(second.len())),
        // Only replies whose size is not known beforehand can get here: a link target, a value.
        Err(_) => reply(head, unique, Err(Errno::RANGE)),
    }
}

fn placed(head: &mut VirtioFsWriter<'_>, unique: u64, len: usize) -> u32 {
    reply(head, unique, Ok(len))
}

/// Writes the header: for a body of so many bytes that is already in place, or an error.
fn reply(head: &mut VirtioFsWriter<'_>, unique: u64, result: Result<usize, Errno>) -> u32 {
    let (body, error) = match result {
        Ok(len) => (len, 0),
        Err(e) => (0, -e.raw_os_error()),
    };
    let Ok(len) = u32::try_from(body.saturating_add(OUT_HEADER)) else { return 0 };
    let out = OutHeader { len, error, unique };
    if head.write_all(out.as_slice()).is_ok() { len } else { 0 }
}
