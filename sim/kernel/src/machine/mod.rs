//! The kernel proper: a state machine that is told which call a thread makes, and answers, or makes it wait. It opens
//! nothing, reads no clock, follows no pointer; the front ends do.
//!
//! A call that may block is a method which returns a [`Step`]. On [`Stop::Block`] the thread is waiting: the front end
//! asks [`Kernel::who_runs`] who runs now, gives that thread the turn, and when the waiting thread has it again makes the
//! same call again.

#![forbid(unsafe_code)]

mod epoll;
mod eventfd;
mod moment;
mod net;
mod node;
mod object;
mod pipe;
mod poll;
mod random;
mod sched;
mod service;
mod socket;
mod timerfd;
mod timetable;
mod trace;

pub use epoll::{Ready, Watch};
pub use moment::Moment;
pub use net::{Latency, Message, MessageKind};
pub use node::Node;
pub use object::{ObjectId, Patience, Sink};
pub use poll::{PollTarget, Polled};
pub use sched::{Key, Next, ThreadId, Woken};
pub use service::{Connection, Service, ServiceId, ServiceNet};
pub use socket::{Half, SocketOption};
pub use timerfd::TimerSetting;
pub use trace::Mark;

use crate::config::{Config, Stats};
use net::{Link, Listener};
use node::NodeState;
use object::Object;
use random::Random;
use sched::Thread;
use service::ServiceState;
use std::collections::{BTreeMap, VecDeque};
use timetable::Timetable;
use trace::Trace;

/// A simulated operating system for all the nodes of a simulation, with the network between them.
pub struct Kernel {
    config: Config,
    now: Moment,
    random: Random,
    trace: Trace,
    timetable: Timetable,
    threads: Vec<Thread>,
    /// Threads by the program's own names.
    handles: BTreeMap<u64, ThreadId>,
    /// Who could run, in the order they became able to.
    ready: Vec<ThreadId>,
    /// How many more calls the running thread may make.
    share: u32,
    queues: BTreeMap<Key, VecDeque<(ThreadId, u64)>>,
    nodes: Vec<NodeState>,
    objects: Vec<Object>,
    descriptors: Vec<Option<ObjectId>>,
    /// Whom closed sockets were connected to.
    last_other: BTreeMap<ObjectId, ObjectId>,
    links: BTreeMap<(Node, Node), Link>,
    listeners: BTreeMap<(Node, u16), Listener>,
    services: Vec<ServiceState>,
    barriers: BTreeMap<Key, Barrier>,
    calls: u64,
    blocks: u64,
    switches: u64,
    packets: u64,
    messages: Vec<Message>,
}

/// How many threads meet at a barrier, and how many are there.
#[derive(Debug, Clone, Copy)]
struct Barrier {
    size: u32,
    arrived: u32,
}

/// What becomes of a call: an answer, or why there is none yet.
pub type Step<T> = Result<T, Stop>;

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It fails.
    Fail(Errno),
    /// The thread waits; make the call again when it has its turn.
    Block,
}

/// An error number, as in `errno`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

macro_rules! errno {
    ($($name:ident = $number:ident),* $(,)?) => {
        #[allow(missing_docs, reason = "errno(3) describes them")]
        impl Errno {
            $(pub const $name: Self = Self(libc::$number);)*
        }
    };
}

errno! {
    ADDRINUSE = EADDRINUSE, ADDRNOTAVAIL = EADDRNOTAVAIL, AFNOSUPPORT = EAFNOSUPPORT, AGAIN = EAGAIN,
    ALREADY = EALREADY, BADF = EBADF, CONNABORTED = ECONNABORTED, CONNREFUSED = ECONNREFUSED,
    CONNRESET = ECONNRESET, EXIST = EEXIST, FAULT = EFAULT, INPROGRESS = EINPROGRESS, INVAL = EINVAL,
    ISCONN = EISCONN, MFILE = EMFILE, NETUNREACH = ENETUNREACH, NOENT = ENOENT, NOPROTOOPT = ENOPROTOOPT,
    NOSYS = ENOSYS, NOTCONN = ENOTCONN, NOTSOCK = ENOTSOCK, NOTTY = ENOTTY, OPNOTSUPP = EOPNOTSUPP, PERM = EPERM,
    PIPE = EPIPE, TIMEDOUT = ETIMEDOUT,
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Fail(errno)
    }
}

/// What is to be done after a call was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entered {
    /// Go on with it.
    GoOn,
    /// Let others run first.
    Yield,
    /// Give the run up: so many calls are a livelock.
    TooMany,
}

