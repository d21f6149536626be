//! A thread that runs queue workers.
//!
//! Fast devices spawn a loop of their own; slow ones share the virtual machine's. A worker belongs to the
//! loop while it runs and is handed back whole when it is taken, so its state needs no lock.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvError, RecvTimeoutError, Sender, SyncSender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use event_manager::{EventManager, EventOps, Events, MutEventSubscriber, SubscriberId, SubscriberOps};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::failure::{Failure, OnFailure};
use super::sys::block_signal;

/// The part of an active device that owns its queues and descriptors.
///
/// `init` (of [`MutEventSubscriber`]) registers descriptors, and treats every queue as kicked: a
/// notification may have been consumed before. `process` handles one ready descriptor. Neither blocks.
pub trait QueueWorker: MutEventSubscriber + Send + Any {
    /// Finishes accepted requests before the worker leaves the loop. Called on the loop's thread; if it
    /// succeeds, the descriptors are unregistered next and `process` is not called any more.
    ///
    /// # Errors
    ///
    /// What it waits for, if that does not end before `deadline`. The worker then stays in the loop.
    fn drain(&mut self, deadline: Instant) -> Result<(), String>;

    /// For a worker with an epoll of its own, in a loop [of its own](EventLoop::spawn_for_one): watches `wake` in that epoll
    /// (edge-triggered, and without reading it), and works in [`QueueWorker::work`] from now on. `false`, the default: it is
    /// called by `process` like the others.
    fn waits_itself(&mut self, wake: &EventFd) -> bool {
        let _ = wake;
        false
    }

    /// Sleeps and works until the descriptor of [`QueueWorker::waits_itself`] was written to.
    fn work(&mut self) {}

    /// The end of [`QueueWorker::waits_itself`], also if that was `false`.
    fn stops_waiting(&mut self, wake: &EventFd) {
        let _ = wake;
    }
}

/// Names a worker inside its loop.
pub type WorkerId = SubscriberId;

type BoxedWorker = Box<dyn QueueWorker>;

pub(super) type TakeReply = Result<Box<dyn Any + Send>, String>;

enum Command {
    Add(BoxedWorker, SyncSender<WorkerId>),
    Take(WorkerId, Instant, SyncSender<TakeReply>, Arc<Claim>),
    Stop,
}

/// A question that the one side may begin to answer, or the other give up, whichever comes first.
#[derive(Debug, Default)]
struct Claim(AtomicBool);

impl Claim {
    /// True for the first of both.
    fn get(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// A worker that was asked back.
pub(super) struct Asked {
    reply: Receiver<TakeReply>,
    claim: Arc<Claim>,
}

impl Asked {
    /// The answer, unless there is none before `deadline`.
    pub fn wait(&self, deadline: Instant) -> Result<TakeReply, RecvTimeoutError> {
        self.reply.recv_timeout(deadline.saturating_duration_since(Instant::now()))
    }

    /// After the deadline given with the question: the worker stays in its loop, with `None`, or the loop was quicker.
    pub fn give_up(&self) -> Option<Result<TakeReply, RecvError>> {
        // The loop waits no longer than that deadline either.
        (!self.claim.get()).then(|| self.reply.recv())
    }
}

/// Sends workers to a loop and takes them back. Cheap to clone; usable from any thread but the loop's own.
#[derive(Clone)]
pub struct LoopHandle {
    commands: Sender<Command>,
    wake: Arc<EventFd>,
}

impl LoopHandle {
    fn send(&self, command: Command) -> io::Result<()> {
        self.commands.send(command).map_err(|_| io::Error::other("device loop has ended"))?;
        self.wake.write(1)
    }

    /// Moves a worker into the loop and waits until it is registered.
    pub(super) fn add(&self, worker: BoxedWorker) -> io::Result<WorkerId> {
        let (tx, rx) = std::sync::mpsc::sync_channel(1);
        self.send(Command::Add(worker, tx))?;
        rx.recv().map_err(|_| io::Error::other("device loop has ended"))
    }

    /// Asks for a worker back.
    pub(super) fn take(&self, id: WorkerId, deadline: Instant) -> io::Result<Asked> {
        let (tx, reply) = std::sync::mpsc::sync_channel(1);
        let claim = Arc::<Claim>::default();
        self.send(Command::Take(id, deadline, tx, claim.clone()))?;
        Ok(Asked { reply, claim })
    }
}

/// Owns the thread. Dropping it stops the loop, drops its workers and joins.
pub struct EventLoop {
    handle: LoopHandle,
    done: Receiver<()>,
    failure: Arc<Failure>,
    thread: Option<JoinHandle<()>>,
}

/// How long dropping a loop waits for a worker that does not return before the thread is left behind.
const JOIN_LIMIT: Duration = Duration::from_secs(5);

impl EventLoop {
    /// Starts a loop on a thread of this name (cut to 15 bytes by the kernel).
    ///
    /// # Errors
    ///
    /// The operating system refused an epoll or event descriptor, or the thread.
    pub fn spawn(name: &str) -> io::Result<Self> {
        Self::start(name, false)
    }

    /// Starts a loop for one worker at a time. If that [has an epoll](QueueWorker::waits_itself), the thread sleeps there: an
    /// epoll inside the loop's would cost another system call, and the kernel a second look, for every wake-up.
    ///
    /// # Errors
    ///
    /// As for [`EventLoop::spawn`].
    pub fn spawn_for_one(name: &str) -> io::Result<Self> {
        Self::start(name, true)
    }

    fn start(name: &str, for_one: bool) -> io::Result<Self> {
        let (tx, rx) = channel();
        let (done_tx, done) = channel();
        let wake = Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?);
        let mut manager = EventManager::<BoxedWorker>::new().map_err(io::Error::other)?;
        manager.add_subscriber(Box::new(Waker(wake.clone())));
        let failure = Failure::of(name);
        let to_tell = Arc::clone(&failure);
        let woken = for_one.then(|| wake.clone());
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            // A reader that closed its pipe is an error of one worker, not the end of the process.
            block_signal(libc::SIGPIPE);
            let ended = catch_unwind(AssertUnwindSafe(|| run(manager, &rx, woken.as_deref())));
            drop(rx);
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(e)) => {
                    log::error!("device loop ends: {e}");
                    to_tell.happens();
                }
                Err(panic) => {
                    to_tell.happens();
                    resume_unwind(panic);
                }
            }
            drop(done_tx);
        })?;
        Ok(EventLoop { handle: LoopHandle { commands: tx, wake }, done, failure, thread: Some(thread) })
    }

    /// Sets who hears that the thread ended by a panic, which is a defect of a worker, or by an error, without being told to.
    /// Only the first call counts.
    pub fn on_failure(&self, hook: OnFailure) {
        self.failure.on_failure(hook);
    }

    /// For the devices that run here.
    pub fn handle(&self) -> LoopHandle {
        self.handle.clone()
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        let _ = self.handle.send(Command::Stop);
        // The sender is dropped at the end of the thread: a disconnect, never a message.
        let ended = self.done.recv_timeout(JOIN_LIMIT) != Err(RecvTimeoutError::Timeout);
        let Some(thread) = self.thread.take() else { return };
        if !ended {
            log::error!("device thread {:?} does not end; it is left behind", thread.thread().name());
        } else if thread.join().is_err() {
            log::error!("a device thread panicked");
        }
    }
}

