//! A thread that runs queue workers.
//!
//! Fast devices spawn a loop of their own; slow ones share the virtual machine's. A worker belongs to the
//! loop while it runs and is handed back whole when it is taken, so its state needs no lock.

use std::any::Any;
use std::io;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use event_manager::{EventManager, EventOps, Events, MutEventSubscriber, SubscriberId, SubscriberOps};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

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
}

/// Names a worker inside its loop.
pub type WorkerId = SubscriberId;

type BoxedWorker = Box<dyn QueueWorker>;

pub(super) type TakeReply = Result<Box<dyn Any + Send>, String>;

enum Command {
    Add(BoxedWorker, SyncSender<WorkerId>),
    Take(WorkerId, Instant, SyncSender<TakeReply>),
    Stop,
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

    /// Asks for a worker back; the answer comes through the receiver.
    pub(super) fn take(&self, id: WorkerId, deadline: Instant) -> io::Result<Receiver<TakeReply>> {
        let (tx, rx) = std::sync::mpsc::sync_channel(1);
        self.send(Command::Take(id, deadline, tx))?;
        Ok(rx)
    }
}

/// Hears that a loop's thread panicked: none of its devices works any more. Called on that thread.
pub type OnPanic = Box<dyn Fn() + Send + Sync>;

/// Calls the hook if it is dropped by a panic.
#[derive(Default)]
struct Watch(Arc<OnceLock<OnPanic>>);

impl Drop for Watch {
    fn drop(&mut self) {
        if let (true, Some(hook)) = (std::thread::panicking(), self.0.get()) {
            hook();
        }
    }
}

/// Owns the thread. Dropping it stops the loop, drops its workers and joins.
pub struct EventLoop {
    handle: LoopHandle,
    done: Receiver<()>,
    watch: Arc<OnceLock<OnPanic>>,
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
        let (tx, rx) = channel();
        let (done_tx, done) = channel();
        let wake = Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?);
        let mut manager = EventManager::<BoxedWorker>::new().map_err(io::Error::other)?;
        manager.add_subscriber(Box::new(Waker(wake.clone())));
        let watch = Watch::default();
        let hook = watch.0.clone();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _watch = watch;
            run(manager, &rx);
            drop(rx);
            drop(done_tx);
        })?;
        Ok(EventLoop { handle: LoopHandle { commands: tx, wake }, done, watch: hook, thread: Some(thread) })
    }

    /// Sets who hears of a panic of the thread, which is a defect of a worker. Only the first call counts.
    pub fn on_panic(&self, hook: OnPanic) {
        let _ = self.watch.set(hook);
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
        let ended = self.done.recv_timeout(JOIN_LIMIT) != Err(std::sync::mpsc::RecvTimeoutError::Timeout);
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

fn run(mut manager: EventManager<BoxedWorker>, commands: &Receiver<Command>) {
    loop {
        if let Err(e) = manager.run() {
            log::error!("device loop ends: {e}");
            return;
        }
        loop {
            match commands.try_recv() {
                Ok(Command::Add(worker, reply)) => {
                    let _ = reply.send(manager.add_subscriber(worker));
                }
                Ok(Command::Take(id, deadline, reply)) => {
                    let _ = reply.send(take(&mut manager, id, deadline));
                }
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => break,
            }
        }
    }
}

fn take(manager: &mut EventManager<BoxedWorker>, id: WorkerId, deadline: Instant) -> TakeReply {
    let worker = manager.subscriber_mut(id).map_err(|e| e.to_string())?;
    worker.drain(deadline)?;
    let worker = manager.remove_subscriber(id).map_err(|e| e.to_string())?;
    Ok(worker)
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
        devices.on_panic(Box::new(move || told.send(()).unwrap()));
        let event = EventFd::new(EFD_NONBLOCK).unwrap();
        let worker = Broken(event.try_clone().unwrap());
        let id = devices.handle().add(Box::new(worker)).unwrap();
        event.write(1).unwrap();
        heard.recv_timeout(JOIN_LIMIT).unwrap();
        let gone = devices
            .handle()
            .take(id, Instant::now())
            .and_then(|reply| reply.recv().map(|_| ()).map_err(io::Error::other));
        assert!(gone.is_err(), "the loop has ended");
    }

    #[test]
    fn an_orderly_end_is_not_told() {
        let (told, heard) = channel();
        let devices = EventLoop::spawn("test").unwrap();
        devices.on_panic(Box::new(move || told.send(()).unwrap()));
        drop(devices);
        assert!(heard.recv().is_err());
    }
}
