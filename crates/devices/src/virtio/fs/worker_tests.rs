//! The worker without a loop: its turns are the test's.

use std::fs::File;
use std::sync::mpsc::channel;
use std::time::Duration;

use fuse_backend_rs::abi::fuse_abi::{InHeader, Opcode};
use purlin_vmm_core::memory::ByteValued;
use tempfile::{TempDir, tempdir};

use super::*;
use crate::testing::{Buf, DriverRing, RecordingInterrupt, guest_ram};
use crate::virtio::DeviceType;
use crate::virtio::fs::config::{FsConfig, Source};
use crate::virtio::fs::server::Share;

const RAM: u64 = 4 << 20;

/// A worker whose share is an empty directory.
struct Bench {
    worker: FsWorker,
    rings: [DriverRing; 2],
    interrupt: Arc<RecordingInterrupt>,
    dir: TempDir,
}

fn request(opcode: Opcode, nodeid: u64, body: &[u8]) -> Vec<u8> {
    let len = (size_of::<InHeader>() + body.len()) as u32;
    let header = InHeader { len, opcode: opcode as u32, unique: 1, nodeid, ..InHeader::default() };
    [header.as_slice(), body].concat()
}

impl Bench {
    fn new(pool: Pool) -> Self {
        let (dir, memory) = (tempdir().unwrap(), guest_ram(RAM as usize));
        let share = Share::new(FsConfig::new("test", Source::Path(dir.path().to_owned()))).unwrap();
        let rings = [0, 1].map(|i| DriverRing::new(&memory, i * RAM / 2, RAM / 2, 1024));
        let interrupt = Arc::new(RecordingInterrupt::new());
        let worker = FsWorker {
            memory,
            queues: rings.iter().zip(0..).map(|(ring, i)| ring.device_queue(i, true)).collect(),
            interrupt: interrupt.clone(),
            server: FileServer::new(share),
            scratch: Scratch::default(),
            counters: Arc::default(),
            in_flight: InFlight::new(Arc::new(pool)).unwrap(),
            poll: Poll::default(),
            breakage: Breakage::new(DeviceType::Fs),
        };
        let mut bench = Bench { worker, rings, interrupt, dir };
        let mut body: Vec<u8> = [7u32, 38, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect();
        body.resize(64, 0);
        bench.call(&request(Opcode::Init, 0, &body), 64);
        bench
    }

    /// The reply to a request that waits for nothing, without its header.
    fn call(&mut self, request: &[u8], room: u32) -> Vec<u8> {
        self.rings[1].submit(&[Buf::Read(request), Buf::Write(16 + room)]);
        self.worker.run(1);
        let used = self.rings[1].used().pop().expect("an answer");
        assert_eq!(used.data[4..8], [0; 4], "its error");
        used.data[16..].to_vec()
    }

    /// An open file: its node and handle.
    fn open(&mut self) -> (u64, u64) {
        File::create(self.dir.path().join("f")).unwrap();
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes[..8].try_into().unwrap());
        let node = number(&self.call(&request(Opcode::Lookup, 1, b"f\0"), 128));
        let flags = (libc::O_RDWR as u64).to_le_bytes();
        (node, number(&self.call(&request(Opcode::Open, node, &flags), 16)))
    }

    /// Offers so many FSYNC requests to a queue, and tells the device. Returns the last one's head.
    fn offer_syncs(&mut self, queue: usize, count: usize, (node, handle): (u64, u64)) -> u16 {
        let message = request(Opcode::Fsync, node, &[handle.to_le_bytes(), [0; 8]].concat());
        let ring = &mut self.rings[queue];
        let heads = (0..count).map(|_| ring.submit(&[Buf::Read(&message), Buf::Write(16)]));
        let last = heads.last().expect("a request");
        ring.kick();
        last
    }

    /// Has the worker's turns until no queue asks for one; returns their number.
    fn turns(&mut self, limit: usize) -> usize {
        let mut turns = 0;
        loop {
            let due: Vec<usize> =
                (0..2).filter(|&index| self.worker.queues[index].event.read().is_ok()).collect();
            if due.is_empty() || turns >= limit {
                return turns;
            }
            for index in due {
                self.worker.run(index);
                turns += 1;
            }
        }
    }

    /// Heads and lengths of what came back since the last call.
    fn answers(&mut self) -> Vec<u32> {
        self.rings.iter_mut().flat_map(DriverRing::used).map(|used| used.len).collect()
    }

    /// Waits until a request is finished that is not given back.
    fn wait_for_one(&mut self) {
        let (again, finished) = &self.worker.in_flight.finished;
        let one = finished.recv_timeout(Duration::from_secs(20)).expect("a finished request");
        again.send(one).unwrap();
    }

