//! C's types and conventions, to and from the kernel's. Every pointer a program passes is followed here or beside a
//! comment that says why it may be.

use crate::machine::{Errno, Moment, Sink};
use libc::{c_int, iovec, sockaddr, sockaddr_in, socklen_t, ssize_t, timespec};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

pub(crate) fn set_errno(errno: c_int) {
    // SAFETY: glibc's errno is a valid, thread-local integer.
    unsafe { *libc::__errno_location() = errno };
}

/// The C convention: the answer, or -1 and `errno`.
pub(crate) fn answer<T: TryInto<i64>>(result: Result<T, Errno>) -> i64 {
    match result {
        Ok(value) => value.try_into().unwrap_or(i64::MAX),
        Err(errno) => {
            set_errno(errno.0);
            -1
        }
    }
}

/// The same for functions that only succeed or fail.
pub(crate) fn status(result: Result<(), Errno>) -> c_int {
    answer(result.map(|()| 0_i64)) as c_int
}

/// The convention of the pthread functions: zero, or the error number.
pub(crate) fn error_number(result: Result<(), Errno>) -> c_int {
    result.map_or_else(|errno| errno.0, |()| 0)
}

/// A span of time.
///
/// # Errors
/// `EINVAL` if it is negative or its nanoseconds are out of range.
pub(crate) fn span(time: timespec) -> Result<Duration, Errno> {
    let seconds = u64::try_from(time.tv_sec).map_err(|_| Errno::INVAL)?;
    match u32::try_from(time.tv_nsec) {
        Ok(nanos) if nanos < 1_000_000_000 => Ok(Duration::new(seconds, nanos)),
        _ => Err(Errno::INVAL),
    }
}

pub(crate) fn timespec_of(span: Duration) -> timespec {
    timespec { tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX), tv_nsec: span.subsec_nanos().into() }
}

/// Which clock a time is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    Wall,
    Monotonic,
}

impl Clock {
    pub(crate) fn from_id(id: c_int) -> Self {
        match id {
            libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE | libc::CLOCK_TAI | libc::CLOCK_REALTIME_ALARM => {
                Self::Wall
            }
            _ => Self::Monotonic,
        }
    }

    /// The moment at which the calling thread's clock shows this.
    pub(crate) fn moment(self, time: timespec) -> Result<Moment, Errno> {
        let nanos = u64::try_from(span(time)?.as_nanos()).unwrap_or(u64::MAX);
        Ok(match self {
            Self::Monotonic => Moment::from_nanos(nanos),
            Self::Wall => {
                let skew = super::token::kernel(|kernel, me| kernel.wall_skew(kernel.node_of(me)));
                Moment::from_wall_nanos(nanos.saturating_add_signed(skew.saturating_neg()))
            }
        })
    }
}

/// Reads a value a program points to; `None` for null.
///
/// # Safety
/// The pointer is null, or valid for reading a `T`.
pub(crate) unsafe fn load<T: Copy>(from: *const T) -> Option<T> {
    // SAFETY: by the caller's promise it is valid unless null; programs need not align it.
    (!from.is_null()).then(|| unsafe { from.read_unaligned() })
}

/// Writes a value where a program asks for it, unless that is null.
///
/// # Safety
/// The pointer is null, or valid for writing a `T`.
pub(crate) unsafe fn store<T>(to: *mut T, value: T) {
    if !to.is_null() {
        // SAFETY: by the caller's promise it is valid; programs need not align it.
        unsafe { to.write_unaligned(value) };
    }
}

/// An IPv4 address.
///
/// # Errors
/// `EAFNOSUPPORT` for other families, `EINVAL` if it is too short.
///
/// # Safety
/// `address` is valid for reading `length` bytes.
pub(crate) unsafe fn load_address(address: *const sockaddr, length: socklen_t) -> Result<SocketAddrV4, Errno> {
    if address.is_null() {
        return Err(Errno::FAULT);
    }
    if (length as usize) < size_of::<libc::sa_family_t>() {
        return Err(Errno::INVAL);
    }
    // SAFETY: at least the family is there.
    let family = unsafe { (&raw const (*address).sa_family).read_unaligned() };
    if c_int::from(family) != libc::AF_INET {
        return Err(Errno::AFNOSUPPORT);
    }
    if (length as usize) < size_of::<sockaddr_in>() {
        return Err(Errno::INVAL);
    }
    // SAFETY: a whole `sockaddr_in` is there.
    let address = unsafe { address.cast::<sockaddr_in>().read_unaligned() };
    let ip = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
    Ok(SocketAddrV4::new(ip, u16::from_be(address.sin_port)))
}

