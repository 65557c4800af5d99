//! What the defined functions cost: outside a simulation, and in one.
#![cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]

use rehearsal_sim_kernel::config::Config;
use rehearsal_sim_kernel::front::child::Child;
use rehearsal_sim_kernel::front::outside;
use std::time::Instant;

const ROUNDS: u32 = 20;
const CALLS: u32 = 20_000;

type Lock = unsafe extern "C" fn(*mut libc::pthread_mutex_t) -> libc::c_int;

/// Nanoseconds a call of the pair takes, in the quietest of several rounds.
fn nanoseconds(lock: Lock, unlock: Lock) -> f64 {
    let mut mutex = libc::PTHREAD_MUTEX_INITIALIZER;
    let round = |_| {
        let before = outside(Instant::now);
        for _ in 0..CALLS {
            // SAFETY: the mutex is initialised, and locked before it is unlocked.
            unsafe {
                lock(&mut mutex);
                unlock(&mut mutex);
            }
        }
        outside(|| before.elapsed()).as_nanos() as f64 / f64::from(2 * CALLS)
    };
    (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min)
}

/// The C library's own functions, past ours.
fn real() -> (Lock, Lock) {
    let find = |name: &std::ffi::CStr| {
        // SAFETY: libc has functions of these names and of this type.
        unsafe {
            let address = libc::dlsym(libc::RTLD_NEXT, name.as_ptr());
            assert!(!address.is_null());
            std::mem::transmute::<*mut libc::c_void, Lock>(address)
        }
    };
    (find(c"pthread_mutex_lock"), find(c"pthread_mutex_unlock"))
}

#[test]
fn outside_a_simulation_a_call_costs_next_to_nothing() {
    let (lock, unlock) = real();
    let real = nanoseconds(lock, unlock);
    let ours = nanoseconds(libc::pthread_mutex_lock, libc::pthread_mutex_unlock);
    let overhead = ours - real;
    // Measured: 1 to 2 ns. The bound leaves room for a busy machine.
    assert!(overhead < 5.0, "a call costs {overhead:.1} ns more than the {real:.1} ns it takes");
}

#[test]
fn in_a_simulation_a_call_costs_well_under_a_microsecond() {
    let config = Config { guard: false, ..Config::default() }; // it reads the real clock
    let program = || nanoseconds(libc::pthread_mutex_lock, libc::pthread_mutex_unlock).to_string().into_bytes();
    let outcome = Child::start(config, Box::new(program)).expect("a child").wait();
    assert_eq!(outcome.failure, None);
    let each: f64 = String::from_utf8(outcome.returned).ok().and_then(|text| text.parse().ok()).expect("a number");
    eprintln!("{each} ns");
    assert!(each < 1_000.0, "a call takes {each:.0} ns");
}
