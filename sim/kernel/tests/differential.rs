//! The same little programs on the real system and on the simulated one: every result, every error number, every
//! readiness bit is the same.
#![cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
#![allow(clippy::undocumented_unsafe_blocks, reason = "every block here calls libc with buffers of the test's own")]
#![allow(clippy::disallowed_methods, reason = "the programs sleep, in virtual time or for milliseconds")]

use libc::*;
use rehearsal_sim_kernel::config::Config;
use rehearsal_sim_kernel::front::child::Child;
use std::mem::zeroed;
use std::ptr::{null, null_mut};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// What a program saw, line by line.
#[derive(Default)]
struct Seen(String);

impl Seen {
    /// Notes what a call returned, and the error number if it failed.
    fn call(&mut self, what: &str, result: impl TryInto<i64>) -> i64 {
        let result = result.try_into().unwrap_or(i64::MIN);
        if result == -1 {
            let error = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
            self.0 += &format!("{what}: errno {error}\n");
        } else {
            self.0 += &format!("{what}: {result}\n");
        }
        result
    }

    /// Notes what `poll` says of a descriptor, without waiting.
    fn poll(&mut self, what: &str, fd: c_int) {
        let mut entry = pollfd { fd, events: POLLIN | POLLOUT | POLLRDHUP, revents: 0 };
        unsafe { poll(&mut entry, 1, 0) };
        self.0 += &format!("{what}: {:#x}\n", entry.revents);
    }

    fn note(&mut self, what: &str, value: impl std::fmt::Debug) {
        self.0 += &format!("{what}: {value:?}\n");
    }
}

/// Runs a program both ways.
fn same(program: fn(&mut Seen)) {
    let run = move || {
        let mut seen = Seen::default();
        program(&mut seen);
        seen.0
    };
    // A process forked meanwhile would keep the other end of what the program closes.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    for seed in 0..3 {
        let config = Config { preempt: 500, split: 500, ..Config::with_seed(seed) };
        let outcome = Child::start(config, Box::new(move || run().into_bytes())).expect("a child").wait();
        assert_eq!(outcome.failure, None);
        let simulated = String::from_utf8(outcome.returned).expect("text");
        let real = run();
        assert_eq!(simulated, real, "left: simulated, right: real");
    }
}

fn settle() {
    thread::sleep(Duration::from_millis(20));
}

fn write_to(fd: c_int, bytes: &[u8]) -> isize {
    unsafe { write(fd, bytes.as_ptr().cast(), bytes.len()) }
}

fn read_from(fd: c_int, length: usize) -> (isize, Vec<u8>) {
    let mut buffer = vec![0; length];
    let read = unsafe { read(fd, buffer.as_mut_ptr().cast(), length) };
    buffer.truncate(usize::try_from(read).unwrap_or(0));
    (read, buffer)
}

fn pipe_with(flags: c_int) -> (c_int, c_int) {
    let mut ends = [0; 2];
    assert_eq!(unsafe { pipe2(ends.as_mut_ptr(), flags) }, 0);
    (ends[0], ends[1])
}

fn close_all(fds: &[c_int]) {
    for fd in fds {
        unsafe { close(*fd) };
    }
}

#[test]
fn pipes() {
    same(|seen| {
        let (reader, writer) = pipe_with(O_NONBLOCK);
        seen.poll("empty reader", reader);
        seen.poll("empty writer", writer);
        seen.call("read of nothing", read_from(reader, 10).0);
        seen.call("write", write_to(writer, b"hello"));
        seen.poll("reader", reader);
        seen.note("part", read_from(reader, 3));
        seen.note("rest", read_from(reader, 10));
        let mut written = 0;
        while let some @ 1.. = write_to(writer, &[7; 10_000]) {
            written += some;
        }
        seen.note("capacity", written);
        seen.call("full", write_to(writer, &[7; 4_096]));
        seen.poll("full writer", writer);
        while let (1.., _) = read_from(reader, 65_536) {}
        seen.call("read by writer", read_from(writer, 1).0);
        seen.call("write by reader", write_to(reader, b"x"));
        seen.call("write", write_to(writer, b"bye"));
        seen.call("close writer", unsafe { close(writer) });
        seen.poll("reader with bytes and no writer", reader);
        seen.note("last", read_from(reader, 10));
        seen.call("end", read_from(reader, 10).0);
        seen.poll("reader at the end", reader);
        seen.call("close reader", unsafe { close(reader) });
        seen.call("close again", unsafe { close(reader) });
        let (reader, writer) = pipe_with(0);
        close_all(&[reader]);
        seen.poll("writer without reader", writer);
        seen.call("write without reader", write_to(writer, b"x"));
        close_all(&[writer]);
    });
}

#[test]
fn pipes_that_block() {
    same(|seen| {
        let (reader, writer) = pipe_with(0);
        let writes = thread::spawn(move || {
            let written = write_to(writer, &[1; 200_000]);
            close_all(&[writer]);
            written
        });
        let mut read = 0;
        while let (some @ 1.., _) = read_from(reader, 7_000) {
            read += some;
        }
        seen.note("read", read);
        seen.note("written", writes.join().expect("no panic"));
        close_all(&[reader]);
    });
}

