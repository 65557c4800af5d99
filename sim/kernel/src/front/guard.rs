//! Fails closed: what escapes the table ends the run and is named.
//!
//! A seccomp filter lets a list of system calls through – memory, files, the birth and death of threads –, and any other
//! only from [`raw::syscall`], told by its address. Reading the processor's time stamp counter faults, and with it every
//! clock read in the vDSO, which is no system call.
//!
//! In a process that is one program, three calls more are caught where libc makes them itself: what it writes for
//! `printf`, so that output is hashed; the end of the process, so that it is reported; and the wakes of libc's own
//! locks, so that a thread switched out while it has one keeps nobody waiting in the real kernel.

use super::token::{self, kernel};
use super::{child, inline, process, raw, real};
use libc::{c_int, c_long, c_void, siginfo_t, sock_filter, ucontext_t};
use std::sync::atomic::{AtomicU64, Ordering};

/// What may be called from anywhere: it neither waits, nor tells time, nor talks to anybody.
const ALLOWED: [c_long; 74] = [
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_open,
    libc::SYS_openat,
    libc::SYS_stat,
    libc::SYS_fstat,
    libc::SYS_lstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_access,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_ftruncate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_chmod,
    libc::SYS_fchmod,
    libc::SYS_umask,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_clone3,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_set_tid_address,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_tgkill,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getrlimit,
    libc::SYS_prlimit64,
    libc::SYS_arch_prctl,
    libc::SYS_sched_getaffinity,
    libc::SYS_sysinfo,
    libc::SYS_set_mempolicy,
    libc::SYS_mbind,
    libc::SYS_mlock,
    libc::SYS_munlock,
    libc::SYS_getxattr,
    libc::SYS_lgetxattr,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_fadvise64,
    libc::SYS_mincore,
    libc::SYS_getpgrp,
    libc::SYS_capget,
    libc::SYS_pkey_mprotect,
    libc::SYS_pkey_alloc,
    libc::SYS_pkey_free,
];

/// What may be called from anywhere in one form: the argument of this place, under this mask, has this value.
const ALLOWED_IF: [(c_long, usize, u32, u32); 3] = [
    // glibc's own once wakes whether anybody waits or not.
    (libc::SYS_futex, 1, libc::FUTEX_CMD_MASK as u32, libc::FUTEX_WAKE as u32),
    // Threads, not processes.
    (libc::SYS_clone, 0, libc::CLONE_THREAD as u32, libc::CLONE_THREAD as u32),
    // A thread's name.
    (libc::SYS_prctl, 0, u32::MAX, libc::PR_SET_NAME as u32),
];

/// What is caught all the same in a process that is one program.
const CAUGHT_IF_WHOLE: [c_long; 4] = [libc::SYS_write, libc::SYS_writev, libc::SYS_exit_group, libc::SYS_futex];

/// Whether a system call may be made from anywhere.
pub(crate) fn allows(number: c_long) -> bool {
    ALLOWED.contains(&number) || inline::ON_DESCRIPTORS.contains(&number)
}

static VDSO: AtomicU64 = AtomicU64::new(0);
/// The vDSO's code and data are a few pages; nothing else is mapped so near.
const VDSO_BYTES: u64 = 16 * 4_096;

/// From here on, for the calling thread and those it makes.
///
/// # Panics
/// The system allows no filter, which Linux has for every process since 3.17.
pub(crate) fn install() {
    // SAFETY: getauxval(3) takes a number.
    VDSO.store(unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) }, Ordering::Relaxed);
    // While a thread waits in the handler, it may be made to make such a call again.
    handle(libc::SIGSYS, on_system_call, libc::SA_NODEFER);
    handle(libc::SIGSEGV, on_fault, libc::SA_ONSTACK);
    let mut filter = filter();
    let program =
        libc::sock_fprog { len: u16::try_from(filter.len()).expect("a short filter"), filter: filter.as_mut_ptr() };
    // SAFETY: the filter is valid while the calls last; the kernel copies it. The other calls take numbers.
    let installed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_TSC, libc::PR_TSC_SIGSEGV) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    assert!(installed, "the guard cannot be installed: {}", std::io::Error::last_os_error());
}

