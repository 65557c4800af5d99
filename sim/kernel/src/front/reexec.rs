//! Fixed addresses. Programs let pointers leak into what they do – librdkafka seeds its random numbers with them –, and
//! where things lie depends on address randomisation, on the arguments and on the environment.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// A command whose process has fixed addresses and an empty environment. Where the system does not allow that (some
/// containers), addresses stay random: runs of one parent are equal still, those of different parents may not be.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    fix_addresses(&mut command);
    command
}

/// Gives the process this command makes fixed addresses, where the system allows it.
pub fn fix_addresses(command: &mut Command) {
    let fix = || {
        const QUERY: libc::c_ulong = 0xffff_ffff;
        // SAFETY: personality(2) takes a number. Nothing is allocated between fork and exec.
        unsafe {
            let now = libc::personality(QUERY);
            libc::personality(now as libc::c_ulong | libc::ADDR_NO_RANDOMIZE as libc::c_ulong);
        }
        io::Result::Ok(())
    };
    // SAFETY: the closure makes two system calls and nothing else.
    unsafe { command.pre_exec(fix) };
}

/// Whether this process has fixed addresses.
pub fn addresses_are_fixed() -> bool {
    // SAFETY: personality(2) takes a number, and this one only asks.
    let now = unsafe { libc::personality(0xffff_ffff) };
    now >= 0 && now & libc::ADDR_NO_RANDOMIZE != 0
}
