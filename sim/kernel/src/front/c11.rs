//! C11 threads. glibc makes them of internal names of the pthread functions, so those being ours does not reach them;
//! librdkafka uses them wherever there is `<threads.h>`.
//!
//! In glibc a `mtx_t` is a `pthread_mutex_t`, a `cnd_t` a `pthread_cond_t`, a `thrd_t` a `pthread_t`.

use super::{clock, lock, thread};
use libc::{c_int, c_void, pthread_cond_t, pthread_mutex_t, pthread_t, timespec};

const SUCCESS: c_int = 0;
const BUSY: c_int = 1;
const ERROR: c_int = 2;
const NO_MEMORY: c_int = 3;
const TIMED_OUT: c_int = 4;

fn result(error_number: c_int) -> c_int {
    match error_number {
        0 => SUCCESS,
        libc::EBUSY => BUSY,
        libc::ENOMEM => NO_MEMORY,
        libc::ETIMEDOUT => TIMED_OUT,
        _ => ERROR,
    }
}

// Every function below has the contract of the C function it stands for, which is that of the function it calls.

pub(crate) unsafe fn mtx_lock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: the same contract.
    result(unsafe { lock::mutex_lock(mutex) })
}

pub(crate) unsafe fn mtx_trylock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: the same contract.
    result(unsafe { lock::mutex_trylock(mutex) })
}

pub(crate) unsafe fn mtx_timedlock(mutex: *mut pthread_mutex_t, time: *const timespec) -> c_int {
    // SAFETY: the same contract.
    result(unsafe { lock::mutex_timedlock(mutex, time) })
}

pub(crate) unsafe fn mtx_unlock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: the same contract.
    result(unsafe { lock::mutex_unlock(mutex) })
}

pub(crate) unsafe fn cnd_init(condition: *mut pthread_cond_t) -> c_int {
    // SAFETY: the same contract; no attributes is what C11 has.
    result(unsafe { lock::cond_init(condition, std::ptr::null()) })
}

pub(crate) unsafe fn cnd_destroy(condition: *mut pthread_cond_t) {
    // SAFETY: the same contract.
    unsafe { lock::cond_destroy(condition) };
}

pub(crate) unsafe fn cnd_wait(condition: *mut pthread_cond_t, mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: the same contract.
    result(unsafe { lock::cond_wait(condition, mutex) })
}

pub(crate) unsafe fn cnd_timedwait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    time: *const timespec,
) -> c_int {
    // SAFETY: the same contract; C11 waits by the wall clock.
    result(unsafe { lock::cond_clockwait(condition, mutex, libc::CLOCK_REALTIME, time) })
}

pub(crate) unsafe fn cnd_signal(condition: *mut pthread_cond_t) -> c_int {
    // SAFETY: the same contract.
    result(unsafe { lock::cond_signal(condition) })
}

pub(crate) unsafe fn cnd_broadcast(condition: *mut pthread_cond_t) -> c_int {
    // SAFETY: the same contract.
    result(unsafe { lock::cond_broadcast(condition) })
}

pub(crate) unsafe fn call_once(control: *mut c_int, initialise: extern "C" fn()) {
    // SAFETY: the same contract.
    unsafe { lock::once(control, initialise) };
}

type Main = extern "C" fn(*mut c_void) -> c_int;

pub(crate) unsafe fn thrd_create(out: *mut pthread_t, main: Main, argument: *mut c_void) -> c_int {
    extern "C" fn begin(begun: *mut c_void) -> *mut c_void {
        // SAFETY: made by `Box::into_raw` just below, and each thread gets its own.
        let (main, argument) = *unsafe { Box::from_raw(begun.cast::<(Main, *mut c_void)>()) };
        std::ptr::without_provenance_mut(main(argument) as usize)
    }
    let begun = Box::into_raw(Box::new((main, argument)));
    // SAFETY: `out` is our caller's; no attributes are the default ones.
    let error = unsafe { thread::create(out, std::ptr::null(), begin, begun.cast()) };
    if error != 0 {
        // SAFETY: no thread was made, so the box is still ours.
        drop(unsafe { Box::from_raw(begun) });
    }
    result(error)
}

pub(crate) unsafe fn thrd_join(thread: pthread_t, out: *mut c_int) -> c_int {
    let mut value = std::ptr::null_mut();
    // SAFETY: the same contract; `value` is ours.
    let error = unsafe { thread::join(thread, &mut value) };
    // SAFETY: by our caller's promise it is null or writable.
    unsafe { super::abi::store(out, value.addr() as c_int) };
    result(error)
}

pub(crate) unsafe fn thrd_sleep(time: *const timespec, left: *mut timespec) -> c_int {
    // SAFETY: the same contract.
    unsafe { clock::nanosleep(time, left) }
}

pub(crate) unsafe fn thrd_yield() {
    super::token::yield_now();
}
