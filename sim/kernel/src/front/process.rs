//! Signals and other processes: the guard's signals stay open, and there are no other processes.

use super::{real, token};
use crate::machine::Errno;
use libc::{c_char, c_int, c_void, pid_t, sigset_t};

// Every function below has the contract of the C function it stands for.

/// A blocked SIGSYS would kill the process without a word.
pub(crate) unsafe fn pthread_sigmask(how: c_int, set: *const sigset_t, old: *mut sigset_t) -> c_int {
    if set.is_null() || how == libc::SIG_UNBLOCK {
        // SAFETY: our caller's arguments, unchanged.
        return unsafe { real::pthread_sigmask(how, set, old) };
    }
    // SAFETY: by our caller's promise the set is initialised; the copy is ours, and it replaces theirs.
    unsafe {
        let mut open = set.read_unaligned();
        libc::sigdelset(&mut open, libc::SIGSYS);
        libc::sigdelset(&mut open, libc::SIGSEGV);
        real::pthread_sigmask(how, &open, old)
    }
}

pub(crate) unsafe fn sigprocmask(how: c_int, set: *const sigset_t, old: *mut sigset_t) -> c_int {
    // SAFETY: the same contract.
    match unsafe { pthread_sigmask(how, set, old) } {
        0 => 0,
        error => token::fail(Errno(error)),
    }
}

pub(crate) unsafe fn fork() -> pid_t {
    token::fail(Errno::NOSYS)
}

pub(crate) unsafe fn posix_spawn(
    _pid: *mut pid_t,
    _path: *const c_char,
    _actions: *const c_void,
    _attributes: *const c_void,
    _arguments: *const *mut c_char,
    _environment: *const *mut c_char,
) -> c_int {
    libc::ENOSYS
}
