//! Names and addresses.

use super::abi;
use super::token::kernel;
use libc::{addrinfo, c_char, c_int, sockaddr, sockaddr_in, socklen_t};
use std::ffi::CStr;
use std::net::{Ipv4Addr, SocketAddrV4};

/// One answer and its address in one piece of memory, as glibc's `freeaddrinfo` expects.
#[repr(C)]
struct Found {
    info: addrinfo,
    address: sockaddr_in,
}

/// `getaddrinfo`: numbers, `localhost` and the names of nodes.
///
/// # Safety
/// As for `getaddrinfo`.
pub(crate) unsafe fn getaddrinfo(
    host: *const c_char,
    service: *const c_char,
    hints: *const addrinfo,
    out: *mut *mut addrinfo,
) -> c_int {
    // SAFETY: by our caller's promise all are null or valid.
    let (host, service, hints) = unsafe { (text(host), text(service), abi::load(hints)) };
    let passive = hints.is_some_and(|hints| hints.ai_flags & libc::AI_PASSIVE != 0);
    if hints.is_some_and(|hints| ![libc::AF_UNSPEC, libc::AF_INET].contains(&hints.ai_family)) {
        return libc::EAI_FAMILY;
    }
    let Some(ip) = resolve(host, passive) else { return libc::EAI_NONAME };
    let Ok(port) = service.unwrap_or("0").parse() else { return libc::EAI_SERVICE };
    let kind = hints.map_or(0, |hints| hints.ai_socktype);
    // SAFETY: calloc(3) has no precondition; zeroes are a valid `Found`.
    let found = unsafe { libc::calloc(1, size_of::<Found>()) }.cast::<Found>();
    if found.is_null() {
        return libc::EAI_MEMORY;
    }
    // SAFETY: the memory is fresh, zeroed, aligned for anything and large enough; `out` is our caller's, writable.
    unsafe {
        (*found).address = abi::sockaddr_of(SocketAddrV4::new(ip, port));
        let info = &mut (*found).info;
        info.ai_family = libc::AF_INET;
        info.ai_socktype = if kind == 0 { libc::SOCK_STREAM } else { kind };
        info.ai_protocol = libc::IPPROTO_TCP;
        info.ai_addrlen = size_of::<sockaddr_in>() as socklen_t;
        info.ai_addr = (&raw mut (*found).address).cast::<sockaddr>();
        out.write(found.cast::<addrinfo>());
    }
    0
}

fn resolve(host: Option<&str>, passive: bool) -> Option<Ipv4Addr> {
    match host {
        None if passive => Some(Ipv4Addr::UNSPECIFIED),
        None | Some("localhost") => Some(Ipv4Addr::LOCALHOST),
        Some(host) => host.parse().ok().or_else(|| {
            let node = kernel(|kernel, _| kernel.node_named(host))?;
            Some(node.ip())
        }),
    }
}

/// # Safety
/// Null, or a C string that stays.
unsafe fn text<'a>(from: *const c_char) -> Option<&'a str> {
    // SAFETY: by the caller's promise.
    (!from.is_null()).then(|| unsafe { CStr::from_ptr(from) }.to_str().unwrap_or(""))
}
