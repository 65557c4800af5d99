//! The life of threads, and futexes.

use super::abi::{self, Clock};
use super::lock::key;
use super::token::{self, kernel};
use super::{guard, identity, inline, process, real};
use crate::machine::{Errno, Mark, Moment, ThreadId, Woken};
use libc::{c_int, c_long, c_void, pthread_attr_t, pthread_t, timespec};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// What a thread begins with.
pub(crate) type Start = extern "C" fn(*mut c_void) -> *mut c_void;

const JOIN: Mark = Mark::new("join");
const FUTEX: Mark = Mark::new("futex");

struct Boot {
    thread: ThreadId,
    start: Start,
    argument: *mut c_void,
}

/// The thread-specific value whose destructor is the last thing a thread does.
static LAST_WORD: OnceLock<libc::pthread_key_t> = OnceLock::new();
/// glibc goes through the destructors so many times (`PTHREAD_DESTRUCTOR_ITERATIONS`).
const ROUNDS: usize = 4;

/// Makes ready for threads. Once, before there are any.
pub(crate) fn prepare() {
    let mut value = 0;
    // SAFETY: `value` is ours, and the destructor has the right type.
    let error = unsafe { libc::pthread_key_create(&mut value, Some(last_word)) };
    assert_eq!(error, 0, "a process may have 1,024 thread-specific values, and all are taken");
    let _ = LAST_WORD.set(value); // the first counts
}

/// `pthread_create` of a simulated thread.
///
/// # Safety
/// As for `pthread_create`.
pub(crate) unsafe fn create(
    out: *mut pthread_t,
    attributes: *const pthread_attr_t,
    start: Start,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: the same contract.
    let error = unsafe { create_raw(out, attributes, start, argument) };
    token::maybe_yield();
    error
}

unsafe fn create_raw(
    out: *mut pthread_t,
    attributes: *const pthread_attr_t,
    start: Start,
    argument: *mut c_void,
) -> c_int {
    let thread = kernel(|kernel, me| {
        let node = token::next_node(kernel, me);
        (kernel.stats().threads < token::THREADS_MAX as u64).then(|| kernel.spawn(node))
    });
    let Some(thread) = thread else { return libc::EAGAIN };
    let boot = Box::into_raw(Box::new(Boot { thread, start, argument }));
    // SAFETY: our caller's `out` and attributes; `begin` takes the box.
    let error = unsafe { real::pthread_create(out, attributes, begin, boot.cast()) };
    if error == 0 {
        // SAFETY: `pthread_create` succeeded, so it wrote there.
        let handle = unsafe { out.read() };
        kernel(|kernel, _| kernel.name_thread(thread, handle));
    } else {
        // SAFETY: no thread was made, so the box is still ours.
        drop(unsafe { Box::from_raw(boot) });
        kernel(|kernel, _| kernel.unspawn(thread));
    }
    error
}

/// Makes the first thread of a simulation.
pub(crate) fn create_first(thread: ThreadId, start: Start, argument: *mut c_void) {
    let boot = Box::into_raw(Box::new(Boot { thread, start, argument }));
    let mut handle = 0;
    // SAFETY: `handle` is ours, no attributes are the default ones, `begin` takes the box.
    let error = unsafe { real::pthread_create(&mut handle, std::ptr::null(), begin, boot.cast()) };
    assert_eq!(error, 0, "the system gives no thread");
}

extern "C" fn begin(boot: *mut c_void) -> *mut c_void {
    let boot = boot.cast::<Boot>();
    // SAFETY: `create` passes a box of its own to each thread; here it is only read, because until its turn has come
    // the thread must not free memory.
    let thread = unsafe { (*boot).thread };
    token::join_in(thread);
    // SAFETY: as above; now the box is taken.
    let Boot { start, argument, .. } = *unsafe { Box::from_raw(boot) };
    arm(1);
    start(argument)
    // Then glibc runs the destructors of `thread_local`s and of thread-specific values, in the simulation; in the last
    // round ours gives the turn away.
}

fn arm(round: usize) {
    if let Some(value) = LAST_WORD.get() {
        // SAFETY: the key was created, and its value is a number that is never followed.
        unsafe { libc::pthread_setspecific(*value, std::ptr::without_provenance(round)) };
    }
}

unsafe extern "C" fn last_word(round: *mut c_void) {
    match round.addr() {
        round if round < ROUNDS => arm(round + 1),
        _ => token::leave(),
    }
}

pub(crate) unsafe fn join(handle: pthread_t, out: *mut *mut c_void) -> c_int {
    if let Some(thread) = kernel(|kernel, _| kernel.thread_named(handle)) {
        while !kernel(|kernel, _| kernel.has_ended(thread)) {
            kernel(|kernel, me| {
                kernel.wait_on_key(me, JOIN, crate::machine::Kernel::join_key(thread), None);
            });
            token::switch();
        }
    }
    // The thread is gone, so this does not wait.
    // SAFETY: our caller's arguments, unchanged.
    unsafe { real::pthread_join(handle, out) }
}

