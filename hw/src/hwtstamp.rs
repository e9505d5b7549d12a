//! Makes a NIC stamp packets (SIOCSHWTSTAMP), and lets it be as it was afterwards.
//!
//! The setting belongs to the interface, not to a socket: whoever else uses the NIC's stamps shares it. So a setting
//! that suffices stays, one that another needs is only ever widened, and on the way out the former one comes back unless
//! somebody has changed it since.

use std::fmt;
use std::io;

use truebound_core::settings::PtpTransport;

use crate::nic::{Interface, StampCaps, rx_filter_name};
use crate::sys::device;

/// What a NIC stamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StampConfig {
    /// HWTSTAMP_TX_*.
    pub tx_type: u32,
    /// HWTSTAMP_FILTER_*.
    pub rx_filter: u32,
}

/// Asks and tells a NIC what to stamp.
pub trait StampControl {
    /// What it stamps now. Not every driver tells.
    fn get(&self) -> io::Result<StampConfig>;
    /// Makes it stamp that, and gives what the driver made of it: it may stamp more.
    fn set(&self, config: StampConfig) -> io::Result<StampConfig>;
}

impl StampControl for Interface {
    fn get(&self) -> io::Result<StampConfig> {
        self.stamp_config(StampConfig::default(), false)
    }

    fn set(&self, config: StampConfig) -> io::Result<StampConfig> {
        self.stamp_config(config, true)
    }
}

impl Interface {
    fn stamp_config(&self, config: StampConfig, set: bool) -> io::Result<StampConfig> {
        let mut raw: libc::hwtstamp_config = device::zeroed();
        raw.tx_type = config.tx_type.cast_signed();
        raw.rx_filter = config.rx_filter.cast_signed();
        device::stamp_config(self.socket(), self.padded_name(), &mut raw, set)?;
        Ok(StampConfig { tx_type: raw.tx_type.cast_unsigned(), rx_filter: raw.rx_filter.cast_unsigned() })
    }
}

/// Why a NIC does not stamp for us.
#[derive(Debug)]
pub enum Refusal {
    /// It cannot, or has no clock that can be read.
    Incapable,
    /// Somebody uses it with a filter that none of those that would do for us contains.
    InUse(StampConfig),
    /// It has no filter that would do, or took none.
    NoFilter(Option<io::Error>),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Incapable => f.write_str("it has no hardware stamps with a clock"),
            Refusal::InUse(config) => write!(
                f,
                "somebody uses it with filter {}, and it has none that serves both; stop the other daemon or set \
                 the filter with hwstamp_ctl",
                rx_filter_name(config.rx_filter)
            ),
            Refusal::NoFilter(None) => f.write_str("it has no filter that lets PTP event messages through"),
            Refusal::NoFilter(Some(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
                f.write_str("setting its filter needs CAP_NET_ADMIN")
            }
            Refusal::NoFilter(Some(error)) => write!(f, "its driver took no filter: {error}"),
        }
    }
}

/// The NIC stamps for us, until this is dropped.
#[derive(Debug)]
pub struct HardwareStamps<C: StampControl = Interface> {
    control: C,
    /// What to restore.
    previous: Option<StampConfig>,
    granted: StampConfig,
}

impl<C: StampControl> HardwareStamps<C> {
    /// Makes the NIC stamp PTP event messages of `transport`, or more.
    pub fn enable(control: C, caps: &StampCaps, transport: PtpTransport) -> Result<Self, Refusal> {
        if !caps.hardware() {
            return Err(Refusal::Incapable);
        }
        let current = control.get().ok();
        if let Some(current) = current.filter(|current| suffices(*current, transport)) {
            return Ok(HardwareStamps { control, previous: None, granted: current });
        }
        let granted = climb(&control, caps, transport, current)?;
        Ok(HardwareStamps { control, previous: current, granted })
    }

    /// What it stamps.
    #[must_use]
    pub fn granted(&self) -> StampConfig {
        self.granted
    }

    /// Another port of ours wants `transport` through the same NIC; or the same one again, and the setting may be lost.
    pub fn add(&mut self, caps: &StampCaps, transport: PtpTransport) -> Result<(), Refusal> {
        let now = self.control.get().unwrap_or(self.granted);
        if !suffices(now, transport) {
            self.granted = climb(&self.control, caps, transport, Some(now))?;
            self.previous = self.previous.or(Some(now));
        }
        Ok(())
    }

    /// The setting still suffices for `transport`, as far as the driver tells: nobody has changed it since.
    #[must_use]
    pub fn holds(&self, transport: PtpTransport) -> bool {
        self.control.get().map_or(true, |now| suffices(now, transport))
    }
}