type Handler = unsafe extern "C" fn(c_int, *mut siginfo_t, *mut c_void);

fn handle(signal: c_int, handler: Handler, flags: c_int) {
    // SAFETY: an all-zero `sigaction` is a valid one, and the handler has the type that SA_SIGINFO asks for.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_flags = libc::SA_SIGINFO | flags;
        action.sa_sigaction = handler as usize;
        libc::sigaction(signal, &action, std::ptr::null_mut());
    }
}

/// Where things are in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ADDRESS: u32 = 8;
const ARGUMENTS: u32 = 16;

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

fn filter() -> Vec<sock_filter> {
    let load = |at| step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, at);
    let if_equal = |value, then, otherwise| step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, then, otherwise, value);
    let end = |what| step(libc::BPF_RET, 0, 0, what);
    let (allow, trap) = (end(libc::SECCOMP_RET_ALLOW), end(libc::SECCOMP_RET_TRAP));
    let ours = raw::return_address();
    let mut filter = vec![
        load(ADDRESS),
        if_equal(ours as u32, 0, 3),
        load(ADDRESS + 4),
        if_equal((ours >> 32) as u32, 0, 1),
        allow,
        load(ARCH),
        if_equal(AUDIT_ARCH_X86_64, 1, 0),
        trap,
        load(NUMBER),
    ];
    let caught = |number| process::is_whole() && CAUGHT_IF_WHOLE.contains(&number);
    for number in ALLOWED.into_iter().filter(|number| !caught(*number)) {
        filter.extend([if_equal(number as u32, 0, 1), allow]);
    }
    let if_at_least =
        |value, then, otherwise| step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, then, otherwise, value);
    for number in inline::ON_DESCRIPTORS.into_iter().filter(|number| !caught(*number)) {
        // Of files.
        filter.extend([
            if_equal(number as u32, 0, 4),
            load(ARGUMENTS),
            if_at_least(inline::DESCRIPTORS_FROM as u32, 1, 0),
            allow,
            trap,
        ]);
    }
    for (number, argument, mask, value) in ALLOWED_IF.into_iter().filter(|(number, ..)| !caught(*number)) {
        filter.extend([
            if_equal(number as u32, 0, 5),
            load(ARGUMENTS + 8 * argument as u32),
            step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, mask),
            if_equal(value, 0, 1),
            allow,
            trap,
        ]);
    }
    filter.push(trap);
    filter
}

fn step(code: u32, then: u8, otherwise: u8, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: then, jf: otherwise, k }
}

unsafe extern "C" fn on_system_call(_signal: c_int, _info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a valid `ucontext_t` to a handler with SA_SIGINFO.
    let registers = unsafe { &mut (*context.cast::<ucontext_t>()).uc_mcontext.gregs };
    let [number, address, a, b, c, d, e, f] = [
        libc::REG_RAX,
        libc::REG_RIP,
        libc::REG_RDI,
        libc::REG_RSI,
        libc::REG_RDX,
        libc::REG_R10,
        libc::REG_R8,
        libc::REG_R9,
    ]
    .map(|register| registers[register as usize]);
    if token::simulated() {
        // SAFETY: the program made this call with these arguments. It stands at a system call, so it is not within
        // malloc, which makes others, and what the handler does is as good as a function called in its place.
        if let Some(answer) = unsafe { inline::call(number, [a, b, c, d, e, f]) } {
            registers[libc::REG_RAX as usize] = answer;
            return;
        }
    } else if process::is_whole() && CAUGHT_IF_WHOLE.contains(&number) {
        // A thread that has left the simulation, or what the kernel itself does through libc.
        // SAFETY: the thread made this call with these arguments.
        registers[libc::REG_RAX as usize] = unsafe { raw::syscall(number, [a, b, c, d, e, f]) };
        return;
    }
    if process::makes_another(number) {
        process::refuse_another(name_of(number));
    }
    let (thread, call) = token::running();
    child::fail(
        token::status::ESCAPED,
        format_args!(
            "a system call escaped the simulation: {} (number {number}) from {address:#x}, while thread {thread} had \
             the turn (its last call was {call}). Its caller is not in the table of simulated functions.\n",
            name_of(number)
        ),
    )
}

