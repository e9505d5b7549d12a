//! The system calls for which no safe wrapper is good enough, each behind one safe function.
//!
//! nix covers the rest. Its `recvmsg` and `sendmsg` allocate for each control message, and it has no adjtimex(2).
#![allow(unsafe_code)]

pub(crate) mod counter;
pub(crate) mod device;
pub(crate) mod segment;
pub(crate) mod shm;

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use nix::sys::socket::{SockaddrLike, SockaddrStorage};

use crate::control::Ancillary;

/// Room for one datagram, or for one looped-back packet with its link header.
const DATA_BYTES: usize = 1024;
/// Room for control messages: a stamp (64), an extended error with its address (60) and packet info (40) fit twice.
const CONTROL_BYTES: usize = 256;
/// A sockaddr_in6 has 28.
const NAME_LEN: libc::socklen_t = 32;
const NAME_BYTES: usize = NAME_LEN as usize;
/// The most messages that [`receive_many`] asks for at once.
pub(crate) const MAX_BATCH: usize = 64;
/// The most messages that [`send_many`] sends at once: enough to make the call itself cheap, few enough for the stack.
pub(crate) const MAX_SENT: usize = 16;

/// What adjtimex(2) says of CLOCK_REALTIME when nothing is changed, and the state of the leap machine that it returns.
pub(crate) fn read_timex() -> io::Result<(libc::timex, libc::c_int)> {
    let mut timex = device::empty_timex(); // a read, which needs no privilege
    let state = device::adjust_clock(libc::CLOCK_REALTIME, &mut timex)?;
    Ok((timex, state))
}

/// Control messages: the kernel and the CMSG macros of preloaded libraries want a cmsghdr's alignment.
#[derive(Clone)]
#[repr(C, align(8))]
struct ControlBytes([u8; CONTROL_BYTES]);

/// A socket address as the kernel writes it.
#[derive(Clone)]
#[repr(C, align(8))]
struct NameBytes([u8; NAME_BYTES]);

const _: () = assert!(align_of::<ControlBytes>() >= align_of::<libc::cmsghdr>());
const _: () = assert!(align_of::<NameBytes>() >= align_of::<libc::sockaddr_in6>());
const _: () = assert!(NAME_BYTES >= size_of::<libc::sockaddr_in6>());

/// Buffers for one received message, and how much of each the kernel filled.
#[derive(Clone)]
pub(crate) struct Message {
    data: [u8; DATA_BYTES],
    control: ControlBytes,
    name: NameBytes,
    data_len: usize,
    control_len: usize,
    name_len: usize,
    flags: libc::c_int,
}

impl Message {
    /// Empty buffers.
    pub(crate) const fn new() -> Self {
        Message {
            data: [0; DATA_BYTES],
            control: ControlBytes([0; CONTROL_BYTES]),
            name: NameBytes([0; NAME_BYTES]),
            data_len: 0,
            control_len: 0,
            name_len: 0,
            flags: 0,
        }
    }

    /// The payload.
    pub(crate) fn data(&self) -> &[u8] {
        &self.data[..self.data_len]
    }

    /// The control messages.
    pub(crate) fn control(&self) -> &[u8] {
        &self.control.0[..self.control_len]
    }

    /// The sender's address, as a sockaddr.
    pub(crate) fn name(&self) -> &[u8] {
        &self.name.0[..self.name_len]
    }

    /// The datagram was longer than the buffer.
    pub(crate) fn is_truncated(&self) -> bool {
        self.flags & libc::MSG_TRUNC != 0
    }

    /// The payload's buffer. The iovec holds its address: it is good for as long as `self` stays where it is.
    fn part(&mut self) -> libc::iovec {
        libc::iovec { iov_base: self.data.as_mut_ptr().cast(), iov_len: DATA_BYTES }
    }

    /// A header that names the buffers of `self` and `part`. Good for as long as both stay where they are.
    fn header(&mut self, part: &mut libc::iovec) -> libc::msghdr {
        let mut header = empty_header();
        header.msg_name = self.name.0.as_mut_ptr().cast();
        header.msg_namelen = NAME_LEN;
        header.msg_iov = ptr::from_mut(part);
        header.msg_iovlen = 1;
        header.msg_control = self.control.0.as_mut_ptr().cast();
        header.msg_controllen = CONTROL_BYTES as _;
        header
    }

    /// Takes over from `header` how much was filled. Lengths are cut to the buffers: the kernel reports a name's full
    /// length even where it wrote less.
    #[allow(clippy::unnecessary_cast, reason = "musl counts msg_controllen in socklen_t")]
    fn take(&mut self, header: &libc::msghdr, data_len: usize) {
        self.data_len = data_len.min(DATA_BYTES);
        self.control_len = (header.msg_controllen as usize).min(CONTROL_BYTES);
        self.name_len = (header.msg_namelen as usize).min(NAME_BYTES);
        self.flags = header.msg_flags;
    }
}

