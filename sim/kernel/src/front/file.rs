//! Descriptors: reading, writing, closing, duplicating. Those of real files go to the real system, and what is read
//! from and written to them goes into the hash.

use super::abi::{self, Buffers};
use super::token::{self, kernel};
use super::{inline, raw, real};
use crate::machine::{Errno, Mark, ObjectId, Patience};
use libc::{FILE, c_char, c_int, c_long, c_ulong, c_void, iovec, mode_t, size_t, ssize_t};
use std::ffi::CStr;

const GOT: Mark = Mark::new("got");
const FILE_READ: Mark = Mark::new("file read");
const FILE_WRITTEN: Mark = Mark::new("file written");

// Every function below has the contract of the C function it stands for.

/// What a descriptor stands for, if it is a simulated one.
#[inline]
pub(crate) fn object_of(fd: c_int) -> Option<ObjectId> {
    kernel(|kernel, _| kernel.object_of(fd))
}

/// Gives an object a descriptor.
pub(crate) fn descriptor_for(object: ObjectId) -> Result<c_int, Errno> {
    match raw::open_placeholder(inline::DESCRIPTORS_FROM) {
        Ok(fd) => {
            kernel(|kernel, _| kernel.attach(fd, object));
            Ok(fd)
        }
        Err(error) => {
            kernel(|kernel, _| kernel.release(object));
            Err(Errno(error))
        }
    }
}

/// Reads from a simulated object.
///
/// # Safety
/// The buffers are writable.
pub(crate) unsafe fn take(object: ObjectId, buffers: &[iovec], how: Patience) -> ssize_t {
    let deadline = kernel(|kernel, _| kernel.time_limit(object, true));
    let how = Patience { deadline, ..how };
    let result = token::call(|kernel, me| {
        // SAFETY: by the caller's promise.
        let mut into = unsafe { Buffers::new(buffers) };
        kernel.read(me, object, &mut into, how)
    });
    kernel(|kernel, me| kernel.note(me, GOT, object.number(), result.map_or(u64::MAX, |read| read as u64)));
    abi::size(result)
}

/// Writes to a simulated object. A blocking write of a stream returns when all is written.
///
/// # Safety
/// The buffers are readable.
pub(crate) unsafe fn give(object: ObjectId, buffers: &[iovec], how: Patience) -> ssize_t {
    // SAFETY: by the caller's promise.
    let bytes = unsafe { abi::gather(buffers) };
    let deadline = kernel(|kernel, _| kernel.time_limit(object, false));
    let how = Patience { deadline, ..how };
    let blocking = !how.not_at_all && !kernel(|kernel, _| kernel.is_nonblocking(object));
    let mut written = 0;
    let result = loop {
        match token::call(|kernel, me| kernel.write(me, object, &bytes[written..], how)) {
            Ok(some) => written += some,
            Err(_) if written > 0 => break Ok(written),
            Err(errno) => break Err(errno),
        }
        if written == bytes.len() || !blocking {
            break Ok(written);
        }
    };
    token::maybe_yield();
    abi::size(result)
}

fn note_file(mark: Mark, bytes: &[u8]) {
    kernel(|kernel, me| kernel.note_bytes(me, mark, bytes));
}

pub(crate) unsafe fn read(fd: c_int, buffer: *mut c_void, length: size_t) -> ssize_t {
    match object_of(fd) {
        // SAFETY: by our caller's promise the buffer is writable.
        Some(object) => unsafe { take(object, &abi::one(buffer, length), Patience::default()) },
        None => {
            // SAFETY: our caller's arguments, unchanged.
            let read = unsafe { real::read(fd, buffer, length) };
            // SAFETY: so many bytes were just written there.
            note_file(FILE_READ, unsafe { abi::slice(buffer.cast(), usize::try_from(read).unwrap_or(0)) });
            read
        }
    }
}

pub(crate) unsafe fn readv(fd: c_int, buffers: *const iovec, count: c_int) -> ssize_t {
    match object_of(fd) {
        // SAFETY: by our caller's promise there are so many buffers, all writable.
        Some(object) => unsafe { take(object, list(buffers, count as usize), Patience::default()) },
        // SAFETY: our caller's arguments, unchanged.
        None => unsafe { real::readv(fd, buffers, count) },
    }
}

