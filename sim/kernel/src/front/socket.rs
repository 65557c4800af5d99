//! Sockets. There is TCP over IPv4, and pairs within a node.

use super::abi;
use super::file::{descriptor_for, give, list, object_of, take};
use super::token::{self, kernel};
use super::{raw, real};
use crate::machine::{Errno, Half, ObjectId, Patience, SocketOption};
use libc::{c_int, c_void, linger, msghdr, size_t, sockaddr, socklen_t, ssize_t, timeval};
use std::time::Duration;

// Every function below has the contract of the C function it stands for.

/// The object behind a descriptor; what is not simulated is no socket.
fn socket_of(fd: c_int) -> Result<ObjectId, Errno> {
    object_of(fd).ok_or_else(|| if raw::is_open(fd) { Errno::NOTSOCK } else { Errno::BADF })
}

fn is_nonblocking(kind: c_int) -> bool {
    kind & libc::SOCK_NONBLOCK != 0
}

pub(crate) unsafe fn socket(family: c_int, kind: c_int, _protocol: c_int) -> c_int {
    let stream = kind & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) == libc::SOCK_STREAM;
    if family != libc::AF_INET || !stream {
        return token::fail(Errno::AFNOSUPPORT);
    }
    let object = kernel(|kernel, me| kernel.tcp_socket(kernel.node_of(me), is_nonblocking(kind)));
    abi::answer(descriptor_for(object)) as c_int
}

pub(crate) unsafe fn socketpair(family: c_int, kind: c_int, _protocol: c_int, out: *mut c_int) -> c_int {
    let stream = kind & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) == libc::SOCK_STREAM;
    if family != libc::AF_UNIX || !stream {
        return token::fail(Errno::OPNOTSUPP);
    }
    let (one, other) = kernel(|kernel, me| kernel.socket_pair(kernel.node_of(me), is_nonblocking(kind)));
    // SAFETY: by our caller's promise there is room for two descriptors.
    unsafe { store_two(out, descriptor_for(one), descriptor_for(other)) }
}

/// Writes two descriptors, or none.
///
/// # Safety
/// There is room for two.
pub(crate) unsafe fn store_two(out: *mut c_int, one: Result<c_int, Errno>, other: Result<c_int, Errno>) -> c_int {
    match (one, other) {
        (Ok(one), Ok(other)) => {
            // SAFETY: by the caller's promise.
            unsafe {
                out.write(one);
                out.add(1).write(other);
            }
            0
        }
        (Ok(fd), Err(errno)) | (Err(errno), Ok(fd)) => {
            // SAFETY: closing takes no pointer.
            unsafe { super::file::close(fd) };
            token::fail(errno)
        }
        (Err(errno), Err(_)) => token::fail(errno),
    }
}

pub(crate) unsafe fn bind(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
    // SAFETY: by our caller's promise the address is so long.
    let address = unsafe { abi::load_address(address, length) };
    abi::status(socket_of(fd).and_then(|object| kernel(|kernel, _| kernel.bind(object, address?))))
}

pub(crate) unsafe fn listen(fd: c_int, backlog: c_int) -> c_int {
    abi::status(socket_of(fd).and_then(|object| kernel(|kernel, _| kernel.listen(object, backlog))))
}

pub(crate) unsafe fn connect(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
    // SAFETY: by our caller's promise the address is so long.
    let address = unsafe { abi::load_address(address, length) };
    abi::status(socket_of(fd).and_then(|object| {
        kernel(|kernel, _| kernel.connect(object, address?))?;
        if kernel(|kernel, _| kernel.is_nonblocking(object)) {
            return Err(Errno::INPROGRESS);
        }
        token::call(|kernel, me| kernel.connected(me, object))
    }))
}

pub(crate) unsafe fn accept4(fd: c_int, address: *mut sockaddr, length: *mut socklen_t, flags: c_int) -> c_int {
    let accepted = socket_of(fd).and_then(|object| {
        let accepted = token::call(|kernel, me| kernel.accept(me, object))?;
        kernel(|kernel, _| kernel.set_nonblocking(accepted, is_nonblocking(flags)));
        let peer = kernel(|kernel, _| kernel.peer_address(accepted));
        Ok((descriptor_for(accepted)?, peer))
    });
    match accepted {
        Ok((fd, peer)) => {
            if let Ok(peer) = peer {
                // SAFETY: by our caller's promise `address` is null or as long as `length` says.
                unsafe { abi::store_address(peer, address, length) };
            }
            fd
        }
        Err(errno) => token::fail(errno),
    }
}

