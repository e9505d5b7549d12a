//! A card's clock: set, detuned, read against raw time.

use std::io;

use truebound_core::io::PhcId;
use truebound_core::time::{NS_PER_S, PhcTime};
use truebound_hw::phc;

pub(crate) struct Phc(phc::Phc);

/// A device such as /dev/ptp0.
pub(crate) fn device(text: &str) -> Result<PhcId, String> {
    let number = text.strip_prefix("/dev/ptp").and_then(|number| number.parse().ok());
    number.map(PhcId).ok_or_else(|| format!("{text}: expected /dev/ptpN"))
}

/// A reading of a PHC between two readings of raw time, ns.
#[derive(Clone, Copy)]
pub(crate) struct Crossing {
    pub(crate) phc_ns: i64,
    before_ns: i64,
    after_ns: i64,
}

impl Phc {
    pub(crate) fn open(id: PhcId) -> io::Result<Phc> {
        let opened = phc::Phc::open(id);
        opened.map(Phc).map_err(|error| io::Error::new(error.kind(), format!("/dev/ptp{}: {error}", id.0)))
    }

    pub(crate) fn set(&self, seconds: i64) -> io::Result<()> {
        self.0.set_time(PhcTime::from_ns(seconds * NS_PER_S))
    }

    pub(crate) fn set_frequency(&self, ppb: i64) -> io::Result<()> {
        // A rate is in 2⁻⁴⁰; rounded up, it is cut to the same frequency in the kernel's units.
        let rate = (i128::from(ppb) << 40) / i128::from(NS_PER_S) + 1;
        self.0.set_rate(i64::try_from(rate).unwrap_or(i64::MAX)).map(drop)
    }

    /// The tightest of a few.
    pub(crate) fn against_raw(&self) -> io::Result<Crossing> {
        let crossings = self.0.samples()?.map(|[before_ns, phc_ns, after_ns]| Crossing { phc_ns, before_ns, after_ns });
        Ok(crossings.into_iter().min_by_key(Crossing::window_ns).expect("there are five"))
    }
}

impl Crossing {
    /// How far apart the readings of raw time are.
    pub(crate) fn window_ns(&self) -> i64 {
        self.after_ns - self.before_ns
    }

    /// Raw time, to half a window.
    pub(crate) fn raw_ns(&self) -> i64 {
        self.before_ns + self.window_ns() / 2
    }

    /// PHC − raw, to half a window.
    pub(crate) fn theta_ns(&self) -> i64 {
        self.phc_ns - self.raw_ns()
    }

    /// PHC − raw cannot be less than this.
    pub(crate) fn least_theta_ns(&self) -> i64 {
        self.phc_ns - self.after_ns
    }

    /// PHC − raw cannot be more than this.
    pub(crate) fn greatest_theta_ns(&self) -> i64 {
        self.phc_ns - self.before_ns
    }

    /// PHC − raw at another raw time, on the line through this crossing and a later one.
    pub(crate) fn theta_at(&self, later: &Crossing, raw_ns: i64) -> i64 {
        let span = i128::from(later.raw_ns() - self.raw_ns()).max(1);
        let change = i128::from(later.theta_ns() - self.theta_ns()) * i128::from(raw_ns - self.raw_ns()) / span;
        self.theta_ns() + i64::try_from(change).unwrap_or(0)
    }
}