pub(crate) fn sockaddr_of(address: SocketAddrV4) -> sockaddr_in {
    sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
        sin_zero: [0; 8],
    }
}

/// Writes an address as far as there is room, and how long it is, as accept(2) does.
///
/// # Safety
/// `to` is null, or `length` points to how many bytes `to` is valid for.
pub(crate) unsafe fn store_address(address: SocketAddrV4, to: *mut sockaddr, length: *mut socklen_t) {
    if to.is_null() || length.is_null() {
        return;
    }
    let whole = sockaddr_of(address);
    // SAFETY: `length` is valid, and `to` for that many bytes; no more than those are written.
    unsafe {
        let room = (*length as usize).min(size_of::<sockaddr_in>());
        std::ptr::copy_nonoverlapping((&raw const whole).cast::<u8>(), to.cast::<u8>(), room);
        *length = size_of::<sockaddr_in>() as socklen_t;
    }
}

/// Where a program wants bytes: one or several buffers, which may not be initialised.
pub(crate) struct Buffers<'a> {
    rest: &'a [iovec],
    /// Bytes of the first that are filled.
    filled: usize,
    room: usize,
}

impl<'a> Buffers<'a> {
    /// # Safety
    /// Every buffer is valid for writing its length, for as long as this lives.
    pub(crate) unsafe fn new(buffers: &'a [iovec]) -> Self {
        let room = buffers.iter().map(|buffer| buffer.iov_len).sum();
        Self { rest: buffers, filled: 0, room }
    }
}

impl Sink for Buffers<'_> {
    fn room(&self) -> usize {
        self.room
    }

    fn put(&mut self, mut bytes: &[u8]) {
        self.room -= bytes.len();
        while let (false, Some(buffer)) = (bytes.is_empty(), self.rest.first()) {
            let some = bytes.len().min(buffer.iov_len - self.filled);
            // SAFETY: `new` was promised that the buffer is valid for `iov_len` bytes, of which `filled + some` are no
            // more; what is copied from is the kernel's own memory, so they do not overlap.
            unsafe {
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), buffer.iov_base.cast::<u8>().add(self.filled), some);
            }
            bytes = &bytes[some..];
            self.filled += some;
            if self.filled == buffer.iov_len {
                self.rest = &self.rest[1..];
                self.filled = 0;
            }
        }
    }
}

/// All the bytes of several buffers, one after the other.
///
/// # Safety
/// Every buffer is valid for reading its length.
pub(crate) unsafe fn gather(buffers: &[iovec]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(buffers.iter().map(|buffer| buffer.iov_len).sum());
    for buffer in buffers {
        // SAFETY: by the caller's promise.
        bytes.extend_from_slice(unsafe { slice(buffer.iov_base.cast::<u8>(), buffer.iov_len) });
    }
    bytes
}

/// A slice a program passes as pointer and length; empty for null.
///
/// # Safety
/// Null, or valid for reading `length` values for as long as the result is used, and nobody writes there meanwhile.
pub(crate) unsafe fn slice<'a, T>(from: *const T, length: usize) -> &'a [T] {
    if from.is_null() || length == 0 {
        return &[];
    }
    // SAFETY: by the caller's promise.
    unsafe { std::slice::from_raw_parts(from, length) }
}

/// One buffer as the list of one that the kernel's calls take.
pub(crate) fn one(buffer: *mut libc::c_void, length: usize) -> [iovec; 1] {
    [iovec { iov_base: buffer, iov_len: length }]
}

pub(crate) fn size(result: Result<usize, Errno>) -> ssize_t {
    answer(result) as ssize_t
}
