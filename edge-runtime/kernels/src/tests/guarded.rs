//! Codes between two pages that nobody may touch: a kernel that reads or writes past them ends the process.

use std::ops::{Deref, DerefMut};

pub struct Guarded {
    map: *mut u8,
    mapped: usize,
    start: usize,
    len: usize,
}

impl Guarded {
    /// A copy of `codes` whose end, or else beginning, touches the forbidden page.
    pub fn new(codes: &[u8], end: bool) -> Guarded {
        // SAFETY: asks for a number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let inner = codes.len().next_multiple_of(page).max(page);
        let mapped = inner + 2 * page;
        let read_write = libc::PROT_READ | libc::PROT_WRITE;
        let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address of the system's choice; its pages in the middle are opened.
        let map = unsafe {
            let map = libc::mmap(std::ptr::null_mut(), mapped, libc::PROT_NONE, private, -1, 0).cast::<u8>();
            assert_ne!(map.cast(), libc::MAP_FAILED);
            assert_eq!(libc::mprotect(map.add(page).cast(), inner, read_write), 0);
            map
        };
        let start = page + if end { inner - codes.len() } else { 0 };
        let mut new = Guarded { map, mapped, start, len: codes.len() };
        new.copy_from_slice(codes);
        new
    }
}

impl Deref for Guarded {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: these bytes of the mapping can be read and written, and are ours until it is dropped.
        unsafe { std::slice::from_raw_parts(self.map.add(self.start), self.len) }
    }
}

impl DerefMut for Guarded {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.map.add(self.start), self.len) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours.
        unsafe { libc::munmap(self.map.cast(), self.mapped) };
    }
}
