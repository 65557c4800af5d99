//! A program as it is: dynamically linked, not built for this. A library made of this crate is preloaded into it, whose
//! functions come before libc's, and from before `main` on the whole process is a simulation.
//!
//! [`start`] is the half of the process that wants the program run; [`enter`] the half inside, which the library calls
//! in place of libc's `__libc_start_main`. The process's first thread becomes the keeper of the turn, the simulation's
//! first thread directs it, and `main` runs on a thread of its own.

use super::child::{self, Child};
use super::{images, process, reexec, table, thread, token};
use crate::config::Config;
use crate::machine::Node;
use libc::{c_char, c_int, c_void};
use std::ffi::{CStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::{ChildStderr, ChildStdout, Command};
use std::sync::atomic::{AtomicPtr, Ordering};

/// What tells the library that there is something to do, and what.
const SETTINGS: &CStr = c"REHEARSAL_RUN";
const PRELOAD: &CStr = c"LD_PRELOAD";
/// The descriptor the process reports to: the last one below those of simulated objects, which programs hardly reach.
const REPORT: c_int = super::inline::DESCRIPTORS_FROM - 1;

/// A program that runs in a simulation of its own.
#[derive(Debug)]
pub struct Started {
    /// The process, to be waited for.
    pub child: Child,
    /// What it writes, where the command asked for a pipe.
    pub stdout: Option<ChildStdout>,
    /// As `stdout`.
    pub stderr: Option<ChildStderr>,
}

/// Starts a program with this library preloaded and fixed addresses. `settings` are what the library's [`enter`] is given.
///
/// # Errors
/// The system gives no process, or the program cannot be started.
pub fn start(mut command: Command, library: &Path, settings: &str) -> io::Result<Started> {
    let preload = match std::env::var_os("LD_PRELOAD") {
        Some(others) if !others.is_empty() => [library.as_os_str(), ":".as_ref(), &others].into_iter().collect(),
        _ => OsString::from(library),
    };
    command.env("LD_PRELOAD", preload).env("REHEARSAL_RUN", settings);
    let mut ends = [0; 2];
    // SAFETY: there is room for two descriptors.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both are fresh, and nobody else's.
    let [read, write] = ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    let fd = write.as_raw_fd();
    // SAFETY: the closure makes one system call, and `write` is open until the process was made.
    unsafe {
        command.pre_exec(move || match libc::dup2(fd, REPORT) {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        });
    }
    reexec::fix_addresses(&mut command);
    let process = command.spawn()?;
    let child = Child::of(process.id().cast_signed(), read.into_raw_fd());
    Ok(Started { child, stdout: process.stdout, stderr: process.stderr })
}

/// A program's `main`.
pub type Main = unsafe extern "C" fn(c_int, *mut *mut c_char, *mut *mut c_char) -> c_int;

/// What libc's `__libc_start_main` is given.
#[derive(Debug, Clone, Copy)]
pub struct Startup {
    /// The program's `main`.
    pub main: Main,
    /// How many arguments there are.
    pub argc: c_int,
    /// The arguments.
    pub argv: *mut *mut c_char,
    /// For programs linked with old versions of libc.
    pub init: *mut c_void,
    /// As `init`.
    pub fini: *mut c_void,
    /// The loader's.
    pub rtld_fini: *mut c_void,
    /// Where the stack begins.
    pub stack_end: *mut c_void,
}

/// The program, ready to begin.
#[derive(Debug)]
pub struct Program {
    main: Main,
    argc: c_int,
    argv: *mut *mut c_char,
}

// SAFETY: the arguments are of the process, and nobody else uses them.
unsafe impl Send for Program {}

/// What makes a simulation of settings: its config, and what directs it.
pub type Direct = fn(&str) -> (Config, Box<dyn FnOnce(Program) + Send>);

static MAIN: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
static DIRECT: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

/// Starts the program: as libc does where there are no settings, in a simulation where there are.
///
/// # Safety
/// As for libc's `__libc_start_main`, in place of which this is called.
pub unsafe fn enter(startup: Startup, direct: Direct) -> c_int {
    let Startup { main, argc, argv, init, fini, rtld_fini, stack_end } = startup;
    // SAFETY: the name is a C string, and no other thread changes the environment.
    let simulates = unsafe { !libc::getenv(SETTINGS.as_ptr()).is_null() };
    let main = if simulates {
        MAIN.store(main as *mut c_void, Ordering::Relaxed);
        DIRECT.store(direct as *mut c_void, Ordering::Relaxed);
        simulated_main
    } else {
        main
    };
    type StartMain = unsafe extern "C" fn(
        Main,
        c_int,
        *mut *mut c_char,
        *mut c_void,
        *mut c_void,
        *mut c_void,
        *mut c_void,
    ) -> c_int;
    // SAFETY: the name is a C string; libc's function of this name has this type, and is there because it was asked for.
    unsafe {
        let real = libc::dlsym(libc::RTLD_NEXT, c"__libc_start_main".as_ptr());
        let real = std::mem::transmute::<*mut c_void, StartMain>(real);
        real(main, argc, argv, init, fini, rtld_fini, stack_end)
    }
}

unsafe extern "C" fn simulated_main(argc: c_int, argv: *mut *mut c_char, _environment: *mut *mut c_char) -> c_int {
    // SAFETY: `enter` stored these; functions and pointers have one size here. The environment is changed before there
    // is any other thread, and what `getenv` found is copied before.
    let (main, direct, settings) = unsafe {
        let main = std::mem::transmute::<*mut c_void, Main>(MAIN.load(Ordering::Relaxed));
        let direct = std::mem::transmute::<*mut c_void, Direct>(DIRECT.load(Ordering::Relaxed));
        let settings = CStr::from_ptr(libc::getenv(SETTINGS.as_ptr())).to_string_lossy().into_owned();
        // The program need not know.
        libc::unsetenv(SETTINGS.as_ptr());
        libc::unsetenv(PRELOAD.as_ptr());
        (main, direct, settings)
    };
    child::report_to(REPORT);
    process::become_whole();
    table::resolve_all();
    images::look();
    let (config, direct) = direct(&settings);
    let first = Box::new(First { program: Program { main, argc, argv }, direct });
    // SAFETY: `main` has not begun, so this is the only thread, and nothing began before. `begin` takes the box.
    unsafe { child::simulate(config, begin, Box::into_raw(first).cast()) }
}

struct First {
    program: Program,
    direct: Box<dyn FnOnce(Program) + Send>,
}

extern "C" fn begin(first: *mut c_void) -> *mut c_void {
    // SAFETY: `simulated_main` passes its box, once.
    let First { program, direct } = *unsafe { Box::from_raw(first.cast::<First>()) };
    if let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(|| direct(program))) {
        child::fail_with(panic.as_ref());
    }
    std::ptr::null_mut()
}

