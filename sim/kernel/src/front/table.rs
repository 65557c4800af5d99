//! The one table of the C functions this crate defines. From it are made their definitions, the real functions behind
//! them, the list the import audit compares with ([`SYMBOLS`]), and its documentation.

use super::real::Real;
use super::{c11, clock, file, identity, lock, process, resolve, socket, thread, token, wait};
use crate::machine::Mark;
use libc::*;

/// A C function this crate defines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Symbol {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub concern: &'static str,
    /// What it does in a simulation; outside it does what it always did.
    pub does: &'static str,
}

type OnceFn = extern "C" fn();
type ThreadFn = extern "C" fn(*mut c_void) -> *mut c_void;
type C11ThreadFn = extern "C" fn(*mut c_void) -> c_int;

macro_rules! symbols {
    ($($concern:literal: $($(#[$always:ident])? fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $ret:ty)? = $handler:path, $does:literal;)*)*) => {
        /// Every C function this crate defines.
        ///
        /// | function | in a simulation |
        /// |---|---|
        $($(#[doc = concat!("| `", stringify!($name), "` | ", $does, " |")])*)*
        pub const SYMBOLS: &[Symbol] =
            &[$($(Symbol { name: stringify!($name), concern: $concern, does: $does },)*)*];

        #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "named as in C")]
        #[derive(Clone, Copy)]
        enum Index { $($($name,)*)* }

        const COUNT: usize = SYMBOLS.len();

        /// The real functions, in the order of the table.
        static REAL: [Real; COUNT] = [$($(Real::new(concat!(stringify!($name), "\0")),)*)*];

        /// Looks all of them up.
        pub(crate) fn resolve_all() {
            for real in &REAL {
                real.resolve();
            }
        }

        /// The functions libc has under the names that are ours.
        pub(crate) mod real_functions {
            use super::*;
            $($(
                /// # Safety
                /// As for the C function.
                #[inline]
                #[allow(dead_code, clippy::too_many_arguments, reason = "one for every line of the table")]
                pub(crate) unsafe fn $name($($arg: $type),*) $(-> $ret)? {
                    type Function = unsafe extern "C" fn($($type),*) $(-> $ret)?;
                    // SAFETY: libc's function of this name has this type (the table is checked against libc's headers
                    // by whoever writes a line), and pointers to data and to functions have one size here.
                    let function = unsafe {
                        std::mem::transmute::<*mut c_void, Function>(REAL[Index::$name as usize].address())
                    };
                    // SAFETY: by the caller's promise.
                    unsafe { function($($arg),*) }
                }
            )*)*
        }

        $($(
            /// See [`SYMBOLS`].
            ///
            /// # Safety
            /// As for the C function.
            #[unsafe(no_mangle)]
            #[allow(clippy::too_many_arguments, reason = "as many as the C function has")]
            pub unsafe extern "C" fn $name($($arg: $type),*) $(-> $ret)? {
                if !token::simulated() && !symbols!(@always $($always)?) {
                    // SAFETY: our caller's promise to the C function.
                    return unsafe { real_functions::$name($($arg),*) };
                }
                static CALL: Mark = Mark::new(stringify!($name));
                if token::simulated() {
                    token::enter(&CALL, 0, 0);
                }
                // SAFETY: the handler has the C function's contract, which is our caller's promise.
                unsafe { $handler($($arg),*) }
            }
        )*)*
    };
    (@always) => { false };
    (@always always) => { true };
}

symbols! {
    "locks":
    fn pthread_mutex_lock(mutex: *mut pthread_mutex_t) -> c_int = lock::mutex_lock, "waits in virtual time";
    fn pthread_mutex_timedlock(mutex: *mut pthread_mutex_t, time: *const timespec) -> c_int = lock::mutex_timedlock, "waits in virtual time";
    fn pthread_mutex_clocklock(mutex: *mut pthread_mutex_t, clock: c_int, time: *const timespec) -> c_int = lock::mutex_clocklock, "waits in virtual time";
    fn pthread_mutex_trylock(mutex: *mut pthread_mutex_t) -> c_int = lock::mutex_trylock, "counts the call";
    fn pthread_mutex_unlock(mutex: *mut pthread_mutex_t) -> c_int = lock::mutex_unlock, "lets the next one have it";
    #[always] fn pthread_cond_init(condition: *mut pthread_cond_t, attributes: *const pthread_condattr_t) -> c_int = lock::cond_init, "remembers which clock it goes by, outside too";
    #[always] fn pthread_cond_destroy(condition: *mut pthread_cond_t) -> c_int = lock::cond_destroy, "forgets which clock it goes by, outside too";
    fn pthread_cond_wait(condition: *mut pthread_cond_t, mutex: *mut pthread_mutex_t) -> c_int = lock::cond_wait, "waits in virtual time";
    fn pthread_cond_timedwait(condition: *mut pthread_cond_t, mutex: *mut pthread_mutex_t, time: *const timespec) -> c_int = lock::cond_timedwait, "waits in virtual time";
    fn pthread_cond_clockwait(condition: *mut pthread_cond_t, mutex: *mut pthread_mutex_t, clock: c_int, time: *const timespec) -> c_int = lock::cond_clockwait, "waits in virtual time";
    fn pthread_cond_signal(condition: *mut pthread_cond_t) -> c_int = lock::cond_signal, "wakes one, first come first served";
    fn pthread_cond_broadcast(condition: *mut pthread_cond_t) -> c_int = lock::cond_broadcast, "wakes all";
    fn pthread_rwlock_rdlock(lock: *mut pthread_rwlock_t) -> c_int = lock::rwlock_rdlock, "waits in virtual time";
    fn pthread_rwlock_wrlock(lock: *mut pthread_rwlock_t) -> c_int = lock::rwlock_wrlock, "waits in virtual time";
    fn pthread_rwlock_tryrdlock(lock: *mut pthread_rwlock_t) -> c_int = lock::rwlock_tryrdlock, "counts the call";
    fn pthread_rwlock_trywrlock(lock: *mut pthread_rwlock_t) -> c_int = lock::rwlock_trywrlock, "counts the call";
    fn pthread_rwlock_timedrdlock(lock: *mut pthread_rwlock_t, time: *const timespec) -> c_int = lock::rwlock_timedrdlock, "waits in virtual time";
    fn pthread_rwlock_timedwrlock(lock: *mut pthread_rwlock_t, time: *const timespec) -> c_int = lock::rwlock_timedwrlock, "waits in virtual time";
    fn pthread_rwlock_unlock(lock: *mut pthread_rwlock_t) -> c_int = lock::rwlock_unlock, "wakes all who wait";
    fn pthread_once(control: *mut c_int, initialise: OnceFn) -> c_int = lock::once, "waits for a running initialiser in virtual time";
    fn sem_wait(semaphore: *mut sem_t) -> c_int = lock::sem_wait, "waits in virtual time";
    fn sem_timedwait(semaphore: *mut sem_t, time: *const timespec) -> c_int = lock::sem_timedwait, "waits in virtual time";
    fn sem_clockwait(semaphore: *mut sem_t, clock: c_int, time: *const timespec) -> c_int = lock::sem_clockwait, "waits in virtual time";
    fn sem_trywait(semaphore: *mut sem_t) -> c_int = lock::sem_trywait, "counts the call";
    fn sem_post(semaphore: *mut sem_t) -> c_int = lock::sem_post, "wakes one";
    fn pthread_barrier_init(barrier: *mut c_void, attributes: *const c_void, size: c_uint) -> c_int = lock::barrier_init, "remembers for how many it is";
    fn pthread_barrier_destroy(barrier: *mut c_void) -> c_int = lock::barrier_destroy, "forgets it";
    fn pthread_barrier_wait(barrier: *mut c_void) -> c_int = lock::barrier_wait, "waits in virtual time";

    "C11 threads":
    fn mtx_lock(mutex: *mut pthread_mutex_t) -> c_int = c11::mtx_lock, "as `pthread_mutex_lock`";
    fn mtx_trylock(mutex: *mut pthread_mutex_t) -> c_int = c11::mtx_trylock, "as `pthread_mutex_trylock`";
    fn mtx_timedlock(mutex: *mut pthread_mutex_t, time: *const timespec) -> c_int = c11::mtx_timedlock, "as `pthread_mutex_timedlock`";
    fn mtx_unlock(mutex: *mut pthread_mutex_t) -> c_int = c11::mtx_unlock, "as `pthread_mutex_unlock`";
    #[always] fn cnd_init(condition: *mut pthread_cond_t) -> c_int = c11::cnd_init, "as `pthread_cond_init`";
    #[always] fn cnd_destroy(condition: *mut pthread_cond_t) = c11::cnd_destroy, "as `pthread_cond_destroy`";
    fn cnd_wait(condition: *mut pthread_cond_t, mutex: *mut pthread_mutex_t) -> c_int = c11::cnd_wait, "as `pthread_cond_wait`";
    fn cnd_timedwait(condition: *mut pthread_cond_t, mutex: *mut pthread_mutex_t, time: *const timespec) -> c_int = c11::cnd_timedwait, "as `pthread_cond_timedwait`";
    fn cnd_signal(condition: *mut pthread_cond_t) -> c_int = c11::cnd_signal, "as `pthread_cond_signal`";
    fn cnd_broadcast(condition: *mut pthread_cond_t) -> c_int = c11::cnd_broadcast, "as `pthread_cond_broadcast`";
    fn call_once(control: *mut c_int, initialise: OnceFn) = c11::call_once, "as `pthread_once`";
    fn thrd_create(out: *mut pthread_t, main: C11ThreadFn, argument: *mut c_void) -> c_int = c11::thrd_create, "as `pthread_create`";
    fn thrd_join(thread: pthread_t, out: *mut c_int) -> c_int = c11::thrd_join, "as `pthread_join`";
    fn thrd_sleep(time: *const timespec, left: *mut timespec) -> c_int = c11::thrd_sleep, "as `nanosleep`";
    fn thrd_yield() = c11::thrd_yield, "as `sched_yield`";

    "threads":
    fn pthread_create(out: *mut pthread_t, attributes: *const pthread_attr_t, start: ThreadFn, argument: *mut c_void) -> c_int = thread::create, "makes a real thread that runs when it is its turn, on the node of its maker";
    fn pthread_join(thread: pthread_t, out: *mut *mut c_void) -> c_int = thread::join, "waits in virtual time";
    fn sched_yield() -> c_int = thread::sched_yield, "lets others run";
    fn syscall(number: c_long, a: c_long, b: c_long, c: c_long, d: c_long, e: c_long, f: c_long) -> c_long = thread::syscall, "futexes, random numbers and a few more; ends the run for what is not simulated";

    "time":
    fn clock_gettime(clock: clockid_t, out: *mut timespec) -> c_int = clock::clock_gettime, "virtual time, of the node's clock";
    fn clock_getres(clock: clockid_t, out: *mut timespec) -> c_int = clock::clock_getres, "a nanosecond";
    fn timespec_get(out: *mut timespec, base: c_int) -> c_int = clock::timespec_get, "virtual time";
    fn gettimeofday(out: *mut timeval, zone: *mut c_void) -> c_int = clock::gettimeofday, "virtual time";
    fn time(out: *mut time_t) -> time_t = clock::time, "virtual time";
    fn clock() -> c_long = clock::clock, "virtual time";
    fn nanosleep(time: *const timespec, left: *mut timespec) -> c_int = clock::nanosleep, "sleeps in virtual time";
    fn clock_nanosleep(clock: clockid_t, flags: c_int, time: *const timespec, left: *mut timespec) -> c_int = clock::clock_nanosleep, "sleeps in virtual time";
    fn usleep(micros: c_uint) -> c_int = clock::usleep, "sleeps in virtual time";
    fn sleep(seconds: c_uint) -> c_uint = clock::sleep, "sleeps in virtual time";

    "identity and chance":
    #[always] fn getrandom(out: *mut c_void, length: size_t, flags: c_uint) -> ssize_t = identity::getrandom, "from the seed, inside the kernel too";
    fn getentropy(out: *mut c_void, length: size_t) -> c_int = identity::getentropy, "from the seed";
    fn rand_r(seed: *mut c_uint) -> c_int = identity::rand_r, "from the seed of the simulation, not the program's";
    fn rand() -> c_int = identity::rand, "from the seed of the simulation, not the program's";
    fn random() -> c_long = identity::libc_random, "from the seed of the simulation, not the program's";
    fn getpid() -> pid_t = identity::getpid, "a number of the node and how often it crashed";
    fn getppid() -> pid_t = identity::getppid, "1";
    fn gettid() -> pid_t = identity::gettid, "the thread's number in the simulation";
    fn gethostname(out: *mut c_char, length: size_t) -> c_int = identity::gethostname, "the node's name";
    fn __gethostname_chk(out: *mut c_char, length: size_t, room: size_t) -> c_int = identity::gethostname_chk, "as `gethostname`";
    fn uname(out: *mut utsname) -> c_int = identity::uname, "the node's name on a Linux like any other";
    fn sched_getaffinity(process: pid_t, size: size_t, out: *mut cpu_set_t) -> c_int = identity::sched_getaffinity, "two processors";
    fn sysconf(name: c_int) -> c_long = identity::sysconf, "two processors, 8 GiB of memory; the rest is real";
    fn sysinfo(out: *mut sysinfo) -> c_int = identity::sysinfo, "8 GiB of memory, half of it free, up for as long as the simulation";
    fn getloadavg(out: *mut c_double, count: c_int) -> c_int = identity::getloadavg, "it cannot be known";
    fn getrusage(who: c_int, out: *mut rusage) -> c_int = clock::getrusage, "virtual time; nothing else was used";
    fn times(out: *mut tms) -> clock_t = clock::times, "virtual time";

    "descriptors":
    fn read(fd: c_int, buffer: *mut c_void, length: size_t) -> ssize_t = file::read, "simulated objects; files are real, and what is read is hashed";
    fn readv(fd: c_int, buffers: *const iovec, count: c_int) -> ssize_t = file::readv, "as `read`";
    fn write(fd: c_int, buffer: *const c_void, length: size_t) -> ssize_t = file::write, "simulated objects; files are real, and what is written is hashed";
    fn writev(fd: c_int, buffers: *const iovec, count: c_int) -> ssize_t = file::writev, "as `write`";
    fn close(fd: c_int) -> c_int = file::close, "simulated objects; files are real";
    fn dup(fd: c_int) -> c_int = file::dup, "simulated objects; files are real";
    fn dup2(fd: c_int, to: c_int) -> c_int = file::dup2, "simulated objects; files are real";
    fn dup3(fd: c_int, to: c_int, flags: c_int) -> c_int = file::dup3, "simulated objects; files are real";
    fn fcntl(fd: c_int, command: c_int, argument: c_long) -> c_int = file::fcntl, "blocking or not, duplicates; files are real";
    fn fcntl64(fd: c_int, command: c_int, argument: c_long) -> c_int = file::fcntl, "as `fcntl`";
    fn ioctl(fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int = file::ioctl, "FIONBIO, FIONREAD; files are real";
    fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int = file::open, "real, but random devices give the seed's bytes and what describes the machine is not there";
    fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int = file::open, "as `open`";
    fn openat(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int = file::openat, "as `open`";
    fn openat64(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int = file::openat, "as `open`";
    fn fopen(path: *const c_char, mode: *const c_char) -> *mut FILE = file::fopen, "as `open`";
    fn fopen64(path: *const c_char, mode: *const c_char) -> *mut FILE = file::fopen, "as `open`";
    fn flock(fd: c_int, operation: c_int) -> c_int = file::flock, "grants it: there is nobody else";
    fn __read_chk(fd: c_int, buffer: *mut c_void, length: size_t, room: size_t) -> ssize_t = file::read_chk, "as `read`";

    "sockets":
    fn socket(family: c_int, kind: c_int, protocol: c_int) -> c_int = socket::socket, "TCP over IPv4; `EAFNOSUPPORT` for the rest";
    fn socketpair(family: c_int, kind: c_int, protocol: c_int, out: *mut c_int) -> c_int = socket::socketpair, "two connected sockets of a node";
    fn bind(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int = socket::bind, "an address of the node";
    fn listen(fd: c_int, backlog: c_int) -> c_int = socket::listen, "accepts connections from the simulated network";
    fn accept(fd: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int = socket::accept, "waits in virtual time";
    fn accept4(fd: c_int, address: *mut sockaddr, length: *mut socklen_t, flags: c_int) -> c_int = socket::accept4, "waits in virtual time";
    fn connect(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int = socket::connect, "over the simulated network";
    fn getsockname(fd: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int = socket::getsockname, "the simulated address";
    fn getpeername(fd: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int = socket::getpeername, "the simulated address";
    fn setsockopt(fd: c_int, level: c_int, name: c_int, value: *const c_void, length: socklen_t) -> c_int = socket::setsockopt, "time limits and lingering; others are remembered";
    fn getsockopt(fd: c_int, level: c_int, name: c_int, out: *mut c_void, length: *mut socklen_t) -> c_int = socket::getsockopt, "pending errors, and what was set";
    fn shutdown(fd: c_int, how: c_int) -> c_int = socket::shutdown, "half-close";
    fn recv(fd: c_int, buffer: *mut c_void, length: size_t, flags: c_int) -> ssize_t = socket::recv, "waits in virtual time";
    fn recvfrom(fd: c_int, buffer: *mut c_void, length: size_t, flags: c_int, address: *mut sockaddr, address_length: *mut socklen_t) -> ssize_t = socket::recvfrom, "as `recv`";
    fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t = socket::recvmsg, "as `recv`";
    fn send(fd: c_int, buffer: *const c_void, length: size_t, flags: c_int) -> ssize_t = socket::send, "over the simulated network";
    fn sendto(fd: c_int, buffer: *const c_void, length: size_t, flags: c_int, address: *const sockaddr, address_length: socklen_t) -> ssize_t = socket::sendto, "as `send`";
    fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t = socket::sendmsg, "as `send`";
    fn getaddrinfo(host: *const c_char, service: *const c_char, hints: *const addrinfo, out: *mut *mut addrinfo) -> c_int = resolve::getaddrinfo, "numbers, `localhost`, names of nodes";
    fn getifaddrs(out: *mut *mut c_void) -> c_int = socket::getifaddrs, "none";
    fn freeifaddrs(list: *mut c_void) = socket::freeifaddrs, "of none";
    fn __recv_chk(fd: c_int, buffer: *mut c_void, length: size_t, room: size_t, flags: c_int) -> ssize_t = socket::recv_chk, "as `recv`";
    fn __recvfrom_chk(fd: c_int, buffer: *mut c_void, length: size_t, room: size_t, flags: c_int, address: *mut sockaddr, address_length: *mut socklen_t) -> ssize_t = socket::recvfrom_chk, "as `recv`";

    "waiting":
    fn poll(entries: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int = wait::poll, "waits in virtual time; files are always ready";
    fn ppoll(entries: *mut pollfd, count: nfds_t, timeout: *const timespec, mask: *const sigset_t) -> c_int = wait::ppoll, "as `poll`; there are no signals";
    fn __poll_chk(entries: *mut pollfd, count: nfds_t, timeout: c_int, room: size_t) -> c_int = wait::poll_chk, "as `poll`";
    fn __ppoll_chk(entries: *mut pollfd, count: nfds_t, timeout: *const timespec, mask: *const sigset_t, room: size_t) -> c_int = wait::ppoll_chk, "as `poll`";
    fn select(count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, timeout: *mut timeval) -> c_int = wait::select, "as `poll`";
    fn epoll_create(size: c_int) -> c_int = wait::epoll_create, "a simulated set";
    fn epoll_create1(flags: c_int) -> c_int = wait::epoll_create1, "a simulated set";
    fn epoll_ctl(set: c_int, operation: c_int, fd: c_int, event: *mut epoll_event) -> c_int = wait::epoll_ctl, "level and edge triggered, one-shot";
    fn epoll_wait(set: c_int, out: *mut epoll_event, room: c_int, timeout: c_int) -> c_int = wait::epoll_wait, "waits in virtual time";
    fn epoll_pwait(set: c_int, out: *mut epoll_event, room: c_int, timeout: c_int, mask: *const sigset_t) -> c_int = wait::epoll_pwait, "as `epoll_wait`; there are no signals";
    fn eventfd(count: c_uint, flags: c_int) -> c_int = wait::eventfd, "a simulated counter";
    fn pipe(out: *mut c_int) -> c_int = wait::pipe, "a simulated pipe";
    fn pipe2(out: *mut c_int, flags: c_int) -> c_int = wait::pipe2, "a simulated pipe";
    fn timerfd_create(clock: c_int, flags: c_int) -> c_int = wait::timerfd_create, "a simulated timer";
    fn timerfd_settime(fd: c_int, flags: c_int, to: *const itimerspec, before: *mut itimerspec) -> c_int = wait::timerfd_settime, "goes off in virtual time";
    fn timerfd_gettime(fd: c_int, out: *mut itimerspec) -> c_int = wait::timerfd_gettime, "what it is set to";

    "processes":
    fn pthread_sigmask(how: c_int, set: *const sigset_t, old: *mut sigset_t) -> c_int = process::pthread_sigmask, "real, but the guard's signals stay open";
    fn sigprocmask(how: c_int, set: *const sigset_t, old: *mut sigset_t) -> c_int = process::sigprocmask, "as `pthread_sigmask`";
    fn sigaction(signal: c_int, new: *const sigaction, old: *mut sigaction) -> c_int = process::sigaction, "real, but the guard's signals stay its own: it passes the program's faults on";
    fn signal(signal: c_int, handler: sighandler_t) -> sighandler_t = process::signal, "as `sigaction`";
    fn fork() -> pid_t = process::fork, "`ENOSYS`: there are no other processes; ends the run of a program that was not built for this";
    fn system(command: *const c_char) -> c_int = process::system, "as `fork`";
    fn popen(command: *const c_char, kind: *const c_char) -> *mut FILE = process::popen, "as `fork`";
    fn posix_spawn(pid: *mut pid_t, path: *const c_char, actions: *const c_void, attributes: *const c_void, arguments: *const *mut c_char, environment: *const *mut c_char) -> c_int = process::posix_spawn, "as `fork`";
    fn posix_spawnp(pid: *mut pid_t, path: *const c_char, actions: *const c_void, attributes: *const c_void, arguments: *const *mut c_char, environment: *const *mut c_char) -> c_int = process::posix_spawn, "as `fork`";
}
