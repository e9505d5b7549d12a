//! Where protocols take time from: a page, or a world in which truth is known. Leases and the rest know only this.

use crate::interval::{Interval, Unavailable};
use crate::tick::Tick;

/// Gives proved readings of time.
pub trait TimeSource {
    /// The interval that contains true time at some instant during this call.
    ///
    /// # Errors
    /// [`Unavailable`] says why there is none.
    fn now(&self) -> Result<Interval, Unavailable>;

    /// The same, and nothing that this process can see speaks against the page: what a lease stands on. Slower.
    ///
    /// # Errors
    /// [`Unavailable`] says why there is none.
    fn now_strict(&self) -> Result<Interval, Unavailable>;

    /// Raw time with what is proved of its rate. Needs no source of time to be reachable.
    ///
    /// # Errors
    /// [`Unavailable`] if not even the oscillator's class can be relied on.
    fn tick(&self) -> Result<Tick, Unavailable>;
}

impl<T: TimeSource + ?Sized> TimeSource for &T {
    fn now(&self) -> Result<Interval, Unavailable> {
        (**self).now()
    }

    fn now_strict(&self) -> Result<Interval, Unavailable> {
        (**self).now_strict()
    }

    fn tick(&self) -> Result<Tick, Unavailable> {
        (**self).tick()
    }
}