pub(crate) unsafe fn sched_yield() -> c_int {
    token::yield_now();
    0
}

/// The `syscall` function, by which Rust's locks and others reach futexes.
pub(crate) unsafe fn syscall(
    number: c_long,
    a: c_long,
    b: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
) -> c_long {
    match number {
        // SAFETY: the arguments are those of futex(2).
        libc::SYS_futex => abi::answer(unsafe { futex(a, b as c_int, c as u32, d, e, f) }),
        // SAFETY: the arguments are those of getrandom(2).
        libc::SYS_getrandom => unsafe { identity::getrandom(ptr(a), b as usize, c as _) as c_long },
        libc::SYS_gettid => identity::gettid_number(),
        // SAFETY: it takes nothing.
        libc::SYS_getpid => c_long::from(unsafe { identity::getpid() }),
        libc::SYS_sched_yield => {
            token::yield_now();
            0
        }
        // SAFETY: the arguments are those of clock_gettime(2).
        libc::SYS_clock_gettime => unsafe { super::clock::clock_gettime(a as c_int, ptr(b)) }.into(),
        // What programs can do without, because older systems have none.
        libc::SYS_io_uring_setup | libc::SYS_membarrier | libc::SYS_epoll_pwait2 => {
            abi::answer::<i64>(Err(Errno::NOSYS))
        }
        // SAFETY: our caller's arguments, unchanged.
        _ if guard::allows(number) => unsafe { real::syscall(number, a, b, c, d, e, f) },
        // SAFETY: the arguments are those of a system call of this number.
        _ => match unsafe { inline::call(number, [a, b, c, d, e, f]) } {
            Some(answer) if answer < 0 => abi::answer::<i64>(Err(Errno(-answer as c_int))),
            Some(answer) => answer,
            None => {
                if process::makes_another(number) {
                    process::refuse_another("syscall");
                }
                super::unsupported(format_args!("system call {number} through syscall()"))
            }
        },
    }
}

fn ptr<T>(argument: c_long) -> *mut T {
    std::ptr::with_exposed_provenance_mut(argument as usize)
}

/// # Safety
/// The arguments are those of futex(2).
unsafe fn futex(
    address: c_long,
    operation: c_int,
    value: u32,
    fourth: c_long,
    fifth: c_long,
    sixth: c_long,
) -> Result<i64, Errno> {
    let word: *const AtomicU32 = ptr(address);
    let monotonic = operation & libc::FUTEX_CLOCK_REALTIME == 0;
    match operation & libc::FUTEX_CMD_MASK {
        command @ (libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET) => {
            // SAFETY: by the caller's promise the word is valid, and the time null or readable.
            let (now, time) = unsafe { ((*word).load(Ordering::SeqCst), abi::load(ptr::<timespec>(fourth))) };
            if now != value {
                return Err(Errno::AGAIN);
            }
            let deadline = time.map(|time| futex_deadline(command, monotonic, time)).transpose()?;
            kernel(|kernel, me| kernel.wait_on_key(me, FUTEX, key(word), deadline));
            match token::switch() {
                Woken::Called => Ok(0),
                Woken::TimeUp => Err(Errno::TIMEDOUT),
            }
        }
        libc::FUTEX_WAKE | libc::FUTEX_WAKE_BITSET => {
            let woken = kernel(|kernel, _| kernel.wake_key(key(word), value as usize));
            token::maybe_yield();
            Ok(woken as i64)
        }
        command @ (libc::FUTEX_REQUEUE | libc::FUTEX_CMP_REQUEUE) => {
            // SAFETY: by the caller's promise the word is valid.
            if command == libc::FUTEX_CMP_REQUEUE && unsafe { (*word).load(Ordering::SeqCst) } != sixth as u32 {
                return Err(Errno::AGAIN);
            }
            let other: *const AtomicU32 = ptr(fifth);
            let woken = kernel(|kernel, _| {
                let woken = kernel.wake_key(key(word), value as usize);
                woken + kernel.requeue_key(key(word), key(other), fourth as usize)
            });
            Ok(woken as i64)
        }
        other => super::unsupported(format_args!("futex operation {other}")),
    }
}

fn futex_deadline(command: c_int, monotonic: bool, time: timespec) -> Result<Moment, Errno> {
    if command == libc::FUTEX_WAIT {
        return Ok(kernel(|kernel, _| kernel.now()).after(abi::span(time)?));
    }
    let clock = if monotonic { Clock::Monotonic } else { Clock::Wall };
    clock.moment(time)
}
