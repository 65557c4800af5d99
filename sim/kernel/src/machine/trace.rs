//! What happened, as one number: two runs with equal hashes took the same steps.

use super::{Moment, ThreadId};
use std::fmt::Write;

/// The name of a step, with its hash worked out at compile time.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    name: &'static str,
    code: u64,
}

impl Mark {
    /// A step of this name.
    pub const fn new(name: &'static str) -> Self {
        let bytes = name.as_bytes();
        let mut code = 0xcbf2_9ce4_8422_2325_u64;
        let mut i = 0;
        while i < bytes.len() {
            code = (code ^ bytes[i] as u64).wrapping_mul(0x0000_0100_0000_01b3);
            i += 1;
        }
        Self { name, code }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        self.name
    }
}

/// The running hash, and the steps themselves when they were asked for.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    log: Option<String>,
}

/// The kernel itself, where a thread is expected.
const NOBODY: u64 = u32::MAX as u64;

impl Trace {
    pub(crate) fn new(log_steps: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, log: log_steps.then(String::new) }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn take_log(&mut self) -> Option<String> {
        self.log.take()
    }

    #[inline]
    pub(crate) fn step(&mut self, now: Moment, thread: Option<ThreadId>, mark: Mark, a: u64, b: u64) {
        let who = thread.map_or(NOBODY, |thread| u64::from(thread.0));
        for word in [now.as_nanos(), who ^ mark.code, a, b] {
            self.hash = mix(self.hash, word);
        }
        if let Some(log) = &mut self.log {
            // Writing to a string cannot fail.
            let _ = match thread {
                Some(thread) => writeln!(log, "{} t{} {} {a} {b}", now.as_nanos(), thread.0, mark.name),
                None => writeln!(log, "{} -- {} {a} {b}", now.as_nanos(), mark.name),
            };
        }
    }
}

fn mix(hash: u64, word: u64) -> u64 {
    let hash = (hash ^ word).wrapping_mul(0x9FB2_1C65_1E98_DF25);
    hash ^ (hash >> 32)
}

/// The hash of bytes a program sent or wrote.
pub(crate) fn hash_bytes(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let hash = words.iter().fold(bytes.len() as u64, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    rest.iter().fold(hash, |hash, byte| mix(hash, u64::from(*byte)))
}