/// A thousand readings in a row would take a millisecond without this; with it, a hundred do.
const CLOCK_READS_PER_DOUBLING: u32 = 16;
/// So a reading costs at most 64 times what the first does.
const CLOCK_DOUBLINGS_MAX: u32 = 6;

impl Kernel {
    /// A machine with one node, [`Node::CONTROL`], and no thread.
    pub fn new(config: Config) -> Self {
        Self {
            now: Moment::START,
            random: Random::from_seed(config.seed),
            trace: Trace::new(config.log_steps),
            timetable: Timetable::default(),
            threads: Vec::new(),
            handles: BTreeMap::new(),
            ready: Vec::new(),
            share: config.quantum,
            queues: BTreeMap::new(),
            nodes: vec![NodeState::new("control".into())],
            objects: Vec::new(),
            descriptors: Vec::new(),
            last_other: BTreeMap::new(),
            links: BTreeMap::new(),
            listeners: BTreeMap::new(),
            services: Vec::new(),
            barriers: BTreeMap::new(),
            calls: 0,
            blocks: 0,
            switches: 0,
            packets: 0,
            messages: Vec::new(),
            config,
        }
    }

    /// Now, on every node's monotonic clock.
    pub fn now(&self) -> Moment {
        self.now
    }

    /// The running thread makes a call: it takes a little time and goes into the hash.
    #[inline]
    pub fn enter(&mut self, thread: ThreadId, call: Mark, a: u64, b: u64) -> Entered {
        self.now = self.now.after_nanos(self.config.call_ns);
        self.calls += 1;
        self.trace.step(self.now, Some(thread), call, a, b);
        self.share = self.share.saturating_sub(1);
        if self.calls > self.config.calls_max {
            Entered::TooMany
        } else if self.share == 0 {
            Entered::Yield
        } else {
            Entered::GoOn
        }
    }

    /// Something worth telling runs apart by, e.g. what a read returned.
    #[inline]
    pub fn note(&mut self, thread: ThreadId, what: Mark, a: u64, b: u64) {
        self.trace.step(self.now, Some(thread), what, a, b);
    }

    /// Notes bytes a program wrote to or read from a file.
    pub fn note_bytes(&mut self, thread: ThreadId, what: Mark, bytes: &[u8]) {
        self.trace.step(self.now, Some(thread), what, bytes.len() as u64, trace::hash_bytes(bytes));
    }

    /// Whether the running thread is to yield here, by chance.
    #[inline]
    pub fn preempts(&mut self) -> bool {
        self.random.schedule.chance(self.config.preempt)
    }

    /// A thread read a clock; returns what it reads. That costs time, and more the more often the thread has done so
    /// since it last waited: librdkafka spins on the clock for waits under a millisecond.
    #[inline]
    pub fn read_clock(&mut self, thread: ThreadId) -> Moment {
        let doublings = self.count_clock_read(thread) / CLOCK_READS_PER_DOUBLING;
        self.now = self.now.after_nanos(self.config.clock_ns << doublings.min(CLOCK_DOUBLINGS_MAX));
        self.now
    }

    /// Another thread got the turn.
    pub fn switched(&mut self) {
        self.switches += 1;
    }

    /// A barrier for so many threads.
    pub fn set_barrier(&mut self, key: Key, size: u32) {
        self.barriers.insert(key, Barrier { size, arrived: 0 });
    }

    /// Whether there is a barrier under this key.
    pub fn has_barrier(&self, key: Key) -> bool {
        self.barriers.contains_key(&key)
    }

    /// The barrier is no more.
    pub fn remove_barrier(&mut self, key: Key) {
        self.barriers.remove(&key);
    }

    /// A thread arrives at a barrier. True when it is the last; the others go on then. The others wait.
    pub fn arrive_at_barrier(&mut self, thread: ThreadId, doing: Mark, key: Key) -> bool {
        let Some(barrier) = self.barriers.get_mut(&key) else { return true };
        barrier.arrived += 1;
        if barrier.arrived == barrier.size {
            barrier.arrived = 0;
            self.wake_key(key, usize::MAX);
            return true;
        }
        self.wait_on_key(thread, doing, key, None);
        false
    }

    /// What was measured so far.
    pub fn stats(&self) -> Stats {
        Stats {
            hash: self.trace.hash(),
            virtual_ns: u64::try_from(self.now.since(Moment::START).as_nanos()).unwrap_or(u64::MAX),
            calls: self.calls,
            blocks: self.blocks,
            switches: self.switches,
            threads: self.threads.len() as u64,
            packets: self.packets,
        }
    }

    /// One line a step, when [`Config::log_steps`] asked for them; once.
    pub fn take_step_log(&mut self) -> Option<String> {
        self.trace.take_log()
    }
}
