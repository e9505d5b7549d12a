//! The C functions as Rust calls them: for tools/bench/read_cost, which has no unsafe code of its own.

use std::ffi::{CString, c_int};
use std::hint::black_box;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::{CInterval, CReader, truebound_close, truebound_now, truebound_open_at};

/// A page opened by `truebound_open_at`.
pub struct Opened(*mut CReader);

impl Opened {
    /// Opens the page at `path`.
    ///
    /// # Errors
    /// The code of `truebound_open_at`.
    pub fn open(path: &Path) -> Result<Self, c_int> {
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| -libc::EINVAL)?;
        let mut reader = std::ptr::null_mut();
        // SAFETY: a C string, and a place for the result.
        match unsafe { truebound_open_at(path.as_ptr(), &raw mut reader) } {
            0 => Ok(Opened(reader)),
            code => Err(code),
        }
    }

    /// `truebound_now`, called as C calls it: never inlined.
    #[must_use]
    pub fn now(&self) -> (c_int, CInterval) {
        let mut now = CInterval::NOTHING;
        let function = black_box(truebound_now as unsafe extern "C" fn(*const CReader, *mut CInterval) -> c_int);
        // SAFETY: an open reader, and a place for the result.
        let code = unsafe { function(self.0, &raw mut now) };
        (code, now)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        // SAFETY: opened in `open`, closed here only, and nobody else has it.
        unsafe { truebound_close(self.0) };
    }
}
