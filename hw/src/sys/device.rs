//! Ioctls of interfaces, PTP clocks and PPS devices, and socket options that nix does not know: structures in, structures out.
//!
//! Each ioctl is paired with the structure that the kernel reads and writes ([`Request`]), so none can be called with
//! another. The structures that libc lacks are defined here.

use std::io;
use std::marker::PhantomData;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::sys::socket::{SockaddrLike, SockaddrStorage};
use truebound_core::time::NS_PER_S;

/// A C structure of integers in which every byte is part of an integer.
///
/// # Safety
///
/// All zeroes is a value of it, it has no padding, and no pointer in it is followed by the kernel.
pub(crate) unsafe trait Plain: Copy {}

macro_rules! plain {
    ($($name:ty: $bytes:expr),* $(,)?) => {
        $(
            // SAFETY: integers and arrays of them only; the size, which leaves no room for padding, is checked below.
            unsafe impl Plain for $name {}
            const _: () = assert!(size_of::<$name>() == $bytes);
        )*
    };
}

plain! {
    libc::c_int: 4,
    libc::ip_mreqn: 12,
    libc::ipv6_mreq: 20,
    libc::packet_mreq: 16,
    libc::ptp_clock_caps: 80,
    libc::ptp_sys_offset_extended: 1216,
    libc::ptp_sys_offset_precise: 64,
    libc::hwtstamp_config: 12,
    PpsParams: 40,
    PpsFetched: 64,
    TsInfo: 44,
    DriverInfo: 196,
    LinkInfo: 8,
    VlanRequest: 56,
}

/// All zeroes.
pub(crate) fn zeroed<T: Plain>() -> T {
    // SAFETY: by Plain, all zeroes is a value of T.
    unsafe { mem::zeroed() }
}

/// setsockopt(2).
pub(crate) fn set_option<T: Plain>(
    fd: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> io::Result<()> {
    let bytes = libc::socklen_t::try_from(size_of::<T>()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: fd is open for the call; `value` is a live T of `bytes` bytes without padding, which the call only reads.
    let done = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const *value).cast(), bytes) };
    outcome(done)
}

/// An ioctl that reads and writes a `T`.
pub(crate) struct Request<T>(libc::Ioctl, PhantomData<T>);

/// What a PTP clock can do.
pub(crate) const CLOCK_CAPS: Request<libc::ptp_clock_caps> = Request(libc::PTP_CLOCK_GETCAPS, PhantomData);
/// The clock and the system's clocks by hardware, at one instant.
pub(crate) const OFFSET_PRECISE: Request<libc::ptp_sys_offset_precise> =
    Request(libc::PTP_SYS_OFFSET_PRECISE, PhantomData);
/// The clock between two readings of a system clock.
pub(crate) const OFFSET_EXTENDED: Request<libc::ptp_sys_offset_extended> =
    Request(libc::PTP_SYS_OFFSET_EXTENDED, PhantomData);

/// struct pps_ktime.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct PpsTime {
    pub(crate) s: i64,
    pub(crate) ns: i32,
    pub(crate) flags: u32,
}

/// struct pps_kinfo.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct PpsInfo {
    pub(crate) assert_sequence: u32,
    pub(crate) clear_sequence: u32,
    pub(crate) assert: PpsTime,
    pub(crate) clear: PpsTime,
    pub(crate) mode: i32,
    pub(crate) padding: u32,
}

/// struct pps_kparams.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct PpsParams {
    pub(crate) api_version: i32,
    pub(crate) mode: i32,
    assert_offset: PpsTime,
    clear_offset: PpsTime,
}

/// struct pps_fdata.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct PpsFetched {
    pub(crate) info: PpsInfo,
    timeout: PpsTime,
}

/// PPS_GETPARAMS. The kernel's numbers for these have the size of a pointer.
pub(crate) const PPS_GETPARAMS: Request<PpsParams> = Request(libc::_IOR::<*mut PpsParams>(PPS_TYPE, 0xa1), PhantomData);
/// PPS_SETPARAMS.
pub(crate) const PPS_SETPARAMS: Request<PpsParams> = Request(libc::_IOW::<*mut PpsParams>(PPS_TYPE, 0xa2), PhantomData);
/// PPS_FETCH.
pub(crate) const PPS_FETCH: Request<PpsFetched> = Request(libc::_IOWR::<*mut PpsFetched>(PPS_TYPE, 0xa4), PhantomData);
/// 'p' of <linux/pps.h>.
const PPS_TYPE: u32 = 0x70;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const _: () = {
    assert!(PPS_GETPARAMS.0 == 0x8008_70a1_u32 as libc::Ioctl);
    assert!(PPS_SETPARAMS.0 == 0x4008_70a2_u32 as libc::Ioctl);
    assert!(PPS_FETCH.0 == 0xc008_70a4_u32 as libc::Ioctl);
};

