//! A small FUSE client.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fuse_backend_rs::abi::fuse_abi::{
    AttrOut, CreateIn, EntryOut, FallocateIn, InHeader, InitOut, IoctlIn, Kstatfs, Opcode, OpenOut, ReadIn,
    ReleaseIn, SetattrIn, WriteIn,
};
use purlin_vmm_core::memory::{ByteValued, SharedRam, Window};

use crate::testing::{Buf, DriverRing, RecordingInterrupt, guest_ram};
use crate::virtio::fs::{Fs, FsConfig, Source};
use crate::virtio::{ActivateContext, VirtioDevice};

pub const ROOT: u64 = 1;
const RAM: usize = 48 << 20;
const HIPRIO: u64 = 32 << 20;
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Client {
    pub device: Fs,
    pub ram: SharedRam,
    pub hiprio: DriverRing,
    pub requests: DriverRing,
    pub interrupt: Arc<RecordingInterrupt>,
    pub ids: (u32, u32),
    unique: u64,
}

pub fn config(dir: &Path) -> FsConfig {
    FsConfig::new("test", Source::Path(dir.to_owned()))
}

impl Client {
    /// An active device, INIT done.
    pub fn new(config: FsConfig) -> Self {
        let mut client = Self::start(config);
        let init = client.init(7, 38, u64::MAX).expect("INIT");
        assert_eq!((init.major, init.max_write, init.max_pages), (7, 1 << 20, 256));
        client
    }

    /// An active device.
    pub fn start(config: FsConfig) -> Self {
        Self::start_with(config, None)
    }

    /// An active device, with a window.
    pub fn start_with(config: FsConfig, shm: Option<Window>) -> Self {
        let mut device = Fs::new(config).expect("device");
        let ram = guest_ram(RAM);
        let requests = DriverRing::new(&ram, 0, HIPRIO, 1024);
        let hiprio = DriverRing::new(&ram, HIPRIO, RAM as u64 - HIPRIO, 1024);
        let interrupt = Arc::new(RecordingInterrupt::new());
        let context = ActivateContext { shm, ..context(&ram, &hiprio, &requests, &interrupt) };
        device.activate(context).expect("activate");
        Client { device, ram, hiprio, requests, interrupt, ids: (0, 0), unique: 0 }
    }

    /// What the transport would hand to `restore` of another device on the same RAM.
    pub fn context(&self) -> ActivateContext {
        context(&self.ram, &self.hiprio, &self.requests, &self.interrupt)
    }

    pub fn header(&mut self, opcode: u32, node: u64, body: usize) -> InHeader {
        self.unique += 1;
        InHeader {
            len: (size_of::<InHeader>() + body) as u32,
            opcode,
            unique: self.unique,
            nodeid: node,
            uid: self.ids.0,
            gid: self.ids.1,
            pid: 1,
            padding: 0,
        }
    }

    /// One request with the reply split as Linux does; the body of the reply, or the error number.
    pub fn call(&mut self, opcode: Opcode, node: u64, parts: &[&[u8]], room: u32) -> Result<Vec<u8>, i32> {
        let header = self.header(opcode as u32, node, parts.iter().map(|p| p.len()).sum());
        let mut bufs = vec![Buf::Read(header.as_slice())];
        bufs.extend(parts.iter().filter(|p| !p.is_empty()).map(|p| Buf::Read(p)));
        bufs.push(Buf::Write(16));
        if room > 0 {
            bufs.push(Buf::Write(room));
        }
        let reply = self.raw(&bufs);
        let (head, body) = reply.split_at(16);
        let error = i32::from_le_bytes(head[4..8].try_into().unwrap());
        assert_eq!(head[8..], header.unique.to_le_bytes(), "unique");
        assert_eq!(head[..4], (reply.len() as u32).to_le_bytes(), "len");
        if error == 0 { Ok(body.to_vec()) } else { Err(-error) }
    }

