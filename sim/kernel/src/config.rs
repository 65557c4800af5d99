//! What a simulation is made with. Everything that happens in it follows from these values and the program.

use std::time::Duration;

/// The settings of one simulation. Two runs of one program with equal settings are equal to the byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The one source of chance: schedule, latencies, random numbers the program asks for. Default 1.
    pub seed: u64,
    /// The running thread is made to yield after about this many calls (between half of it and one and a half).
    /// Default 800.
    pub quantum: u32,
    /// The chance, in 65,536ths, that the running thread yields at a lock, an unlock, a signal or a send. Default 0.
    pub preempt: u32,
    /// The chance, in 65,536ths, that sent bytes arrive in two pieces. Default 0.
    pub split: u32,
    /// Virtual nanoseconds every call costs. Default 60.
    pub call_ns: u64,
    /// Virtual nanoseconds reading a clock costs besides, at first: a thread that reads on and on without waiting pays up
    /// to 64 times as much, so that loops which spin on the clock are short. Default 1,000.
    pub clock_ns: u64,
    /// The run is given up after this many calls, as a livelock. Default 200 million.
    pub calls_max: u64,
    /// The run is given up after this much real time: a thread spins without calling anything. Whole seconds, at least
    /// one. Default 60 s.
    pub wall_max: Duration,
    /// Which of the processors the process may use it runs on, modulo how many there are; the one it happens to be on
    /// when `None`, which is the default. A simulation runs on one: the turn then passes by a plain context switch.
    pub processor: Option<usize>,
    /// How the turn passes from thread to thread; what happens is the same either way. Default [`HandOver::Carry`].
    pub hand_over: HandOver,
    /// Whether whatever escapes the simulation ends it, by name. Default true.
    pub guard: bool,
    /// Whether to keep what the network carried, for a report. Default false.
    pub record_messages: bool,
    /// Whether to keep a line for every step, to find where two runs part. Slow. Default false.
    pub log_steps: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 1,
            quantum: 800,
            preempt: 0,
            split: 0,
            call_ns: 60,
            clock_ns: 1_000,
            calls_max: 200_000_000,
            wall_max: Duration::from_secs(60),
            processor: None,
            hand_over: HandOver::Carry,
            guard: true,
            record_messages: false,
            log_steps: false,
        }
    }
}

impl Config {
    /// The defaults with this seed.
    pub fn with_seed(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }
}

/// How the turn passes from one thread of a simulation to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HandOver {
    /// One real thread carries all others: it changes stacks, which takes some ten nanoseconds. Where the processor or the
    /// system does not let programs do that (x86-64 without `FSGSBASE`, Linux before 5.9), as [`Wake`](Self::Wake).
    #[default]
    Carry,
    /// Every thread runs itself: it wakes the next by a futex and sleeps, some microseconds. For programs that ask the
    /// real kernel about their threads, and for debuggers.
    Wake,
}

/// What a finished simulation measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Sums up every step: when, which thread, which call, how large, every byte sent or written.
    pub hash: u64,
    /// Virtual nanoseconds that passed.
    pub virtual_ns: u64,
    /// Calls the program made.
    pub calls: u64,
    /// Times a thread had to wait.
    pub blocks: u64,
    /// Times another thread went on.
    pub switches: u64,
    /// Threads there were.
    pub threads: u64,
    /// Packets the network carried.
    pub packets: u64,
}