/// ioctl(2) on a PTP clock or a PPS device.
pub(crate) fn clock_ioctl<T: Plain>(fd: BorrowedFd<'_>, request: &Request<T>, argument: &mut T) -> io::Result<()> {
    // SAFETY: fd is open for the call; the request is one that reads and writes a T, and `argument` is one, ours alone.
    outcome(unsafe { libc::ioctl(fd.as_raw_fd(), request.0, &raw mut *argument) })
}

/// The clock that an open /dev/ptpN is (FD_TO_CLOCKID).
pub(crate) fn clock_of(fd: BorrowedFd<'_>) -> libc::clockid_t {
    (!fd.as_raw_fd() << 3) | 3
}

/// clock_adjtime(2): what `timex` says is done to the clock, and `timex` then says what it is like.
pub(crate) fn adjust_clock(clock: libc::clockid_t, timex: &mut libc::timex) -> io::Result<libc::c_int> {
    // SAFETY: `timex` is a live, aligned timex, ours alone; the call reads and writes at most its size.
    let state = unsafe { libc::clock_adjtime(clock, &raw mut *timex) };
    if state < 0 { Err(io::Error::last_os_error()) } else { Ok(state) }
}

/// Adds `ns` to a clock at once.
pub(crate) fn add_to_clock(clock: libc::clockid_t, ns: i64) -> io::Result<()> {
    let mut timex = empty_timex();
    timex.modes = libc::ADJ_SETOFFSET | libc::ADJ_NANO;
    timex.time.tv_sec = ns.div_euclid(NS_PER_S);
    timex.time.tv_usec = ns.rem_euclid(NS_PER_S); // ns by ADJ_NANO, never negative
    adjust_clock(clock, &mut timex).map(drop)
}

/// A timex that changes nothing.
pub(crate) fn empty_timex() -> libc::timex {
    // SAFETY: timex is a C struct of integers only, so all zeroes is a value of it.
    unsafe { mem::zeroed() } // modes = 0: a read
}

/// Bytes of an interface's name, with the final zero.
pub(crate) const NAME_BYTES: usize = libc::IFNAMSIZ;

/// struct ifreq: a name, and a union of 24 bytes at the most.
#[repr(C, align(8))]
struct InterfaceRequest {
    name: [u8; NAME_BYTES],
    value: [u8; 24],
}

const _: () = assert!(size_of::<InterfaceRequest>() == size_of::<libc::ifreq>());
const _: () = assert!(align_of::<InterfaceRequest>() >= align_of::<libc::ifreq>());

/// Questions about an interface that the kernel answers inside the ifreq.
#[derive(Clone, Copy)]
pub(crate) enum Question {
    /// Its flags: a short.
    Flags,
    /// Its hardware address: a sockaddr.
    HardwareAddress,
    /// Its index: an int.
    Index,
}

/// Asks. `socket` is any socket of the interface's network namespace.
pub(crate) fn ask_interface(socket: BorrowedFd<'_>, name: [u8; NAME_BYTES], what: Question) -> io::Result<[u8; 24]> {
    let request = match what {
        Question::Flags => libc::SIOCGIFFLAGS,
        Question::HardwareAddress => libc::SIOCGIFHWADDR,
        Question::Index => libc::SIOCGIFINDEX,
    };
    let mut argument = InterfaceRequest { name, value: [0; 24] };
    // SAFETY: fd is open for the call; these three requests read and write one ifreq, whose size and alignment
    // `argument` has, and follow no pointer in it.
    outcome(unsafe { libc::ioctl(socket.as_raw_fd(), request as libc::Ioctl, &raw mut argument) })?;
    Ok(argument.value)
}

/// A structure that an interface's ioctl reads and writes, found by a pointer in the ifreq.
pub(crate) trait PointedTo: Plain {
    /// The ioctl.
    const REQUEST: libc::c_ulong;
}

/// struct ethtool_ts_info.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct TsInfo {
    command: u32,
    pub(crate) so_timestamping: u32,
    pub(crate) phc_index: i32,
    pub(crate) tx_types: u32,
    reserved: [u32; 3],
    pub(crate) rx_filters: u32,
    reserved_too: [u32; 3],
}

impl TsInfo {
    pub(crate) fn new() -> Self {
        TsInfo { command: 0x41, ..zeroed() } // ETHTOOL_GET_TS_INFO
    }
}

impl PointedTo for TsInfo {
    const REQUEST: libc::c_ulong = libc::SIOCETHTOOL;
}

