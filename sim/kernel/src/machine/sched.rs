//! Threads, and which of them runs. Exactly one does; it goes on until it waits, ends, or has made its share of calls.

use super::node::Node;
use super::object::ObjectId;
use super::timetable::Event;
use super::{Kernel, Mark, Moment};

/// A thread, numbered from 0 in the order of creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ThreadId(pub u32);

/// What threads wait on that has no descriptor: a lock, a condition, a futex. The front end makes it from an address;
/// nothing is ever read through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub u64);

/// Who goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// This thread.
    Run(ThreadId),
    /// Nobody ever will: no thread can run and nothing is planned.
    Stuck,
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// What was waited for may have come.
    Called,
    /// The time was up.
    TimeUp,
}

#[derive(Debug)]
pub(crate) struct Thread {
    pub(crate) node: Node,
    /// Which life of its node it belongs to; threads of an earlier one never run.
    life: u32,
    state: ThreadState,
    /// Counts its waits, so that what was meant for an earlier one is not taken for this one.
    wait: u64,
    woken: Woken,
    doing: Mark,
    waits_on: WaitsOn,
    /// How often it read a clock since it last waited.
    clock_reads: u32,
    /// How many locks it holds which the nodes of this process share only because they are one process.
    shared_locks: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ThreadState {
    Ready,
    Waiting,
    Ended,
}

#[derive(Debug, Default)]
struct WaitsOn {
    key: Option<Key>,
    objects: Vec<ObjectId>,
}

const RESUME: Mark = Mark::new("resume");
const END: Mark = Mark::new("end");
const START: Mark = Mark::new("start");

impl Kernel {
    /// A new thread of a node's present life, ready to run. Its caller makes it wait for its turn.
    pub fn spawn(&mut self, node: Node) -> ThreadId {
        let thread = ThreadId(u32::try_from(self.threads.len()).expect("fewer than 2^32 threads"));
        self.threads.push(Thread {
            node,
            life: self.nodes[node.index()].life,
            state: ThreadState::Ready,
            wait: 0,
            woken: Woken::Called,
            doing: START,
            waits_on: WaitsOn::default(),
            clock_reads: 0,
            shared_locks: 0,
        });
        self.ready.push(thread);
        thread
    }

    /// A thread that could not be created after all. It was the last one spawned.
    pub fn unspawn(&mut self, thread: ThreadId) {
        self.ready.retain(|ready| *ready != thread);
        self.threads[thread.index()].state = ThreadState::Ended;
    }

    /// The program's own name for a thread (`pthread_t`). Names may be used again when a thread is over.
    pub fn name_thread(&mut self, thread: ThreadId, handle: u64) {
        self.handles.insert(handle, thread);
    }

    /// The thread the program calls this.
    pub fn thread_named(&self, handle: u64) -> Option<ThreadId> {
        self.handles.get(&handle).copied()
    }

    /// The thread is over; whoever joins it goes on.
    pub fn end(&mut self, thread: ThreadId) {
        self.trace.step(self.now, Some(thread), END, 0, 0);
        self.threads[thread.index()].state = ThreadState::Ended;
        self.wake_key(Kernel::join_key(thread), usize::MAX);
    }

    /// Whether the thread is over.
    pub fn has_ended(&self, thread: ThreadId) -> bool {
        self.threads[thread.index()].state == ThreadState::Ended
    }

    /// What those wait on who join this thread. Addresses of user space have their top bit clear, so it is nobody
    /// else's.
    pub fn join_key(thread: ThreadId) -> Key {
        Key(1 << 63 | u64::from(thread.0))
    }

    /// The node a thread belongs to.
    pub fn node_of(&self, thread: ThreadId) -> Node {
        self.threads[thread.index()].node
    }

    /// The running thread could go on, but lets others.
    pub fn yield_now(&mut self, thread: ThreadId) {
        self.ready.push(thread);
    }

    /// The running thread waits on a key, until somebody wakes it or the deadline has come. Follow with
    /// [`Kernel::who_runs`].
    pub fn wait_on_key(&mut self, thread: ThreadId, doing: Mark, key: Key, deadline: Option<Moment>) {
        let wait = self.begin_wait(thread, doing, deadline);
        self.threads[thread.index()].waits_on.key = Some(key);
        self.queues.entry(key).or_default().push_back((thread, wait));
    }

    /// The running thread waits until something changes about one of these objects.
    pub(crate) fn wait_on_objects(
        &mut self,
        thread: ThreadId,
        doing: Mark,
        objects: impl IntoIterator<Item = ObjectId>,
        deadline: Option<Moment>,
    ) {
        let wait = self.begin_wait(thread, doing, deadline);
        for object in objects {
            self.threads[thread.index()].waits_on.objects.push(object);
            self.objects[object.index()].waiters.push((thread, wait));
        }
    }

    /// The running thread waits for a moment.
    pub fn wait_until(&mut self, thread: ThreadId, doing: Mark, deadline: Moment) {
        self.begin_wait(thread, doing, Some(deadline));
    }

    fn begin_wait(&mut self, thread: ThreadId, doing: Mark, deadline: Option<Moment>) -> u64 {
        self.blocks += 1;
        let waiting = &mut self.threads[thread.index()];
        waiting.state = ThreadState::Waiting;
        waiting.wait += 1;
        waiting.doing = doing;
        waiting.clock_reads = 0;
        let wait = waiting.wait;
        if let Some(deadline) = deadline {
            self.timetable.plan(deadline.max(self.now), Event::WaitOver { thread, wait });
        }
        wait
    }