    /// Any chain on the request queue; what the device wrote.
    pub fn raw(&mut self, bufs: &[Buf<'_>]) -> Vec<u8> {
        self.requests.want_interrupt();
        self.requests.submit(bufs);
        self.requests.kick();
        self.collect()
    }

    /// Waits for the one request in flight.
    pub fn collect(&mut self) -> Vec<u8> {
        let end = Instant::now() + PATIENCE;
        loop {
            let mut used = self.requests.used();
            if let Some(mut one) = used.pop() {
                assert!(used.is_empty());
                self.interrupt.take();
                one.data.truncate(one.len as usize);
                return one.data;
            }
            assert!(!self.interrupt.reset_needed(), "device gave up");
            assert!(Instant::now() < end, "no answer");
            self.interrupt.wait(Duration::from_millis(20));
        }
    }

    pub fn init(&mut self, major: u32, minor: u32, flags: u64) -> Result<InitOut, i32> {
        let words = [major, minor, 128 << 10, flags as u32, (flags >> 32) as u32];
        let mut body: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        body.resize(64, 0);
        self.call(Opcode::Init, 0, &[&body], 64).map(|b| pod(&b))
    }

    pub fn lookup(&mut self, parent: u64, name: &str) -> Result<EntryOut, i32> {
        self.named(Opcode::Lookup, parent, &[], name)
    }

    /// Finds a path of several names.
    pub fn walk(&mut self, path: &str) -> Result<u64, i32> {
        let mut node = ROOT;
        for name in path.split('/') {
            node = self.lookup(node, name)?.nodeid;
        }
        Ok(node)
    }

    fn named(&mut self, opcode: Opcode, parent: u64, args: &[u8], name: &str) -> Result<EntryOut, i32> {
        self.call(opcode, parent, &[args, &cstr(name)], 128).map(|b| pod(&b))
    }

    pub fn getattr(&mut self, node: u64) -> Result<AttrOut, i32> {
        self.call(Opcode::Getattr, node, &[&[0; 16]], 104).map(|b| pod(&b))
    }

    pub fn setattr(&mut self, node: u64, args: SetattrIn) -> Result<AttrOut, i32> {
        self.call(Opcode::Setattr, node, &[args.as_slice()], 104).map(|b| pod(&b))
    }

    pub fn open(&mut self, node: u64, flags: i32) -> Result<OpenOut, i32> {
        self.open_with(node, flags, 0)
    }

    pub fn open_with(&mut self, node: u64, flags: i32, open_flags: u32) -> Result<OpenOut, i32> {
        let args = [flags as u32, open_flags].map(u32::to_le_bytes).concat();
        self.call(Opcode::Open, node, &[&args], 16).map(|b| pod(&b))
    }

    pub fn opendir(&mut self, node: u64) -> Result<OpenOut, i32> {
        self.call(Opcode::Opendir, node, &[&[0; 8]], 16).map(|b| pod(&b))
    }

    pub fn create(
        &mut self,
        parent: u64,
        name: &str,
        flags: i32,
        mode: u32,
    ) -> Result<(EntryOut, OpenOut), i32> {
        self.create_with(parent, name, CreateIn { flags: flags as u32, mode, ..CreateIn::default() })
    }

    pub fn create_with(
        &mut self,
        parent: u64,
        name: &str,
        args: CreateIn,
    ) -> Result<(EntryOut, OpenOut), i32> {
        let reply = self.call(Opcode::Create, parent, &[args.as_slice(), &cstr(name)], 144)?;
        Ok((pod(&reply[..128]), pod(&reply[128..])))
    }

    /// A new file with these contents, closed again.
    pub fn put(&mut self, parent: u64, name: &str, data: &[u8]) -> u64 {
        let (entry, open) = self.create(parent, name, libc::O_WRONLY, 0o644).expect("CREATE");
        assert_eq!(self.write(entry.nodeid, open.fh, 0, data), Ok(data.len() as u32));
        self.release(entry.nodeid, open.fh).expect("RELEASE");
        entry.nodeid
    }

    pub fn read(&mut self, node: u64, fh: u64, offset: u64, size: u32) -> Result<Vec<u8>, i32> {
        let args = ReadIn { fh, offset, size, ..ReadIn::default() };
        self.call(Opcode::Read, node, &[args.as_slice()], size)
    }

    pub fn write(&mut self, node: u64, fh: u64, offset: u64, data: &[u8]) -> Result<u32, i32> {
        self.write_flags(node, fh, offset, data, 0)
    }

    pub fn write_flags(
        &mut self,
        node: u64,
        fh: u64,
        offset: u64,
        data: &[u8],
        flags: u32,
    ) -> Result<u32, i32> {
        self.write_with(node, WriteIn { fh, offset, fuse_flags: flags, ..WriteIn::default() }, data)
    }

    pub fn write_with(&mut self, node: u64, args: WriteIn, data: &[u8]) -> Result<u32, i32> {
        let args = WriteIn { size: data.len() as u32, ..args };
        let reply = self.call(Opcode::Write, node, &[args.as_slice(), data], 8)?;
        Ok(pod::<[u32; 2]>(&reply)[0])
    }

    pub fn release(&mut self, node: u64, fh: u64) -> Result<(), i32> {
        let args = ReleaseIn { fh, ..ReleaseIn::default() };
        self.call(Opcode::Release, node, &[args.as_slice()], 0).map(|_| ())
    }

    pub fn mkdir(&mut self, parent: u64, name: &str, mode: u32) -> Result<EntryOut, i32> {
        self.named(Opcode::Mkdir, parent, &[mode, 0].map(u32::to_le_bytes).concat(), name)
    }

    pub fn mknod(&mut self, parent: u64, name: &str, mode: u32, rdev: u32) -> Result<EntryOut, i32> {
        self.named(Opcode::Mknod, parent, &[mode, rdev, 0, 0].map(u32::to_le_bytes).concat(), name)
    }

    pub fn symlink(&mut self, parent: u64, name: &str, target: &str) -> Result<EntryOut, i32> {
        self.call(Opcode::Symlink, parent, &[&cstr(name), &cstr(target)], 128).map(|b| pod(&b))
    }

    pub fn link(&mut self, node: u64, parent: u64, name: &str) -> Result<EntryOut, i32> {
        self.named(Opcode::Link, parent, &node.to_le_bytes(), name)
    }

    pub fn readlink(&mut self, node: u64) -> Result<Vec<u8>, i32> {
        self.call(Opcode::Readlink, node, &[], 4096)
    }

    pub fn unlink(&mut self, parent: u64, name: &str) -> Result<(), i32> {
        self.call(Opcode::Unlink, parent, &[&cstr(name)], 0).map(|_| ())
    }

    pub fn rmdir(&mut self, parent: u64, name: &str) -> Result<(), i32> {
        self.call(Opcode::Rmdir, parent, &[&cstr(name)], 0).map(|_| ())
    }

    pub fn rename(&mut self, from: (u64, &str), to: (u64, &str), flags: u32) -> Result<(), i32> {
        let mut args = to.0.to_le_bytes().to_vec();
        args.extend([flags, 0].map(u32::to_le_bytes).concat());
        self.call(Opcode::Rename2, from.0, &[&args, &cstr(from.1), &cstr(to.1)], 0).map(|_| ())
    }

    pub fn ioctl(&mut self, node: u64, cmd: u32, arg: u64) -> Result<Vec<u8>, i32> {
        let args = IoctlIn { cmd, arg, ..IoctlIn::default() };
        self.call(Opcode::Ioctl, node, &[args.as_slice()], 16)
    }

    pub fn fallocate(&mut self, node: u64, fh: u64, mode: i32, offset: u64, length: u64) -> Result<(), i32> {
        let args = FallocateIn { fh, offset, length, mode: mode as u32, padding: 0 };
        self.call(Opcode::Fallocate, node, &[args.as_slice()], 0).map(|_| ())
    }

    pub fn fsync(&mut self, opcode: Opcode, node: u64, fh: u64) -> Result<(), i32> {
        let args = [fh.to_le_bytes(), [0; 8]].concat();
        self.call(opcode, node, &[&args], 0).map(|_| ())
    }

    pub fn lseek(&mut self, node: u64, fh: u64, offset: u64, whence: i32) -> Result<u64, i32> {
        let args = [fh, offset, whence as u64].map(u64::to_le_bytes).concat();
        self.call(Opcode::Lseek, node, &[&args], 8).map(|b| pod(&b))
    }

    pub fn statfs(&mut self, node: u64) -> Result<Kstatfs, i32> {
        self.call(Opcode::Statfs, node, &[], 80).map(|b| pod(&b))
    }

    pub fn setxattr(&mut self, node: u64, name: &str, value: &[u8]) -> Result<(), i32> {
        let args = [value.len() as u32, 0].map(u32::to_le_bytes).concat();
        self.call(Opcode::Setxattr, node, &[&args, &cstr(name), value], 0).map(|_| ())
    }

    pub fn getxattr(&mut self, node: u64, name: &str, size: u32) -> Result<Vec<u8>, i32> {
        let args = [size, 0].map(u32::to_le_bytes).concat();
        self.call(Opcode::Getxattr, node, &[&args, &cstr(name)], room(size))
    }

    pub fn listxattr(&mut self, node: u64, size: u32) -> Result<Vec<u8>, i32> {
        self.call(Opcode::Listxattr, node, &[&[size, 0].map(u32::to_le_bytes).concat()], room(size))
    }

    pub fn removexattr(&mut self, node: u64, name: &str) -> Result<(), i32> {
        self.call(Opcode::Removexattr, node, &[&cstr(name)], 0).map(|_| ())
    }

    /// All entries of a directory as (name, node number, type); node numbers only with `plus`.
    pub fn list(&mut self, node: u64, plus: bool, size: u32) -> Result<Vec<(String, u64, u32)>, i32> {
        let fh = self.opendir(node)?.fh;
        let mut all = Vec::new();
        let mut offset = 0;
        loop {
            let reply = self.readdir(node, fh, offset, plus, size)?;
            if reply.is_empty() {
                break;
            }
            for (name, child, kind, next) in parse_dir(&reply, plus) {
                all.push((name, child, kind));
                offset = next;
            }
        }
        let args = ReleaseIn { fh, ..ReleaseIn::default() };
        self.call(Opcode::Releasedir, node, &[args.as_slice()], 0)?;
        Ok(all)
    }

    pub fn readdir(
        &mut self,
        node: u64,
        fh: u64,
        offset: u64,
        plus: bool,
        size: u32,
    ) -> Result<Vec<u8>, i32> {
        let args = ReadIn { fh, offset, size, ..ReadIn::default() };
        let opcode = if plus { Opcode::Readdirplus } else { Opcode::Readdir };
        self.call(opcode, node, &[args.as_slice()], size)
    }

    /// FORGET through the hiprio queue, as Linux sends it; waits until it is taken.
    pub fn forget(&mut self, node: u64, lookups: u64) {
        let header = self.header(Opcode::Forget as u32, node, 8);
        let message = [header.as_slice(), &lookups.to_le_bytes()].concat();
        self.hiprio.submit(&[Buf::Read(&message)]);
        self.hiprio.kick();
        let end = Instant::now() + PATIENCE;
        loop {
            let used = self.hiprio.used();
            if let [one] = &used[..] {
                assert_eq!(one.len, 0);
                return;
            }
            assert!(Instant::now() < end, "FORGET was not taken");
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

fn context(
    ram: &SharedRam,
    hiprio: &DriverRing,
    requests: &DriverRing,
    interrupt: &Arc<RecordingInterrupt>,
) -> ActivateContext {
    ActivateContext {
        memory: ram.clone(),
        queues: vec![hiprio.device_queue(0, true), requests.device_queue(1, true)],
        interrupt: interrupt.clone(),
        shm: None,
    }
}

pub fn cstr(name: &str) -> Vec<u8> {
    [name.as_bytes(), b"\0"].concat()
}

/// A reply structure.
pub fn pod<T: ByteValued>(bytes: &[u8]) -> T {
    let mut value = T::zeroed();
    value.as_mut_slice().copy_from_slice(bytes);
    value
}

/// (name, node, type, cookie of the next entry)
pub fn parse_dir(mut bytes: &[u8], plus: bool) -> Vec<(String, u64, u32, u64)> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let head = if plus { 128 } else { 0 };
        let node = if plus { u64::from_le_bytes(bytes[..8].try_into().unwrap()) } else { 0 };
        let dirent = &bytes[head..];
        let next = u64::from_le_bytes(dirent[8..16].try_into().unwrap());
        let len = u32::from_le_bytes(dirent[16..20].try_into().unwrap()) as usize;
        let kind = u32::from_le_bytes(dirent[20..24].try_into().unwrap());
        let name = String::from_utf8(dirent[24..24 + len].to_vec()).unwrap();
        out.push((name, node, kind, next));
        bytes = &bytes[(head + 24 + len).next_multiple_of(8)..];
    }
    out
}

/// Open descriptors of this process that point below `dir`.
pub fn descriptors_below(dir: &Path) -> usize {
    let dir = dir.canonicalize().expect("directory");
    let links = std::fs::read_dir("/proc/self/fd").expect("/proc/self/fd");
    links
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| target.starts_with(&dir))
        .count()
}

/// As Linux gives it for a value of so many bytes; 0 asks for the size.
fn room(size: u32) -> u32 {
    if size == 0 { 8 } else { size }
}
