//! What descriptors stand for, and how a change of it is noticed.

use super::epoll::Epoll;
use super::eventfd::EventFd;
use super::node::Node;
use super::pipe::{PipeReader, PipeWriter};
use super::socket::Socket;
use super::timerfd::TimerFd;
use super::{Errno, Kernel, Step, Stop, ThreadId};

/// An object, numbered in the order of creation. Numbers are never used again, so a packet for a closed socket finds
/// nobody rather than somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId(u32);

#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) kind: Kind,
    pub(crate) node: Node,
    /// How many descriptors stand for it.
    references: u32,
    pub(crate) nonblocking: bool,
    /// Who waits for it to change, and in which of their waits.
    pub(crate) waiters: Vec<(ThreadId, u64)>,
    /// The epoll sets it is in, under which descriptor.
    pub(crate) watchers: Vec<(ObjectId, i32)>,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Socket(Box<Socket>),
    PipeReader(PipeReader),
    PipeWriter(PipeWriter),
    EventFd(EventFd),
    TimerFd(TimerFd),
    Epoll(Epoll),
    /// `/dev/urandom`.
    Random,
    /// The last descriptor is closed.
    Gone,
}

/// Where bytes go that a program reads.
pub trait Sink {
    /// How many more bytes fit.
    fn room(&self) -> usize;
    /// Takes bytes, at most as many as fit.
    fn put(&mut self, bytes: &[u8]);
}

/// Readiness, in the bits of `poll` and `epoll`.
pub(crate) mod ready {
    pub(crate) const IN: u32 = 0x001;
    pub(crate) const OUT: u32 = 0x004;
    pub(crate) const ERR: u32 = 0x008;
    pub(crate) const HUP: u32 = 0x010;
    pub(crate) const INVALID: u32 = 0x020;
    pub(crate) const RDNORM: u32 = 0x040;
    pub(crate) const WRNORM: u32 = 0x100;
    pub(crate) const RDHUP: u32 = 0x2000;
    /// What is reported whether it was asked for or not.
    pub(crate) const ALWAYS: u32 = ERR | HUP;
    pub(crate) const READABLE: u32 = IN | RDNORM;
    pub(crate) const WRITABLE: u32 = OUT | WRNORM;
}

impl Kernel {
    pub(crate) fn create(&mut self, node: Node, kind: Kind, nonblocking: bool) -> ObjectId {
        let object = ObjectId::from_index(self.objects.len());
        let (waiters, watchers) = (Vec::new(), Vec::new());
        self.objects.push(Object { kind, node, references: 0, nonblocking, waiters, watchers });
        object
    }

    /// Gives an object a descriptor. The number comes from the front end, which keeps it free in the real process.
    pub fn attach(&mut self, fd: i32, object: ObjectId) {
        let place = usize::try_from(fd).expect("a descriptor is not negative");
        if self.descriptors.len() <= place {
            self.descriptors.resize(place + 1, None);
        }
        self.descriptors[place] = Some(object);
        self.objects[object.index()].references += 1;
    }

    /// What a descriptor stands for, when it is a simulated one.
    #[inline]
    pub fn object_of(&self, fd: i32) -> Option<ObjectId> {
        self.descriptors.get(usize::try_from(fd).ok()?).copied().flatten()
    }

    /// A descriptor is closed; with the last one its object ends.
    pub fn close(&mut self, fd: i32) -> Result<(), Errno> {
        let object = self.object_of(fd).ok_or(Errno::BADF)?;
        self.descriptors[fd as usize] = None;
        let references = &mut self.objects[object.index()].references;
        *references -= 1;
        if *references == 0 {
            self.release(object);
        }
        Ok(())
    }

    /// An object nothing refers to any more, e.g. a socket for which no descriptor was to be had.
    pub fn release(&mut self, object: ObjectId) {
        for (epoll, fd) in std::mem::take(&mut self.objects[object.index()].watchers) {
            self.forget_watched(epoll, (fd, object));
        }
        match std::mem::replace(&mut self.objects[object.index()].kind, Kind::Gone) {
            Kind::Socket(socket) => self.socket_released(object, *socket),
            Kind::PipeReader(reader) => self.pipe_end_released(reader.writer),
            Kind::PipeWriter(writer) => self.pipe_end_released(writer.reader),
            Kind::Epoll(epoll) => self.epoll_released(object, epoll),
            Kind::EventFd(_) | Kind::TimerFd(_) | Kind::Random | Kind::Gone => {}
        }
    }

    /// Whether reads and writes return at once.
    pub fn is_nonblocking(&self, object: ObjectId) -> bool {
        self.objects[object.index()].nonblocking
    }

    /// Sets whether reads and writes return at once.
    pub fn set_nonblocking(&mut self, object: ObjectId, nonblocking: bool) {
        self.objects[object.index()].nonblocking = nonblocking;
    }

