//! One simulation, one process: forked from a warm parent, so that seeds share nothing and start in a millisecond.

use super::token::{self, status};
use super::{guard, images, raw, table, thread};
use crate::config::{Config, Stats};
use crate::machine::Node;
use libc::{c_int, c_void, pid_t};
use std::any::Any;
use std::fmt::{self, Write};
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// What a simulation is: a function that runs on [`Node::CONTROL`] and returns what is to be known of the run.
pub type Program<'a> = Box<dyn FnOnce() -> Vec<u8> + Send + 'a>;

/// A simulation that runs in a process of its own.
#[derive(Debug)]
pub struct Child {
    /// Absent once it was waited for.
    pid: Option<pid_t>,
    report: c_int,
    received: Vec<u8>,
}

/// How a simulation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What was measured, when the program ran to its end.
    pub stats: Option<Stats>,
    /// What the program returned; empty when it did not run to its end.
    pub returned: Vec<u8>,
    /// One line a step, when [`Config::log_steps`] asked for them and the program ran to its end.
    pub steps: String,
    /// Why it did not run to its end, in words.
    pub failure: Option<String>,
    /// Whether the process was in a simulation at all: a program that was not built for it may be out of its reach.
    pub begun: bool,
}

/// Where the report goes, in a child.
static REPORT: AtomicI32 = AtomicI32::new(-1);
/// Seconds until the watchdog, for its message.
static WALL_SECONDS: AtomicU64 = AtomicU64::new(0);

/// The parts of a report: a tag, a length, bytes. A failure is the last and has all the rest.
mod part {
    pub(super) const STATS: u8 = 1;
    pub(super) const RETURNED: u8 = 2;
    pub(super) const FAILURE: u8 = 3;
    pub(super) const STEPS: u8 = 4;
    pub(super) const BEGUN: u8 = 5;
}

impl Child {
    /// Forks, and runs the program in a simulation there. Of the calling process, only the calling thread goes along:
    /// no other should hold a lock the program needs.
    ///
    /// # Errors
    /// The system gives no pipe or no process.
    pub fn start(config: Config, program: Program<'_>) -> io::Result<Self> {
        // Both take the loader's lock, so not in the child: another thread may have it at the fork.
        table::resolve_all();
        images::look();
        let mut ends = [0; 2];
        // SAFETY: there is room for two descriptors.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let [report, write] = ends;
        // SAFETY: the child only runs `live`, which never returns. It may allocate: glibc's malloc survives a fork.
        match unsafe { libc::fork() } {
            -1 => {
                let error = io::Error::last_os_error();
                raw::close(report);
                raw::close(write);
                Err(error)
            }
            0 => {
                raw::close(report);
                REPORT.store(write, Ordering::Relaxed);
                live(config, program)
            }
            pid => {
                raw::close(write);
                Ok(Self { pid: Some(pid), report, received: Vec::new() })
            }
        }
    }

    /// A process that was started already, and reports to this pipe.
    pub(super) fn of(pid: pid_t, report: c_int) -> Self {
        Self { pid: Some(pid), report, received: Vec::new() }
    }

    /// Waits for the end.
    pub fn wait(self) -> Outcome {
        let mut children = vec![self];
        wait_any(&mut children).1
    }

    /// Takes what has come of the report; true at its end.
    fn receive(&mut self) -> bool {
        let mut buffer = [0_u8; 65_536];
        // SAFETY: the buffer is ours and so long.
        let read = unsafe { libc::read(self.report, buffer.as_mut_ptr().cast(), buffer.len()) };
        match usize::try_from(read) {
            Ok(read @ 1..) => {
                self.received.extend_from_slice(&buffer[..read]);
                false
            }
            Ok(0) => true,
            Err(_) => io::Error::last_os_error().kind() != io::ErrorKind::Interrupted,
        }
    }

    fn finish(mut self) -> Outcome {
        let ended = self.reap();
        Outcome::read(&self.received, ended)
    }

    /// Waits for the process, once; returns how it ended.
    fn reap(&mut self) -> c_int {
        let mut ended = 0;
        if let Some(pid) = self.pid.take() {
            raw::close(self.report);
            // SAFETY: `ended` is ours.
            while unsafe { libc::waitpid(pid, &mut ended, 0) } < 0
                && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
            {}
        }
        ended
    }
}