/// Makes `run` return when a command arrives.
struct Waker(Arc<EventFd>);

impl MutEventSubscriber for Waker {
    fn process(&mut self, _events: Events, _ops: &mut EventOps) {
        let _ = self.0.read();
    }

    fn init(&mut self, ops: &mut EventOps) {
        if let Err(e) = ops.add(Events::new(&*self.0, EventSet::IN)) {
            log::error!("device loop cannot watch its command descriptor: {e}");
        }
    }
}

impl QueueWorker for Waker {
    fn drain(&mut self, _deadline: Instant) -> Result<(), String> {
        Ok(())
    }
}

/// With `woken`, the loop is for one worker, and that is the descriptor that wakes it.
fn run(
    mut manager: EventManager<BoxedWorker>,
    commands: &Receiver<Command>,
    woken: Option<&EventFd>,
) -> Result<(), event_manager::Error> {
    let mut only: Option<WorkerId> = None;
    let mut waits_itself = false;
    loop {
        match only.filter(|_| waits_itself).and_then(|id| manager.subscriber_mut(id).ok()) {
            Some(worker) => worker.work(),
            None => {
                manager.run()?;
            }
        }
        loop {
            match commands.try_recv() {
                Ok(Command::Add(mut worker, reply)) => {
                    if let Some(wake) = woken {
                        if only.is_some() {
                            // Without a reply, whoever added it hears of an error.
                            log::error!("a device loop for one worker was given a second");
                            continue;
                        }
                        waits_itself = worker.waits_itself(wake);
                    }
                    let id = manager.add_subscriber(worker);
                    only = woken.map(|_| id);
                    let _ = reply.send(id);
                }
                Ok(Command::Take(id, deadline, reply, claim)) => {
                    if !claim.get() {
                        continue;
                    }
                    let mut taken = take(&mut manager, id, deadline);
                    if let (Ok(worker), Some(wake)) = (&mut taken, woken) {
                        worker.stops_waiting(wake);
                        only = None;
                    }
                    let _ = reply.send(taken.map(|worker| worker as Box<dyn Any + Send>));
                }
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return Ok(()),
                Err(TryRecvError::Empty) => break,
            }
        }
    }
}

