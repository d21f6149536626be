//! One request and its reply, between a descriptor chain and the file server.
//!
//! `fuse-backend-rs` gives the structures. Its `Server` (0.14.0) is not used: it reads the header from guest
//! memory itself, so whatever was checked before can be changed behind the check; it logs guest-given bytes and
//! READDIR errors at error level, which a guest can repeat at will; some malformed messages get no reply; the
//! argument of an ioctl is dropped; and with trace logging on it turns undefined opcodes into an enum by
//! transmutation. Nor are its scatter lists, for which a chain is read three times.

use fuse_backend_rs::abi::fuse_abi::{InHeader, OutHeader};
use purlin_vmm_core::memory::{ByteValued, GuestRam, SharedRam};
use rustix::io::Errno;
use virtio_queue::DescriptorChain;

use super::buffers::{Buffers, Chain};
use super::message::{Answer, OUT_HEADER, Request, answer, body_len};
use super::server::{Bulk, FileServer, Job, Reply};

/// Buffers that are used again for every request.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    body: Vec<u8>,
    /// Bytes of the last request.
    pub taken: usize,
}

/// What became of a request.
pub(super) enum Outcome {
    /// It is answered; so many bytes were written to its chain.
    Written(u32),
    /// What is left to do may wait for the host.
    Later(Box<Task>),
}

/// The rest of a request, for another thread.
pub(super) struct Task {
    unique: u64,
    head: Buffers,
    bulk: Bulk,
    job: Job,
}

/// What another thread does of a request. Both return the number of bytes written to the chain.
pub(super) trait Rest: Send {
    /// Does it and answers.
    fn run(&mut self) -> u32;

    /// Answers after [`Rest::run`] panicked.
    fn fail(&mut self) -> u32;
}

impl Rest for Task {
    fn run(&mut self) -> u32 {
        let result = self.job.run(&mut self.bulk);
        conclude(&mut self.head, &mut self.bulk.writable, self.unique, result, &[])
    }

    fn fail(&mut self) -> u32 {
        reply(&mut self.head, self.unique, Err(Errno::IO))
    }
}

/// Serves the request in `chain`.
pub(super) fn exchange(
    server: &mut FileServer,
    scratch: &mut Scratch,
    ram: &SharedRam,
    chain: DescriptorChain<&GuestRam>,
) -> Outcome {
    let Chain { mut readable, mut writable, whole } = Chain::parse(ram, server.window(), chain);
    let lengths = (readable.left(), writable.left());
    scratch.taken = lengths.0;
    let header = readable.read_obj::<InHeader>();
    let mut head = writable.split_front(OUT_HEADER);
    let Some(header) = header else {
        return Outcome::Written(if whole { reply(&mut head, 0, Err(Errno::INVAL)) } else { 0 });
    };
    let mut bulk = Bulk { readable, writable };
    // Buffers outside of RAM: the driver hears of it, if there is a place to say it.
    let result = if whole { serve(server, scratch, &header, &mut bulk, lengths) } else { Err(Errno::IO) };
    match (answer(header.opcode), result) {
        (Answer::Silent, _) => Outcome::Written(0),
        (_, Ok(Reply::Later(job))) => {
            Outcome::Later(Box::new(Task { unique: header.unique, head, bulk, job }))
        }
        (_, result) => {
            Outcome::Written(conclude(&mut head, &mut bulk.writable, header.unique, result, &server.output))
        }
    }
}

fn serve(
    server: &mut FileServer,
    scratch: &mut Scratch,
    header: &InHeader,
    bulk: &mut Bulk,
    (readable, writable): (usize, usize),
) -> Result<Reply, Errno> {
    let len = body_len(header, readable, writable)?;
    scratch.body.clear();
    scratch.body.resize(len, 0);
    if !bulk.readable.read(&mut scratch.body) {
        return Err(Errno::INVAL);
    }
    let request = Request::parse(header.opcode, &scratch.body)?;
    if answer(header.opcode) == Answer::Reply && bulk.writable.left() < request.reply_len() {
        return Err(Errno::INVAL);
    }
    server.serve(header, &request, bulk)
}

/// Writes a reply. `output` is what [`Reply::Bytes`] stands for.
fn conclude(
    head: &mut Buffers,
    body: &mut Buffers,
    unique: u64,
    result: Result<Reply, Errno>,
    output: &[u8],
) -> u32 {
    let parts: (&[u8], &[u8]) = match &result {
        Ok(Reply::None) => return 0,
        Ok(Reply::Placed(len)) => return reply(head, unique, Ok(*len)),
        Err(e) => return reply(head, unique, Err(*e)),
        // Only `exchange` can postpone, and it does not ask here.
        Ok(Reply::Later(_)) => return reply(head, unique, Err(Errno::IO)),
        Ok(Reply::Empty) => (&[], &[]),
        Ok(Reply::Entry(v)) => (v.as_slice(), &[]),
        Ok(Reply::Created(entry, open)) => (entry.as_slice(), open.as_slice()),
        Ok(Reply::Attr(v)) => (v.as_slice(), &[]),
        Ok(Reply::Open(v)) => (v.as_slice(), &[]),
        Ok(Reply::Written(v)) => (v.as_slice(), &[]),
        Ok(Reply::Bytes) => (output, &[]),
        Ok(Reply::Size(v)) => (v.as_slice(), &[]),
        Ok(Reply::Offset(v)) => (v.as_slice(), &[]),
        Ok(Reply::Statfs(v)) => (v.as_slice(), &[]),
        Ok(Reply::Init(v)) => (v.as_slice(), &[]),
        Ok(Reply::Ioctl(v)) => (v.as_slice(), &[]),
    };
    if body.write(parts.0) && body.write(parts.1) {
        reply(head, unique, Ok(parts.0.len().saturating_add(parts.1.len())))
    } else {
        // Only replies whose size is not known beforehand can get here: a link target, a value.
        reply(head, unique, Err(Errno::RANGE))
    }
}

/// Writes the header: for a body of so many bytes that is already in place, or an error.
fn reply(head: &mut Buffers, unique: u64, result: Result<usize, Errno>) -> u32 {
    let (body, error) = match result {
        Ok(len) => (len, 0),
        Err(e) => (0, -e.raw_os_error()),
    };
    let Ok(len) = u32::try_from(body.saturating_add(OUT_HEADER)) else { return 0 };
    let out = OutHeader { len, error, unique };
    if head.write(out.as_slice()) { len } else { 0 }
}