    /// Takes finished requests until so many are answered.
    fn answered(&mut self, count: usize) -> Vec<u32> {
        let mut answers = Vec::new();
        while answers.len() < count {
            self.wait_for_one();
            self.worker.give_back().unwrap();
            self.turns(usize::MAX);
            answers.extend(self.answers());
        }
        answers
    }
}

/// A pool of one thread that is held until the other end is dropped or written to.
fn held_pool() -> (Pool, std::sync::mpsc::Sender<()>) {
    let (release, held) = channel::<()>();
    let pool = Pool::new("test", 1);
    let wait = move || {
        let _ = held.recv();
    };
    assert!(pool.run(Box::new(wait)).is_ok());
    (pool, release)
}

#[test]
fn a_full_worker_sleeps_until_a_request_is_finished() {
    let (pool, release) = held_pool();
    let mut bench = Bench::new(pool);
    let file = bench.open();
    // As many as two queues hold, and some of the same once more, which a hostile driver may do.
    bench.offer_syncs(0, 512, file);
    let head = bench.offer_syncs(1, 512, file);
    for _ in 0..10 {
        bench.rings[1].publish(head);
    }
    let limit = 10_000;
    let turns = bench.turns(limit);
    assert_eq!(bench.worker.in_flight.count, MAX_IN_FLIGHT);
    assert!(turns <= 2 * (512 / BATCH + 1), "{turns} turns");
    bench.rings[1].kick();
    assert_eq!(bench.turns(limit), 1, "a notification is heard, and nothing comes of it");
    assert!(bench.answers().is_empty());
    drop(release);
    let answers = bench.answered(1034);
    assert!(answers.len() == 1034 && answers.iter().all(|len| *len == 16));
    assert_eq!(bench.worker.in_flight.count, 0);
    // It is notified again.
    bench.offer_syncs(1, 1, file);
    assert_eq!(bench.turns(limit), 1);
    assert_eq!(bench.answered(1), [16]);
    assert!(!bench.interrupt.reset_needed());
}

#[test]
fn what_waited_while_it_was_full_is_served_after_a_pause_that_failed() {
    let (pool, release) = held_pool();
    let mut bench = Bench::new(pool);
    let file = bench.open();
    bench.offer_syncs(1, 1, file);
    bench.turns(10);
    // All others that may be in flight are.
    bench.worker.in_flight.count += MAX_IN_FLIGHT - 1;
    bench.offer_syncs(0, 1, file);
    bench.turns(10);
    assert_eq!(bench.worker.in_flight.count, MAX_IN_FLIGHT);
    drop(release);
    bench.wait_for_one();
    // It comes back, and the rest does not.
    assert!(bench.worker.drain(Instant::now()).is_err());
    assert_eq!(bench.worker.in_flight.count, MAX_IN_FLIGHT - 1);
    assert!(bench.turns(10) > 0, "nobody would come to the other queue");
    assert_eq!(bench.answered(2), [16, 16]);
}

/// Panics instead of what it stands for, and on the second one also when it should answer.
struct Panics(Box<dyn Rest>, bool);

impl Rest for Panics {
    fn run(&mut self) -> u32 {
        panic!("a request of a test panics");
    }

    fn fail(&mut self) -> u32 {
        assert!(!self.1, "and again");
        self.0.fail()
    }
}

#[test]
fn a_request_that_panics_is_answered_and_told() {
    let pool = Pool::new("test-wait", 1);
    let (told, heard) = channel();
    pool.on_failure(Arc::new(move |name| told.send(name.to_owned()).unwrap()));
    let mut bench = Bench::new(pool);
    let file = bench.open();
    for (twice, want) in [(false, 16), (true, 0)] {
        bench.offer_syncs(1, 1, file);
        let Bench { worker: FsWorker { memory, queues, server, scratch, in_flight, .. }, .. } = &mut bench;
        let chain = queues[1].queue.iter(&**memory).unwrap().next().unwrap();
        let head = chain.head_index();
        let Outcome::Later(task) = exchange(server, scratch, memory, chain) else {
            panic!("it does not wait")
        };
        in_flight.start(1, head, Box::new(Panics(task, twice)));
        bench.wait_for_one();
        bench.worker.give_back().unwrap();
        let used = bench.rings[1].used();
        assert_eq!((used.len(), used[0].len), (1, want));
        if want > 0 {
            assert_eq!(used[0].data[4..8], (-libc::EIO).to_le_bytes());
        }
        assert_eq!(bench.worker.in_flight.count, 0);
        assert!(bench.worker.drain(Instant::now()).is_ok());
    }
    // The pool is asked for another one all the same.
    bench.offer_syncs(1, 1, file);
    bench.turns(10);
    assert_eq!(bench.answered(1), [16]);
    drop(bench);
    assert_eq!(heard.iter().collect::<Vec<_>>(), ["test-wait"]);
}
