//! The clocks that stamp packets, each against raw time: CLOCK_REALTIME for the kernel's stamps, PHCs for NICs'.
//!
//! A packet may bring a stamp of either kind, or both. Each is mapped to the interval of raw time in which it must have
//! been taken. With both, the kernel's comes no later than the NIC's on the way out and no earlier on the way in; a
//! NIC's stamp that says otherwise, beyond what NICs are allowed to err, is dropped and counted.

use std::collections::BTreeMap;

use crate::correlation::{Correlation, Mapped, Margins};
use crate::io::{CrossReading, HardwareStamp, PhcId, PhcReading};
use crate::phc::{Phc, PhcRelation};
use crate::stamps::Stamps;
use crate::time::{NS_PER_S, RawSpan, RawTime, RealTime};

/// Readings of CLOCK_REALTIME this far apart are kept for stamps of reference clocks, ns: the last seconds of them, however
/// often packets have that clock read.
const REFERENCE_SPACING_NS: i64 = 125_000_000;
/// A packet that nobody asked for lies in its socket for less than this while clocks are read, ns: every wake-up empties
/// every socket. (While the agent is stopped nothing is read either, and a clock that was set meanwhile does not agree
/// with its reading before.)
const UNREAD_NS: i64 = NS_PER_S;
/// How far a NIC's stamp may be on the wrong side of the kernel's: twice what a NIC at 100 Mbit/s may err (BOUND A3).
const SLACK_NS: i64 = 20_000;
/// PHCs remembered.
const MAX_PHCS: usize = 64;

/// How a NIC's stamps relate to the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Calibration {
    /// e: how early or late they may be after compensation, ns.
    pub(crate) error_ns: i64,
    /// From the wire to the receive stamp, ns.
    pub(crate) ingress_ns: i64,
    /// From the transmit stamp to the wire, ns.
    pub(crate) egress_ns: i64,
}

impl Calibration {
    /// Of a NIC that nobody calibrated (BOUND A3).
    pub(crate) const UNKNOWN: Calibration = Calibration { error_ns: 1_000, ingress_ns: 0, egress_ns: 0 };

    /// Two words about one NIC: where they differ, either may be right.
    fn or(self, other: Calibration) -> Calibration {
        let apart = |a: i64, b: i64| a.saturating_sub(b).saturating_abs();
        let differ_ns = apart(self.ingress_ns, other.ingress_ns).max(apart(self.egress_ns, other.egress_ns));
        Calibration { error_ns: self.error_ns.max(other.error_ns).saturating_add(differ_ns), ..self }
    }
}

/// Which way a packet went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Out,
    In,
}

/// What a packet's stamps are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) stamps: Stamps,
    /// The best guess.
    pub(crate) point: RawTime,
    /// Stamps that were dropped because a clock was set or slewed under them, or because they exclude each other.
    pub(crate) contradicted: u8,
}

/// See the module's page.
#[derive(Clone, Debug)]
pub(crate) struct Clocks {
    pub(crate) real: Correlation<RealTime>,
    /// The same for reference clocks, whose stamps may be seconds old.
    references: Correlation<RealTime>,
    phcs: BTreeMap<PhcId, Phc>,
    calibrations: BTreeMap<PhcId, Calibration>,
}

impl Clocks {
    pub(crate) fn new() -> Self {
        Clocks {
            real: Correlation::new(Margins::REALTIME),
            references: Correlation::new(Margins::REALTIME),
            phcs: BTreeMap::new(),
            calibrations: BTreeMap::new(),
        }
    }

    /// How fast CLOCK_REALTIME may run is this from now on.
    pub(crate) fn limit_real(&mut self, margins: Margins) {
        self.real.limit(margins);
        self.references.limit(margins);
    }

    /// We set CLOCK_REALTIME: no reading before that tells of a stamp after it.
    pub(crate) fn forget_real(&mut self) {
        self.real.clear();
        self.references.clear();
    }

    /// CLOCK_REALTIME was read.
    pub(crate) fn real_read(&mut self, reading: CrossReading) {
        self.real.push(reading);
        self.references.push_thinned(reading, REFERENCE_SPACING_NS);
    }

    /// Where in raw time a reference clock's stamp was taken, knowing only that it was before `late` and not more than
    /// `age_ns` before.
    pub(crate) fn referenced(&self, stamp: RealTime, late: RawTime, age_ns: i64) -> Mapped {
        self.references.map_until(stamp, late, age_ns)
    }