#[test]
fn event_counters() {
    same(|seen| {
        let word = |value: u64| value.to_ne_bytes();
        let event = unsafe { eventfd(3, EFD_NONBLOCK) };
        seen.poll("three", event);
        seen.note("takes all", read_from(event, 8));
        seen.poll("none", event);
        seen.call("nothing to read", read_from(event, 8).0);
        seen.call("small buffer", read_from(event, 7).0);
        seen.call("all ones", write_to(event, &word(u64::MAX)));
        seen.call("most", write_to(event, &word(u64::MAX - 1)));
        seen.poll("full", event);
        seen.call("one too many", write_to(event, &word(1)));
        seen.call("short", write_to(event, &[1, 2, 3]));
        close_all(&[event]);
        let semaphore = unsafe { eventfd(2, EFD_NONBLOCK | EFD_SEMAPHORE) };
        seen.note("one", read_from(semaphore, 8));
        seen.note("another", read_from(semaphore, 16));
        seen.call("no more", read_from(semaphore, 8).0);
        close_all(&[semaphore]);
    });
}

#[test]
fn timers_with_descriptors() {
    same(|seen| {
        let timer = unsafe { timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK) };
        seen.poll("not set", timer);
        seen.call("not set", read_from(timer, 8).0);
        let mut setting: itimerspec = unsafe { zeroed() };
        setting.it_value.tv_nsec = 1_000_000;
        seen.call("set", unsafe { timerfd_settime(timer, 0, &setting, null_mut()) });
        settle();
        seen.poll("went off", timer);
        seen.note("once", read_from(timer, 8));
        seen.call("read again", read_from(timer, 8).0);
        setting.it_interval.tv_sec = 3;
        setting.it_value.tv_sec = 1_000;
        seen.call("set far", unsafe { timerfd_settime(timer, 0, &setting, null_mut()) });
        let mut was: itimerspec = unsafe { zeroed() };
        seen.call("get", unsafe { timerfd_gettime(timer, &mut was) });
        seen.note("interval", was.it_interval.tv_sec);
        seen.note("about", was.it_value.tv_sec);
        setting = unsafe { zeroed() };
        seen.call("unset", unsafe { timerfd_settime(timer, 0, &setting, &mut was) });
        seen.note("was", was.it_interval.tv_sec);
        setting.it_value.tv_nsec = 2_000_000_000;
        seen.call("nonsense", unsafe { timerfd_settime(timer, 0, &setting, null_mut()) });
        seen.call("write", write_to(timer, &[0; 8]));
        close_all(&[timer]);
    });
}

fn ready_of(set: c_int) -> Vec<(u32, u64)> {
    let mut events = [epoll_event { events: 0, u64: 0 }; 8];
    let count = unsafe { epoll_wait(set, events.as_mut_ptr(), 8, 0) };
    let mut found: Vec<(u32, u64)> =
        events[..usize::try_from(count).unwrap_or(0)].iter().map(|event| (event.events, event.u64)).collect();
    found.sort_unstable();
    found
}

fn watch(set: c_int, operation: c_int, fd: c_int, events: c_int, data: u64) -> c_int {
    let mut event = epoll_event { events: events as u32, u64: data };
    unsafe { epoll_ctl(set, operation, fd, &mut event) }
}

#[test]
fn epoll_level_edge_and_one_shot() {
    same(|seen| {
        let set = unsafe { epoll_create1(0) };
        let (reader, writer) = pipe_with(O_NONBLOCK);
        seen.call("add", watch(set, EPOLL_CTL_ADD, reader, EPOLLIN, 1));
        seen.call("add twice", watch(set, EPOLL_CTL_ADD, reader, EPOLLIN, 1));
        seen.call("change a stranger", watch(set, EPOLL_CTL_MOD, writer, EPOLLOUT, 2));
        seen.call("remove a stranger", watch(set, EPOLL_CTL_DEL, writer, 0, 0));
        seen.call("watch itself", watch(set, EPOLL_CTL_ADD, set, EPOLLIN, 3));
        seen.call("not a set", watch(reader, EPOLL_CTL_ADD, writer, EPOLLOUT, 3));
        seen.note("nothing", ready_of(set));
        write_to(writer, b"a");
        seen.note("level", ready_of(set));
        seen.note("level stays", ready_of(set));
        read_from(reader, 10);
        seen.note("level is over", ready_of(set));
        seen.call("edge", watch(set, EPOLL_CTL_MOD, reader, EPOLLIN | EPOLLET, 4));
        write_to(writer, b"b");
        seen.note("edge", ready_of(set));
        seen.note("edge is told once", ready_of(set));
        write_to(writer, b"c");
        seen.note("another edge", ready_of(set));
        seen.call("edge anew", watch(set, EPOLL_CTL_MOD, reader, EPOLLIN | EPOLLET, 5));
        seen.note("told anew", ready_of(set));
        read_from(reader, 1);
        seen.note("a read is no edge", ready_of(set));
        seen.call("one shot", watch(set, EPOLL_CTL_MOD, reader, EPOLLIN | EPOLLONESHOT, 6));
        seen.note("shot", ready_of(set));
        write_to(writer, b"d");
        seen.note("no more", ready_of(set));
        seen.call("again", watch(set, EPOLL_CTL_MOD, reader, EPOLLIN | EPOLLONESHOT, 7));
        seen.note("again", ready_of(set));
        close_all(&[writer]);
        seen.note("one shot hides the hang-up", ready_of(set));
        seen.call("without interest", watch(set, EPOLL_CTL_MOD, reader, 0, 8));
        seen.note("hang-up comes unasked", ready_of(set));
        seen.poll("the set itself", set);
        let copy = unsafe { dup(reader) };
        close_all(&[reader]);
        seen.note("a duplicate keeps it watched", ready_of(set));
        close_all(&[copy]);
        seen.note("closing removes", ready_of(set));
        close_all(&[set]);
    });
}

