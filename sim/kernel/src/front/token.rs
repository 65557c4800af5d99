//! The turn: exactly one thread of the simulation has it, and only that thread touches the [`Kernel`].
//!
//! The turn passes in one of two ways, see [`HandOver`]: one real thread, the keeper, [carries](carry) all others; or a
//! thread wakes the next, then sleeps itself, each on a word of its own. A thread that ends gives the turn to the keeper –
//! the process's first thread – either way, because it goes on for a while inside glibc; the keeper waits until it is
//! really gone, so that heap addresses stay a matter of the schedule alone.

use super::{abi, carry, raw};
use crate::config::{Config, HandOver};
use crate::machine::{Entered, Errno, Kernel, Mark, Next, Node, Step, Stop, ThreadId, Woken};
use std::cell::{Cell, UnsafeCell};
use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, Ordering};

/// Threads a simulation may have, dead ones included. Its limit is the `EAGAIN` of `pthread_create`.
pub(crate) const THREADS_MAX: usize = 16_384;

/// Process statuses of a run that did not end by itself.
pub(crate) mod status {
    /// A thread spun without calling anything, or the run took too long.
    pub(crate) const WATCHDOG: i32 = 95;
    /// A call escaped the simulation.
    pub(crate) const ESCAPED: i32 = 96;
    /// Nobody could ever run again.
    pub(crate) const STUCK: i32 = 97;
    /// Too many calls.
    pub(crate) const LIVELOCK: i32 = 98;
    /// The program used what is not simulated.
    pub(crate) const UNSUPPORTED: i32 = 99;
}

struct TheKernel(UnsafeCell<Option<Kernel>>);

// SAFETY: the cell is accessed only in `with_kernel` and `begin`, by the one thread that has the turn; handing over the
// turn goes through an acquire load that reads a release store, so accesses of different threads are ordered. The kernel is `Send`, see below.
unsafe impl Sync for TheKernel {}

const _: () = {
    const fn goes_from_thread_to_thread<T: Send>() {}
    goes_from_thread_to_thread::<Kernel>()
};

static KERNEL: TheKernel = TheKernel(UnsafeCell::new(None));

/// One word a thread: 1 says that it has the turn.
static TURNS: [AtomicU32; THREADS_MAX] = [const { AtomicU32::new(0) }; THREADS_MAX];
/// The same for the keeper.
static KEEPERS_TURN: AtomicU32 = AtomicU32::new(0);
static BEGUN: AtomicBool = AtomicBool::new(false);
/// Whether threads yield by chance at all.
static PREEMPTS: AtomicBool = AtomicBool::new(false);
/// Whether the keeper carries all threads.
static CARRIES: AtomicBool = AtomicBool::new(false);
/// The thread that is ending.
static ENDING: AtomicU32 = AtomicU32::new(0);
/// Its real number, unless the keeper carries it.
static ENDING_TID: AtomicI32 = AtomicI32::new(0);
/// For the watchdog, who may read them at any time: who has the turn, and the last call made.
static RUNNING: AtomicU32 = AtomicU32::new(0);
static LAST_CALL: AtomicPtr<Mark> = AtomicPtr::new(std::ptr::null_mut());

thread_local! {
    /// 0 outside the simulation, else the thread's number plus one. It has no destructor and needs no initialisation,
    /// so it can be read at any time of a thread's life. While a thread is inside the kernel it is outside the
    /// simulation: what the kernel allocates or locks is real.
    static ME: Cell<u32> = const { Cell::new(0) };
    /// The node of the next thread this thread creates; its own when there is none.
    static NEXT_NODE: Cell<Option<Node>> = const { Cell::new(None) };
}

/// Whether this process runs a simulation.
pub(crate) fn has_begun() -> bool {
    BEGUN.load(Ordering::Relaxed)
}

/// Whether the calling thread is in the simulation.
#[inline(always)]
pub(crate) fn simulated() -> bool {
    ME.get() != 0
}

/// Does something outside the simulation: calls go to the real system.
#[inline]
pub(crate) fn outside<R>(act: impl FnOnce() -> R) -> R {
    struct Back(u32);
    impl Drop for Back {
        fn drop(&mut self) {
            ME.set(self.0);
        }
    }
    let _back = Back(ME.replace(0));
    act()
}