    /// Forgets what was said of NICs.
    pub(crate) fn uncalibrate(&mut self) {
        self.calibrations.clear();
    }

    /// What is said of a NIC's stamps.
    pub(crate) fn calibrate(&mut self, phc: PhcId, calibration: Calibration) {
        let known = self.calibrations.get(&phc).copied();
        self.calibrations.insert(phc, known.map_or(calibration, |known| known.or(calibration)));
    }

    /// The PHC of this number may be another one now.
    pub(crate) fn forget_phc(&mut self, phc: PhcId) {
        self.phcs.remove(&phc);
    }

    /// Raw time is another clock now.
    pub(crate) fn clear(&mut self) {
        self.real.clear();
        self.references.clear();
        self.phcs.clear();
    }

    /// A PHC was read; raw time may be off by `freq_limit`, Ω. `is_ours`: nobody but us steers it.
    pub(crate) fn phc_read(&mut self, reading: &PhcReading, freq_limit: f64, is_ours: bool) {
        if self.phcs.len() < MAX_PHCS || self.phcs.contains_key(&reading.phc) {
            self.phcs.entry(reading.phc).or_insert_with(Phc::new).push(reading, freq_limit, is_ours);
        }
    }

    /// What is known of a PHC.
    pub(crate) fn phc(&self, phc: PhcId) -> Option<&Phc> {
        self.phcs.get(&phc)
    }

    /// What is known of all of them.
    pub(crate) fn relations(&self) -> Vec<(PhcId, PhcRelation)> {
        self.phcs.iter().filter_map(|(&id, phc)| Some((id, phc.relation()?))).collect()
    }

    /// A packet of ours, sent within `user`.
    pub(crate) fn sent(&self, user: RawSpan, kernel: Option<RealTime>, nic: Option<HardwareStamp>) -> Placed {
        let kernel = kernel.map(|stamp| self.real.map(stamp, user));
        let hardware = nic.and_then(|nic| self.phcs.get(&nic.phc).map(|phc| (phc.map(nic.time, user), nic)));
        self.place(Way::Out, user, kernel, hardware)
    }

    /// An answer, received within `user`.
    pub(crate) fn answered(&self, user: RawSpan, kernel: Option<RealTime>, nic: Option<HardwareStamp>) -> Placed {
        let kernel = kernel.map(|stamp| self.real.map(stamp, user));
        let hardware = nic.and_then(|nic| self.phcs.get(&nic.phc).map(|phc| (phc.map(nic.time, user), nic)));
        self.place(Way::In, user, kernel, hardware)
    }

    /// A packet that nobody asked for, received before `user_after`.
    pub(crate) fn came(&self, user_after: RawTime, kernel: Option<RealTime>, nic: Option<HardwareStamp>) -> Placed {
        // Nobody knows how long it lay in the socket.
        let user = RawSpan { early: RawTime::from_ns(i64::MIN), late: user_after };
        let kernel = kernel.map(|stamp| self.real.map_until(stamp, user_after, UNREAD_NS));
        let hardware = nic
            .and_then(|nic| self.phcs.get(&nic.phc).map(|phc| (phc.map_until(nic.time, user_after, UNREAD_NS), nic)));
        self.place(Way::In, user, kernel, hardware)
    }

    fn place(
        &self,
        way: Way,
        user: RawSpan,
        kernel: Option<Mapped>,
        hardware: Option<(Mapped, HardwareStamp)>,
    ) -> Placed {
        let mut contradicted = u8::from(kernel == Some(Mapped::Contradicted));
        let kernel = kernel.and_then(Mapped::span);
        let nic = hardware.and_then(|(mapped, nic)| {
            contradicted += u8::from(mapped == Mapped::Contradicted);
            Some((mapped.span()?, nic))
        });
        let calibration = nic.and_then(|(_, nic)| self.calibrations.get(&nic.phc).copied());
        let Calibration { error_ns, ingress_ns, egress_ns } = calibration.unwrap_or(Calibration::UNKNOWN);
        let shift_ns = if way == Way::In { ingress_ns.saturating_neg() } else { egress_ns };
        let nic = nic.filter(|&(span, _)| {
            let is_in_order = kernel.is_none_or(|kernel| is_in_order(way, kernel, span));
            contradicted += u8::from(!is_in_order);
            is_in_order
        });
        let Some((span, nic)) = nic else {
            let unstamped = if way == Way::In { user.late } else { user.middle() };
            let point = kernel.map_or(unstamped, RawSpan::middle);
            return Placed { stamps: Stamps { kernel, ..Stamps::user(user) }, point, contradicted };
        };
        let point = self.phcs.get(&nic.phc).and_then(|phc| phc.point(nic.time));
        let point = point.map_or(span.middle(), |point| point.clamp(span.early, span.late)).plus_ns(shift_ns);
        let wire = RawSpan { early: span.early.plus_ns(shift_ns), late: span.late.plus_ns(shift_ns) };
        Placed { stamps: Stamps { user, kernel: Some(wire), nic_error_ns: Some(error_ns) }, point, contradicted }
    }
}