#[test]
fn epoll_of_a_counter_both_ways() {
    same(|seen| {
        let (set, event) = unsafe { (epoll_create1(0), eventfd(0, EFD_NONBLOCK)) };
        watch(set, EPOLL_CTL_ADD, event, EPOLLIN | EPOLLOUT | EPOLLET, 1);
        seen.note("writable", ready_of(set));
        seen.note("once", ready_of(set));
        write_to(event, &1_u64.to_ne_bytes());
        seen.note("both", ready_of(set));
        write_to(event, &1_u64.to_ne_bytes());
        seen.note("both again", ready_of(set));
        close_all(&[set, event]);
    });
}

#[test]
fn epoll_waits_in_another_thread() {
    same(|seen| {
        let (set, (reader, writer)) = (unsafe { epoll_create1(0) }, pipe_with(O_NONBLOCK));
        watch(set, EPOLL_CTL_ADD, reader, EPOLLIN | EPOLLET, 9);
        let waiter = thread::spawn(move || {
            let mut event = epoll_event { events: 0, u64: 0 };
            let count = unsafe { epoll_wait(set, &mut event, 1, -1) };
            (count, event.u64)
        });
        settle();
        write_to(writer, b"x");
        seen.note("woken", waiter.join().expect("no panic"));
        let mut event = epoll_event { events: 0, u64: 0 };
        seen.call("times out", unsafe { epoll_wait(set, &mut event, 1, 10) });
        seen.call("no room", unsafe { epoll_wait(set, &mut event, 0, 0) });
        seen.call("not a set", unsafe { epoll_wait(reader, &mut event, 1, 0) });
        close_all(&[set, reader, writer]);
    });
}

fn loopback(port: u16) -> sockaddr_in {
    let mut address: sockaddr_in = unsafe { zeroed() };
    address.sin_family = AF_INET as sa_family_t;
    address.sin_port = port.to_be();
    address.sin_addr.s_addr = u32::from(std::net::Ipv4Addr::LOCALHOST).to_be();
    address
}

const ADDRESS: socklen_t = size_of::<sockaddr_in>() as socklen_t;

fn tcp(flags: c_int) -> c_int {
    let fd = unsafe { socket(AF_INET, SOCK_STREAM | flags, 0) };
    assert!(fd >= 0);
    fd
}

fn bind_to(fd: c_int, address: &sockaddr_in) -> c_int {
    unsafe { bind(fd, std::ptr::from_ref(address).cast(), ADDRESS) }
}

fn connect_to(fd: c_int, address: &sockaddr_in) -> c_int {
    unsafe { connect(fd, std::ptr::from_ref(address).cast(), ADDRESS) }
}

fn address_of(fd: c_int) -> sockaddr_in {
    let (mut address, mut length) = (loopback(0), ADDRESS);
    assert_eq!(unsafe { getsockname(fd, (&raw mut address).cast(), &mut length) }, 0);
    address
}

/// A listening socket and its address.
fn listener(flags: c_int) -> (c_int, sockaddr_in) {
    let fd = tcp(flags);
    assert_eq!(bind_to(fd, &loopback(0)), 0);
    assert_eq!(unsafe { listen(fd, 16) }, 0);
    (fd, address_of(fd))
}

/// Two connected sockets: the client's, the server's.
fn connection() -> (c_int, c_int) {
    let (listening, address) = listener(0);
    let client = tcp(0);
    assert_eq!(connect_to(client, &address), 0);
    let server = unsafe { accept(listening, null_mut(), null_mut()) };
    assert!(server >= 0);
    close_all(&[listening]);
    (client, server)
}

/// A port nobody listens on.
fn closed_port() -> sockaddr_in {
    let (fd, address) = listener(0);
    close_all(&[fd]);
    address
}

fn pending_error(fd: c_int) -> c_int {
    let (mut error, mut length) = (0, size_of::<c_int>() as socklen_t);
    unsafe { getsockopt(fd, SOL_SOCKET, SO_ERROR, (&raw mut error).cast(), &mut length) };
    error
}

fn nonblocking(fd: c_int) {
    unsafe { fcntl(fd, F_SETFL, O_NONBLOCK) };
}