    /// The thread has its turn again after a wait: tidies up, and tells how the wait ended.
    pub fn resumed(&mut self, thread: ThreadId) -> Woken {
        let resumed = &mut self.threads[thread.index()];
        let (woken, wait) = (resumed.woken, resumed.wait);
        if let Some(key) = resumed.waits_on.key.take()
            && let Some(queue) = self.queues.get_mut(&key)
        {
            queue.retain(|waiter| *waiter != (thread, wait));
            if queue.is_empty() {
                self.queues.remove(&key);
            }
        }
        let mut objects = std::mem::take(&mut self.threads[thread.index()].waits_on.objects);
        for object in objects.drain(..) {
            self.objects[object.index()].waiters.retain(|waiter| waiter.0 != thread);
        }
        self.threads[thread.index()].waits_on.objects = objects; // keeps its memory
        self.trace.step(self.now, Some(thread), RESUME, u64::from(woken == Woken::TimeUp), 0);
        woken
    }

    /// Wakes up to `count` of those who wait on a key, those who can run before those whose node stands still; returns
    /// how many.
    pub fn wake_key(&mut self, key: Key, count: usize) -> usize {
        let mut woken = 0;
        if self.queues.is_empty() {
            return 0;
        }
        while woken < count {
            let Some(queue) = self.queues.get(&key) else { break };
            let who = queue.iter().position(|(thread, _)| self.may_run(*thread)).unwrap_or(0);
            let Some(queue) = self.queues.get_mut(&key) else { break };
            let Some((thread, wait)) = queue.remove(who) else { break };
            if queue.is_empty() {
                self.queues.remove(&key);
            }
            woken += usize::from(self.make_ready(thread, wait, Woken::Called));
        }
        woken
    }

    /// Moves up to `count` waiters from one key to another, as `FUTEX_REQUEUE` does; returns how many.
    pub fn requeue_key(&mut self, from: Key, to: Key, count: usize) -> usize {
        let mut moved = 0;
        while moved < count {
            let Some(waiter) = self.queues.get_mut(&from).and_then(|queue| queue.pop_front()) else { break };
            self.threads[waiter.0.index()].waits_on.key = Some(to);
            self.queues.entry(to).or_default().push_back(waiter);
            moved += 1;
        }
        if self.queues.get(&from).is_some_and(|queue| queue.is_empty()) {
            self.queues.remove(&from);
        }
        moved
    }

    pub(crate) fn make_ready(&mut self, thread: ThreadId, wait: u64, woken: Woken) -> bool {
        let waiting = &mut self.threads[thread.index()];
        let waits = waiting.state == ThreadState::Waiting && waiting.wait == wait;
        if waits {
            waiting.state = ThreadState::Ready;
            waiting.woken = woken;
            self.ready.push(thread);
        }
        waits
    }

    /// Chooses who runs, after everything that is due has happened. When nobody can, the clock goes on to what is
    /// planned next.
    pub fn who_runs(&mut self) -> Next {
        loop {
            while let Some(event) = self.timetable.take_due(self.now) {
                self.happen(event);
            }
            if let Some(thread) = self.choose() {
                return Next::Run(thread);
            }
            match self.timetable.next_at() {
                Some(at) => self.now = at,
                None => return Next::Stuck,
            }
        }
    }

    fn choose(&mut self) -> Option<ThreadId> {
        let able = self.ready.iter().filter(|thread| self.may_run(**thread)).count();
        if able == 0 {
            return None;
        }
        let nth = if able == 1 { 0 } else { self.random.schedule.below(able as u64) as usize };
        let mut able = self.ready.iter().enumerate().filter(|(_, thread)| self.may_run(**thread));
        let (place, _) = able.nth(nth)?;
        let half = u64::from(self.config.quantum / 2);
        self.share = (half + self.random.schedule.below(2 * half) + 1) as u32;
        Some(self.ready.remove(place))
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::WaitOver { thread, wait } => {
                self.make_ready(thread, wait, Woken::TimeUp);
            }
            Event::Arrival(packet) => self.arrive(packet),
            Event::TimerFd { object, setting } => self.timer_due(object, setting),
            Event::ServiceDue { service, setting } => self.service_due(service, setting),
        }
    }

    /// Whether a thread's node runs and lives the same life as when the thread began. A thread that holds a lock which
    /// other nodes need only because all share one process goes on until it lets go of it.
    pub(crate) fn may_run(&self, thread: ThreadId) -> bool {
        let thread = &self.threads[thread.index()];
        let node = &self.nodes[thread.node.index()];
        (node.runs() && node.life == thread.life) || thread.shared_locks > 0
    }

    #[inline]
    pub(crate) fn count_clock_read(&mut self, thread: ThreadId) -> u32 {
        let reads = &mut self.threads[thread.index()].clock_reads;
        *reads = reads.saturating_add(1);
        *reads
    }

    /// The running thread took a lock that all nodes share because they are one process.
    pub fn took_shared_lock(&mut self, thread: ThreadId) {
        self.threads[thread.index()].shared_locks += 1;
    }

    /// The running thread let go of such a lock. True when it must stop now: its node stands still or is gone.
    pub fn freed_shared_lock(&mut self, thread: ThreadId) -> bool {
        let holder = &mut self.threads[thread.index()];
        holder.shared_locks = holder.shared_locks.saturating_sub(1);
        !self.may_run(thread)
    }

    /// One line a thread that is not over: which node, what it does. For whoever finds out why nothing goes on.
    pub fn describe_threads(&self) -> String {
        let mut lines = String::new();
        for (number, thread) in self.threads.iter().enumerate() {
            if thread.state != ThreadState::Ended && self.nodes[thread.node.index()].life == thread.life {
                let node = &self.nodes[thread.node.index()].name;
                lines += &format!("  thread {number} of {node}: {:?} in {}\n", thread.state, thread.doing.name());
            }
        }
        lines
    }
}

impl ThreadId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}