pub(crate) unsafe fn write(fd: c_int, buffer: *const c_void, length: size_t) -> ssize_t {
    match object_of(fd) {
        // SAFETY: by our caller's promise the buffer is readable.
        Some(object) => unsafe { give(object, &abi::one(buffer.cast_mut(), length), Patience::default()) },
        None => {
            // SAFETY: by our caller's promise the buffer is readable.
            note_file(FILE_WRITTEN, unsafe { abi::slice(buffer.cast(), length) });
            // SAFETY: our caller's arguments, unchanged.
            abi::size(unsafe { raw::write(fd, buffer, length) })
        }
    }
}

pub(crate) unsafe fn writev(fd: c_int, buffers: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: by our caller's promise there are so many buffers, all readable.
    let list = unsafe { list(buffers, count as usize) };
    match object_of(fd) {
        // SAFETY: as above.
        Some(object) => unsafe { give(object, list, Patience::default()) },
        None => {
            // SAFETY: as above.
            note_file(FILE_WRITTEN, &unsafe { abi::gather(list) });
            // SAFETY: our caller's arguments, unchanged.
            abi::size(unsafe { raw::writev(fd, buffers, count) })
        }
    }
}

/// # Safety
/// Null, or so many buffers.
pub(crate) unsafe fn list<'a>(buffers: *const iovec, count: usize) -> &'a [iovec] {
    // SAFETY: by the caller's promise.
    unsafe { abi::slice(buffers, count) }
}

pub(crate) unsafe fn close(fd: c_int) -> c_int {
    if object_of(fd).is_none() {
        // SAFETY: our caller's argument, unchanged.
        return unsafe { real::close(fd) };
    }
    let result = kernel(|kernel, _| kernel.close(fd));
    raw::close(fd);
    abi::status(result)
}

/// The real system finds a number for the duplicate, of the descriptor that keeps the place; the object gets it too.
fn duplicate(object: Option<ObjectId>, fd: c_long) -> c_int {
    match (c_int::try_from(fd), object) {
        (Ok(fd), _) if fd < 0 => token::fail(Errno(-fd)),
        (Ok(fd), Some(object)) => {
            kernel(|kernel, _| kernel.attach(fd, object));
            fd
        }
        (Ok(fd), None) => fd,
        (Err(_), _) => token::fail(Errno::BADF),
    }
}

fn duplicate_from(object: ObjectId, fd: c_int, command: c_int, from: c_int) -> c_int {
    duplicate(Some(object), raw::plain(raw::Plain::Fcntl, fd.into(), command.into(), from.into()))
}

pub(crate) unsafe fn dup(fd: c_int) -> c_int {
    match object_of(fd) {
        Some(object) => duplicate_from(object, fd, libc::F_DUPFD, inline::DESCRIPTORS_FROM),
        None => duplicate(None, raw::plain(raw::Plain::Dup, fd.into(), 0, 0)),
    }
}

pub(crate) unsafe fn dup2(fd: c_int, to: c_int) -> c_int {
    if fd == to {
        return if raw::is_open(fd) { fd } else { token::fail(Errno::BADF) };
    }
    // SAFETY: the same contract.
    unsafe { dup3(fd, to, 0) }
}

pub(crate) unsafe fn dup3(fd: c_int, to: c_int, flags: c_int) -> c_int {
    let object = object_of(fd);
    if object_of(to).is_some() {
        // What the number stood for is closed; that it was open is all that can go wrong.
        let _ = kernel(|kernel, _| kernel.close(to));
    }
    duplicate(object, raw::plain(raw::Plain::Dup3, fd.into(), to.into(), flags.into()))
}

/// `fcntl` has a variable number of arguments; on x86-64 an integer or a pointer among them arrives as a fixed one does.
pub(crate) unsafe fn fcntl(fd: c_int, command: c_int, argument: c_long) -> c_int {
    let Some(object) = object_of(fd) else {
        // SAFETY: our caller's arguments, unchanged.
        return unsafe { real::fcntl(fd, command, argument) };
    };
    match command {
        libc::F_GETFL => {
            let nonblocking = kernel(|kernel, _| kernel.is_nonblocking(object));
            libc::O_RDWR | if nonblocking { libc::O_NONBLOCK } else { 0 }
        }
        libc::F_SETFL => {
            let nonblocking = argument & c_long::from(libc::O_NONBLOCK) != 0;
            kernel(|kernel, _| kernel.set_nonblocking(object, nonblocking));
            0
        }
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => {
            duplicate_from(object, fd, command, inline::DESCRIPTORS_FROM.max(argument as c_int))
        }
        libc::F_GETFD | libc::F_SETFD => raw::plain(raw::Plain::Fcntl, fd.into(), command.into(), argument) as c_int,
        _ => token::fail(Errno::INVAL),
    }
}