/// Does something with the kernel, as the thread that has the turn.
///
/// # Panics
/// Outside a simulation, and from within the kernel.
#[inline]
pub(crate) fn kernel<R>(act: impl FnOnce(&mut Kernel, ThreadId) -> R) -> R {
    let me = ME.get();
    assert!(me != 0, "only a thread of a running simulation can do this");
    // SAFETY: a simulated thread runs only while it has the turn, and `outside` keeps it from coming here again before
    // `act` returns.
    outside(|| unsafe { with_kernel(|kernel| act(kernel, ThreadId(me - 1))) })
}

/// # Safety
/// The calling thread has the turn, and is not within another call of this function.
#[inline]
unsafe fn with_kernel<R>(act: impl FnOnce(&mut Kernel) -> R) -> R {
    // SAFETY: by the caller's promise no other reference into the cell exists.
    let kernel = unsafe { &mut *KERNEL.0.get() };
    act(kernel.as_mut().expect("a simulation runs"))
}

/// Makes the kernel. The calling thread becomes the keeper.
///
/// # Safety
/// Once a process, before any thread of the simulation exists.
pub(crate) unsafe fn begin(config: Config) {
    BEGUN.store(true, Ordering::Relaxed);
    PREEMPTS.store(config.preempt > 0, Ordering::Relaxed);
    CARRIES.store(config.hand_over == HandOver::Carry && carry::is_possible() && carry::prepare(), Ordering::Relaxed);
    // SAFETY: by the caller's promise nobody else can access the cell yet.
    unsafe { *KERNEL.0.get() = Some(Kernel::new(config)) };
}

/// Does something with the kernel before the first thread has the turn.
///
/// # Safety
/// The calling thread called [`begin`], and [`keep`] was not called.
pub(crate) unsafe fn as_keeper<R>(act: impl FnOnce(&mut Kernel) -> R) -> R {
    // SAFETY: by the caller's promise nobody else has the turn.
    unsafe { with_kernel(act) }
}

/// The keeper's life: gives the turn to the first thread, then to another whenever a thread has ended.
///
/// # Safety
/// The calling thread called [`begin`], and has created the first thread.
pub(crate) unsafe fn keep() -> ! {
    loop {
        // SAFETY: the keeper has the turn here: at first because nobody else does, later because an ending thread gave
        // it away for good.
        let next = unsafe { with_kernel(decide) };
        let ending = if carries() {
            RUNNING.store(next.0, Ordering::Relaxed);
            // SAFETY: this is the keeper in its own context, and only threads that exist are chosen.
            unsafe { carry::switch(None, Some(next)) };
            carry::land(ThreadId(ENDING.load(Ordering::Relaxed)))
        } else {
            give_turn(next);
            take_turn(&KEEPERS_TURN);
            ENDING_TID.load(Ordering::Relaxed)
        };
        while raw::thread_exists(ending) {
            raw::plain(raw::Plain::SchedYield, 0, 0, 0);
        }
    }
}

fn decide(kernel: &mut Kernel) -> ThreadId {
    match kernel.who_runs() {
        Next::Run(thread) => thread,
        Next::Stuck => {
            let threads = kernel.describe_threads();
            super::child::fail(
                status::STUCK,
                format_args!("deadlock: no thread can run and nothing is planned\n{threads}"),
            )
        }
    }
}

#[inline]
fn carries() -> bool {
    CARRIES.load(Ordering::Relaxed)
}

/// From the calling thread to another; returns when the calling thread has the turn again.
fn hand_over(me: ThreadId, next: ThreadId) {
    if carries() {
        RUNNING.store(next.0, Ordering::Relaxed);
        // SAFETY: a thread that has the turn is carried by the keeper, `next` is another, and only threads that have not
        // ended are chosen.
        unsafe { carry::switch(Some(me), Some(next)) };
    } else {
        give_turn(next);
        take_turn(&TURNS[me.index()]);
    }
}

fn give_turn(to: ThreadId) {
    RUNNING.store(to.0, Ordering::Relaxed);
    let turn = &TURNS[to.index()];
    turn.store(1, Ordering::Release);
    raw::futex_wake(turn);
}

fn take_turn(turn: &AtomicU32) {
    while turn.load(Ordering::Acquire) == 0 {
        raw::futex_wait(turn, 0);
    }
    turn.store(0, Ordering::Relaxed);
}

