//! When one packet of ours left or arrived, as well as it is known: by readings of raw time around the call, which need
//! no assumption, and by the stamp of the kernel or the NIC, mapped to raw time by [`crate::clocks`].

use crate::time::RawSpan;

/// When a datagram of ours left or arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamps {
    /// By reading raw time in user space, before and after: needs no assumption.
    pub(crate) user: RawSpan,
    /// By the kernel's stamp or the NIC's, mapped to raw time.
    pub(crate) kernel: Option<RawSpan>,
    /// Where `kernel` is the NIC's: e, how early or late that one may be, ns.
    pub(crate) nic_error_ns: Option<i64>,
}

impl Stamps {
    /// Without a stamp.
    pub(crate) const fn user(user: RawSpan) -> Self {
        Stamps { user, kernel: None, nic_error_ns: None }
    }

    /// Is the stamp the NIC's?
    pub(crate) const fn is_hardware(&self) -> bool {
        self.nic_error_ns.is_some()
    }

    /// The narrowest that is known.
    pub(crate) fn best(&self) -> RawSpan {
        self.kernel.unwrap_or(self.user)
    }
}