#[test]
fn connections_refused() {
    same(|seen| {
        let nobody = closed_port();
        let blocking = tcp(0);
        seen.call("blocking", connect_to(blocking, &nobody));
        seen.note("already taken", pending_error(blocking));
        close_all(&[blocking]);
        let fd = tcp(SOCK_NONBLOCK);
        seen.poll("fresh", fd);
        let first = connect_to(fd, &nobody);
        let in_progress = std::io::Error::last_os_error().raw_os_error();
        seen.note("begins, or fails at once on loopback", first);
        assert!(matches!(in_progress, Some(EINPROGRESS | ECONNREFUSED)));
        settle();
        if in_progress == Some(EINPROGRESS) {
            seen.poll("refused", fd);
            seen.note("error", pending_error(fd));
            seen.note("taken", pending_error(fd));
            seen.poll("error taken", fd);
        }
        seen.call("read", read_from(fd, 1).0);
        seen.call("write", write_to(fd, b"x"));
        close_all(&[fd]);
    });
}

#[test]
fn sockets_not_connected() {
    same(|seen| {
        let fd = tcp(SOCK_NONBLOCK);
        let (mut address, mut length) = (loopback(0), ADDRESS);
        seen.call("peer", unsafe { getpeername(fd, (&raw mut address).cast(), &mut length) });
        seen.call("read", read_from(fd, 1).0);
        seen.call("write", write_to(fd, b"x"));
        seen.call("shutdown", unsafe { shutdown(fd, SHUT_WR) });
        seen.call("accept", unsafe { accept(fd, null_mut(), null_mut()) });
        seen.call("bind elsewhere", {
            let mut elsewhere = loopback(0);
            elsewhere.sin_addr.s_addr = u32::from(std::net::Ipv4Addr::new(8, 8, 8, 8)).to_be();
            bind_to(fd, &elsewhere)
        });
        seen.call("bind", bind_to(fd, &loopback(0)));
        seen.call("bind twice", bind_to(fd, &loopback(0)));
        seen.call("listen", unsafe { listen(fd, 1) });
        seen.call("listen again", unsafe { listen(fd, 5) });
        seen.poll("listening", fd);
        seen.call("nobody came", unsafe { accept(fd, null_mut(), null_mut()) });
        seen.call("connect while listening", connect_to(fd, &address_of(fd)));
        let other = tcp(0);
        seen.call("taken", bind_to(other, &address_of(fd)));
        let (reader, writer) = pipe_with(0);
        seen.call("not a socket", connect_to(reader, &loopback(1)));
        close_all(&[fd, other, reader, writer]);
        seen.call("closed", connect_to(fd, &loopback(1)));
        seen.call("no such family", unsafe { socket(AF_APPLETALK, SOCK_STREAM, 0) });
    });
}

#[test]
fn conversations() {
    same(|seen| {
        let (client, server) = connection();
        seen.poll("idle", client);
        seen.call("write", write_to(client, b"hello"));
        settle();
        seen.poll("readable", server);
        let mut waiting = 0;
        seen.call("how much", unsafe { ioctl(server, FIONREAD, &mut waiting) });
        seen.note("bytes", waiting);
        let mut buffer = [0_u8; 16];
        let peeked = unsafe { recv(server, buffer.as_mut_ptr().cast(), 16, MSG_PEEK) };
        seen.note("peek", (peeked, &buffer[..5]));
        seen.note("read", read_from(server, 3));
        seen.note("rest", read_from(server, 16));
        let nothing = unsafe { recv(server, buffer.as_mut_ptr().cast(), 16, MSG_DONTWAIT) };
        seen.call("nothing", nothing);
        nonblocking(server);
        seen.call("nothing", read_from(server, 1).0);
        seen.call("flags", unsafe { fcntl(server, F_GETFL) } & (O_NONBLOCK | O_ACCMODE));
        let parts = [
            iovec { iov_base: b"ab".as_ptr().cast_mut().cast(), iov_len: 2 },
            iovec { iov_base: b"cde".as_ptr().cast_mut().cast(), iov_len: 3 },
        ];
        seen.call("gather", unsafe { writev(client, parts.as_ptr(), 2) });
        settle();
        let (mut one, mut two) = ([0_u8; 1], [0_u8; 8]);
        let parts = [
            iovec { iov_base: one.as_mut_ptr().cast(), iov_len: 1 },
            iovec { iov_base: two.as_mut_ptr().cast(), iov_len: 8 },
        ];
        seen.call("scatter", unsafe { readv(server, parts.as_ptr(), 2) });
        seen.note("scattered", (one, two));
        seen.call("connect twice", connect_to(client, &loopback(1)));
        let copy = unsafe { dup(client) };
        close_all(&[client]);
        seen.call("through a duplicate", write_to(copy, b"x"));
        settle();
        seen.note("arrives", read_from(server, 8));
        close_all(&[copy]);
        settle();
        seen.call("end", read_from(server, 8).0);
        close_all(&[server]);
    });
}

#[test]
fn half_closed_connections() {
    same(|seen| {
        let (client, server) = connection();
        write_to(client, b"last words");
        seen.call("half-close", unsafe { shutdown(client, SHUT_WR) });
        seen.call("again", unsafe { shutdown(client, SHUT_WR) });
        seen.call("write after", write_to(client, b"x"));
        settle();
        seen.poll("server with bytes", server);
        seen.note("bytes first", read_from(server, 32));
        seen.call("then the end", read_from(server, 32).0);
        seen.call("and again", read_from(server, 32).0);
        seen.poll("server at the end", server);
        seen.call("the other half works", write_to(server, b"answer"));
        settle();
        seen.note("answer", read_from(client, 32));
        seen.poll("client", client);
        seen.call("close", unsafe { shutdown(server, SHUT_WR) });
        settle();
        seen.call("client's end", read_from(client, 32).0);
        seen.poll("both halves closed, client", client);
        seen.poll("both halves closed, server", server);
        close_all(&[client, server]);
    });
}

