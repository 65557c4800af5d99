//! Mutexes, conditions, read-write locks, once, semaphores, barriers.
//!
//! The real object keeps the state: the real `trylock` and `unlock`, which never wait, are called on it, and only the
//! waiting is simulated. So static initialisers, recursive mutexes and `destroy` work as they are.

use super::abi::{self, Clock};
use super::token::{self, kernel};
use super::{images, real};
use crate::machine::{Errno, Key, Mark, Moment, Woken};
use libc::{c_int, c_uint, c_void, pthread_cond_t, pthread_mutex_t, pthread_rwlock_t, sem_t, timespec};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const MUTEX: Mark = Mark::new("mutex");
const CONDITION: Mark = Mark::new("condition");
const RWLOCK: Mark = Mark::new("rwlock");
const ONCE: Mark = Mark::new("once");
const SEMAPHORE: Mark = Mark::new("semaphore");
const BARRIER: Mark = Mark::new("barrier");

pub(crate) fn key<T>(object: *const T) -> Key {
    Key(object.addr() as u64)
}

/// Waits on an object until it is let go of, or the deadline has come.
fn wait<T>(what: Mark, object: *const T, deadline: Option<Moment>) -> Woken {
    kernel(|kernel, me| kernel.wait_on_key(me, what, key(object), deadline));
    token::switch()
}

fn wake<T>(object: *const T, count: usize) {
    kernel(|kernel, _| kernel.wake_key(key(object), count));
}

fn took<T>(object: *const T) {
    if images::holds(object.addr()) {
        kernel(|kernel, me| kernel.took_shared_lock(me));
    }
}

/// True when the thread must stop now.
fn freed<T>(object: *const T) -> bool {
    images::holds(object.addr()) && kernel(|kernel, me| kernel.freed_shared_lock(me))
}

/// Tries until it works; waits in between.
fn retry<T>(what: Mark, object: *const T, deadline: Option<Moment>, mut attempt: impl FnMut() -> c_int) -> c_int {
    token::maybe_yield();
    loop {
        let result = attempt();
        if result != libc::EBUSY {
            if result == 0 {
                took(object);
            }
            return result;
        }
        if wait(what, object, deadline) == Woken::TimeUp {
            return libc::ETIMEDOUT;
        }
    }
}

fn until(clock: Clock, time: Option<timespec>) -> Result<Option<Moment>, Errno> {
    time.map(|time| clock.moment(time)).transpose()
}

// Every function below has the contract of the C function it stands for: its objects are initialised, its other
// pointers null or valid as that function's manual says.

pub(crate) unsafe fn mutex_lock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: by our caller's promise the mutex is initialised.
    retry(MUTEX, mutex, None, || unsafe { real::pthread_mutex_trylock(mutex) })
}

pub(crate) unsafe fn mutex_timedlock(mutex: *mut pthread_mutex_t, time: *const timespec) -> c_int {
    // SAFETY: by our caller's promise the time is readable.
    unsafe { mutex_clocklock(mutex, libc::CLOCK_REALTIME, time) }
}

pub(crate) unsafe fn mutex_clocklock(mutex: *mut pthread_mutex_t, clock: c_int, time: *const timespec) -> c_int {
    // SAFETY: by our caller's promise the time is readable.
    match until(Clock::from_id(clock), unsafe { abi::load(time) }) {
        // SAFETY: by our caller's promise the mutex is initialised.
        Ok(deadline) => retry(MUTEX, mutex, deadline, || unsafe { real::pthread_mutex_trylock(mutex) }),
        Err(errno) => errno.0,
    }
}

pub(crate) unsafe fn mutex_trylock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: by our caller's promise the mutex is initialised.
    let result = unsafe { real::pthread_mutex_trylock(mutex) };
    if result == 0 {
        took(mutex);
    }
    result
}

pub(crate) unsafe fn mutex_unlock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: by our caller's promise the mutex is initialised.
    let (result, stop) = unsafe { release(mutex) };
    if stop {
        token::yield_now();
    }
    token::maybe_yield();
    result
}

/// # Safety
/// The mutex is initialised.
unsafe fn release(mutex: *mut pthread_mutex_t) -> (c_int, bool) {
    // SAFETY: by the caller's promise.
    let result = unsafe { real::pthread_mutex_unlock(mutex) };
    if result != 0 {
        return (result, false);
    }
    wake(mutex, 1);
    (result, freed(mutex))
}

/// Conditions that were made to go by the monotonic clock. glibc keeps that inside the object, where nobody may look.
static MONOTONIC: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());

fn remember_clock(condition: *mut pthread_cond_t, monotonic: bool) {
    token::outside(|| {
        let mut of = MONOTONIC.lock().unwrap_or_else(PoisonError::into_inner);
        if monotonic {
            of.insert(condition.addr())
        } else {
            of.remove(&condition.addr())
        };
    });
}

fn clock_of(condition: *mut pthread_cond_t) -> Clock {
    let monotonic =
        token::outside(|| MONOTONIC.lock().unwrap_or_else(PoisonError::into_inner).contains(&condition.addr()));
    if monotonic { Clock::Monotonic } else { Clock::Wall }
}

