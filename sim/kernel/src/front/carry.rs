//! One thread of the real kernel runs all threads of the simulation.
//!
//! Each thread is a real one, with a stack and a thread control block made by glibc. But when it has come to wait for its
//! first turn, it leaves both to the keeper – the process's first thread – and sleeps on a small stack of its own until
//! the simulated thread has ended; then it takes them back and ends inside glibc, as a thread does. In between the
//! keeper carries it: passing the turn is a change of the stack pointer and of the segment base that points to the thread
//! control block, some ten nanoseconds in place of two system calls and a change of threads in the real kernel.
//!
//! Who runs when is decided elsewhere and is the same either way. What the real kernel keeps for each of its threads –
//! the signal mask, the alternate signal stack, `rseq` – is the keeper's for all of them.

use super::raw;
use super::token::THREADS_MAX;
use crate::machine::ThreadId;
use std::arch::global_asm;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering};

// What the calling convention preserves lies on a stack; where, and the segment base, in a `Context`.
global_asm!(
    ".macro rehearsal_sim_put_down",
    "push rbp",
    "push rbx",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "sub rsp, 8",
    "stmxcsr [rsp]",
    "fnstcw [rsp + 4]",
    "rdfsbase rax",
    "mov [rdi], rsp",
    "mov [rdi + 8], rax",
    ".endm",
    ".macro rehearsal_sim_take_up",
    "ldmxcsr [rsp]",
    "fldcw [rsp + 4]",
    "add rsp, 8",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbx",
    "pop rbp",
    "ret",
    ".endm",
    ".hidden rehearsal_sim_carry",
    ".globl rehearsal_sim_carry",
    ".type rehearsal_sim_carry, @function",
    "rehearsal_sim_carry:",
    "rehearsal_sim_put_down",
    "mov rsp, [rsi]",
    "mov rax, [rsi + 8]",
    "wrfsbase rax",
    "rehearsal_sim_take_up",
    ".size rehearsal_sim_carry, . - rehearsal_sim_carry",
    ".hidden rehearsal_sim_board",
    ".globl rehearsal_sim_board",
    ".type rehearsal_sim_board, @function",
    "rehearsal_sim_board:",
    "rehearsal_sim_put_down",
    "mov rbx, rdi",
    "mov rsp, rsi",
    "mov rdi, rcx",
    "call rdx",
    "mov rsp, [rbx]",
    "rehearsal_sim_take_up",
    ".size rehearsal_sim_board, . - rehearsal_sim_board",
);

unsafe extern "C" {
    /// Puts the running context down in `from` and takes `to` up; returns when somebody takes `from` up.
    fn rehearsal_sim_carry(from: *const Context, to: *const Context);
    /// Puts the running context down in `from`, and calls `wait` on another stack. Returns twice: to whoever takes the
    /// context up meanwhile, and when `wait` has returned, then with what is in `from` by that time.
    fn rehearsal_sim_board(
        from: *const Context,
        stack: *mut u8,
        wait: unsafe extern "C" fn(*const Place),
        place: *const Place,
    );
}

/// A thread that does not run. Only the assembly above accesses it.
#[repr(C)]
#[derive(Debug)]
struct Context {
    stack: AtomicU64,
    segment: AtomicU64,
}

impl Context {
    const fn new() -> Self {
        Self { stack: AtomicU64::new(0), segment: AtomicU64::new(0) }
    }
}

/// Where a thread is.
#[repr(C)]
#[derive(Debug)]
struct Place {
    context: Context,
    state: AtomicU32,
    /// Its number in the real kernel.
    tid: AtomicI32,
}

/// It has not begun to wait for its first turn.
const ASHORE: u32 = 0;
/// The keeper may carry it.
const ABOARD: u32 = 1;
/// It goes on by itself.
const LANDED: u32 = 2;

static PLACES: [Place; THREADS_MAX] =
    [const { Place { context: Context::new(), state: AtomicU32::new(ASHORE), tid: AtomicI32::new(0) } }; THREADS_MAX];
static KEEPER: Context = Context::new();

/// What a thread sleeps on has room for a few frames and a signal's.
const SMALL: usize = 8_192;
/// So much for every thread; memory nobody has touched costs nothing.
static STACKS: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());

/// Linux tells programs in the second word of capabilities that they may set segment bases themselves (since 5.9).
const FSGSBASE: u64 = 2;

/// Whether processor and kernel allow it.
pub(crate) fn is_possible() -> bool {
    // SAFETY: getauxval(3) takes a number.
    let capabilities = unsafe { libc::getauxval(libc::AT_HWCAP2) };
    capabilities & FSGSBASE != 0
}

/// Makes ready, once; false when the system gives no memory.
pub(crate) fn prepare() -> bool {
    let (access, kind) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
    // SAFETY: asks for fresh memory wherever there is room.
    let stacks = unsafe { libc::mmap(std::ptr::null_mut(), SMALL * THREADS_MAX, access, kind, -1, 0) };
    if stacks == libc::MAP_FAILED {
        return false;
    }
    STACKS.store(stacks.cast(), Ordering::Relaxed);
    true
}

/// The calling thread leaves its stack to the keeper. Returns when the keeper carries it for the first time.
///
/// # Safety
/// Once a thread, by the thread of that number, after [`prepare`], and only when [`is_possible`].
pub(crate) unsafe fn board(thread: ThreadId) {
    let place = &PLACES[thread.index()];
    place.tid.store(raw::gettid(), Ordering::Relaxed);
    let stack = STACKS.load(Ordering::Relaxed).wrapping_add((thread.index() + 1) * SMALL);
    // SAFETY: context and place are static. The small stack is this thread's alone, and its top is aligned as a call wants
    // it. `sleep` runs there: the old stack is left before it lets anybody take the context up.
    unsafe { rehearsal_sim_board(&raw const place.context, stack, sleep, place) }
}

/// # Safety
/// `place` is one of [`PLACES`].
unsafe extern "C" fn sleep(place: *const Place) {
    // SAFETY: by the caller's promise; they are static.
    let state = unsafe { &(*place).state };
    state.store(ABOARD, Ordering::Release);
    raw::futex_wake(state);
    while state.load(Ordering::Acquire) == ABOARD {
        raw::futex_wait(state, ABOARD);
    }
}

/// Passes from one thread to another, `None` being the keeper's own context; returns when `from` is carried again – or
/// has [landed](land), then in its own real thread.
///
/// # Safety
/// The calling thread is the keeper and now carries `from`. `to` was created, has not landed, and is not `from`.
pub(crate) unsafe fn switch(from: Option<ThreadId>, to: Option<ThreadId>) {
    if let Some(to) = to {
        let state = &PLACES[to.index()].state;
        while state.load(Ordering::Acquire) == ASHORE {
            raw::futex_wait(state, ASHORE);
        }
    }
    let [from, to] = [from, to].map(|thread| thread.map_or(&KEEPER, |thread| &PLACES[thread.index()].context));
    // SAFETY: `to` was put down: as it boarded, which the load above waited for, or as it passed the turn on. Its stack
    // and thread control block stay, because its real thread sleeps until it lands. What was running is put down in
    // `from`, which by the caller's promise is its own place.
    unsafe { rehearsal_sim_carry(from, to) }
}

/// A thread that was carried until it passed to the keeper for the last time goes on in its own real thread, whose
/// number in the real kernel is returned.
pub(crate) fn land(thread: ThreadId) -> i32 {
    let Place { state, tid, .. } = &PLACES[thread.index()];
    state.store(LANDED, Ordering::Release);
    raw::futex_wake(state);
    tid.load(Ordering::Relaxed)
}
