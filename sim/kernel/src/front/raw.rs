//! System calls of the real kernel, made here and nowhere else: the guard lets them through by their address.

use crate::machine::Errno;
use libc::iovec;
use std::arch::global_asm;
use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::AtomicU32;

// glibc's syscall(3), in a place of our own.
global_asm!(
    ".hidden rehearsal_sim_syscall",
    ".hidden rehearsal_sim_syscall_return",
    ".globl rehearsal_sim_syscall",
    ".globl rehearsal_sim_syscall_return",
    ".type rehearsal_sim_syscall, @function",
    "rehearsal_sim_syscall:",
    "mov rax, rdi",
    "mov rdi, rsi",
    "mov rsi, rdx",
    "mov rdx, rcx",
    "mov r10, r8",
    "mov r8, r9",
    "mov r9, [rsp + 8]",
    "syscall",
    "rehearsal_sim_syscall_return:",
    "ret",
    ".size rehearsal_sim_syscall, . - rehearsal_sim_syscall",
);

unsafe extern "C" {
    fn rehearsal_sim_syscall(number: i64, a: i64, b: i64, c: i64, d: i64, e: i64, f: i64) -> i64;
    fn rehearsal_sim_syscall_return();
}

/// Where the instruction pointer stands after one of our system calls.
pub(crate) fn return_address() -> u64 {
    rehearsal_sim_syscall_return as *const () as u64
}

/// A system call; the kernel's answer, errors as negative numbers.
///
/// # Safety
/// As for the system call of this number: pointers among the arguments are valid for what it does with them.
#[inline]
pub(crate) unsafe fn syscall(number: i64, arguments: [i64; 6]) -> i64 {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: the assembly follows the C calling convention: seven integer arguments, one result, and it touches no
    // register that the convention preserves. What the kernel does is the caller's promise.
    unsafe { rehearsal_sim_syscall(number, a, b, c, d, e, f) }
}

/// System calls that take integers only and touch no memory of ours.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Plain {
    GetPid,
    GetTid,
    TgKill,
    SchedYield,
    ExitGroup,
    Close,
    /// With commands that take an integer.
    Fcntl,
    Dup,
    Dup3,
}

/// Such a system call; errors as negative numbers.
pub(crate) fn plain(call: Plain, a: i64, b: i64, c: i64) -> i64 {
    let number = match call {
        Plain::GetPid => libc::SYS_getpid,
        Plain::GetTid => libc::SYS_gettid,
        Plain::TgKill => libc::SYS_tgkill,
        Plain::SchedYield => libc::SYS_sched_yield,
        Plain::ExitGroup => libc::SYS_exit_group,
        Plain::Close => libc::SYS_close,
        Plain::Fcntl => libc::SYS_fcntl,
        Plain::Dup => libc::SYS_dup,
        Plain::Dup3 => libc::SYS_dup3,
    };
    // SAFETY: these calls take integers only.
    unsafe { syscall(number, [a, b, c, 0, 0, 0]) }
}

/// Sleeps while the word has this value, or less long.
pub(crate) fn futex_wait(word: &AtomicU32, value: u32) {
    let wait = i64::from(libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG);
    // SAFETY: the word is valid for as long as the call lasts, and FUTEX_WAIT only reads it.
    unsafe { syscall(libc::SYS_futex, [word.as_ptr() as i64, wait, i64::from(value), 0, 0, 0]) };
}

/// Wakes one thread that sleeps on the word.
pub(crate) fn futex_wake(word: &AtomicU32) {
    let wake = i64::from(libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG);
    // SAFETY: FUTEX_WAKE does not access the word, only its address.
    unsafe { syscall(libc::SYS_futex, [word.as_ptr() as i64, wake, 1, 0, 0, 0]) };
}

/// The calling thread's number in the real kernel.
pub(crate) fn gettid() -> i32 {
    plain(Plain::GetTid, 0, 0, 0) as i32
}