pub(crate) unsafe fn accept(fd: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int {
    // SAFETY: the same contract.
    unsafe { accept4(fd, address, length, 0) }
}

pub(crate) unsafe fn getsockname(fd: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int {
    match socket_of(fd).and_then(|object| kernel(|kernel, _| kernel.local_address(object))) {
        Ok(local) => {
            // SAFETY: by our caller's promise `address` is as long as `length` says.
            unsafe { abi::store_address(local, address, length) };
            0
        }
        Err(errno) => token::fail(errno),
    }
}

pub(crate) unsafe fn getpeername(fd: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int {
    match socket_of(fd).and_then(|object| kernel(|kernel, _| kernel.peer_address(object))) {
        Ok(peer) => {
            // SAFETY: by our caller's promise `address` is as long as `length` says.
            unsafe { abi::store_address(peer, address, length) };
            0
        }
        Err(errno) => token::fail(errno),
    }
}

pub(crate) unsafe fn setsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    length: socklen_t,
) -> c_int {
    // SAFETY: by our caller's promise the value is so long.
    let option = unsafe { option(level, name, value, length as usize) };
    abi::status(socket_of(fd).and_then(|object| kernel(|kernel, _| kernel.set_option(object, option?))))
}

/// # Safety
/// The value is so long.
unsafe fn option(level: c_int, name: c_int, value: *const c_void, length: usize) -> Result<SocketOption, Errno> {
    let long_enough = |size: usize| if length < size { Err(Errno::INVAL) } else { Ok(()) };
    match (level, name) {
        (libc::SOL_SOCKET, libc::SO_RCVTIMEO | libc::SO_SNDTIMEO) => {
            long_enough(size_of::<timeval>())?;
            // SAFETY: it is long enough.
            let time = unsafe { abi::load(value.cast::<timeval>()) }.ok_or(Errno::FAULT)?;
            let limit = Duration::new(time.tv_sec.max(0) as u64, 0) + Duration::from_micros(time.tv_usec.max(0) as u64);
            let limit = (!limit.is_zero()).then_some(limit);
            let receive = name == libc::SO_RCVTIMEO;
            Ok(if receive { SocketOption::ReceiveTimeout(limit) } else { SocketOption::SendTimeout(limit) })
        }
        (libc::SOL_SOCKET, libc::SO_LINGER) => {
            long_enough(size_of::<linger>())?;
            // SAFETY: it is long enough.
            let linger = unsafe { abi::load(value.cast::<linger>()) }.ok_or(Errno::FAULT)?;
            Ok(SocketOption::ResetOnClose(linger.l_onoff != 0 && linger.l_linger == 0))
        }
        _ if length >= size_of::<c_int>() => {
            // SAFETY: it is long enough.
            let value = unsafe { abi::load(value.cast::<c_int>()) }.ok_or(Errno::FAULT)?;
            Ok(SocketOption::Other(level, name, value))
        }
        _ => Ok(SocketOption::Other(level, name, 0)),
    }
}

/// What buffer sizes read as, unless set.
const BUFFER_BYTES: c_int = 212_992;

pub(crate) unsafe fn getsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    out: *mut c_void,
    length: *mut socklen_t,
) -> c_int {
    let value = socket_of(fd).and_then(|object| {
        kernel(|kernel, _| {
            Ok(match (level, name) {
                (libc::SOL_SOCKET, libc::SO_ERROR) => kernel.take_error(object)?.map_or(0, |errno| errno.0),
                (libc::SOL_SOCKET, libc::SO_TYPE) => libc::SOCK_STREAM,
                (libc::SOL_SOCKET, libc::SO_DOMAIN) => libc::AF_INET,
                (libc::SOL_SOCKET, libc::SO_ACCEPTCONN) => kernel.is_listening(object)?.into(),
                (libc::SOL_SOCKET, libc::SO_SNDBUF | libc::SO_RCVBUF) => {
                    kernel.option(object, level, name)?.unwrap_or(BUFFER_BYTES)
                }
                _ => kernel.option(object, level, name)?.unwrap_or(0),
            })
        })
    });
    // SAFETY: by our caller's promise the length is readable.
    match value.and_then(|value| Ok((value, unsafe { abi::load(length) }.ok_or(Errno::FAULT)?))) {
        Ok((value, room)) => {
            let value = value.to_ne_bytes();
            let some = value.len().min(room as usize);
            // SAFETY: by our caller's promise there is so much room, and the length is writable.
            unsafe {
                std::ptr::copy_nonoverlapping(value.as_ptr(), out.cast::<u8>(), some);
                length.write_unaligned(some as socklen_t);
            }
            0
        }
        Err(errno) => token::fail(errno),
    }
}

pub(crate) unsafe fn shutdown(fd: c_int, how: c_int) -> c_int {
    let half = match how {
        libc::SHUT_RD => Half::Read,
        libc::SHUT_WR => Half::Write,
        libc::SHUT_RDWR => Half::Both,
        _ => return token::fail(Errno::INVAL),
    };
    abi::status(socket_of(fd).and_then(|object| kernel(|kernel, _| kernel.shutdown(object, half))))
}

fn patience(flags: c_int) -> Patience {
    Patience { not_at_all: flags & libc::MSG_DONTWAIT != 0, peek: flags & libc::MSG_PEEK != 0, deadline: None }
}

pub(crate) unsafe fn recv(fd: c_int, buffer: *mut c_void, length: size_t, flags: c_int) -> ssize_t {
    match socket_of(fd) {
        // SAFETY: by our caller's promise the buffer is writable.
        Ok(object) => unsafe { take(object, &abi::one(buffer, length), patience(flags)) },
        Err(errno) => token::fail(errno) as ssize_t,
    }
}

pub(crate) unsafe fn recvfrom(
    fd: c_int,
    buffer: *mut c_void,
    length: size_t,
    flags: c_int,
    _address: *mut sockaddr,
    address_length: *mut socklen_t,
) -> ssize_t {
    // A stream has no sender's address.
    // SAFETY: by our caller's promise it is null or writable; the rest is the contract of `recv`.
    unsafe {
        abi::store(address_length, 0);
        recv(fd, buffer, length, flags)
    }
}

pub(crate) unsafe fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
    match socket_of(fd) {
        // SAFETY: by our caller's promise the header is valid and its buffers are writable.
        Ok(object) => unsafe {
            (*message).msg_flags = 0;
            (*message).msg_controllen = 0;
            (*message).msg_namelen = 0;
            take(object, list((*message).msg_iov, (*message).msg_iovlen), patience(flags))
        },
        Err(errno) => token::fail(errno) as ssize_t,
    }
}