pub(crate) unsafe fn cond_init(condition: *mut pthread_cond_t, attributes: *const libc::pthread_condattr_t) -> c_int {
    let mut clock = libc::CLOCK_REALTIME;
    if !attributes.is_null() {
        // SAFETY: by our caller's promise the attributes are initialised.
        unsafe { libc::pthread_condattr_getclock(attributes, &mut clock) };
    }
    remember_clock(condition, clock == libc::CLOCK_MONOTONIC);
    // SAFETY: our caller's arguments, unchanged.
    unsafe { real::pthread_cond_init(condition, attributes) }
}

pub(crate) unsafe fn cond_destroy(condition: *mut pthread_cond_t) -> c_int {
    remember_clock(condition, false);
    // SAFETY: our caller's argument, unchanged; nobody really waits on it.
    unsafe { real::pthread_cond_destroy(condition) }
}

pub(crate) unsafe fn cond_wait(condition: *mut pthread_cond_t, mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: by our caller's promise both are initialised, and the caller has the mutex.
    unsafe { wait_until(condition, mutex, Ok(None)) }
}

pub(crate) unsafe fn cond_timedwait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    time: *const timespec,
) -> c_int {
    // SAFETY: by our caller's promise all three are valid.
    unsafe { wait_until(condition, mutex, until(clock_of(condition), abi::load(time))) }
}

pub(crate) unsafe fn cond_clockwait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    clock: c_int,
    time: *const timespec,
) -> c_int {
    // SAFETY: by our caller's promise all three are valid.
    unsafe { wait_until(condition, mutex, until(Clock::from_id(clock), abi::load(time))) }
}

/// A wait that nobody ends lasts so much longer than asked, as it may on a busy machine. librdkafka rounds what it has to
/// wait down to whole milliseconds and spins through the rest: of a standard run's calls, most were that.
const LATE: Duration = Duration::from_millis(1);

/// # Safety
/// Both are initialised, and the caller has the mutex.
unsafe fn wait_until(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    deadline: Result<Option<Moment>, Errno>,
) -> c_int {
    let deadline = match deadline {
        Ok(deadline) => deadline.map(|deadline| deadline.after(LATE)),
        Err(errno) => return errno.0,
    };
    // First it waits, then it lets go: nobody else runs in between.
    kernel(|kernel, me| kernel.wait_on_key(me, CONDITION, key(condition), deadline));
    // SAFETY: by the caller's promise.
    unsafe { release(mutex) };
    let woken = token::switch();
    // SAFETY: by the caller's promise.
    match retry(MUTEX, mutex, None, || unsafe { real::pthread_mutex_trylock(mutex) }) {
        0 if woken == Woken::TimeUp => libc::ETIMEDOUT,
        result => result,
    }
}

pub(crate) unsafe fn cond_signal(condition: *mut pthread_cond_t) -> c_int {
    wake(condition, 1);
    token::maybe_yield();
    0
}

pub(crate) unsafe fn cond_broadcast(condition: *mut pthread_cond_t) -> c_int {
    wake(condition, usize::MAX);
    token::maybe_yield();
    0
}

/// glibc says `EAGAIN` when there are too many readers: then one waits too.
fn busy(result: c_int) -> c_int {
    if result == libc::EAGAIN { libc::EBUSY } else { result }
}

pub(crate) unsafe fn rwlock_rdlock(lock: *mut pthread_rwlock_t) -> c_int {
    // SAFETY: by our caller's promise the lock is initialised.
    retry(RWLOCK, lock, None, || busy(unsafe { real::pthread_rwlock_tryrdlock(lock) }))
}

pub(crate) unsafe fn rwlock_wrlock(lock: *mut pthread_rwlock_t) -> c_int {
    // SAFETY: by our caller's promise the lock is initialised.
    retry(RWLOCK, lock, None, || busy(unsafe { real::pthread_rwlock_trywrlock(lock) }))
}

pub(crate) unsafe fn rwlock_tryrdlock(lock: *mut pthread_rwlock_t) -> c_int {
    // SAFETY: by our caller's promise the lock is initialised.
    let result = unsafe { real::pthread_rwlock_tryrdlock(lock) };
    if result == 0 {
        took(lock);
    }
    result
}

pub(crate) unsafe fn rwlock_trywrlock(lock: *mut pthread_rwlock_t) -> c_int {
    // SAFETY: by our caller's promise the lock is initialised.
    let result = unsafe { real::pthread_rwlock_trywrlock(lock) };
    if result == 0 {
        took(lock);
    }
    result
}

pub(crate) unsafe fn rwlock_timedrdlock(lock: *mut pthread_rwlock_t, time: *const timespec) -> c_int {
    // SAFETY: by our caller's promise the lock is initialised and the time readable.
    match until(Clock::Wall, unsafe { abi::load(time) }) {
        // SAFETY: as above.
        Ok(deadline) => retry(RWLOCK, lock, deadline, || busy(unsafe { real::pthread_rwlock_tryrdlock(lock) })),
        Err(errno) => errno.0,
    }
}