/// recvmsg(2).
pub(crate) fn receive_one(fd: BorrowedFd<'_>, message: &mut Message, flags: libc::c_int) -> io::Result<()> {
    let mut part = message.part();
    let mut header = message.header(&mut part);
    // SAFETY: fd is open for the call; `header` names one iovec and three buffers of the stated lengths, aligned, alive
    // and exclusively ours until after the call.
    let received = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut header, flags) };
    let data_len = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    message.take(&header, data_len);
    Ok(())
}

/// recvmmsg(2) into the first [`MAX_BATCH`] of `messages`: how many were filled.
pub(crate) fn receive_many(fd: BorrowedFd<'_>, messages: &mut [Message], flags: libc::c_int) -> io::Result<usize> {
    let mut parts = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; MAX_BATCH];
    let mut headers = [libc::mmsghdr { msg_hdr: empty_header(), msg_len: 0 }; MAX_BATCH];
    let mut count = 0;
    for ((message, part), header) in messages.iter_mut().zip(&mut parts).zip(&mut headers) {
        *part = message.part();
        header.msg_hdr = message.header(part);
        count += 1;
    }
    // SAFETY: fd is open for the call; the first `count` headers each name one iovec and three buffers of the stated
    // lengths, aligned, alive and exclusively ours until after the call; a null timeout is allowed.
    let received = unsafe { libc::recvmmsg(fd.as_raw_fd(), headers.as_mut_ptr(), count, flags as _, ptr::null_mut()) };
    let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    for (message, header) in messages.iter_mut().zip(&headers).take(received) {
        message.take(&header.msg_hdr, header.msg_len as usize);
    }
    Ok(received)
}

/// One datagram to send.
pub(crate) struct Parcel<'a> {
    /// Its payload.
    pub(crate) data: &'a [u8],
    /// `None` on a connected socket.
    pub(crate) to: Option<SockaddrStorage>,
    /// Control messages that go with it.
    pub(crate) control: Ancillary,
}

impl Parcel<'_> {
    /// The payload. The iovec holds its address: it is good for as long as what `self` borrows.
    fn part(&self) -> libc::iovec {
        libc::iovec { iov_base: self.data.as_ptr().cast_mut().cast(), iov_len: self.data.len() }
    }

    /// A header that names `part` and the buffers of `self`, for calls that only read them. Good for as long as both
    /// stay where they are.
    fn header(&self, part: &mut libc::iovec) -> libc::msghdr {
        let mut header = empty_header();
        if let Some(to) = &self.to {
            header.msg_name = to.as_ptr().cast_mut().cast();
            header.msg_namelen = to.len();
        }
        header.msg_iov = ptr::from_mut(part);
        header.msg_iovlen = 1;
        let control = self.control.as_words();
        if !control.is_empty() {
            header.msg_control = control.as_ptr().cast_mut().cast();
            header.msg_controllen = size_of_val(control) as _;
        }
        header
    }
}

/// How datagrams are sent: an agent neither waits nor dies of a broken pipe.
const SEND_FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// sendmsg(2), not waiting.
pub(crate) fn send_one(fd: BorrowedFd<'_>, parcel: &Parcel<'_>) -> io::Result<()> {
    let mut part = parcel.part();
    let header = parcel.header(&mut part);
    // SAFETY: fd is open for the call; `header` names one iovec, an address and control messages of the stated lengths
    // (u64s have a cmsghdr's alignment), alive until after the call, which only reads them.
    let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const header, SEND_FLAGS) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// sendmmsg(2) of the first [`MAX_SENT`] of `parcels`, not waiting: how many were sent. Fewer than there are means that
/// the next one failed; only the first one's failure is an error here.
pub(crate) fn send_many(fd: BorrowedFd<'_>, parcels: &[Parcel<'_>]) -> io::Result<usize> {
    let mut parts = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; MAX_SENT];
    let mut headers = [libc::mmsghdr { msg_hdr: empty_header(), msg_len: 0 }; MAX_SENT];
    let mut count = 0;
    for ((parcel, part), header) in parcels.iter().zip(&mut parts).zip(&mut headers) {
        *part = parcel.part();
        header.msg_hdr = parcel.header(part);
        count += 1;
    }
    // SAFETY: fd is open for the call; the first `count` headers, which the call may write to, each name one iovec, an
    // address and control messages of the stated lengths, alive until after the call, which only reads them.
    let sent = unsafe { libc::sendmmsg(fd.as_raw_fd(), headers.as_mut_ptr(), count, SEND_FLAGS as _) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

fn empty_header() -> libc::msghdr {
    // SAFETY: msghdr is a C struct of integers and raw pointers only (and private padding on some libcs), so all
    // zeroes is a value of it.
    unsafe { mem::zeroed() }
}
