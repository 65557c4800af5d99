//! What a program can learn about where it runs, and the random numbers it asks for.

use super::abi;
use super::token::{self, kernel};
use crate::machine::{Errno, Moment, Sink};
use libc::{c_char, c_int, c_long, c_uint, c_void, cpu_set_t, pid_t, size_t, ssize_t, utsname};
use std::sync::atomic::{AtomicU64, Ordering};

/// Every node has two processors.
const PROCESSORS: u8 = 2;
/// And so much memory, of which half is free: virtual machines go by it.
const MEMORY_BYTES: u64 = 8 << 30;
const PAGE_BYTES: u64 = 4_096;

// Every function below has the contract of the C function it stands for.

/// Also for what runs inside the kernel, such as a service that makes a `HashMap`: it too must not differ from run to
/// run, and its first one fixes the keys of all later ones of the thread.
pub(crate) unsafe fn getrandom(out: *mut c_void, length: size_t, flags: c_uint) -> ssize_t {
    if !token::has_begun() {
        // SAFETY: our caller's arguments, unchanged.
        return unsafe { super::real::getrandom(out, length, flags) };
    }
    let buffer = abi::one(out, length);
    // SAFETY: by our caller's promise the buffer is writable.
    let mut buffer = unsafe { abi::Buffers::new(&buffer) };
    if token::simulated() {
        return kernel(|kernel, _| kernel.read_random(&mut buffer)) as ssize_t;
    }
    while buffer.room() > 0 {
        let word = INSIDE.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
        buffer.put(&word[..buffer.room().min(8)]);
    }
    length as ssize_t
}

/// Counts the random words given out inside the kernel.
static INSIDE: AtomicU64 = AtomicU64::new(1);

pub(crate) unsafe fn getentropy(out: *mut c_void, length: size_t) -> c_int {
    // SAFETY: the same contract.
    unsafe { getrandom(out, length, 0) };
    0
}

/// librdkafka seeds `rand_r` with the address of its thread among others, so what a program seeds with is ignored.
fn random() -> c_int {
    kernel(|kernel, _| (kernel.random_number() >> 33) as c_int)
}

pub(crate) unsafe fn rand_r(_seed: *mut c_uint) -> c_int {
    random()
}

pub(crate) unsafe fn rand() -> c_int {
    random()
}

pub(crate) unsafe fn libc_random() -> c_long {
    random().into()
}

pub(crate) unsafe fn getpid() -> pid_t {
    kernel(|kernel, me| kernel.pid_of(kernel.node_of(me)))
}

pub(crate) unsafe fn getppid() -> pid_t {
    1
}

pub(crate) unsafe fn gettid() -> pid_t {
    gettid_number() as pid_t
}

pub(crate) fn gettid_number() -> c_long {
    kernel(|_, me| 1_000_000 + c_long::from(me.0))
}

pub(crate) unsafe fn gethostname(out: *mut c_char, length: size_t) -> c_int {
    let name = kernel(|kernel, me| kernel.name_of(kernel.node_of(me)).to_owned());
    if length <= name.len() {
        return token::fail(Errno(libc::ENAMETOOLONG));
    }
    // SAFETY: by our caller's promise there is room for `length` bytes, and the name with its zero has no more.
    unsafe {
        std::ptr::copy_nonoverlapping(name.as_ptr().cast::<c_char>(), out, name.len());
        out.add(name.len()).write(0);
    }
    0
}

pub(crate) unsafe fn uname(out: *mut utsname) -> c_int {
    fn text<const N: usize>(text: &str) -> [c_char; N] {
        let mut field = [0; N];
        for (to, from) in field[..N - 1].iter_mut().zip(text.bytes()) {
            *to = from as c_char;
        }
        field
    }
    let name = kernel(|kernel, me| kernel.name_of(kernel.node_of(me)).to_owned());
    let about = utsname {
        sysname: text("Linux"),
        nodename: text(&name),
        release: text("6.1.0"),
        version: text("#1 SMP"),
        machine: text(std::env::consts::ARCH),
        domainname: text("(none)"),
    };
    // SAFETY: by our caller's promise it is writable.
    unsafe { abi::store(out, about) };
    0
}

pub(crate) unsafe fn sched_getaffinity(_process: pid_t, size: size_t, out: *mut cpu_set_t) -> c_int {
    let mut set = vec![0_u8; size];
    match set.first_mut() {
        Some(first) => *first = (1 << PROCESSORS) - 1,
        None => return token::fail(Errno::INVAL),
    }
    // SAFETY: by our caller's promise there is room for `size` bytes.
    unsafe { std::ptr::copy_nonoverlapping(set.as_ptr(), out.cast::<u8>(), size) };
    0
}

pub(crate) unsafe fn sysconf(name: c_int) -> c_long {
    match name {
        libc::_SC_NPROCESSORS_ONLN | libc::_SC_NPROCESSORS_CONF => PROCESSORS.into(),
        libc::_SC_PHYS_PAGES => (MEMORY_BYTES / PAGE_BYTES) as c_long,
        libc::_SC_AVPHYS_PAGES => (MEMORY_BYTES / 2 / PAGE_BYTES) as c_long,
        // SAFETY: our caller's argument, unchanged.
        _ => unsafe { super::real::sysconf(name) },
    }
}

pub(crate) unsafe fn sysinfo(out: *mut libc::sysinfo) -> c_int {
    let up = kernel(|kernel, _| kernel.now()).since(Moment::START);
    // SAFETY: zeroes are a valid `sysinfo`.
    let mut about: libc::sysinfo = unsafe { std::mem::zeroed() };
    (about.uptime, about.procs, about.mem_unit) = (up.as_secs() as c_long, 1, 1);
    (about.totalram, about.freeram) = (MEMORY_BYTES, MEMORY_BYTES / 2);
    // SAFETY: by our caller's promise it is writable.
    unsafe { abi::store(out, about) };
    0
}

pub(crate) unsafe fn getloadavg(_out: *mut libc::c_double, _count: c_int) -> c_int {
    -1
}

pub(crate) unsafe fn gethostname_chk(out: *mut c_char, length: size_t, _room: size_t) -> c_int {
    // SAFETY: the same contract.
    unsafe { gethostname(out, length) }
}
