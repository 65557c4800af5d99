//! Waiting for several things at once, and the descriptors made for it: `poll`, `select`, `epoll`, event counters,
//! timers, pipes.

use super::abi::{self, Clock};
use super::file::{descriptor_for, object_of};
use super::raw;
use super::socket::store_two;
use super::token::{self, kernel};
use crate::machine::{Errno, Mark, Moment, PollTarget, Polled, TimerSetting, Watch};
use libc::{c_int, c_short, c_uint, epoll_event, fd_set, itimerspec, nfds_t, pollfd, sigset_t, timespec, timeval};
use std::time::Duration;

const FOUND: Mark = Mark::new("found");

// Every function below has the contract of the C function it stands for.

fn deadline_in(span: Duration) -> Moment {
    kernel(|kernel, _| kernel.now()).after(span)
}

/// A timeout in milliseconds; negative is for ever.
fn deadline_in_millis(timeout: c_int) -> Option<Moment> {
    u64::try_from(timeout).ok().map(|millis| deadline_in(Duration::from_millis(millis)))
}

fn polled(fd: c_int, interest: u32) -> Polled {
    let target = match object_of(fd) {
        _ if fd < 0 => PollTarget::Skip,
        Some(object) => PollTarget::Object(object),
        None if raw::is_open(fd) => PollTarget::File,
        None => PollTarget::Closed,
    };
    Polled { target, interest, found: 0 }
}

fn wait_for(polled: &mut [Polled], deadline: Option<Moment>) -> usize {
    let found = token::call(|kernel, me| kernel.poll(me, polled, deadline)).unwrap_or(0);
    kernel(|kernel, me| kernel.note(me, FOUND, found as u64, 0));
    found
}

/// # Safety
/// There are so many entries, and they are writable.
unsafe fn poll_until(entries: *mut pollfd, count: nfds_t, deadline: Option<Moment>) -> c_int {
    // SAFETY: by the caller's promise; nobody else runs who could write there while the slice lives.
    let mut asked: Vec<Polled> = unsafe { abi::slice(entries.cast_const(), count as usize) }
        .iter()
        .map(|entry| polled(entry.fd, u32::from(entry.events.cast_unsigned())))
        .collect();
    let found = wait_for(&mut asked, deadline);
    for (place, entry) in asked.iter().enumerate() {
        // SAFETY: by the caller's promise there is such an entry.
        unsafe { (&raw mut (*entries.add(place)).revents).write(entry.found as c_short) };
    }
    found as c_int
}

