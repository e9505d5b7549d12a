//! Leases as they should not be: by a clock that others set, without a bound. What the planted faults `monotonic` and
//! `realtime` put in the place of the library.

use std::cell::Cell;

use truebound_client::lease::Fence;

use super::source::Reading;

/// By which clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
    /// Rates are taken for exact: a term from the asking, one from the granting.
    Monotonic,
    /// Instants are taken for exact: one expiry for both.
    Realtime,
}

impl Clock {
    pub(super) fn now_ns(self, reading: &Reading) -> i64 {
        match self {
            Clock::Monotonic => reading.monotonic_ns,
            Clock::Realtime => reading.real_ns,
        }
    }
}

/// Grants by a bare clock.
#[derive(Clone, Debug)]
pub(super) struct Granter {
    clock: Clock,
    holder: u64,
    fence: u64,
    until_ns: i64,
}

impl Granter {
    pub(super) fn new(clock: Clock) -> Self {
        Granter { clock, holder: 0, fence: 0, until_ns: i64::MIN }
    }

    pub(super) fn is_free(&self, now: &Reading) -> bool {
        self.clock.now_ns(now) > self.until_ns
    }

    /// Until when, and with which fence.
    pub(super) fn grant(&mut self, now: &Reading, holder: u64, term_ns: i64) -> Option<(i64, u64)> {
        if self.holder != holder && !self.is_free(now) {
            return None;
        }
        self.until_ns = self.until_ns.max(self.clock.now_ns(now) + term_ns);
        (self.holder, self.fence) = (holder, self.fence + 1);
        Some((self.until_ns, self.fence))
    }

    pub(super) fn give_back(&mut self, holder: u64, fence: u64) {
        if (self.holder, self.fence) == (holder, fence) {
            self.until_ns = i64::MIN;
        }
    }

    /// After a boot CLOCK_MONOTONIC begins anew: a whole term from then.
    pub(super) fn booted(&mut self, now: &Reading, term_ns: i64) {
        if self.clock == Clock::Monotonic && self.until_ns != i64::MIN {
            self.until_ns = now.monotonic_ns + term_ns;
        }
    }
}

/// Holds until then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    pub(super) until_ns: i64,
    pub(super) fence: Fence,
}

/// Holds by a bare clock.
#[derive(Debug)]
pub(super) struct Holder {
    clock: Clock,
    /// Nonce of the last request, and when it was made.
    asked: Cell<Option<(u64, i64)>>,
    lease: Cell<Option<Lease>>,
}

impl Holder {
    pub(super) fn new(clock: Clock) -> Self {
        Holder { clock, asked: Cell::new(None), lease: Cell::new(None) }
    }

    pub(super) fn ask(&self, now: &Reading, nonce: u64) {
        self.asked.set(Some((nonce, self.clock.now_ns(now))));
    }

    /// `until_ns` is the granter's word, `term_ns` what was asked for.
    pub(super) fn granted(&self, nonce: u64, term_ns: i64, until_ns: i64, fence: Fence) -> bool {
        let Some((_, asked_ns)) = self.asked.get().filter(|&(asked, _)| asked == nonce) else { return false };
        let until_ns = match self.clock {
            Clock::Monotonic => asked_ns + term_ns,
            Clock::Realtime => until_ns,
        };
        self.asked.set(None);
        self.lease.set(Some(Lease { until_ns, fence }));
        true
    }

    pub(super) fn lease(&self) -> Option<Lease> {
        self.lease.get()
    }

    pub(super) fn is_held(&self, now: &Reading) -> bool {
        self.lease.get().is_some_and(|lease| self.clock.now_ns(now) < lease.until_ns)
    }
}