/// A simulation nobody waits for any more is stopped.
impl Drop for Child {
    fn drop(&mut self) {
        if let Some(pid) = self.pid {
            // SAFETY: kill(2) takes numbers, and the process is our child, not waited for yet.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            self.reap();
        }
    }
}

/// Waits until one of these is over, takes it out, and says where it was.
///
/// # Panics
/// There is none.
pub fn wait_any(children: &mut Vec<Child>) -> (usize, Outcome) {
    assert!(!children.is_empty(), "there is no child to wait for");
    loop {
        let mut polled: Vec<_> =
            children.iter().map(|child| libc::pollfd { fd: child.report, events: libc::POLLIN, revents: 0 }).collect();
        // SAFETY: the entries are ours, and so many.
        unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, -1) };
        for (place, entry) in polled.iter().enumerate() {
            if entry.revents != 0 && children[place].receive() {
                let outcome = children.remove(place).finish();
                return (place, outcome);
            }
        }
    }
}

impl Outcome {
    fn read(report: &[u8], ended: c_int) -> Self {
        let mut outcome = Self { stats: None, returned: Vec::new(), steps: String::new(), failure: None, begun: false };
        let mut rest = report;
        while let Some((tag, bytes, after)) = next_part(rest) {
            match tag {
                part::STATS => outcome.stats = read_stats(bytes),
                part::RETURNED => outcome.returned = bytes.to_vec(),
                part::BEGUN => outcome.begun = true,
                part::STEPS => outcome.steps = String::from_utf8_lossy(bytes).into_owned(),
                part::FAILURE => outcome.failure = Some(String::from_utf8_lossy(bytes).trim_end().to_owned()),
                _ => {}
            }
            rest = after;
        }
        if outcome.stats.is_none() && outcome.failure.is_none() {
            outcome.failure = Some(if libc::WIFSIGNALED(ended) {
                format!("the process died of signal {}", libc::WTERMSIG(ended))
            } else {
                format!("the program ended the process itself, with status {}", libc::WEXITSTATUS(ended))
            });
        }
        outcome
    }
}

fn next_part(report: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = report.split_first()?;
    let (length, rest) = rest.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX).min(rest.len());
    let (bytes, after) = rest.split_at(length);
    Some((*tag, bytes, after))
}

fn read_stats(bytes: &[u8]) -> Option<Stats> {
    let (words, _) = bytes.as_chunks::<8>();
    let [hash, virtual_ns, calls, blocks, switches, threads, packets] = words else { return None };
    let [hash, virtual_ns, calls, blocks, switches, threads, packets] =
        [hash, virtual_ns, calls, blocks, switches, threads, packets].map(|word| u64::from_le_bytes(*word));
    Some(Stats { hash, virtual_ns, calls, blocks, switches, threads, packets })
}

fn write_part(tag: u8, bytes: &[u8]) {
    let fd = REPORT.load(Ordering::Relaxed);
    raw::write_all(fd, &[tag]);
    raw::write_all(fd, &(bytes.len() as u64).to_le_bytes());
    raw::write_all(fd, bytes);
}

/// The child's whole life.
fn live(config: Config, program: Program<'_>) -> ! {
    // SAFETY: the process was just forked, so this is its only thread, and nothing began before. `run` takes the box.
    unsafe { simulate(config, run, Box::into_raw(Box::new(program)).cast()) }
}

/// From here on the process reports where its maker told it to.
pub(super) fn report_to(fd: c_int) {
    REPORT.store(fd, Ordering::Relaxed);
    write_part(part::BEGUN, &[]);
}

/// Makes this process a simulation, of which `first` is the first thread.
///
/// # Safety
/// Once a process, on its only thread. `first` may be called with this argument, on another thread.
pub(super) unsafe fn simulate(config: Config, first: thread::Start, argument: *mut c_void) -> ! {
    let wall_seconds = config.wall_max.as_secs().max(1);
    WALL_SECONDS.store(wall_seconds, Ordering::Relaxed);
    std::panic::set_hook(Box::new(tell_of_panic));
    thread::prepare();
    stay_on_one_processor(config.processor);
    watch(wall_seconds);
    if config.guard {
        guard::install();
    }
    // SAFETY: by the caller's promise this is the only thread, and nothing began before.
    unsafe { token::begin(config) };
    // SAFETY: this thread called `begin`, and nobody else has the turn yet.
    let thread = unsafe { token::as_keeper(|kernel| kernel.spawn(Node::CONTROL)) };
    thread::create_first(thread, first, argument);
    // SAFETY: as above, and the first thread is there.
    unsafe { token::keep() }
}