pub(crate) unsafe fn rwlock_timedwrlock(lock: *mut pthread_rwlock_t, time: *const timespec) -> c_int {
    // SAFETY: by our caller's promise the lock is initialised and the time readable.
    match until(Clock::Wall, unsafe { abi::load(time) }) {
        // SAFETY: as above.
        Ok(deadline) => retry(RWLOCK, lock, deadline, || busy(unsafe { real::pthread_rwlock_trywrlock(lock) })),
        Err(errno) => errno.0,
    }
}

pub(crate) unsafe fn rwlock_unlock(lock: *mut pthread_rwlock_t) -> c_int {
    // SAFETY: by our caller's promise the caller has the lock.
    let result = unsafe { real::pthread_rwlock_unlock(lock) };
    if result == 0 {
        wake(lock, usize::MAX);
        if freed(lock) {
            token::yield_now();
        }
        token::maybe_yield();
    }
    result
}

/// glibc's states of a `pthread_once_t`: fresh is 0.
const ONCE_RUNNING: c_int = 1;
const ONCE_DONE: c_int = 2;

/// The real one would make the next caller wait in the real kernel when the initialiser lets others run.
pub(crate) unsafe fn once(control: *mut c_int, initialise: extern "C" fn()) -> c_int {
    loop {
        // SAFETY: by our caller's promise the control is an initialised `pthread_once_t`, which is an `int`; only the
        // thread that has the turn accesses it.
        match unsafe { control.read() } {
            ONCE_DONE => return 0,
            ONCE_RUNNING => {
                wait(ONCE, control, None);
            }
            _ => {
                // SAFETY: as above.
                unsafe { control.write(ONCE_RUNNING) };
                took(control);
                initialise();
                // SAFETY: as above.
                unsafe { control.write(ONCE_DONE) };
                wake(control, usize::MAX);
                if freed(control) {
                    token::yield_now();
                }
                return 0;
            }
        }
    }
}

pub(crate) unsafe fn sem_wait(semaphore: *mut sem_t) -> c_int {
    // SAFETY: by our caller's promise the semaphore is initialised.
    unsafe { sem_wait_until(semaphore, Ok(None)) }
}

pub(crate) unsafe fn sem_timedwait(semaphore: *mut sem_t, time: *const timespec) -> c_int {
    // SAFETY: by our caller's promise the semaphore is initialised and the time readable.
    unsafe { sem_wait_until(semaphore, until(Clock::Wall, abi::load(time))) }
}

pub(crate) unsafe fn sem_clockwait(semaphore: *mut sem_t, clock: c_int, time: *const timespec) -> c_int {
    // SAFETY: by our caller's promise the semaphore is initialised and the time readable.
    unsafe { sem_wait_until(semaphore, until(Clock::from_id(clock), abi::load(time))) }
}

/// # Safety
/// The semaphore is initialised.
unsafe fn sem_wait_until(semaphore: *mut sem_t, deadline: Result<Option<Moment>, Errno>) -> c_int {
    let deadline = match deadline {
        Ok(deadline) => deadline,
        Err(errno) => return token::fail(errno),
    };
    token::maybe_yield();
    // SAFETY: by the caller's promise.
    while unsafe { real::sem_trywait(semaphore) } != 0 {
        if wait(SEMAPHORE, semaphore, deadline) == Woken::TimeUp {
            return token::fail(Errno::TIMEDOUT);
        }
    }
    0
}

pub(crate) unsafe fn sem_trywait(semaphore: *mut sem_t) -> c_int {
    // SAFETY: by our caller's promise the semaphore is initialised.
    unsafe { real::sem_trywait(semaphore) }
}

pub(crate) unsafe fn sem_post(semaphore: *mut sem_t) -> c_int {
    // SAFETY: by our caller's promise the semaphore is initialised.
    let result = unsafe { real::sem_post(semaphore) };
    wake(semaphore, 1);
    token::maybe_yield();
    result
}

pub(crate) unsafe fn barrier_init(barrier: *mut c_void, attributes: *const c_void, size: c_uint) -> c_int {
    kernel(|kernel, _| kernel.set_barrier(key(barrier), size));
    // SAFETY: our caller's arguments, unchanged.
    unsafe { real::pthread_barrier_init(barrier, attributes, size) }
}

pub(crate) unsafe fn barrier_destroy(barrier: *mut c_void) -> c_int {
    kernel(|kernel, _| kernel.remove_barrier(key(barrier)));
    // SAFETY: our caller's argument, unchanged; nobody really waits at it.
    unsafe { real::pthread_barrier_destroy(barrier) }
}

pub(crate) unsafe fn barrier_wait(barrier: *mut c_void) -> c_int {
    if !kernel(|kernel, _| kernel.has_barrier(key(barrier))) {
        super::unsupported(format_args!("a barrier that was made before the simulation began"));
    }
    if kernel(|kernel, me| kernel.arrive_at_barrier(me, BARRIER, key(barrier))) {
        return libc::PTHREAD_BARRIER_SERIAL_THREAD;
    }
    token::switch();
    0
}