/// As `fcntl`, of variable arguments.
pub(crate) unsafe fn ioctl(fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    let Some(object) = object_of(fd) else {
        // SAFETY: our caller's arguments, unchanged.
        return unsafe { real::ioctl(fd, request, argument) };
    };
    match request {
        libc::FIONBIO => {
            // SAFETY: by our caller's promise FIONBIO comes with a readable integer.
            let nonblocking = unsafe { abi::load(argument.cast::<c_int>()) }.is_some_and(|value| value != 0);
            kernel(|kernel, _| kernel.set_nonblocking(object, nonblocking));
            0
        }
        libc::FIONREAD => match kernel(|kernel, _| kernel.available(object)) {
            Ok(available) => {
                // SAFETY: by our caller's promise FIONREAD comes with a writable integer.
                unsafe { abi::store(argument.cast::<c_int>(), available as c_int) };
                0
            }
            Err(_) => token::fail(Errno::NOTTY),
        },
        libc::FIOCLEX | libc::FIONCLEX => 0,
        _ => token::fail(Errno::NOTTY),
    }
}

/// What opening a path means in a simulation.
enum Opened {
    /// A file of the real system.
    Real,
    /// Random bytes, of the seed's.
    Random,
    /// There is no such file: what it says differs from machine to machine.
    Missing,
}

/// # Safety
/// The path is null or a C string.
unsafe fn meaning(path: *const c_char) -> Opened {
    if path.is_null() {
        return Opened::Real;
    }
    // SAFETY: by the caller's promise.
    match unsafe { CStr::from_ptr(path) }.to_bytes() {
        b"/dev/urandom" | b"/dev/random" => Opened::Random,
        b"/proc/self/cgroup" | b"/proc/cpuinfo" | b"/proc/stat" | b"/proc/meminfo" => Opened::Missing,
        path if path.starts_with(b"/sys/") => Opened::Missing,
        _ => Opened::Real,
    }
}

/// # Safety
/// The path is null or a C string.
unsafe fn open_or(path: *const c_char, real: impl FnOnce() -> c_int) -> c_int {
    // SAFETY: by the caller's promise.
    match unsafe { meaning(path) } {
        Opened::Real => real(),
        Opened::Missing => token::fail(Errno::NOENT),
        Opened::Random => {
            let object = kernel(|kernel, me| kernel.open_random(kernel.node_of(me)));
            abi::answer(descriptor_for(object)) as c_int
        }
    }
}

pub(crate) unsafe fn fopen(path: *const c_char, mode: *const c_char) -> *mut FILE {
    // SAFETY: our caller's arguments.
    match unsafe { meaning(path) } {
        // SAFETY: our caller's arguments, unchanged.
        Opened::Real => unsafe { real::fopen(path, mode) },
        Opened::Missing => {
            token::fail(Errno::NOENT);
            std::ptr::null_mut()
        }
        Opened::Random => {
            // SAFETY: our caller's arguments, of which the mode is a C string.
            let fd = unsafe { open(path, libc::O_RDONLY, 0) };
            // SAFETY: the descriptor is fresh, the mode our caller's.
            unsafe { libc::fdopen(fd, mode) }
        }
    }
}

/// As `fcntl`, of variable arguments.
pub(crate) unsafe fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: our caller's arguments, unchanged.
    unsafe { open_or(path, || real::open(path, flags, mode)) }
}

/// As `fcntl`, of variable arguments.
pub(crate) unsafe fn openat(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: our caller's arguments, unchanged.
    unsafe { open_or(path, || real::openat(directory, path, flags, mode)) }
}

/// As `read`; that the buffer is large enough is the caller's promise anyway.
pub(crate) unsafe fn read_chk(fd: c_int, buffer: *mut c_void, length: size_t, _room: size_t) -> ssize_t {
    // SAFETY: the same contract.
    unsafe { read(fd, buffer, length) }
}

/// Nobody outside the simulation may have the lock, as nobody inside could wait for it.
pub(crate) unsafe fn flock(_fd: c_int, _operation: c_int) -> c_int {
    0
}