#[test]
fn connections_reset() {
    same(|seen| {
        // Closed with bytes unread.
        let (client, server) = connection();
        write_to(client, b"unread");
        settle();
        close_all(&[server]);
        settle();
        seen.poll("reset", client);
        seen.call("read tells", read_from(client, 1).0);
        seen.call("read again", read_from(client, 1).0);
        seen.call("write", write_to(client, b"x"));
        seen.poll("after", client);
        close_all(&[client]);
        // Written to after the other end is gone.
        let (client, server) = connection();
        close_all(&[server]);
        settle();
        seen.poll("gone", client);
        seen.call("first write", write_to(client, b"x"));
        settle();
        seen.poll("told", client);
        seen.call("second write", write_to(client, b"x"));
        seen.call("third write", write_to(client, b"x"));
        seen.call("read", read_from(client, 1).0);
        close_all(&[client]);
        // What arrived before the reset can still be read; the error comes after.
        let (client, server) = connection();
        write_to(server, b"before");
        settle();
        let hard = linger { l_onoff: 1, l_linger: 0 };
        let length = size_of::<linger>() as socklen_t;
        unsafe { setsockopt(server, SOL_SOCKET, SO_LINGER, (&raw const hard).cast(), length) };
        close_all(&[server]);
        settle();
        seen.poll("hard reset", client);
        seen.note("error", pending_error(client));
        seen.poll("error taken", client);
        close_all(&[client]);
    });
}

#[test]
fn time_limits_of_sockets() {
    same(|seen| {
        let (client, server) = connection();
        let limit = timeval { tv_sec: 0, tv_usec: 20_000 };
        let length = size_of::<timeval>() as socklen_t;
        let set = |name| unsafe { setsockopt(client, SOL_SOCKET, name, (&raw const limit).cast(), length) };
        seen.call("set", set(SO_RCVTIMEO));
        seen.call("read in vain", read_from(client, 1).0);
        seen.call("set", set(SO_SNDTIMEO));
        let mut last = 0;
        for _ in 0..2_000 {
            last = write_to(client, &[0; 65_536]);
            if last < 65_536 {
                break;
            }
        }
        seen.note("a write gives up or is cut short", last < 65_536);
        close_all(&[client, server]);
    });
}

#[test]
fn back_pressure() {
    same(|seen| {
        let (client, server) = connection();
        nonblocking(client);
        nonblocking(server);
        let mut sent = 0;
        loop {
            while let some @ 1.. = write_to(client, &[5; 50_000]) {
                sent += some;
            }
            settle();
            let mut entry = pollfd { fd: client, events: POLLOUT, revents: 0 };
            if unsafe { poll(&mut entry, 1, 0) } == 0 {
                break;
            }
        }
        seen.call("full", write_to(client, &[5; 50_000]));
        seen.poll("full", client);
        let mut received = 0;
        while received < sent {
            match read_from(server, 100_000).0 {
                some @ 1.. => received += some,
                _ => settle(),
            }
        }
        seen.note("all arrives", received == sent);
        settle();
        seen.poll("room again", client);
        close_all(&[client, server]);
    });
}

#[test]
fn pairs() {
    same(|seen| {
        let mut ends = [0; 2];
        seen.call("pair", unsafe { socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends.as_mut_ptr()) });
        let [one, other] = ends;
        seen.poll("idle", one);
        seen.call("nothing", read_from(one, 1).0);
        seen.call("write", write_to(one, b"now"));
        seen.note("at once", read_from(other, 8));
        close_all(&[one]);
        seen.poll("alone", other);
        seen.call("end", read_from(other, 8).0);
        seen.call("write to nobody", write_to(other, b"x"));
        close_all(&[other]);
    });
}

#[test]
fn poll_and_select() {
    same(|seen| {
        let (reader, writer) = pipe_with(O_NONBLOCK);
        let entry = |fd, events| pollfd { fd, events, revents: 0 };
        let mut entries = [entry(reader, POLLIN), entry(-1, POLLIN), entry(writer, POLLOUT), entry(9_999, POLLIN)];
        seen.call("poll", unsafe { poll(entries.as_mut_ptr(), 4, 0) });
        seen.note("found", entries.map(|entry| entry.revents));
        let mut only = entry(reader, POLLIN);
        seen.call("times out", unsafe { poll(&mut only, 1, 5) });
        let time = timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        seen.call("so too", unsafe { ppoll(&mut only, 1, &time, null()) });
        let (mut reads, mut writes): (fd_set, fd_set) = unsafe { (zeroed(), zeroed()) };
        unsafe {
            FD_SET(reader, &mut reads);
            FD_SET(writer, &mut writes);
        }
        let most = reader.max(writer) + 1;
        let mut none = timeval { tv_sec: 0, tv_usec: 0 };
        seen.call("select", unsafe { select(most, &mut reads, &mut writes, null_mut(), &mut none) });
        seen.note("sets", unsafe { (FD_ISSET(reader, &reads), FD_ISSET(writer, &writes)) });
        let waker = thread::spawn(move || {
            settle();
            write_to(writer, b"x")
        });
        seen.call("woken", unsafe { poll(&mut only, 1, -1) });
        seen.note("found", only.revents);
        waker.join().expect("no panic");
        close_all(&[reader, writer]);
    });
}

