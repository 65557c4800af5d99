//! System calls of the real kernel, made here and nowhere else: the guard lets them through by their address.

use std::arch::global_asm;
use std::ffi::{c_char, c_int};
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

/// A system call without pointers among its arguments.
pub(crate) fn plain(number: i64, a: i64, b: i64, c: i64) -> i64 {
    // SAFETY: called below with numbers of calls that take integers only, so no memory is touched.
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
    plain(libc::SYS_gettid, 0, 0, 0) as i32
}

/// Whether the real kernel still has this thread of our process.
pub(crate) fn thread_exists(tid: i32) -> bool {
    let pid = plain(libc::SYS_getpid, 0, 0, 0);
    plain(libc::SYS_tgkill, pid, tid.into(), 0) == 0
}

/// Ends the process, now.
pub(crate) fn exit(status: c_int) -> ! {
    loop {
        plain(libc::SYS_exit_group, status.into(), 0, 0);
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

/// Opens a descriptor that keeps its number, at least `from`, free for a simulated object.
pub(crate) fn open_placeholder(from: c_int) -> Result<c_int, c_int> {
    const NOTHING: *const c_char = c"/dev/null".as_ptr();
    let flags = i64::from(libc::O_RDWR | libc::O_CLOEXEC);
    // SAFETY: the path is a static C string.
    let low = unsafe { syscall(libc::SYS_openat, [libc::AT_FDCWD.into(), NOTHING as i64, flags, 0, 0, 0]) };
    if low < 0 {
        return Err(-low as c_int);
    }
    let fd = plain(libc::SYS_fcntl, low, libc::F_DUPFD_CLOEXEC.into(), from.into());
    close(low as c_int);
    if fd < 0 { Err(-fd as c_int) } else { Ok(fd as c_int) }
}

/// Closes a descriptor.
pub(crate) fn close(fd: c_int) {
    plain(libc::SYS_close, fd.into(), 0, 0);
}

/// Whether the real process has this descriptor open.
pub(crate) fn is_open(fd: c_int) -> bool {
    plain(libc::SYS_fcntl, fd.into(), libc::F_GETFD.into(), 0) >= 0
}
