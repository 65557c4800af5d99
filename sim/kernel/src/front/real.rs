//! The functions libc itself has under the names that are ours.

use super::raw;
use std::ffi::c_void;
use std::sync::atomic::{AtomicPtr, Ordering};

pub(crate) use super::table::real_functions::*;

/// One of them: looked up once, all of them before a simulation begins, because the lookup takes the loader's lock.
pub(crate) struct Real {
    /// With its terminating zero.
    name: &'static str,
    address: AtomicPtr<c_void>,
}

impl Real {
    pub(crate) const fn new(name: &'static str) -> Self {
        Self { name, address: AtomicPtr::new(std::ptr::null_mut()) }
    }

    #[inline(always)]
    pub(crate) fn address(&self) -> *mut c_void {
        let address = self.address.load(Ordering::Relaxed);
        if address.is_null() { self.resolve() } else { address }
    }

    #[cold]
    pub(crate) fn resolve(&self) -> *mut c_void {
        // SAFETY: the name ends with a zero.
        let address = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr().cast()) };
        if address.is_null() {
            raw::write_all(libc::STDERR_FILENO, b"rehearsal: the C library has no function ");
            raw::write_all(libc::STDERR_FILENO, self.name.trim_end_matches('\0').as_bytes());
            raw::write_all(libc::STDERR_FILENO, b"; is the program linked statically?\n");
            raw::exit(super::token::status::UNSUPPORTED);
        }
        self.address.store(address, Ordering::Relaxed);
        address
    }
}