#[test]
fn duplicates() {
    same(|seen| {
        let (reader, writer) = pipe_with(O_NONBLOCK);
        let copy = unsafe { fcntl(writer, F_DUPFD_CLOEXEC, 100) };
        seen.note("at or after 100", copy >= 100);
        seen.call("cloexec", unsafe { fcntl(copy, F_GETFD) });
        close_all(&[writer]);
        seen.poll("still a writer", reader);
        seen.call("write", write_to(copy, b"x"));
        seen.call("replace", i64::from(unsafe { dup2(reader, copy) } == copy));
        seen.poll("no writer any more", reader);
        seen.note("the copy reads", read_from(copy, 8));
        seen.call("onto itself", i64::from(unsafe { dup2(copy, copy) } == copy));
        seen.call("of nothing", unsafe { dup2(9_999, 7) });
        close_all(&[reader, copy]);
    });
}

fn soon(clock: c_int, millis: i64) -> timespec {
    let mut time: timespec = unsafe { zeroed() };
    unsafe { clock_gettime(clock, &mut time) };
    time.tv_nsec += millis * 1_000_000;
    time.tv_sec += time.tv_nsec / 1_000_000_000;
    time.tv_nsec %= 1_000_000_000;
    time
}

#[test]
fn mutexes_and_conditions() {
    same(|seen| unsafe {
        let (mut mutex, mut condition) = (PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER);
        seen.note("lock", pthread_mutex_lock(&mut mutex));
        seen.note("try", pthread_mutex_trylock(&mut mutex));
        seen.note("timed", pthread_mutex_timedlock(&mut mutex, &soon(CLOCK_REALTIME, 5)));
        seen.note("wait", pthread_cond_timedwait(&mut condition, &mut mutex, &soon(CLOCK_REALTIME, 5)));
        seen.note("past", pthread_cond_timedwait(&mut condition, &mut mutex, &soon(CLOCK_REALTIME, -5_000)));
        let nonsense = timespec { tv_sec: 1, tv_nsec: 1_000_000_000 };
        seen.note("nonsense", pthread_cond_timedwait(&mut condition, &mut mutex, &nonsense));
        seen.note("still locked", pthread_mutex_trylock(&mut mutex));
        seen.note("signal to nobody", pthread_cond_signal(&mut condition));
        seen.note("is lost", pthread_cond_timedwait(&mut condition, &mut mutex, &soon(CLOCK_REALTIME, 5)));
        seen.note("unlock", pthread_mutex_unlock(&mut mutex));
        let mut attributes: pthread_condattr_t = zeroed();
        pthread_condattr_init(&mut attributes);
        pthread_condattr_setclock(&mut attributes, CLOCK_MONOTONIC);
        let mut monotonic: pthread_cond_t = zeroed();
        seen.note("init", pthread_cond_init(&mut monotonic, &attributes));
        pthread_mutex_lock(&mut mutex);
        seen.note("monotonic", pthread_cond_timedwait(&mut monotonic, &mut mutex, &soon(CLOCK_MONOTONIC, 5)));
        pthread_mutex_unlock(&mut mutex);
        seen.note("destroy", pthread_cond_destroy(&mut monotonic));
        let mut attributes: pthread_mutexattr_t = zeroed();
        pthread_mutexattr_init(&mut attributes);
        pthread_mutexattr_settype(&mut attributes, PTHREAD_MUTEX_RECURSIVE);
        let mut recursive: pthread_mutex_t = zeroed();
        pthread_mutex_init(&mut recursive, &attributes);
        seen.note("once", pthread_mutex_lock(&mut recursive));
        seen.note("twice", pthread_mutex_lock(&mut recursive));
        seen.note("and back", (pthread_mutex_unlock(&mut recursive), pthread_mutex_unlock(&mut recursive)));
        seen.note("destroy", pthread_mutex_destroy(&mut recursive));
    });
}

/// Objects that several threads of a test use.
struct Shared<T>(std::cell::UnsafeCell<T>);

unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    fn get(&self) -> *mut T {
        self.0.get()
    }
}

