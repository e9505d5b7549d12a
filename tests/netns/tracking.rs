//! chronyd's own account of its clock, asked over its command socket: what `chronyc tracking` prints, without a program
//! to start for every question.
//!
//! The question is REQ_TRACKING of protocol 6, padded to the length of its answer (chronyd refuses shorter ones, lest it
//! amplify). All numbers are big-endian; a real one is seven bits of exponent and 25 of coefficient, both signed.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use truebound_core::units::to_i64;

use super::stats::half;

const VERSION: u8 = 6;
const QUESTION: u8 = 1;
const ANSWER: u8 = 2;
const REQ_TRACKING: u16 = 33;
const RPY_TRACKING: u16 = 5;
const LENGTH: usize = 104;

/// Offsets of the fields in the answer.
const REPLY: usize = 6;
const STRATUM: usize = 52;
const CORRECTION: usize = 68;
const ROOT_DELAY: usize = 92;
const ROOT_DISPERSION: usize = 96;

/// Far more than an answer takes.
const PATIENCE: Duration = Duration::from_secs(1);

/// What chronyd says, ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tracking {
    pub(crate) stratum: u16,
    /// How far the time that it believes in is ahead of the kernel's clock ("System time"). A chronyd that disciplines
    /// nothing (`-x`) keeps all its corrections there; where the kernel's clock is the truth, it is the error of its
    /// clock. "Last offset" is not: that is by how much the newest measurement surprised it.
    pub(crate) error_ns: i64,
    pub(crate) root_delay_ns: i64,
    pub(crate) root_dispersion_ns: i64,
}

impl Tracking {
    /// Asks the chronyd whose command socket this is; `None` if it does not answer. `own` is where the answer goes.
    pub(crate) fn ask(socket: &Path, own: &Path) -> Option<Tracking> {
        let _ = std::fs::remove_file(own);
        let asking = UnixDatagram::bind(own).ok()?;
        asking.set_read_timeout(Some(PATIENCE)).ok()?;
        asking.connect(socket).ok()?;
        asking.send(&question()).ok()?;
        let mut answer = [0; 2 * LENGTH];
        let length = asking.recv(&mut answer).ok()?;
        Tracking::parse(&answer[..length])
    }

    fn parse(answer: &[u8]) -> Option<Tracking> {
        let is_answer = answer.len() >= LENGTH && answer[..2] == [VERSION, ANSWER];
        let half_word = |at: usize| u16::from_be_bytes([answer[at], answer[at + 1]]);
        if !is_answer || half_word(REPLY) != RPY_TRACKING {
            return None;
        }
        let ns =
            |at: usize| ns_from_real(u32::from_be_bytes([answer[at], answer[at + 1], answer[at + 2], answer[at + 3]]));
        Some(Tracking {
            stratum: half_word(STRATUM),
            error_ns: ns(CORRECTION),
            root_delay_ns: ns(ROOT_DELAY),
            root_dispersion_ns: ns(ROOT_DISPERSION),
        })
    }

    /// The bound that the field derives from chrony (ClockBound's recipe).
    pub(crate) fn root_distance_ns(&self) -> i64 {
        half(self.root_delay_ns) + self.root_dispersion_ns
    }
}

fn question() -> [u8; LENGTH] {
    let mut packet = [0; LENGTH];
    packet[..2].copy_from_slice(&[VERSION, QUESTION]);
    packet[4..6].copy_from_slice(&REQ_TRACKING.to_be_bytes());
    packet
}

/// Nanoseconds from seconds, `coefficient·2^(exponent − 25)`.
fn ns_from_real(bits: u32) -> i64 {
    let signed = bits.cast_signed();
    let (exponent, coefficient) = (signed >> 25, (signed << 7) >> 7);
    to_i64((f64::from(coefficient) * 2f64.powi(exponent - 25) * 1e9).round())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reals_are_read_with_both_signs() {
        // 1.0 is 2²³·2^(2 − 25), as chronyd normalises it.
        assert_eq!(ns_from_real((2 << 25) | (1 << 23)), 1_000_000_000);
        assert_eq!(ns_from_real((2 << 25) | (0x1FF_FFFF & (-(1i32 << 23)).cast_unsigned())), -1_000_000_000);
        // A negative exponent: 2²³·2^(−8 − 25) s.
        assert_eq!(ns_from_real(((128 - 8) << 25) | (1 << 23)), 976_563);
        assert_eq!(ns_from_real(0), 0);
    }

    #[test]
    fn an_answer_is_read_and_a_refusal_is_none() {
        let mut answer = [0; LENGTH];
        answer[..2].copy_from_slice(&[VERSION, ANSWER]);
        answer[REPLY + 1] = 5;
        answer[STRATUM + 1] = 2;
        answer[ROOT_DELAY..ROOT_DELAY + 4].copy_from_slice(&((2u32 << 25) | (1 << 23)).to_be_bytes());
        let tracking = Tracking::parse(&answer).expect("an answer");
        assert_eq!((tracking.stratum, tracking.root_distance_ns()), (2, 500_000_000));
        assert_eq!(Tracking::parse(&answer[..LENGTH - 1]), None);
        answer[REPLY + 1] = 1;
        assert_eq!(Tracking::parse(&answer), None);
    }
}
