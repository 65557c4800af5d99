//! System calls made past the C library, by inline assembly: `rustix` does so. The guard's filter traps them, and its
//! handler passes them on to the function of the table that stands for the same call.

use super::file::{self, object_of};
use super::{abi, child, clock, identity, process, raw, socket, thread, token, wait};
use crate::machine::Mark;
use libc::{c_int, c_long};

/// Simulated descriptors have numbers from here on, so that the filter tells them from files.
pub(crate) const DESCRIPTORS_FROM: c_int = 256;

static CALL: Mark = Mark::new("inline");

/// What the kernel would answer, errors as negative numbers; `None` if this call is not simulated.
///
/// # Safety
/// The arguments are those of a system call of this number, as a program made it. The calling thread is in the
/// simulation.
pub(crate) unsafe fn call(number: c_long, arguments: [i64; 6]) -> Option<i64> {
    let [a, b, c, d, e, _] = arguments;
    let fd = a as c_int;
    if number == libc::SYS_exit_group {
        child::end(fd);
    }
    let writes = matches!(number, libc::SYS_write | libc::SYS_writev);
    if takes_descriptor(number) && !(writes && process::is_whole()) && object_of(fd).is_none() {
        // SAFETY: a real file, and the program's own arguments.
        return Some(unsafe { raw::syscall(number, arguments) });
    }
    token::enter(&CALL, number as u64, 0);
    let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
    // SAFETY: by the caller's promise the arguments are right for the call, and so for the function of the same name.
    let answer: i64 = unsafe {
        match number {
            libc::SYS_read => file::read(fd, ptr(b), c as usize) as i64,
            libc::SYS_readv => file::readv(fd, ptr(b), c as c_int) as i64,
            libc::SYS_write => file::write(fd, ptr(b), c as usize) as i64,
            libc::SYS_writev => file::writev(fd, ptr(b), c as c_int) as i64,
            libc::SYS_close => file::close(fd).into(),
            libc::SYS_dup => file::dup(fd).into(),
            libc::SYS_dup2 => file::dup2(fd, b as c_int).into(),
            libc::SYS_dup3 => file::dup3(fd, b as c_int, c as c_int).into(),
            libc::SYS_fcntl => file::fcntl(fd, b as c_int, c).into(),
            libc::SYS_ioctl => file::ioctl(fd, b as u64, ptr(c)).into(),
            libc::SYS_socket => socket::socket(a as c_int, b as c_int, c as c_int).into(),
            libc::SYS_bind => socket::bind(fd, ptr(b), c as u32).into(),
            libc::SYS_listen => socket::listen(fd, b as c_int).into(),
            libc::SYS_connect => socket::connect(fd, ptr(b), c as u32).into(),
            libc::SYS_accept4 => socket::accept4(fd, ptr(b), ptr(c), d as c_int).into(),
            libc::SYS_getsockname => socket::getsockname(fd, ptr(b), ptr(c)).into(),
            libc::SYS_getpeername => socket::getpeername(fd, ptr(b), ptr(c)).into(),
            libc::SYS_setsockopt => socket::setsockopt(fd, b as c_int, c as c_int, ptr(d), e as u32).into(),
            libc::SYS_getsockopt => socket::getsockopt(fd, b as c_int, c as c_int, ptr(d), ptr(e)).into(),
            libc::SYS_shutdown => socket::shutdown(fd, b as c_int).into(),
            libc::SYS_sendto => socket::send(fd, ptr(b), c as usize, d as c_int) as i64,
            libc::SYS_recvfrom => socket::recv(fd, ptr(b), c as usize, d as c_int) as i64,
            libc::SYS_poll => wait::poll(ptr(a), b as u64, c as c_int).into(),
            libc::SYS_epoll_create1 => wait::epoll_create1(a as c_int).into(),
            libc::SYS_epoll_ctl => wait::epoll_ctl(fd, b as c_int, c as c_int, ptr(d)).into(),
            libc::SYS_epoll_wait | libc::SYS_epoll_pwait => wait::epoll_wait(fd, ptr(b), c as c_int, d as c_int).into(),
            libc::SYS_eventfd2 => wait::eventfd(a as u32, b as c_int).into(),
            libc::SYS_pipe2 => wait::pipe2(ptr(a), b as c_int).into(),
            libc::SYS_timerfd_create => wait::timerfd_create(a as c_int, b as c_int).into(),
            libc::SYS_timerfd_settime => wait::timerfd_settime(fd, b as c_int, ptr(c), ptr(d)).into(),
            libc::SYS_nanosleep => clock::nanosleep(ptr(a), ptr(b)).into(),
            libc::SYS_gettimeofday => clock::gettimeofday(ptr(a), ptr(b)).into(),
            libc::SYS_time => clock::time(ptr(a)),
            libc::SYS_uname => identity::uname(ptr(a)).into(),
            libc::SYS_futex if (b as c_int) & libc::FUTEX_CMD_MASK == libc::FUTEX_WAKE => {
                // One of libc's own locks: threads that have left the simulation wait for it really.
                raw::syscall(number, arguments) + thread::syscall(number, a, b, c, d, e, arguments[5])
            }
            libc::SYS_futex | libc::SYS_getrandom | libc::SYS_sched_yield | libc::SYS_clock_gettime => {
                let [a, b, c, d, e, f] = arguments;
                thread::syscall(number, a, b, c, d, e, f)
            }
            _ => return None,
        }
    };
    let failed = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
    abi::set_errno(errno); // who calls past the C library does not expect it to change
    Some(if answer == -1 { -i64::from(failed) } else { answer })
}

/// Calls the filter lets through for files.
pub(crate) const ON_DESCRIPTORS: [c_long; 10] = [
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_dup2,
    libc::SYS_dup3,
    libc::SYS_fcntl,
    libc::SYS_ioctl,
];

fn takes_descriptor(number: c_long) -> bool {
    ON_DESCRIPTORS.contains(&number)
}

fn ptr<T>(argument: i64) -> *mut T {
    std::ptr::with_exposed_provenance_mut(argument as usize)
}