#[test]
fn a_signal_wakes_one_and_a_broadcast_all() {
    same(|seen| {
        static MUTEX: Shared<pthread_mutex_t> = Shared::new(PTHREAD_MUTEX_INITIALIZER);
        static CONDITION: Shared<pthread_cond_t> = Shared::new(PTHREAD_COND_INITIALIZER);
        static STATE: Shared<(u32, u32)> = Shared::new((0, 0));
        unsafe { *STATE.get() = (0, 0) };
        let waiters: Vec<_> = (0..4)
            .map(|_| {
                thread::spawn(|| unsafe {
                    pthread_mutex_lock(MUTEX.get());
                    while (*STATE.get()).0 == 0 {
                        pthread_cond_wait(CONDITION.get(), MUTEX.get());
                    }
                    (*STATE.get()).0 -= 1;
                    (*STATE.get()).1 += 1;
                    pthread_mutex_unlock(MUTEX.get());
                })
            })
            .collect();
        settle();
        unsafe {
            pthread_mutex_lock(MUTEX.get());
            (*STATE.get()).0 = 1;
            pthread_cond_signal(CONDITION.get());
            pthread_mutex_unlock(MUTEX.get());
            settle();
            pthread_mutex_lock(MUTEX.get());
            seen.note("one went", (*STATE.get()).1);
            (*STATE.get()).0 = 3;
            pthread_cond_broadcast(CONDITION.get());
            pthread_mutex_unlock(MUTEX.get());
        }
        for waiter in waiters {
            waiter.join().expect("no panic");
        }
        seen.note("all went", unsafe { *STATE.get() });
    });
}

#[test]
fn read_write_locks_and_semaphores() {
    unsafe extern "C" {
        fn pthread_rwlock_timedrdlock(lock: *mut pthread_rwlock_t, time: *const timespec) -> c_int;
        fn pthread_rwlock_timedwrlock(lock: *mut pthread_rwlock_t, time: *const timespec) -> c_int;
    }
    same(|seen| unsafe {
        let mut lock = PTHREAD_RWLOCK_INITIALIZER;
        seen.note("read", pthread_rwlock_rdlock(&mut lock));
        seen.note("read twice", pthread_rwlock_tryrdlock(&mut lock));
        seen.note("no write", pthread_rwlock_trywrlock(&mut lock));
        seen.note("nor in time", pthread_rwlock_timedwrlock(&mut lock, &soon(CLOCK_REALTIME, 5)));
        seen.note("unlock", (pthread_rwlock_unlock(&mut lock), pthread_rwlock_unlock(&mut lock)));
        seen.note("write", pthread_rwlock_wrlock(&mut lock));
        let address = (&raw mut lock).addr();
        let reader = thread::spawn(move || {
            let lock = std::ptr::with_exposed_provenance_mut::<pthread_rwlock_t>(address);
            (pthread_rwlock_tryrdlock(lock), pthread_rwlock_timedrdlock(lock, &soon(CLOCK_REALTIME, 5)))
        });
        (&raw mut lock).expose_provenance();
        seen.note("no read", reader.join().expect("no panic"));
        seen.note("unlock", pthread_rwlock_unlock(&mut lock));
        let mut semaphore: sem_t = zeroed();
        seen.call("init", sem_init(&mut semaphore, 0, 1));
        seen.call("wait", sem_wait(&mut semaphore));
        seen.call("try", sem_trywait(&mut semaphore));
        seen.call("in time", sem_timedwait(&mut semaphore, &soon(CLOCK_REALTIME, 5)));
        seen.call("post", sem_post(&mut semaphore));
        seen.call("wait", sem_wait(&mut semaphore));
    });
}

