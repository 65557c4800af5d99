//! The simulated operating system for programs that were not built for it: a shared object that `rehearsal run` preloads.
//!
//! It exports the kernel's C functions – [`SYMBOLS`](rehearsal_sim_kernel::front::table::SYMBOLS) is their list –, so that
//! they come before libc's, and one more, by which every program begins. Without `REHEARSAL_RUN` in the environment it
//! does nothing.

#![cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]

use libc::{c_char, c_int, c_void};
use rehearsal_sim::program::Settings;
use rehearsal_sim_kernel::config::Config;
use rehearsal_sim_kernel::front::arena::Arena;
use rehearsal_sim_kernel::front::program::{self, Main, Program, Startup};

#[global_allocator]
static MEMORY: Arena = Arena::new();

/// What the first code of every program calls, with its `main`.
///
/// # Safety
/// As for libc's function of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __libc_start_main(
    main: Main,
    argc: c_int,
    argv: *mut *mut c_char,
    init: *mut c_void,
    fini: *mut c_void,
    rtld_fini: *mut c_void,
    stack_end: *mut c_void,
) -> c_int {
    let startup = Startup { main, argc, argv, init, fini, rtld_fini, stack_end };
    // SAFETY: our caller's promise to libc's function.
    unsafe { program::enter(startup, simulation) }
}

fn simulation(settings: &str) -> (Config, Box<dyn FnOnce(Program) + Send>) {
    match Settings::read(settings) {
        Ok(checked) => (checked.kernel_config(), Box::new(|program| checked.direct(program))),
        Err(why) => program::refuse(&why),
    }
}