impl<C: StampControl> Drop for HardwareStamps<C> {
    fn drop(&mut self) {
        let Some(previous) = self.previous else { return };
        if self.control.get().is_ok_and(|now| now == self.granted) {
            // Nobody is left to tell of an error.
            let _ = self.control.set(previous);
        }
    }
}

/// Tries one filter after the other until the driver grants one that suffices.
fn climb(
    control: &impl StampControl,
    caps: &StampCaps,
    transport: PtpTransport,
    current: Option<StampConfig>,
) -> Result<StampConfig, Refusal> {
    // A one-step master is somebody else's: its Syncs would go without a stamp.
    if let Some(current) = current.filter(|current| current.tx_type > libc::HWTSTAMP_TX_ON) {
        return Err(Refusal::InUse(current));
    }
    let used = current.map_or(libc::HWTSTAMP_FILTER_NONE, |current| current.rx_filter);
    let is_known = |&filter: &u32| caps.may_know_filter(filter);
    let known: Vec<u32> = filters(transport).into_iter().filter(is_known).collect();
    let mut refusal = if known.is_empty() { Refusal::NoFilter(None) } else { in_use(current) };
    for rx_filter in known.into_iter().filter(|&filter| contains(filter, used)) {
        match control.set(StampConfig { tx_type: libc::HWTSTAMP_TX_ON, rx_filter }) {
            Ok(granted) if suffices(granted, transport) => return Ok(granted),
            Ok(_) => {
                refusal = Refusal::NoFilter(None);
                let _ = current.map(|current| control.set(current));
            }
            Err(error) => refusal = Refusal::NoFilter(Some(error)),
        }
    }
    Err(refusal)
}

fn in_use(current: Option<StampConfig>) -> Refusal {
    current.map_or(Refusal::NoFilter(None), Refusal::InUse)
}

/// The filters that let the transport's event messages through, those first that cost the least: where a NIC stamps every
/// packet, some have one place for a stamp and lose those that matter (e1000e), others lose their speed.
fn filters(transport: PtpTransport) -> [u32; 3] {
    let narrowest = match transport {
        PtpTransport::Udp4 | PtpTransport::Udp6 => libc::HWTSTAMP_FILTER_PTP_V2_L4_EVENT,
        PtpTransport::Ethernet => libc::HWTSTAMP_FILTER_PTP_V2_L2_EVENT,
    };
    [libc::HWTSTAMP_FILTER_PTP_V2_EVENT, narrowest, libc::HWTSTAMP_FILTER_ALL]
}

fn suffices(config: StampConfig, transport: PtpTransport) -> bool {
    config.tx_type == libc::HWTSTAMP_TX_ON && filters(transport).contains(&config.rx_filter)
}

