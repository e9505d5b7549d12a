//! A card's clock: set, detuned, read against raw time.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use crate::sys;

pub(crate) struct Phc(File);

/// A reading of a PHC between two readings of raw time, ns.
#[derive(Clone, Copy)]
pub(crate) struct Crossing {
    pub(crate) phc_ns: i64,
    before_ns: i64,
    after_ns: i64,
}

impl Phc {
    pub(crate) fn open(device: &Path) -> io::Result<Phc> {
        let file = File::options().read(true).write(true).open(device);
        Ok(Phc(file.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", device.display())))?))
    }

    pub(crate) fn set(&self, seconds: i64) -> io::Result<()> {
        sys::set(self.0.as_fd(), seconds)
    }

    pub(crate) fn set_frequency(&self, ppb: i64) -> io::Result<()> {
        sys::set_frequency(self.0.as_fd(), ppb)
    }

    /// The tightest of a few.
    pub(crate) fn against_raw(&self) -> io::Result<Crossing> {
        let crossings = sys::read_against_raw(self.0.as_fd())?.map(|[before_ns, phc_ns, after_ns]| Crossing {
            phc_ns,
            before_ns,
            after_ns,
        });
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