pub(crate) unsafe fn poll(entries: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int {
    // SAFETY: the same contract.
    unsafe { poll_until(entries, count, deadline_in_millis(timeout)) }
}

pub(crate) unsafe fn ppoll(
    entries: *mut pollfd,
    count: nfds_t,
    timeout: *const timespec,
    _mask: *const sigset_t,
) -> c_int {
    // SAFETY: by our caller's promise it is null or readable.
    match unsafe { abi::load(timeout) }.map(abi::span).transpose() {
        // SAFETY: the same contract.
        Ok(timeout) => unsafe { poll_until(entries, count, timeout.map(deadline_in)) },
        Err(errno) => token::fail(errno),
    }
}

const READABLE: u32 = (libc::POLLIN | libc::POLLHUP | libc::POLLERR) as u32;
const WRITABLE: u32 = (libc::POLLOUT | libc::POLLERR) as u32;

pub(crate) unsafe fn select(
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    timeout: *mut timeval,
) -> c_int {
    // SAFETY: by our caller's promise the sets are null or valid, the timeout null or readable, and `fd` is within
    // what a set can hold.
    let has = |set: *mut fd_set, fd| !set.is_null() && unsafe { libc::FD_ISSET(fd, set) };
    let mut asked = Vec::new();
    for fd in 0..count.min(libc::FD_SETSIZE as c_int) {
        let reads = if has(read, fd) { READABLE } else { 0 };
        let writes = if has(write, fd) { WRITABLE } else { 0 };
        if reads | writes != 0 {
            asked.push((fd, polled(fd, reads | writes)));
        }
    }
    if asked.iter().any(|(_, entry)| entry.target == PollTarget::Closed) {
        return token::fail(Errno::BADF);
    }
    // SAFETY: as above.
    let deadline = unsafe { abi::load(timeout) }.map(|time| {
        deadline_in(Duration::from_secs(time.tv_sec.max(0) as u64) + Duration::from_micros(time.tv_usec.max(0) as u64))
    });
    let (fds, mut entries): (Vec<c_int>, Vec<Polled>) = asked.into_iter().unzip();
    wait_for(&mut entries, deadline);
    let mut found = 0;
    let mut keep = |set: *mut fd_set, fd, ready: bool| {
        if has(set, fd) {
            if ready {
                found += 1;
            } else {
                // SAFETY: as above.
                unsafe { libc::FD_CLR(fd, set) };
            }
        }
    };
    for (fd, entry) in fds.iter().zip(&entries) {
        keep(read, *fd, entry.found & READABLE != 0);
        keep(write, *fd, entry.found & WRITABLE != 0);
    }
    if !except.is_null() {
        // SAFETY: as above. Nothing exceptional ever happens.
        unsafe { libc::FD_ZERO(except) };
    }
    found
}

pub(crate) unsafe fn epoll_create1(_flags: c_int) -> c_int {
    let object = kernel(|kernel, me| kernel.epoll(kernel.node_of(me)));
    abi::answer(descriptor_for(object)) as c_int
}

pub(crate) unsafe fn epoll_create(_size: c_int) -> c_int {
    // SAFETY: it takes no pointer.
    unsafe { epoll_create1(0) }
}

pub(crate) unsafe fn epoll_ctl(set: c_int, operation: c_int, fd: c_int, event: *mut epoll_event) -> c_int {
    // SAFETY: by our caller's promise it is null or readable.
    let event = unsafe { abi::load(event) }.ok_or(Errno::FAULT);
    let watch = match operation {
        libc::EPOLL_CTL_ADD => event.map(|event| Watch::Add { interest: event.events, data: event.u64 }),
        libc::EPOLL_CTL_MOD => event.map(|event| Watch::Modify { interest: event.events, data: event.u64 }),
        libc::EPOLL_CTL_DEL => Ok(Watch::Remove),
        _ => Err(Errno::INVAL),
    };
    let set = object_of(set).ok_or(Errno::BADF);
    abi::status(set.and_then(|set| kernel(|kernel, _| kernel.epoll_control(set, fd, watch?))))
}

pub(crate) unsafe fn epoll_wait(set: c_int, out: *mut epoll_event, room: c_int, timeout: c_int) -> c_int {
    let Some(set) = object_of(set) else { return token::fail(Errno::BADF) };
    let Ok(room @ 1..) = usize::try_from(room) else { return token::fail(Errno::INVAL) };
    let deadline = deadline_in_millis(timeout);
    match token::call(|kernel, me| kernel.epoll_wait(me, set, room, deadline)) {
        Ok(ready) => {
            kernel(|kernel, me| kernel.note(me, FOUND, ready.len() as u64, 0));
            for (place, found) in ready.iter().enumerate() {
                // SAFETY: by our caller's promise there is room for as many events as were asked for.
                unsafe { out.add(place).write_unaligned(epoll_event { events: found.events, u64: found.data }) };
            }
            ready.len() as c_int
        }
        Err(errno) => token::fail(errno),
    }
}

pub(crate) unsafe fn epoll_pwait(
    set: c_int,
    out: *mut epoll_event,
    room: c_int,
    timeout: c_int,
    _mask: *const sigset_t,
) -> c_int {
    // SAFETY: the same contract.
    unsafe { epoll_wait(set, out, room, timeout) }
}

pub(crate) unsafe fn eventfd(count: c_uint, flags: c_int) -> c_int {
    let (semaphore, nonblocking) = (flags & libc::EFD_SEMAPHORE != 0, flags & libc::EFD_NONBLOCK != 0);
    let object = kernel(|kernel, me| kernel.eventfd(kernel.node_of(me), count, semaphore, nonblocking));
    abi::answer(descriptor_for(object)) as c_int
}

pub(crate) unsafe fn pipe2(out: *mut c_int, flags: c_int) -> c_int {
    let (reader, writer) = kernel(|kernel, me| kernel.pipe(kernel.node_of(me), flags & libc::O_NONBLOCK != 0));
    // SAFETY: by our caller's promise there is room for two descriptors.
    unsafe { store_two(out, descriptor_for(reader), descriptor_for(writer)) }
}

pub(crate) unsafe fn pipe(out: *mut c_int) -> c_int {
    // SAFETY: the same contract.
    unsafe { pipe2(out, 0) }
}

pub(crate) unsafe fn timerfd_create(clock: c_int, flags: c_int) -> c_int {
    let (wall, nonblocking) = (Clock::from_id(clock) == Clock::Wall, flags & libc::TFD_NONBLOCK != 0);
    let object = kernel(|kernel, me| kernel.timerfd(kernel.node_of(me), wall, nonblocking));
    abi::answer(descriptor_for(object)) as c_int
}

fn itimerspec_of(setting: TimerSetting) -> itimerspec {
    itimerspec { it_value: abi::timespec_of(setting.in_), it_interval: abi::timespec_of(setting.interval) }
}

pub(crate) unsafe fn timerfd_settime(fd: c_int, flags: c_int, to: *const itimerspec, before: *mut itimerspec) -> c_int {
    // SAFETY: by our caller's promise it is readable.
    let to = unsafe { abi::load(to) }.ok_or(Errno::FAULT);
    let set = object_of(fd).ok_or(Errno::BADF).and_then(|object| {
        let to = to?;
        let wall = kernel(|kernel, _| kernel.timer_on_wall_clock(object))?;
        let first = match abi::span(to.it_value)? {
            Duration::ZERO => None,
            _ if flags & libc::TFD_TIMER_ABSTIME != 0 => {
                let clock = if wall { Clock::Wall } else { Clock::Monotonic };
                Some(clock.moment(to.it_value)?)
            }
            span => Some(deadline_in(span)),
        };
        let interval = abi::span(to.it_interval)?;
        kernel(|kernel, _| kernel.set_timer(object, first, interval))
    });
    match set {
        Ok(was) => {
            // SAFETY: by our caller's promise it is null or writable.
            unsafe { abi::store(before, itimerspec_of(was)) };
            0
        }
        Err(errno) => token::fail(errno),
    }
}

pub(crate) unsafe fn timerfd_gettime(fd: c_int, out: *mut itimerspec) -> c_int {
    let setting = object_of(fd).ok_or(Errno::BADF);
    match setting.and_then(|object| kernel(|kernel, _| kernel.timer_setting(object))) {
        Ok(setting) => {
            // SAFETY: by our caller's promise it is writable.
            unsafe { abi::store(out, itimerspec_of(setting)) };
            0
        }
        Err(errno) => token::fail(errno),
    }
}

pub(crate) unsafe fn poll_chk(entries: *mut pollfd, count: nfds_t, timeout: c_int, _room: usize) -> c_int {
    // SAFETY: the same contract.
    unsafe { poll(entries, count, timeout) }
}

pub(crate) unsafe fn ppoll_chk(
    entries: *mut pollfd,
    count: nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
    _room: usize,
) -> c_int {
    // SAFETY: the same contract.
    unsafe { ppoll(entries, count, timeout, mask) }
}