/// Whether the real kernel still has this thread of our process.
pub(crate) fn thread_exists(tid: i32) -> bool {
    let pid = plain(Plain::GetPid, 0, 0, 0);
    plain(Plain::TgKill, pid, tid.into(), 0) == 0
}

/// Ends the process, now.
pub(crate) fn exit(status: c_int) -> ! {
    loop {
        plain(Plain::ExitGroup, status.into(), 0, 0);
    }
}

/// Writes all of it, as far as the descriptor takes it.
pub(crate) fn write_all(fd: c_int, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let (address, length) = (bytes.as_ptr() as i64, bytes.len() as i64);
        // SAFETY: the range is a live slice, and write(2) only reads it.
        let written = unsafe { syscall(libc::SYS_write, [fd.into(), address, length, 0, 0, 0]) };
        match usize::try_from(written) {
            Ok(written) if written > 0 => bytes = &bytes[written.min(bytes.len())..],
            _ if written == -i64::from(libc::EINTR) => {}
            _ => return,
        }
    }
}

/// write(2).
///
/// # Errors
/// The error number.
///
/// # Safety
/// The buffer is readable.
pub(crate) unsafe fn write(fd: c_int, buffer: *const c_void, length: usize) -> Result<usize, Errno> {
    // SAFETY: by the caller's promise.
    result(unsafe { syscall(libc::SYS_write, [fd.into(), buffer as i64, length as i64, 0, 0, 0]) })
}

/// writev(2).
///
/// # Errors
/// The error number.
///
/// # Safety
/// There are so many buffers, all readable.
pub(crate) unsafe fn writev(fd: c_int, buffers: *const iovec, count: c_int) -> Result<usize, Errno> {
    // SAFETY: by the caller's promise.
    result(unsafe { syscall(libc::SYS_writev, [fd.into(), buffers as i64, count.into(), 0, 0, 0]) })
}

fn result(answer: i64) -> Result<usize, Errno> {
    usize::try_from(answer).map_err(|_| Errno(-answer as c_int))
}

/// Opens a descriptor that keeps its number, at least `from`, free for a simulated object.
pub(crate) fn open_placeholder(from: c_int) -> Result<c_int, c_int> {
    const NOTHING: *const c_char = c"/dev/null".as_ptr();
    let flags = i64::from(libc::O_RDWR | libc::O_CLOEXEC);
    // SAFETY: the path is a static C string.
    let low = unsafe { syscall(libc::SYS_openat, [libc::AT_FDCWD.into(), NOTHING as i64, flags, 0, 0, 0]) };
    if low < 0 {
        return Err(-low as c_int);
    }
    let fd = plain(Plain::Fcntl, low, libc::F_DUPFD_CLOEXEC.into(), from.into());
    close(low as c_int);
    if fd < 0 { Err(-fd as c_int) } else { Ok(fd as c_int) }
}

/// Fresh pages, zeroed; null when the system has none.
pub(crate) fn pages(size: usize) -> *mut u8 {
    let (protection, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a mapping wherever the kernel likes touches no memory that is in use.
    let address = unsafe { syscall(libc::SYS_mmap, [0, size as i64, protection.into(), kind.into(), -1, 0]) };
    // Errors are small negative numbers.
    if address < 0 { std::ptr::null_mut() } else { std::ptr::with_exposed_provenance_mut(address as usize) }
}

/// Gives pages back.
///
/// # Safety
/// They come from [`pages`], and nobody uses them any more.
pub(crate) unsafe fn give_back(address: *mut u8, size: usize) {
    // SAFETY: by the caller's promise.
    unsafe { syscall(libc::SYS_munmap, [address as i64, size as i64, 0, 0, 0, 0]) };
}

/// Closes a descriptor.
pub(crate) fn close(fd: c_int) {
    plain(Plain::Close, fd.into(), 0, 0);
}

/// Whether the real process has this descriptor open.
pub(crate) fn is_open(fd: c_int) -> bool {
    plain(Plain::Fcntl, fd.into(), libc::F_GETFD.into(), 0) >= 0
}