#[test]
fn once_and_barriers() {
    unsafe extern "C" {
        fn pthread_once(control: *mut c_int, initialise: extern "C" fn()) -> c_int;
    }
    same(|seen| {
        static RAN: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        extern "C" fn initialise() {
            settle(); // others come meanwhile
            RAN.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
        RAN.store(0, std::sync::atomic::Ordering::SeqCst);
        let control: &'static Shared<c_int> = Box::leak(Box::new(Shared::new(0)));
        let barrier: &'static Shared<pthread_barrier_t> = Box::leak(Box::new(Shared::new(unsafe { zeroed() })));
        seen.note("init", unsafe { pthread_barrier_init(barrier.get(), null(), 4) });
        let threads: Vec<_> = (0..4)
            .map(|_| {
                thread::spawn(|| unsafe {
                    pthread_once(control.get(), initialise);
                    let ran = RAN.load(std::sync::atomic::Ordering::SeqCst);
                    let mut serial = 0;
                    for _ in 0..3 {
                        serial += i32::from(pthread_barrier_wait(barrier.get()) == PTHREAD_BARRIER_SERIAL_THREAD);
                    }
                    (ran, serial)
                })
            })
            .collect();
        let results: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
        seen.note("ran once, for all", results.iter().map(|(ran, _)| ran).collect::<Vec<_>>());
        seen.note("one a round", results.iter().map(|(_, serial)| serial).sum::<i32>());
        seen.note("destroy", unsafe { pthread_barrier_destroy(barrier.get()) });
    });
}

#[test]
fn c11_threads() {
    unsafe extern "C" {
        fn mtx_init(mutex: *mut pthread_mutex_t, kind: c_int) -> c_int;
        fn mtx_lock(mutex: *mut pthread_mutex_t) -> c_int;
        fn mtx_trylock(mutex: *mut pthread_mutex_t) -> c_int;
        fn mtx_timedlock(mutex: *mut pthread_mutex_t, time: *const timespec) -> c_int;
        fn mtx_unlock(mutex: *mut pthread_mutex_t) -> c_int;
        fn cnd_init(condition: *mut pthread_cond_t) -> c_int;
        fn cnd_timedwait(c: *mut pthread_cond_t, m: *mut pthread_mutex_t, time: *const timespec) -> c_int;
        fn cnd_destroy(condition: *mut pthread_cond_t);
        fn thrd_create(out: *mut pthread_t, main: extern "C" fn(*mut c_void) -> c_int, with: *mut c_void) -> c_int;
        fn thrd_join(thread: pthread_t, out: *mut c_int) -> c_int;
    }
    extern "C" fn main(with: *mut c_void) -> c_int {
        settle();
        with.addr() as c_int + 1
    }
    const MTX_TIMED: c_int = 2;
    same(|seen| unsafe {
        let (mut mutex, mut condition): (pthread_mutex_t, pthread_cond_t) = zeroed();
        seen.note("init", (mtx_init(&mut mutex, MTX_TIMED), cnd_init(&mut condition)));
        seen.note("lock", mtx_lock(&mut mutex));
        seen.note("try", mtx_trylock(&mut mutex));
        seen.note("timed", mtx_timedlock(&mut mutex, &soon(CLOCK_REALTIME, 5)));
        seen.note("wait", cnd_timedwait(&mut condition, &mut mutex, &soon(CLOCK_REALTIME, 5)));
        seen.note("unlock", mtx_unlock(&mut mutex));
        cnd_destroy(&mut condition);
        let (mut thread, mut result) = (0, 0);
        seen.note("create", thrd_create(&mut thread, main, std::ptr::without_provenance_mut(41)));
        seen.note("join", thrd_join(thread, &mut result));
        seen.note("result", result);
    });
}

#[test]
fn futexes() {
    same(|seen| {
        let word: &'static std::sync::atomic::AtomicU32 = Box::leak(Box::new(std::sync::atomic::AtomicU32::new(1)));
        let futex = |operation: c_int, value: u32, time: *const timespec| unsafe {
            syscall(SYS_futex, word.as_ptr(), operation | FUTEX_PRIVATE_FLAG, value, time, null::<u32>(), u32::MAX)
        };
        let short = timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        seen.call("another value", futex(FUTEX_WAIT, 2, null()));
        seen.call("in time", futex(FUTEX_WAIT, 1, &short));
        seen.call("absolute", futex(FUTEX_WAIT_BITSET, 1, &soon(CLOCK_MONOTONIC, 5)));
        seen.call("nobody to wake", futex(FUTEX_WAKE, 10, null()));
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                thread::spawn(|| unsafe {
                    syscall(SYS_futex, word.as_ptr(), FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 1, null::<timespec>())
                })
            })
            .collect();
        settle();
        seen.call("two", futex(FUTEX_WAKE, 2, null()));
        seen.call("the last", futex(FUTEX_WAKE, 2, null()));
        for waiter in waiters {
            seen.note("woken", waiter.join().expect("no panic"));
        }
    });
}

#[test]
fn threads_of_rust() {
    same(|seen| {
        thread_local! {
            static LAST: Last = const { Last };
        }
        static ENDED: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        struct Last;
        impl Drop for Last {
            fn drop(&mut self) {
                thread::sleep(Duration::from_millis(1)); // destructors may still wait
                ENDED.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
        }
        ENDED.store(0, std::sync::atomic::Ordering::SeqCst);
        thread::scope(|scope| {
            for _ in 0..5 {
                scope.spawn(|| LAST.with(|_| ()));
            }
        });
        let joined: Vec<_> = (0..5).map(|_| thread::spawn(|| LAST.with(|_| ()))).collect();
        for thread in joined {
            thread.join().expect("no panic");
        }
        settle();
        seen.note("destructors ran", ENDED.load(std::sync::atomic::Ordering::SeqCst));
        thread::park_timeout(Duration::from_millis(1));
        let parked = thread::spawn(thread::park);
        parked.thread().unpark();
        seen.note("unparked", parked.join().is_ok());
        let panicked = thread::Builder::new().spawn(|| std::panic::resume_unwind(Box::new(1))).expect("a thread");
        seen.note("a panic stays in its thread", panicked.join().is_err());
        let (sender, receiver) = std::sync::mpsc::channel::<u32>();
        seen.note("nothing yet", receiver.recv_timeout(Duration::from_millis(2)));
        drop(sender);
        seen.note("nobody left", receiver.recv());
    });
}

#[test]
fn names() {
    same(|seen| {
        let look_up = |host: *const c_char, service: *const c_char| unsafe {
            let (mut hints, mut found): (addrinfo, *mut addrinfo) = (zeroed(), null_mut());
            hints.ai_family = AF_INET;
            hints.ai_socktype = SOCK_STREAM;
            let error = getaddrinfo(host, service, &hints, &mut found);
            let first = (error == 0).then(|| {
                let address = (*found).ai_addr.cast::<sockaddr_in>().read();
                let rest = ((*found).ai_family, (*found).ai_socktype, (*found).ai_protocol, (*found).ai_addrlen);
                freeaddrinfo(found);
                (address.sin_family, address.sin_port, address.sin_addr.s_addr, rest)
            });
            (error, first)
        };
        seen.note("a number", look_up(c"192.0.2.7".as_ptr(), c"9092".as_ptr()));
        seen.note("oneself", look_up(c"localhost".as_ptr(), c"80".as_ptr()));
        seen.note("no service", look_up(c"127.0.0.1".as_ptr(), null()));
    });
}