/// The calling thread, which is waiting or has yielded, lets others run until it is its turn again.
pub(crate) fn switch() -> Woken {
    let (me, next) = kernel(|kernel, me| {
        let next = decide(kernel);
        if next != me {
            kernel.switched();
        }
        (me, next)
    });
    if next != me {
        hand_over(me, next);
    }
    kernel(|kernel, me| kernel.resumed(me))
}

/// Lets others run.
pub(crate) fn yield_now() {
    kernel(|kernel, me| kernel.yield_now(me));
    switch();
}

/// Lets others run if the seed says so here.
#[inline]
pub(crate) fn maybe_yield() {
    if PREEMPTS.load(Ordering::Relaxed) && kernel(|kernel, _| kernel.preempts()) {
        yield_now();
    }
}

/// Counts a call of the program's.
#[inline]
pub(crate) fn enter(call: &'static Mark, a: u64, b: u64) {
    LAST_CALL.store(std::ptr::from_ref(call).cast_mut(), Ordering::Relaxed);
    match kernel(|kernel, me| kernel.enter(me, *call, a, b)) {
        Entered::GoOn => {}
        Entered::Yield => yield_now(),
        Entered::TooMany => kernel(|kernel, _| {
            let (stats, threads) = (kernel.stats(), kernel.describe_threads());
            let seconds = stats.virtual_ns as f64 / 1e9;
            super::child::fail(
                status::LIVELOCK,
                format_args!("livelock: {} calls in {seconds:.3} virtual seconds\n{threads}", stats.calls),
            )
        }),
    }
}

/// Makes a call that may block: again each time the thread has waited, until there is an answer.
pub(crate) fn call<T>(mut attempt: impl FnMut(&mut Kernel, ThreadId) -> Step<T>) -> Result<T, Errno> {
    loop {
        match kernel(&mut attempt) {
            Ok(answer) => return Ok(answer),
            Err(Stop::Fail(errno)) => return Err(errno),
            Err(Stop::Block) => {
                switch();
            }
        }
    }
}

/// The first thing a thread of the simulation does: waits for its turn.
pub(crate) fn join_in(thread: ThreadId) {
    if carries() {
        // SAFETY: a thread joins in once, as itself, and this way of handing over was found possible.
        unsafe { carry::board(thread) };
    } else {
        take_turn(&TURNS[thread.index()]);
    }
    ME.set(thread.0 + 1);
}

/// The last thing a thread of the simulation does: gives the turn away for good.
pub(crate) fn leave() {
    let me = kernel(|kernel, me| {
        kernel.end(me);
        me
    });
    ME.set(0);
    ENDING.store(me.0, Ordering::Relaxed);
    if carries() {
        // SAFETY: the keeper carries this thread, which has the turn, and its own context waits in `keep`.
        unsafe { carry::switch(Some(me), None) };
        // Here the thread's own real thread goes on.
    } else {
        ENDING_TID.store(raw::gettid(), Ordering::Relaxed);
        KEEPERS_TURN.store(1, Ordering::Release);
        raw::futex_wake(&KEEPERS_TURN);
    }
}

/// The node a thread created now belongs to.
pub(crate) fn next_node(kernel: &Kernel, me: ThreadId) -> Node {
    NEXT_NODE.get().unwrap_or_else(|| kernel.node_of(me))
}

/// Threads created by `act` belong to this node.
pub(crate) fn on_node<R>(node: Node, act: impl FnOnce() -> R) -> R {
    let before = NEXT_NODE.replace(Some(node));
    let result = act();
    NEXT_NODE.set(before);
    result
}

/// Who has the turn, and the last call made. For signal handlers; what they read may be a moment old.
pub(crate) fn running() -> (u32, &'static str) {
    // SAFETY: the pointer is null or was made from a `&'static Mark`.
    let call = unsafe { LAST_CALL.load(Ordering::Relaxed).as_ref() };
    (RUNNING.load(Ordering::Relaxed), call.map_or("nothing yet", |call| call.name()))
}

/// Sets `errno` and returns what the C functions return on failure.
pub(crate) fn fail(errno: Errno) -> c_int {
    abi::set_errno(errno.0);
    -1
}