fn take(
    manager: &mut EventManager<BoxedWorker>,
    id: WorkerId,
    deadline: Instant,
) -> Result<BoxedWorker, String> {
    let worker = manager.subscriber_mut(id).map_err(|e| e.to_string())?;
    worker.drain(deadline)?;
    manager.remove_subscriber(id).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken(EventFd);

    impl MutEventSubscriber for Broken {
        fn process(&mut self, _events: Events, _ops: &mut EventOps) {
            panic!("a worker of a test panics");
        }

        fn init(&mut self, ops: &mut EventOps) {
            ops.add(Events::new(&self.0, EventSet::IN)).unwrap();
        }
    }

    impl QueueWorker for Broken {
        fn drain(&mut self, _deadline: Instant) -> Result<(), String> {
            Ok(())
        }
    }

    #[test]
    fn a_panic_is_told() {
        let devices = EventLoop::spawn("test").unwrap();
        let (told, heard) = channel();
        devices.on_failure(Arc::new(move |name| told.send(name.to_owned()).unwrap()));
        let event = EventFd::new(EFD_NONBLOCK).unwrap();
        let worker = Broken(event.try_clone().unwrap());
        let id = devices.handle().add(Box::new(worker)).unwrap();
        event.write(1).unwrap();
        assert_eq!(heard.recv_timeout(JOIN_LIMIT).unwrap(), "test");
        let gone = devices
            .handle()
            .take(id, Instant::now())
            .and_then(|asked| asked.reply.recv().map(|_| ()).map_err(io::Error::other));
        assert!(gone.is_err(), "the loop has ended");
    }

    #[test]
    fn an_orderly_end_is_not_told() {
        let (told, heard) = channel();
        let devices = EventLoop::spawn("test").unwrap();
        devices.on_failure(Arc::new(move |_| told.send(()).unwrap()));
        drop(devices);
        assert!(heard.recv().is_err());
    }

    /// What sleeps in an epoll.
    const SLEEPS: &[libc::c_long] = &[
        #[cfg(target_arch = "x86_64")]
        libc::SYS_epoll_wait,
        libc::SYS_epoll_pwait,
    ];

    #[test]
    fn an_error_is_told() {
        crate::testing::with_refused(SLEEPS, || {
            let devices = EventLoop::spawn("test").unwrap();
            let worker = Broken(EventFd::new(EFD_NONBLOCK).unwrap());
            assert!(devices.handle().add(Box::new(worker)).is_err(), "the loop has ended");
            let (told, heard) = channel();
            devices.on_failure(Arc::new(move |name| told.send(name.to_owned()).unwrap()));
            drop(devices);
            assert_eq!(heard.iter().collect::<Vec<_>>(), ["test"]);
        });
    }

    /// Counts how often it was woken by its own epoll.
    struct Sleeper {
        epoll: vmm_sys_util::epoll::Epoll,
        event: EventFd,
        turns: Sender<()>,
    }

    impl MutEventSubscriber for Sleeper {
        fn process(&mut self, _events: Events, _ops: &mut EventOps) {
            unreachable!("it registers nothing in the loop");
        }

        fn init(&mut self, _ops: &mut EventOps) {}
    }

    fn watch(epoll: &vmm_sys_util::epoll::Epoll, fd: &EventFd, data: u64) {
        use std::os::fd::AsRawFd;
        use vmm_sys_util::epoll::{ControlOperation, EpollEvent};
        let event = EpollEvent::new(EventSet::IN | EventSet::EDGE_TRIGGERED, data);
        epoll.ctl(ControlOperation::Add, fd.as_raw_fd(), event).unwrap();
    }

    impl QueueWorker for Sleeper {
        fn drain(&mut self, _deadline: Instant) -> Result<(), String> {
            Ok(())
        }

        fn waits_itself(&mut self, wake: &EventFd) -> bool {
            watch(&self.epoll, wake, 1);
            true
        }

        fn work(&mut self) {
            let mut woken = false;
            while !woken {
                let mut events = [vmm_sys_util::epoll::EpollEvent::default(); 4];
                let count = self.epoll.wait(-1, &mut events).unwrap();
                if events[..count].iter().any(|event| event.data() == 0) {
                    self.turns.send(()).unwrap();
                }
                woken = events[..count].iter().any(|event| event.data() == 1);
            }
        }

        fn stops_waiting(&mut self, wake: &EventFd) {
            use std::os::fd::AsRawFd;
            use vmm_sys_util::epoll::{ControlOperation, EpollEvent};
            self.epoll.ctl(ControlOperation::Delete, wake.as_raw_fd(), EpollEvent::default()).unwrap();
        }
    }

    #[test]
    fn a_worker_that_waits_itself_comes_and_goes() {
        let devices = EventLoop::spawn_for_one("test").unwrap();
        let event = EventFd::new(EFD_NONBLOCK).unwrap();
        let (turns, turned) = channel();
        let epoll = vmm_sys_util::epoll::Epoll::new().unwrap();
        let mut worker = Sleeper { epoll, event: event.try_clone().unwrap(), turns };
        watch(&worker.epoll, &worker.event, 0);
        for _ in 0..3 {
            let id = devices.handle().add(Box::new(worker)).unwrap();
            event.write(1).unwrap();
            turned.recv_timeout(JOIN_LIMIT).unwrap();
            let second = Broken(EventFd::new(EFD_NONBLOCK).unwrap());
            assert!(devices.handle().add(Box::new(second)).is_err(), "there is one already");
            let back = devices.handle().take(id, Instant::now()).unwrap();
            let back: Box<dyn Any> = back.wait(Instant::now() + JOIN_LIMIT).unwrap().unwrap();
            worker = *back.downcast::<Sleeper>().unwrap();
        }
    }
}
