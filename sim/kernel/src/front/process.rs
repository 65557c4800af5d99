//! Signals and other processes: the guard's signals stay open and stay the guard's, and there are no other processes.

use super::{child, real, token};
use crate::machine::Errno;
use libc::{FILE, c_char, c_int, c_long, c_void, pid_t, sigaction as Action, sighandler_t, siginfo_t, sigset_t};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};

static WHOLE: AtomicBool = AtomicBool::new(false);

/// Whether this process is one program and nothing else: its end is the program's, and so is what libc does for it.
pub(crate) fn is_whole() -> bool {
    WHOLE.load(Ordering::Relaxed)
}

/// From now on it is.
pub(crate) fn become_whole() {
    WHOLE.store(true, Ordering::Relaxed);
}

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

/// What the program wants done about faults.
static ON_FAULT: AtomicUsize = AtomicUsize::new(libc::SIG_DFL);
static ON_FAULT_FLAGS: AtomicI32 = AtomicI32::new(0);

fn is_the_guards(signal: c_int) -> bool {
    matches!(signal, libc::SIGSYS | libc::SIGSEGV)
}

/// Takes down what the program wants done about one of the guard's signals; returns what it wanted before.
fn keep_for_program(signal: c_int, new: Option<(sighandler_t, c_int)>) -> (sighandler_t, c_int) {
    if signal == libc::SIGSYS {
        return (libc::SIG_DFL, 0);
    }
    let old = (ON_FAULT.load(Ordering::Relaxed), ON_FAULT_FLAGS.load(Ordering::Relaxed));
    if let Some((handler, flags)) = new {
        ON_FAULT.store(handler, Ordering::Relaxed);
        ON_FAULT_FLAGS.store(flags, Ordering::Relaxed);
    }
    old
}

pub(crate) unsafe fn sigaction(signal: c_int, new: *const Action, old: *mut Action) -> c_int {
    // SAFETY: by our caller's promise it is null or readable.
    let new = (!new.is_null()).then(|| unsafe { new.read_unaligned() });
    if is_the_guards(signal) {
        let was = keep_for_program(signal, new.map(|new| (new.sa_sigaction, new.sa_flags)));
        if !old.is_null() {
            // SAFETY: zeroes are a valid `sigaction`; by our caller's promise `old` is writable.
            unsafe {
                let mut about: Action = std::mem::zeroed();
                (about.sa_sigaction, about.sa_flags) = was;
                old.write_unaligned(about);
            }
        }
        return 0;
    }
    let open = new.map(|mut new| {
        // SAFETY: the set is ours, a copy of an initialised one.
        unsafe {
            libc::sigdelset(&mut new.sa_mask, libc::SIGSYS);
            libc::sigdelset(&mut new.sa_mask, libc::SIGSEGV);
        }
        new
    });
    // SAFETY: the first is null or ours, the second our caller's.
    unsafe { real::sigaction(signal, open.as_ref().map_or(std::ptr::null(), std::ptr::from_ref), old) }
}

pub(crate) unsafe fn signal(signal: c_int, handler: sighandler_t) -> sighandler_t {
    if is_the_guards(signal) {
        return keep_for_program(signal, Some((handler, 0))).0;
    }
    // SAFETY: our caller's arguments, unchanged.
    unsafe { real::signal(signal, handler) }
}

/// Lets the program handle a fault of its own. False when it has no handler.
///
/// # Safety
/// The arguments are those the kernel passed to a handler with SA_SIGINFO.
pub(crate) unsafe fn pass_on_fault(signal: c_int, info: *mut siginfo_t, context: *mut c_void) -> bool {
    let (handler, flags) = (ON_FAULT.load(Ordering::Relaxed), ON_FAULT_FLAGS.load(Ordering::Relaxed));
    if matches!(handler, libc::SIG_DFL | libc::SIG_IGN) {
        return false;
    }
    // SAFETY: the program gave this address to sigaction(2) as a function of the type its flags say, and the arguments
    // are those it would have been called with.
    unsafe {
        if flags & libc::SA_SIGINFO != 0 {
            let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = std::mem::transmute(handler);
            handler(signal, info, context);
        } else {
            let handler: extern "C" fn(c_int) = std::mem::transmute(handler);
            handler(signal);
        }
    }
    true
}

/// Whether a system call makes, becomes or waits for another process.
pub(crate) fn makes_another(number: c_long) -> bool {
    let others = [
        libc::SYS_fork,
        libc::SYS_vfork,
        libc::SYS_clone,
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_wait4,
        libc::SYS_waitid,
    ];
    is_whole() && others.contains(&number)
}

/// Ends the run: a program that is run as it is tried to start another process.
pub(crate) fn refuse_another(how: &str) -> ! {
    child::fail(
        token::status::UNSUPPORTED,
        format_args!(
            "the program starts another process ({how}), and a simulation carries one process only: run the program \
             itself, not a script or tool that starts it\n"
        ),
    )
}

/// The answer to a wish for another process: an error, or the end where nobody would understand it.
fn no_other(how: &str) -> Errno {
    if is_whole() {
        refuse_another(how);
    }
    Errno::NOSYS
}

pub(crate) unsafe fn fork() -> pid_t {
    token::fail(no_other("fork"))
}

pub(crate) unsafe fn system(command: *const c_char) -> c_int {
    // Null asks whether there is a shell.
    if command.is_null() { 0 } else { token::fail(no_other("system")) }
}

pub(crate) unsafe fn popen(_command: *const c_char, _kind: *const c_char) -> *mut FILE {
    token::fail(no_other("popen"));
    std::ptr::null_mut()
}

pub(crate) unsafe fn posix_spawn(
    _pid: *mut pid_t,
    _path: *const c_char,
    _actions: *const c_void,
    _attributes: *const c_void,
    _arguments: *const *mut c_char,
    _environment: *const *mut c_char,
) -> c_int {
    no_other("posix_spawn").0
}