    /// What could be done with the object now, in the bits of `epoll`.
    pub(crate) fn readiness(&self, object: ObjectId) -> u32 {
        match &self.objects[object.index()].kind {
            Kind::Socket(socket) => socket.readiness(),
            Kind::PipeReader(reader) => self.pipe_reader_readiness(reader),
            Kind::PipeWriter(writer) => self.pipe_writer_readiness(writer),
            Kind::EventFd(event) => event.readiness(),
            Kind::TimerFd(timer) => timer.readiness(),
            Kind::Epoll(epoll) => self.epoll_readiness(epoll),
            Kind::Random => ready::READABLE | ready::WRITABLE,
            Kind::Gone => ready::HUP,
        }
    }

    /// Something about the object changed: its waiters look again, its epoll sets take note.
    pub(crate) fn changed(&mut self, object: ObjectId) {
        for (thread, wait) in std::mem::take(&mut self.objects[object.index()].waiters) {
            self.make_ready(thread, wait, super::Woken::Called);
        }
        for place in 0..self.objects[object.index()].watchers.len() {
            let (epoll, fd) = self.objects[object.index()].watchers[place];
            self.watched_changed(epoll, (fd, object));
        }
    }

    /// Waits until the object changes, unless it is not to block or the deadline has come.
    pub(crate) fn wait_for(
        &mut self,
        thread: ThreadId,
        doing: super::Mark,
        object: ObjectId,
        how: Patience,
    ) -> Result<std::convert::Infallible, Stop> {
        let given_up = how.deadline.is_some_and(|deadline| deadline <= self.now);
        if how.not_at_all || self.objects[object.index()].nonblocking || given_up {
            return Err(Errno::AGAIN.into());
        }
        self.wait_on_objects(thread, doing, [object], how.deadline);
        Err(Stop::Block)
    }

    /// Reads. Blocks while there is nothing, unless told otherwise.
    pub fn read(&mut self, thread: ThreadId, object: ObjectId, into: &mut dyn Sink, how: Patience) -> Step<usize> {
        match &self.objects[object.index()].kind {
            Kind::Socket(_) => self.receive(thread, object, into, how),
            Kind::PipeReader(_) => self.read_pipe(thread, object, into, how),
            Kind::EventFd(_) => self.read_eventfd(thread, object, into, how),
            Kind::TimerFd(_) => self.read_timerfd(thread, object, into, how),
            Kind::Random => Ok(self.read_random(into)),
            Kind::PipeWriter(_) | Kind::Gone => Err(Errno::BADF.into()),
            Kind::Epoll(_) => Err(Errno::INVAL.into()),
        }
    }

    /// Writes. Blocks while there is no room, unless told otherwise.
    pub fn write(&mut self, thread: ThreadId, object: ObjectId, bytes: &[u8], how: Patience) -> Step<usize> {
        match &self.objects[object.index()].kind {
            Kind::Socket(_) => self.send(thread, object, bytes, how),
            Kind::PipeWriter(_) => self.write_pipe(thread, object, bytes, how),
            Kind::EventFd(_) => self.write_eventfd(thread, object, bytes, how),
            Kind::Random => Ok(bytes.len()),
            Kind::PipeReader(_) | Kind::Gone => Err(Errno::BADF.into()),
            Kind::Epoll(_) | Kind::TimerFd(_) => Err(Errno::INVAL.into()),
        }
    }

    /// Random bytes for the program.
    pub fn read_random(&mut self, into: &mut dyn Sink) -> usize {
        let mut given = 0;
        while into.room() > 0 {
            let word = self.random.program.next().to_le_bytes();
            let some = into.room().min(word.len());
            into.put(&word[..some]);
            given += some;
        }
        given
    }

    /// A random number for the program.
    pub fn random_number(&mut self) -> u64 {
        self.random.program.next()
    }

    /// `/dev/urandom`.
    pub fn open_random(&mut self, node: Node) -> ObjectId {
        self.create(node, Kind::Random, false)
    }
}

/// How long an operation waits.
#[derive(Debug, Clone, Copy, Default)]
pub struct Patience {
    /// Not at all, whatever the descriptor says (`MSG_DONTWAIT`).
    pub not_at_all: bool,
    /// Look at the bytes and leave them (`MSG_PEEK`).
    pub peek: bool,
    /// Until this moment at most; for ever when there is none.
    pub deadline: Option<super::Moment>,
}

impl ObjectId {
    pub(crate) fn from_index(index: usize) -> Self {
        Self(u32::try_from(index).expect("fewer than 2^32 objects"))
    }

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }

    /// Its number, for traces.
    pub fn number(self) -> u64 {
        u64::from(self.0)
    }
}
