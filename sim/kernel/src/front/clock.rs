//! Clocks and sleeps.

use super::abi::{self, Clock};
use super::token::{self, kernel};
use crate::machine::{Errno, Mark, Moment};
use libc::{c_int, c_long, c_uint, c_void, clock_t, clockid_t, rusage, time_t, timespec, timeval, tms};
use std::time::Duration;

const SLEEP: Mark = Mark::new("sleep");

// Every function below has the contract of the C function it stands for.

/// What a clock of the calling thread's node reads.
fn read(clock: Clock) -> Duration {
    kernel(|kernel, me| {
        let now = kernel.read_clock(me);
        Duration::from_nanos(match clock {
            Clock::Monotonic => now.as_nanos(),
            Clock::Wall => kernel.wall_nanos(kernel.node_of(me)),
        })
    })
}

pub(crate) unsafe fn clock_gettime(clock: clockid_t, out: *mut timespec) -> c_int {
    // SAFETY: by our caller's promise it is writable.
    unsafe { abi::store(out, abi::timespec_of(read(Clock::from_id(clock)))) };
    0
}

pub(crate) unsafe fn clock_getres(_clock: clockid_t, out: *mut timespec) -> c_int {
    // SAFETY: by our caller's promise it is null or writable.
    unsafe { abi::store(out, abi::timespec_of(Duration::from_nanos(1))) };
    0
}

pub(crate) unsafe fn timespec_get(out: *mut timespec, base: c_int) -> c_int {
    const TIME_UTC: c_int = 1;
    if base != TIME_UTC {
        return 0;
    }
    // SAFETY: by our caller's promise it is writable.
    unsafe { abi::store(out, abi::timespec_of(read(Clock::Wall))) };
    base
}

pub(crate) unsafe fn gettimeofday(out: *mut timeval, _zone: *mut c_void) -> c_int {
    let now = read(Clock::Wall);
    let now = timeval { tv_sec: now.as_secs() as time_t, tv_usec: now.subsec_micros().into() };
    // SAFETY: by our caller's promise it is null or writable.
    unsafe { abi::store(out, now) };
    0
}

pub(crate) unsafe fn time(out: *mut time_t) -> time_t {
    let now = read(Clock::Wall).as_secs() as time_t;
    // SAFETY: by our caller's promise it is null or writable.
    unsafe { abi::store(out, now) };
    now
}

pub(crate) unsafe fn clock() -> c_long {
    read(Clock::Monotonic).as_micros() as c_long
}

/// Lets others run until a moment has come.
pub(crate) fn sleep_until(moment: Moment) {
    while kernel(|kernel, _| kernel.now()) < moment {
        kernel(|kernel, me| kernel.wait_until(me, SLEEP, moment));
        token::switch();
    }
}

fn sleep_for(span: Duration) {
    sleep_until(kernel(|kernel, _| kernel.now()).after(span));
}

pub(crate) unsafe fn nanosleep(time: *const timespec, _left: *mut timespec) -> c_int {
    // SAFETY: by our caller's promise it is readable.
    match unsafe { abi::load(time) }.ok_or(Errno::FAULT).and_then(abi::span) {
        Ok(span) => {
            sleep_for(span);
            0
        }
        Err(errno) => token::fail(errno),
    }
}

pub(crate) unsafe fn clock_nanosleep(
    clock: clockid_t,
    flags: c_int,
    time: *const timespec,
    _left: *mut timespec,
) -> c_int {
    // SAFETY: by our caller's promise it is readable.
    let time = unsafe { abi::load(time) }.ok_or(Errno::FAULT);
    abi::error_number(time.and_then(|time| {
        if flags & libc::TIMER_ABSTIME != 0 {
            sleep_until(Clock::from_id(clock).moment(time)?);
        } else {
            sleep_for(abi::span(time)?);
        }
        Ok(())
    }))
}

pub(crate) unsafe fn usleep(micros: c_uint) -> c_int {
    sleep_for(Duration::from_micros(micros.into()));
    0
}

pub(crate) unsafe fn sleep(seconds: c_uint) -> c_uint {
    sleep_for(Duration::from_secs(seconds.into()));
    0
}

/// All time that passes is the program's own.
pub(crate) unsafe fn getrusage(_who: c_int, out: *mut rusage) -> c_int {
    let used = read(Clock::Monotonic);
    // SAFETY: zeroes are a valid `rusage`.
    let mut about: rusage = unsafe { std::mem::zeroed() };
    about.ru_utime = timeval { tv_sec: used.as_secs() as time_t, tv_usec: used.subsec_micros().into() };
    // SAFETY: by our caller's promise it is writable.
    unsafe { abi::store(out, about) };
    0
}

/// There are so many of them in a second.
const TICKS: u128 = 100;

pub(crate) unsafe fn times(out: *mut tms) -> clock_t {
    let ticks = (read(Clock::Monotonic).as_nanos() * TICKS / 1_000_000_000) as clock_t;
    // SAFETY: by our caller's promise it is null or writable.
    unsafe { abi::store(out, tms { tms_utime: ticks, tms_stime: 0, tms_cutime: 0, tms_cstime: 0 }) };
    ticks
}