macro_rules! names {
    ($($call:ident),* $(,)?) => {
        /// The name of a system call that programs are likely to make.
        fn name_of(number: c_long) -> &'static str {
            $(if number == libc::$call {
                return stringify!($call);
            })*
            "none of the well known"
        }
    };
}

names! {
    SYS_accept, SYS_accept4, SYS_alarm, SYS_bind, SYS_clock_getres, SYS_clock_gettime, SYS_clock_nanosleep, SYS_clone,
    SYS_close, SYS_connect, SYS_epoll_ctl, SYS_epoll_pwait, SYS_epoll_pwait2, SYS_epoll_wait, SYS_eventfd2,
    SYS_execve, SYS_fcntl, SYS_flock, SYS_fork, SYS_futex, SYS_getitimer, SYS_getrandom, SYS_getrusage,
    SYS_gettimeofday, SYS_inotify_init1, SYS_io_uring_setup, SYS_ioctl, SYS_kill, SYS_listen, SYS_memfd_create,
    SYS_mq_open, SYS_nanosleep, SYS_pause, SYS_pidfd_open, SYS_pipe2, SYS_poll, SYS_ppoll, SYS_prctl, SYS_pselect6,
    SYS_ptrace, SYS_read, SYS_readv, SYS_recvfrom, SYS_recvmmsg, SYS_recvmsg, SYS_restart_syscall,
    SYS_rt_sigsuspend, SYS_rt_sigtimedwait, SYS_sched_setaffinity, SYS_sched_yield, SYS_seccomp, SYS_select,
    SYS_sendfile, SYS_sendmmsg, SYS_sendmsg, SYS_sendto, SYS_setitimer, SYS_signalfd4, SYS_socket, SYS_socketpair,
    SYS_splice, SYS_tee, SYS_time, SYS_timer_create, SYS_timer_settime, SYS_timerfd_create, SYS_times, SYS_uname,
    SYS_vfork, SYS_wait4, SYS_waitid, SYS_write, SYS_writev,
}

/// Answers the time stamp counter with virtual nanoseconds. In the vDSO that would mix real and virtual time, so a
/// clock read there ends the run. Any other fault is the program's: virtual machines make such on purpose.
unsafe extern "C" fn on_fault(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes valid structures to a handler with SA_SIGINFO.
    let (registers, faulted_on) =
        unsafe { (&mut (*context.cast::<ucontext_t>()).uc_mcontext.gregs, (*info).si_addr().addr() as u64) };
    let at = registers[libc::REG_RIP as usize] as u64;
    // SAFETY: code that was just executed is readable, unless fetching it was the fault.
    let code = if faulted_on == at { [0; 3] } else { unsafe { (at as *const [u8; 3]).read_unaligned() } };
    let length = match code {
        [0x0f, 0x31, _] => 2,
        [0x0f, 0x01, 0xf9] => 3,
        _ => {
            // SAFETY: these are the arguments the kernel passed to this handler.
            if !unsafe { process::pass_on_fault(signal, info, context) } {
                // SAFETY: sets the default action; the instruction faults again and the process dies of it.
                unsafe { real::signal(libc::SIGSEGV, libc::SIG_DFL) };
            }
            return;
        }
    };
    let vdso = VDSO.load(Ordering::Relaxed);
    if (vdso..vdso + VDSO_BYTES).contains(&at) || !token::simulated() {
        let (thread, call) = token::running();
        child::fail(
            token::status::ESCAPED,
            format_args!(
                "a clock read escaped the simulation, at {at:#x}, while thread {thread} had the turn (its last call \
                 was {call})\n"
            ),
        )
    }
    let now = kernel(|kernel, me| kernel.read_clock(me)).as_nanos();
    registers[libc::REG_RAX as usize] = (now & 0xffff_ffff) as i64;
    registers[libc::REG_RDX as usize] = (now >> 32) as i64;
    if length == 3 {
        registers[libc::REG_RCX as usize] = 0;
    }
    registers[libc::REG_RIP as usize] += length;
}