pub(crate) unsafe fn send(fd: c_int, buffer: *const c_void, length: size_t, flags: c_int) -> ssize_t {
    match socket_of(fd) {
        // SAFETY: by our caller's promise the buffer is readable.
        Ok(object) => unsafe { give(object, &abi::one(buffer.cast_mut(), length), patience(flags)) },
        Err(errno) => token::fail(errno) as ssize_t,
    }
}

pub(crate) unsafe fn sendto(
    fd: c_int,
    buffer: *const c_void,
    length: size_t,
    flags: c_int,
    _address: *const sockaddr,
    _address_length: socklen_t,
) -> ssize_t {
    // A connected stream ignores the address.
    // SAFETY: the contract of `send`.
    unsafe { send(fd, buffer, length, flags) }
}

pub(crate) unsafe fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
    match socket_of(fd) {
        // SAFETY: by our caller's promise the header is valid and its buffers are readable.
        Ok(object) => unsafe { give(object, list((*message).msg_iov, (*message).msg_iovlen), patience(flags)) },
        Err(errno) => token::fail(errno) as ssize_t,
    }
}

pub(crate) unsafe fn getifaddrs(out: *mut *mut c_void) -> c_int {
    // A node has interfaces, but nobody has needed to know them.
    // SAFETY: by our caller's promise it is writable.
    unsafe { abi::store(out, std::ptr::null_mut()) };
    0
}

pub(crate) unsafe fn freeifaddrs(list: *mut c_void) {
    if !list.is_null() {
        // SAFETY: not ours, so it comes from the real one.
        unsafe { real::freeifaddrs(list) };
    }
}

pub(crate) unsafe fn recv_chk(fd: c_int, buffer: *mut c_void, length: size_t, _room: size_t, flags: c_int) -> ssize_t {
    // SAFETY: the same contract; that the buffer is large enough is our caller's promise anyway.
    unsafe { recv(fd, buffer, length, flags) }
}

pub(crate) unsafe fn recvfrom_chk(
    fd: c_int,
    buffer: *mut c_void,
    length: size_t,
    _room: size_t,
    flags: c_int,
    address: *mut sockaddr,
    address_length: *mut socklen_t,
) -> ssize_t {
    // SAFETY: the same contract; that the buffer is large enough is our caller's promise anyway.
    unsafe { recvfrom(fd, buffer, length, flags, address, address_length) }
}
