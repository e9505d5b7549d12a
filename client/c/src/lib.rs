//! The C ABI of the reader: `truebound.h` beside this crate is its document, and this file its functions in order.
//!
//! Nothing here may panic, for a panic cannot cross into C: every pointer is checked, every number is looked up, and
//! every error has a code. All memory that C sees is C's own, but for the opaque reader and constant names.
#![allow(unsafe_code)]

#[doc(hidden)]
pub mod called;
mod errors;
mod structs;

use std::ffi::{CStr, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use truebound_client::wait::{WaitError, wait_until_passed};
use truebound_client::{DEFAULT_PAGE, Interval, Reader, Reason, Tick, Unavailable};

use errors::{ARGUMENT, EPOCH_CHANGED, EXPIRED, NO_BOUND, OK, TIMEOUT};
pub use structs::{CElapsed, CInterval, CPublication, CTick};

/// TRUEBOUND_ABI_VERSION.
pub const ABI_VERSION: u32 = 1;

/// An open page, opaque to C.
pub struct CReader(Reader);

/// The library's TRUEBOUND_ABI_VERSION.
#[unsafe(no_mangle)]
pub extern "C" fn truebound_abi_version() -> u32 {
    ABI_VERSION
}

/// What an error means and what to do next.
///
/// # Safety
/// `text` is NULL, or `size` bytes may be written there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn truebound_error_text(error: c_int, text: *mut c_char, size: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe { write_text(&errors::text(error), text, size) }
}

/// The name of a status.
#[unsafe(no_mangle)]
pub extern "C" fn truebound_status_name(status: u32) -> *const c_char {
    structs::status_name(status).as_ptr()
}

/// One sentence for an operator.
///
/// # Safety
/// `text` is NULL, or `size` bytes may be written there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn truebound_reason_text(reason: u32, text: *mut c_char, size: usize) -> usize {
    let reason = u16::try_from(reason).map_or(Reason::Unknown, Reason::from_number);
    // SAFETY: the caller's promise.
    unsafe { write_text(reason.meaning(), text, size) }
}

/// Opens the usual page.
///
/// # Safety
/// `reader` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn truebound_open(reader: *mut *mut CReader) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { open(Path::new(DEFAULT_PAGE), reader) }
}

/// Opens the page at `path`.
///
/// # Safety
/// `path` is NULL or a C string; `reader` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn truebound_open_at(path: *const c_char, reader: *mut *mut CReader) -> c_int {
    if path.is_null() {
        // SAFETY: the caller's promise.
        return unsafe { put(reader, std::ptr::null_mut(), ARGUMENT) };
    }
    // SAFETY: not NULL, and a C string by the caller's promise; it is not kept.
    let path = unsafe { CStr::from_ptr(path) };
    // SAFETY: the caller's promise.
    unsafe { open(Path::new(OsStr::from_bytes(path.to_bytes())), reader) }
}

/// Closes.
///
/// # Safety
/// `reader` is NULL, or came from one of the two above and was not closed; no thread uses it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn truebound_close(reader: *mut CReader) {
    if !reader.is_null() {
        // SAFETY: made by `Box::into_raw` in `open`, and nobody else owns it, by the caller's promise.
        drop(unsafe { Box::from_raw(reader) });
    }
}

/// The interval now.
///
/// # Safety
/// `reader` is NULL or open; `interval` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn truebound_now(reader: *const CReader, interval: *mut CInterval) -> c_int {
    // SAFETY: NULL or a live reader, by the caller's promise.
    let outcome = unsafe { reader.as_ref() }.map(|reader| reader.0.now());
    // SAFETY: the caller's promise.
    unsafe { put_interval(interval, outcome) }
}

/// The interval now, by a strict reading.
///
/// # Safety
/// `reader` is NULL or open; `interval` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn truebound_now_strict(reader: *const CReader, interval: *mut CInterval) -> c_int {
    // SAFETY: NULL or a live reader, by the caller's promise.
    let outcome = unsafe { reader.as_ref() }.map(|reader| reader.0.now_strict());
    // SAFETY: the caller's promise.
    unsafe { put_interval(interval, outcome) }
}

/// A reading of raw time.
///
/// # Safety
/// `reader` is NULL or open; `tick` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn truebound_tick_now(reader: *const CReader, tick: *mut CTick) -> c_int {
    // SAFETY: NULL or a live reader, by the caller's promise.
    let (value, code) = match unsafe { reader.as_ref() }.map(|reader| reader.0.tick()) {
        None => (CTick::default(), ARGUMENT),
        Some(Ok(tick)) => (CTick::from(&tick), OK),
        Some(Err(error)) => (CTick::default(), errors::of_unavailable(error)),
    };
    // SAFETY: the caller's promise.
    unsafe { put(tick, value, code) }
}

/// True time between two ticks.
///
/// # Safety
/// `earlier` and `later` are NULL or may be read, `elapsed` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn truebound_elapsed(
    earlier: *const CTick,
    later: *const CTick,
    elapsed: *mut CElapsed,
) -> c_int {
    // SAFETY: NULL or readable, by the caller's promise.
    let earlier = unsafe { earlier.as_ref() }.map(Tick::from);
    // SAFETY: as above.
    let later = unsafe { later.as_ref() }.map(Tick::from);
    let (value, code) = match earlier.zip(later) {
        None => (CElapsed::UNKNOWN, ARGUMENT),
        Some((earlier, later)) => (CElapsed::from(later.since(&earlier)), OK),
    };
    // SAFETY: the caller's promise.
    unsafe { put(elapsed, value, code) }
}

