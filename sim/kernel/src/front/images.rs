//! Where the static data of the program and its libraries lies. A lock in there is one that all nodes share, though on
//! real machines each would have its own; nobody may be stopped while holding it.

use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::sync::OnceLock;

static WRITABLE: OnceLock<Vec<Range<usize>>> = OnceLock::new();

/// Finds out. Libraries loaded later are not known.
pub(crate) fn look() {
    let mut found: Vec<Range<usize>> = Vec::new();
    // SAFETY: the callback only runs during the call, and its last argument is the vector above.
    unsafe { libc::dl_iterate_phdr(Some(one_image), (&raw mut found).cast()) };
    found.sort_by_key(|range| range.start);
    let _ = WRITABLE.set(found); // the first look counts
}

unsafe extern "C" fn one_image(info: *mut libc::dl_phdr_info, _size: usize, found: *mut c_void) -> c_int {
    // SAFETY: `look` passes its vector, and the loader a valid description with `dlpi_phnum` headers.
    let (found, info, headers) = unsafe {
        let info = &*info;
        let headers = super::abi::slice(info.dlpi_phdr, info.dlpi_phnum.into());
        (&mut *found.cast::<Vec<Range<usize>>>(), info, headers)
    };
    for header in headers {
        if header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W != 0 {
            let start = (info.dlpi_addr + header.p_vaddr) as usize;
            found.push(start..start + header.p_memsz as usize);
        }
    }
    0
}

/// Whether an address is in static data.
#[inline]
pub(crate) fn holds(address: usize) -> bool {
    let Some(ranges) = WRITABLE.get() else { return false };
    let after = ranges.partition_point(|range| range.start <= address);
    after > 0 && ranges[after - 1].contains(&address)
}