/// As the standard hook does it, but without its locks: another thread of the parent may have had them at the fork.
fn tell_of_panic(info: &std::panic::PanicHookInfo<'_>) {
    let payload = info.payload();
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("something");
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("without a name");
    let place = info.location().map_or_else(String::new, |place| format!(" at {place}"));
    raw::write_all(libc::STDERR_FILENO, format!("thread '{thread}' panicked{place}: {text}\n").as_bytes());
}

extern "C" fn run(program: *mut c_void) -> *mut c_void {
    // SAFETY: `live` passes the box, once. What the program borrows lives as long as `live`, which never returns.
    let program = *unsafe { Box::from_raw(program.cast::<Program<'_>>()) };
    match std::panic::catch_unwind(AssertUnwindSafe(program)) {
        Ok(returned) => finish(&returned),
        Err(panic) => fail_with(panic.as_ref()),
    }
}

/// Ends the run because of this panic.
pub(super) fn fail_with(panic: &(dyn Any + Send)) -> ! {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message");
    fail(101, format_args!("the simulation panicked: {text}\n"))
}

/// The program ended the process, with this status.
pub(super) fn end(status: c_int) -> ! {
    finish_with(&status.to_le_bytes(), status)
}

/// Ends the run with this result, at once. Lines begun on the standard output and not ended are lost.
pub fn finish(returned: &[u8]) -> ! {
    finish_with(returned, 0)
}

fn finish_with(returned: &[u8], status: c_int) -> ! {
    let (stats, steps) = token::kernel(|kernel, _| (kernel.stats(), kernel.take_step_log()));
    let Stats { hash, virtual_ns, calls, blocks, switches, threads, packets } = stats;
    let words = [hash, virtual_ns, calls, blocks, switches, threads, packets].map(u64::to_le_bytes);
    write_part(part::RETURNED, returned);
    write_part(part::STEPS, steps.unwrap_or_default().as_bytes());
    write_part(part::STATS, words.as_flattened());
    raw::exit(status)
}

/// Ends the run and says why. Neither allocates nor locks, so that a signal handler may call it.
pub(crate) fn fail(status: c_int, why: fmt::Arguments<'_>) -> ! {
    struct Out(c_int);
    impl Write for Out {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            raw::write_all(self.0, text.as_bytes());
            Ok(())
        }
    }
    let mut out = match REPORT.load(Ordering::Relaxed) {
        -1 => Out(libc::STDERR_FILENO),
        report => {
            raw::write_all(report, &[part::FAILURE]);
            raw::write_all(report, &u64::MAX.to_le_bytes());
            Out(report)
        }
    };
    let _ = out.write_fmt(why); // `Out` never fails
    raw::exit(status)
}

fn stay_on_one_processor(which: Option<usize>) {
    // SAFETY: an all-zero `cpu_set_t` is the empty set, the indices are below its size, and the sets are ours.
    unsafe {
        let size = size_of::<libc::cpu_set_t>();
        let (mut may, mut one): (libc::cpu_set_t, libc::cpu_set_t) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sched_getaffinity(0, size, &mut may);
        let may: Vec<usize> = (0..8 * size).filter(|processor| libc::CPU_ISSET(*processor, &may)).collect();
        let here = usize::try_from(libc::sched_getcpu()).unwrap_or(0);
        let chosen = which.and_then(|which| may.get(which % may.len().max(1)).copied());
        libc::CPU_SET(chosen.unwrap_or(here), &mut one);
        // If it is refused, everything only takes longer.
        libc::sched_setaffinity(0, size, &one);
        // One heap for all threads, so that addresses follow from the schedule.
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

fn watch(seconds: u64) {
    // SAFETY: an all-zero `sigaction` is a valid one, the handler has the right type, and alarm(2) takes a number.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_alarm as *const () as usize;
        libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut());
        libc::alarm(u32::try_from(seconds).unwrap_or(u32::MAX));
    }
}

extern "C" fn on_alarm(_signal: c_int) {
    let (thread, call) = token::running();
    let seconds = WALL_SECONDS.load(Ordering::Relaxed);
    fail(
        status::WATCHDOG,
        format_args!(
            "no end after {seconds} s of real time: thread {thread} has the turn, and its last call was {call}. \
             Either it spins without calling anything, or the run is that long.\n"
        ),
    )
}