/// What the agent said last.
///
/// # Safety
/// `reader` is NULL or open; `publication` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn truebound_publication(reader: *const CReader, publication: *mut CPublication) -> c_int {
    // SAFETY: NULL or a live reader, by the caller's promise.
    let (value, code) = match unsafe { reader.as_ref() }.map(|reader| CPublication::newest(&reader.0)) {
        None => (CPublication::NOTHING, ARGUMENT),
        Some(None) => (CPublication::NOTHING, NO_BOUND),
        Some(Some(value)) => (value, OK),
    };
    // SAFETY: the caller's promise.
    unsafe { put(publication, value, code) }
}

/// Is a lease certainly unexpired?
///
/// # Safety
/// `reader` is NULL or open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn truebound_confirm(reader: *const CReader, expires_tai_ns: i64, epoch: u64) -> c_int {
    // SAFETY: NULL or a live reader, by the caller's promise.
    match unsafe { reader.as_ref() }.map(|reader| reader.0.now_strict()) {
        None => ARGUMENT,
        Some(Err(error)) => errors::of_unavailable(error),
        Some(Ok(now)) if now.epoch != epoch => EPOCH_CHANGED,
        Some(Ok(now)) if now.tai.latest_ns >= expires_tai_ns => EXPIRED,
        Some(Ok(_)) => OK,
    }
}

/// Commit wait.
///
/// # Safety
/// `reader` is NULL or open, and stays open during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn truebound_wait_until_passed(reader: *const CReader, tai_ns: i64, timeout_ns: i64) -> c_int {
    let limit = Duration::from_nanos(timeout_ns.max(0).unsigned_abs());
    // SAFETY: NULL or a live reader, by the caller's promise.
    match unsafe { reader.as_ref() }.map(|reader| wait_until_passed(&reader.0, tai_ns, limit)) {
        None => ARGUMENT,
        Some(Ok(_)) => OK,
        Some(Err(WaitError::TooLate { .. })) => TIMEOUT,
        Some(Err(WaitError::Unavailable(error))) => errors::of_unavailable(error),
    }
}

/// # Safety
/// `reader` is NULL or may be written.
unsafe fn open(path: &Path, reader: *mut *mut CReader) -> c_int {
    if reader.is_null() {
        return ARGUMENT;
    }
    let (value, code) = match Reader::open(path) {
        Ok(opened) => (Box::into_raw(Box::new(CReader(opened))), OK),
        Err(error) => (std::ptr::null_mut(), errors::of_open(&error)),
    };
    // SAFETY: the caller's promise.
    unsafe { put(reader, value, code) }
}

/// # Safety
/// `interval` is NULL or may be written.
#[inline]
unsafe fn put_interval(interval: *mut CInterval, outcome: Option<Result<Interval, Unavailable>>) -> c_int {
    match outcome {
        // SAFETY: the caller's promise.
        Some(Ok(now)) => unsafe { put(interval, CInterval::from(&now), OK) },
        // SAFETY: the caller's promise.
        Some(Err(error)) => unsafe { put_nothing(interval, Some(error)) },
        // SAFETY: the caller's promise.
        None => unsafe { put_nothing(interval, None) },
    }
}

/// # Safety
/// `interval` is NULL or may be written.
#[cold]
#[inline(never)]
unsafe fn put_nothing(interval: *mut CInterval, error: Option<Unavailable>) -> c_int {
    let value = error.map_or(CInterval::NOTHING, CInterval::without);
    // SAFETY: the caller's promise.
    unsafe { put(interval, value, error.map_or(ARGUMENT, errors::of_unavailable)) }
}

/// Hands `value` over and gives `code` back; without a place for it the call was a mistake.
///
/// # Safety
/// `place` is NULL or may be written.
#[inline]
unsafe fn put<T>(place: *mut T, value: T, code: c_int) -> c_int {
    if place.is_null() {
        return ARGUMENT;
    }
    // SAFETY: not NULL, and writable by the caller's promise; what was there has no destructor.
    unsafe { place.write(value) };
    code
}

/// As snprintf(3): what fits, a zero at the end, and the whole length.
///
/// # Safety
/// `text` is NULL, or `size` bytes may be written there.
unsafe fn write_text(message: &str, text: *mut c_char, size: usize) -> usize {
    let fits = message.len().min(size.saturating_sub(1));
    if !text.is_null() && size > 0 {
        // SAFETY: `fits` bytes of `message` exist, and fewer than `size`; a Rust string is not the caller's buffer.
        unsafe { std::ptr::copy_nonoverlapping(message.as_ptr(), text.cast::<u8>(), fits) };
        // SAFETY: `fits` < `size`.
        let end = unsafe { text.add(fits) };
        // SAFETY: inside the caller's buffer, as above.
        unsafe { end.write(0) };
    }
    message.len()
}