/// The kernel stamps before it hands a packet to the NIC and after it took it over from there.
fn is_in_order(way: Way, kernel: RawSpan, nic: RawSpan) -> bool {
    match way {
        Way::Out => nic.late.plus_ns(SLACK_NS) >= kernel.early,
        Way::In => nic.early <= kernel.late.plus_ns(SLACK_NS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{KernelRate, Setting};
    use crate::time::PhcTime;

    /// Readings of REALTIME (raw + 1 s) and of PHC 0 (raw + 2 s), every 100 µs of raw time from 0 to 1 ms, and one long
    /// before.
    fn clocks() -> Clocks {
        clocks_set_back(0)
    }

    /// The same, both set back by so much at 450 µs.
    fn clocks_set_back(ns: i64) -> Clocks {
        let mut clocks = Clocks::new();
        for raw in [-UNREAD_NS].into_iter().chain((0..=1_000_000).step_by(100_000)) {
            let (before, after) = (RawTime::from_ns(raw - 50), RawTime::from_ns(raw + 50));
            let rate = KernelRate::Steady { ppb: 0 };
            let shown = if raw < 450_000 { raw } else { raw - ns };
            let real = RealTime::from_ns(shown + 1_000_000_000);
            clocks.real_read(CrossReading { before, real, after, rate, setting: Setting::Unset });
            let real = PhcTime::from_ns(shown + 2_000_000_000);
            let cross = CrossReading { before, real, after, rate, setting: Setting::Untold };
            let reading = PhcReading { phc: PhcId(0), cross, max_adj_ppb: 1_000_000, stated_error_ns: None };
            clocks.phc_read(&reading, 1e-3, false);
        }
        clocks
    }

    fn kernel(raw: i64) -> Option<RealTime> {
        Some(RealTime::from_ns(raw + 1_000_000_000))
    }

    fn nic(raw: i64) -> Option<HardwareStamp> {
        Some(HardwareStamp { phc: PhcId(0), time: PhcTime::from_ns(raw + 2_000_000_000) })
    }

    #[test]
    fn a_nic_stamp_is_preferred_and_lies_where_it_was_taken() {
        let user = RawSpan { early: RawTime::from_ns(310_000), late: RawTime::from_ns(390_000) };
        let placed = clocks().sent(user, kernel(320_000), nic(330_000));
        assert!(placed.stamps.is_hardware() && placed.contradicted == 0, "{placed:?}");
        let span = placed.stamps.best();
        let truth = RawTime::from_ns(330_000);
        assert!(span.early <= truth && truth <= span.late && span.late.ns_since(span.early) < 400, "{span:?}");
        assert!(placed.point.ns_since(truth).abs() <= 1, "{placed:?}");
    }

    #[test]
    fn a_calibrated_nic_stamps_the_wire() {
        let mut clocks = clocks();
        clocks.calibrate(PhcId(0), Calibration { error_ns: 30, ingress_ns: 400, egress_ns: 700 });
        let user = RawSpan { early: RawTime::from_ns(310_000), late: RawTime::from_ns(390_000) };
        let out = clocks.sent(user, kernel(320_000), nic(330_000));
        assert_eq!(
            (out.point.ns_since(RawTime::from_ns(330_700)).abs() <= 1, out.stamps.nic_error_ns),
            (true, Some(30))
        );
        let came = clocks.came(RawTime::from_ns(870_000), None, nic(830_000));
        assert!(came.point.ns_since(RawTime::from_ns(829_600)).abs() <= 1, "{came:?}");
        // Another port says otherwise of the same NIC: it may be right.
        clocks.calibrate(PhcId(0), Calibration { error_ns: 10, ingress_ns: 0, egress_ns: 700 });
        assert_eq!(clocks.sent(user, None, nic(330_000)).stamps.nic_error_ns, Some(430));
    }

    #[test]
    fn an_unasked_packet_is_placed_by_its_stamp() {
        let placed = clocks().came(RawTime::from_ns(870_000), kernel(840_000), nic(830_000));
        assert!(placed.stamps.is_hardware(), "{placed:?}");
        assert!(placed.point.ns_since(RawTime::from_ns(830_000)).abs() <= 1, "{placed:?}");
        // The same by the kernel's stamp alone.
        let placed = clocks().came(RawTime::from_ns(870_000), kernel(840_000), None);
        let span = placed.stamps.best();
        assert!(span.early <= RawTime::from_ns(840_000) && RawTime::from_ns(840_000) <= span.late, "{span:?}");
        assert!(!placed.stamps.is_hardware() && span.late.ns_since(span.early) < 400, "{span:?}");
    }

    #[test]
    fn an_unasked_packet_may_have_waited_in_the_socket_for_any_time() {
        // Both clocks were read again before it was fetched: that does not make it younger.
        let mut clocks = clocks();
        let (before, after) = (RawTime::from_ns(1_499_950), RawTime::from_ns(1_500_050));
        let rate = KernelRate::Steady { ppb: 0 };
        let real = RealTime::from_ns(1_001_500_000);
        clocks.real.push(CrossReading { before, real, after, rate, setting: Setting::Unset });
        for (kernel, nic) in [(kernel(840_000), nic(830_000)), (kernel(840_000), None)] {
            let placed = clocks.came(RawTime::from_ns(1_600_000), kernel, nic);
            let widened = placed.stamps.best().widened(1_000, placed.stamps.user);
            assert!(widened.early <= RawTime::from_ns(830_000), "{placed:?}");
            assert!(widened.late >= RawTime::from_ns(830_000), "{placed:?}");
        }
    }

    #[test]
    fn an_unasked_packet_is_not_placed_by_a_clock_that_was_set_while_it_may_have_waited() {
        for (set_back_ns, is_placed) in [(0, true), (300_000, false)] {
            let clocks = clocks_set_back(set_back_ns);
            // Both clocks show at 740 µs what they showed at 440 and 430 µs, and were read around it.
            for (kernel, nic) in [(kernel(440_000), None), (None, nic(430_000))] {
                let placed = clocks.came(RawTime::from_ns(780_000), kernel, nic);
                assert_eq!(placed.stamps.best() != placed.stamps.user, is_placed, "{placed:?}");
                assert!(
                    placed.stamps.best().early <= RawTime::from_ns(430_000 + i64::from(kernel.is_some()) * 10_000),
                    "{placed:?}"
                );
            }
        }
    }

    #[test]
    fn a_nic_stamp_on_the_wrong_side_of_the_kernels_is_dropped() {
        let user = RawSpan { early: RawTime::from_ns(110_000), late: RawTime::from_ns(390_000) };
        for (stamp, keeps) in [(320_000 - SLACK_NS + 500, true), (320_000 - SLACK_NS - 500, false)] {
            let placed = clocks().sent(user, kernel(320_000), nic(stamp));
            assert_eq!((placed.stamps.is_hardware(), placed.contradicted), (keeps, u8::from(!keeps)), "{stamp}");
        }
        for (stamp, keeps) in [(820_000 + SLACK_NS - 500, true), (820_000 + SLACK_NS + 500, false)] {
            let placed = clocks().came(RawTime::from_ns(870_000), kernel(820_000), nic(stamp));
            assert_eq!((placed.stamps.is_hardware(), placed.contradicted), (keeps, u8::from(!keeps)), "{stamp}");
        }
    }

    #[test]
    fn a_stamp_of_a_phc_that_nobody_read_is_not_used() {
        let user = RawSpan { early: RawTime::from_ns(310_000), late: RawTime::from_ns(390_000) };
        let stamp = Some(HardwareStamp { phc: PhcId(7), time: PhcTime::from_ns(2_000_330_000) });
        assert_eq!(clocks().sent(user, None, stamp).stamps, Stamps::user(user));
    }
}