impl Program {
    /// Begins `main`, on a thread of its own on this node. Its end is the end of the run.
    pub fn start(self, node: Node) {
        let mut handle = 0;
        let program = Box::into_raw(Box::new(self)).cast();
        // SAFETY: `handle` is ours, no attributes are the default ones, and `run` takes the box.
        let error = token::on_node(node, || unsafe { thread::create(&mut handle, std::ptr::null(), run, program) });
        assert_eq!(error, 0, "the system gives no thread for the program");
    }
}

extern "C" fn run(program: *mut c_void) -> *mut c_void {
    unsafe extern "C" {
        static environ: *mut *mut c_char;
    }
    // SAFETY: `start` passes its box, once. Nobody changes the environment before the program does.
    let (Program { main, argc, argv }, environment) = unsafe { (*Box::from_raw(program.cast::<Program>()), environ) };
    // SAFETY: these are what libc would have called it with.
    let status = unsafe { main(argc, argv, environment) };
    // SAFETY: what the program registered for its end runs on this thread, as it would after `main`.
    unsafe { libc::exit(status) }
}

/// Ends the process before the simulation begins, and says why to who started it.
pub fn refuse(why: &str) -> ! {
    child::fail(token::status::UNSUPPORTED, format_args!("{why}\n"))
}