/// struct ethtool_drvinfo.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct DriverInfo {
    command: u32,
    pub(crate) driver: [u8; 32],
    unused: [u8; 160],
}

impl DriverInfo {
    pub(crate) fn new() -> Self {
        DriverInfo { command: 3, ..zeroed() } // ETHTOOL_GDRVINFO
    }
}

impl PointedTo for DriverInfo {
    const REQUEST: libc::c_ulong = libc::SIOCETHTOOL;
}

/// struct ethtool_value, as ETHTOOL_GLINK fills it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct LinkInfo {
    command: u32,
    /// Not 0 with a carrier.
    pub(crate) has_carrier: u32,
}

impl LinkInfo {
    pub(crate) fn new() -> Self {
        LinkInfo { command: 0xa, has_carrier: 0 }
    }
}

impl PointedTo for LinkInfo {
    const REQUEST: libc::c_ulong = libc::SIOCETHTOOL;
}

/// struct vlan_ioctl_args. This one names its interface itself.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct VlanRequest {
    command: i32,
    name: [u8; 24],
    /// The interface below.
    pub(crate) device: [u8; 24],
    quality: i16,
    padding: [u8; 2],
}

impl VlanRequest {
    /// Which interface is below `name`?
    pub(crate) fn device_below(name: [u8; NAME_BYTES]) -> Self {
        let mut request = VlanRequest { command: 8, ..zeroed() }; // GET_VLAN_REALDEV_NAME_CMD
        request.name[..NAME_BYTES].copy_from_slice(&name);
        request
    }
}

/// Asks what is below a VLAN interface.
pub(crate) fn ask_vlan(socket: BorrowedFd<'_>, request: &mut VlanRequest) -> io::Result<()> {
    const SIOCGIFVLAN: libc::Ioctl = 0x8982;
    // SAFETY: fd is open for the call; the request reads and writes one vlan_ioctl_args, which `request` is, ours alone.
    outcome(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGIFVLAN, &raw mut *request) })
}

/// Asks ethtool.
pub(crate) fn ask_ethtool<T: PointedTo>(
    socket: BorrowedFd<'_>,
    name: [u8; NAME_BYTES],
    answer: &mut T,
) -> io::Result<()> {
    pointing_ioctl(socket, name, T::REQUEST, answer)
}

/// SIOCGHWTSTAMP, or SIOCSHWTSTAMP with `set`: `config` is then what the driver made of it.
pub(crate) fn stamp_config(
    socket: BorrowedFd<'_>,
    name: [u8; NAME_BYTES],
    config: &mut libc::hwtstamp_config,
    set: bool,
) -> io::Result<()> {
    pointing_ioctl(socket, name, if set { libc::SIOCSHWTSTAMP } else { libc::SIOCGHWTSTAMP }, config)
}

/// An interface's ioctl whose ifreq holds a pointer to a `T`. Private: `request` must be one that means a T.
fn pointing_ioctl<T: Plain>(
    socket: BorrowedFd<'_>,
    name: [u8; NAME_BYTES],
    request: libc::c_ulong,
    answer: &mut T,
) -> io::Result<()> {
    let pointer: *mut T = &raw mut *answer;
    let mut argument = InterfaceRequest { name, value: [0; 24] };
    argument.value[..size_of::<usize>()].copy_from_slice(&pointer.expose_provenance().to_ne_bytes());
    // SAFETY: fd is open for the call; the request reads one ifreq, whose size and alignment `argument` has, and reads
    // and writes the T that it points to, which is ours alone until after the call.
    outcome(unsafe { libc::ioctl(socket.as_raw_fd(), request as libc::Ioctl, &raw mut argument) })
}

/// The address of `mac` behind interface `index`, for frames of EtherType `protocol`.
pub(crate) fn link_address(index: libc::c_int, protocol: u16, mac: [u8; 6]) -> Option<SockaddrStorage> {
    const FAMILY: libc::c_ushort = 17;
    const _: () = assert!(FAMILY as libc::c_int == libc::AF_PACKET);
    let mut sll_addr = [0; 8];
    sll_addr[..6].copy_from_slice(&mac);
    let address = libc::sockaddr_ll {
        sll_family: FAMILY,
        sll_protocol: protocol.to_be(),
        sll_ifindex: index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr,
    };
    let bytes = libc::socklen_t::try_from(size_of_val(&address)).ok()?;
    // SAFETY: `address` is a live sockaddr_ll of `bytes` bytes whose family says so; the call copies it.
    unsafe { SockaddrStorage::from_raw((&raw const address).cast(), Some(bytes)) }
}

fn outcome(returned: libc::c_int) -> io::Result<()> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