/// Everything that passes `narrow` passes `wide`.
fn contains(wide: u32, narrow: u32) -> bool {
    let is_l4 = (libc::HWTSTAMP_FILTER_PTP_V2_L4_EVENT..=libc::HWTSTAMP_FILTER_PTP_V2_L4_DELAY_REQ).contains(&narrow);
    let is_l2 = (libc::HWTSTAMP_FILTER_PTP_V2_L2_EVENT..=libc::HWTSTAMP_FILTER_PTP_V2_L2_DELAY_REQ).contains(&narrow);
    let is_any = (libc::HWTSTAMP_FILTER_PTP_V2_EVENT..=libc::HWTSTAMP_FILTER_PTP_V2_DELAY_REQ).contains(&narrow);
    narrow == libc::HWTSTAMP_FILTER_NONE
        || match wide {
            libc::HWTSTAMP_FILTER_ALL => true,
            libc::HWTSTAMP_FILTER_PTP_V2_EVENT => is_l4 || is_l2 || is_any,
            libc::HWTSTAMP_FILTER_PTP_V2_L4_EVENT => is_l4,
            libc::HWTSTAMP_FILTER_PTP_V2_L2_EVENT => is_l2,
            _ => wide == narrow,
        }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    use truebound_core::io::PhcId;

    use super::*;

    const OFF: StampConfig = StampConfig { tx_type: 0, rx_filter: 0 };
    const ALL: u32 = libc::HWTSTAMP_FILTER_ALL;
    const EVENT: u32 = libc::HWTSTAMP_FILTER_PTP_V2_EVENT;
    const L4: u32 = libc::HWTSTAMP_FILTER_PTP_V2_L4_EVENT;
    const L2: u32 = libc::HWTSTAMP_FILTER_PTP_V2_L2_EVENT;
    const V1: u32 = libc::HWTSTAMP_FILTER_PTP_V1_L4_SYNC;

    /// A NIC's driver: which filter it grants for which.
    struct Driver {
        now: Cell<StampConfig>,
        grants: Vec<(u32, u32)>,
        tells: bool,
        asked: RefCell<Vec<u32>>,
    }

    impl StampControl for Rc<Driver> {
        fn get(&self) -> io::Result<StampConfig> {
            if self.tells { Ok(self.now.get()) } else { Err(io::ErrorKind::Unsupported.into()) }
        }

        fn set(&self, config: StampConfig) -> io::Result<StampConfig> {
            self.asked.borrow_mut().push(config.rx_filter);
            let grant = self.grants.iter().find(|(asked, _)| *asked == config.rx_filter);
            let granted = if config.rx_filter == 0 { 0 } else { grant.ok_or(io::ErrorKind::InvalidInput)?.1 };
            self.now.set(StampConfig { rx_filter: granted, ..config });
            Ok(self.now.get())
        }
    }

    fn driver(now: StampConfig, grants: &[(u32, u32)]) -> Rc<Driver> {
        Rc::new(new_driver(now, grants))
    }

    fn new_driver(now: StampConfig, grants: &[(u32, u32)]) -> Driver {
        Driver { now: Cell::new(now), grants: grants.to_vec(), tells: true, asked: RefCell::default() }
    }

    fn caps(filters: &[u32]) -> StampCaps {
        let rx_filters = filters.iter().map(|&filter| 1 << filter).sum();
        StampCaps { flags: 0x5f, phc: Some(PhcId(0)), tx_types: 3, rx_filters }
    }

    fn on(rx_filter: u32) -> StampConfig {
        StampConfig { tx_type: 1, rx_filter }
    }

    #[test]
    fn the_cheapest_filter_that_is_granted_is_used_and_taken_back() {
        for (grants, transport, want) in [
            (&[(ALL, ALL), (EVENT, EVENT)][..], PtpTransport::Udp4, EVENT),
            (&[(ALL, ALL)], PtpTransport::Udp4, ALL),
            (&[(EVENT, EVENT), (L4, L4)], PtpTransport::Udp6, EVENT),
            (&[(L4, L4), (L2, L2)], PtpTransport::Udp4, L4),
            (&[(L4, L4), (L2, L2)], PtpTransport::Ethernet, L2),
            (&[(L2, ALL)], PtpTransport::Ethernet, ALL), // upgraded
        ] {
            let nic = driver(OFF, grants);
            let stamps = HardwareStamps::enable(Rc::clone(&nic), &caps(&[]), transport).expect("granted");
            assert_eq!((stamps.granted(), nic.now.get()), (on(want), on(want)));
            drop(stamps);
            assert_eq!(nic.now.get(), OFF);
        }
    }

    #[test]
    fn filters_that_the_driver_does_not_list_are_not_tried() {
        let nic = driver(OFF, &[(ALL, ALL), (EVENT, EVENT)]);
        let stamps = HardwareStamps::enable(Rc::clone(&nic), &caps(&[EVENT]), PtpTransport::Udp4).expect("granted");
        assert_eq!((stamps.granted(), nic.asked.borrow().as_slice()), (on(EVENT), &[EVENT][..]));
    }

    #[test]
    fn a_setting_that_suffices_is_left_alone() {
        let nic = driver(on(EVENT), &[(ALL, ALL)]);
        let stamps = HardwareStamps::enable(Rc::clone(&nic), &caps(&[]), PtpTransport::Udp4).expect("granted");
        assert_eq!(stamps.granted(), on(EVENT));
        drop(stamps);
        assert!(nic.asked.borrow().is_empty());
    }

    #[test]
    fn what_somebody_else_uses_is_widened_and_never_narrowed() {
        let nic = driver(on(L2), &[(EVENT, EVENT), (L4, L4), (L2, L2)]);
        let stamps = HardwareStamps::enable(Rc::clone(&nic), &caps(&[]), PtpTransport::Udp4).expect("granted");
        assert_eq!(stamps.granted(), on(EVENT));
        drop(stamps);
        assert_eq!(nic.now.get(), on(L2));

        for (used, grants) in [(L2, [(L4, L4)]), (V1, [(EVENT, EVENT)])] {
            let nic = driver(on(used), &grants);
            let refusal = HardwareStamps::enable(Rc::clone(&nic), &caps(&[L4, EVENT]), PtpTransport::Udp4);
            assert!(refusal.is_err());
            assert_eq!(nic.now.get(), on(used));
        }
    }

    #[test]
    fn a_one_step_masters_nic_is_left_alone() {
        let one_step = StampConfig { tx_type: libc::HWTSTAMP_TX_ON + 1, rx_filter: EVENT };
        let nic = driver(one_step, &[(EVENT, EVENT), (ALL, ALL)]);
        let refusal = HardwareStamps::enable(Rc::clone(&nic), &caps(&[]), PtpTransport::Udp4);
        assert!(matches!(refusal, Err(Refusal::InUse(_))) && nic.now.get() == one_step);
    }

    #[test]
    fn what_somebody_else_changed_meanwhile_stays() {
        let nic = driver(OFF, &[(EVENT, EVENT), (ALL, ALL)]);
        let stamps = HardwareStamps::enable(Rc::clone(&nic), &caps(&[EVENT]), PtpTransport::Udp4).expect("granted");
        nic.now.set(on(ALL));
        assert!(stamps.holds(PtpTransport::Ethernet));
        drop(stamps);
        assert_eq!(nic.now.get(), on(ALL));
    }

    #[test]
    fn a_setting_that_was_taken_away_is_noticed() {
        let nic = driver(OFF, &[(L4, L4)]);
        let stamps = HardwareStamps::enable(Rc::clone(&nic), &caps(&[L4]), PtpTransport::Udp4).expect("granted");
        assert!(stamps.holds(PtpTransport::Udp4) && !stamps.holds(PtpTransport::Ethernet));
        for taken in [OFF, on(L2), StampConfig { tx_type: 0, rx_filter: L4 }] {
            nic.now.set(taken);
            assert!(!stamps.holds(PtpTransport::Udp4), "{taken:?}");
        }
    }

    #[test]
    fn a_setting_that_was_lost_is_made_again_and_the_first_one_comes_back() {
        let nic = driver(OFF, &[(EVENT, EVENT)]);
        let mut stamps = HardwareStamps::enable(Rc::clone(&nic), &caps(&[]), PtpTransport::Udp4).expect("granted");
        nic.now.set(on(L2)); // another daemon's
        stamps.add(&caps(&[]), PtpTransport::Udp4).expect("widened");
        assert_eq!(nic.now.get(), on(EVENT));
        drop(stamps);
        assert_eq!(nic.now.get(), OFF);
    }

    #[test]
    fn a_driver_that_does_not_tell_is_not_restored() {
        let nic = Rc::new(Driver { tells: false, ..new_driver(OFF, &[(EVENT, EVENT)]) });
        let stamps = HardwareStamps::enable(Rc::clone(&nic), &caps(&[]), PtpTransport::Udp4).expect("granted");
        drop(stamps);
        assert_eq!(nic.now.get(), on(EVENT));
    }

    #[test]
    fn a_grant_that_does_not_suffice_is_taken_back() {
        let nic = driver(OFF, &[(ALL, V1), (EVENT, V1), (L4, V1)]);
        let refused = HardwareStamps::enable(Rc::clone(&nic), &caps(&[]), PtpTransport::Udp4);
        assert!(matches!(refused, Err(Refusal::NoFilter(None))));
        assert_eq!(nic.now.get(), OFF);
    }

    #[test]
    fn without_a_clock_or_a_filter_there_are_no_stamps() {
        let nic = driver(OFF, &[]);
        let no_clock = StampCaps { phc: None, ..caps(&[]) };
        let refused = HardwareStamps::enable(Rc::clone(&nic), &no_clock, PtpTransport::Udp4);
        assert!(matches!(refused, Err(Refusal::Incapable)));
        let refused = HardwareStamps::enable(Rc::clone(&nic), &caps(&[V1]), PtpTransport::Udp4);
        assert!(matches!(refused, Err(Refusal::NoFilter(None))));
        let refused = HardwareStamps::enable(Rc::clone(&nic), &caps(&[]), PtpTransport::Udp4);
        assert!(matches!(refused, Err(Refusal::NoFilter(Some(_)))));
    }

    #[test]
    fn a_second_port_widens_and_the_first_setting_comes_back() {
        let nic = driver(OFF, &[(EVENT, EVENT), (L4, L4)]);
        let mut stamps = HardwareStamps::enable(Rc::clone(&nic), &caps(&[L4]), PtpTransport::Udp4).expect("granted");
        assert!(stamps.add(&caps(&[L2]), PtpTransport::Ethernet).is_err(), "the first port still needs L4");
        assert_eq!(nic.now.get(), on(L4));
        stamps.add(&caps(&[EVENT]), PtpTransport::Ethernet).expect("widened");
        assert_eq!((stamps.granted(), nic.now.get()), (on(EVENT), on(EVENT)));
        drop(stamps);
        assert_eq!(nic.now.get(), OFF);
    }
}
