//! What a socket is given by the kernel: datagrams, and from its error queue the transmit stamps of what it sent.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::control;
use crate::socket::{Batch, SentStamp};
use crate::sys;

/// The receiving side of a socket of either kind.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    /// The kernel (or the world in its place) lacks recvmmsg(2).
    pub(crate) one_by_one: AtomicBool,
    /// Entries of the error queue that were no transmit stamp.
    skipped: AtomicU64,
}

impl Inbox {
    /// Entries of the error queue so far that were no transmit stamp: ICMP errors, other stages, cut packets.
    pub(crate) fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    /// Receives what is there, up to the batch's capacity.
    pub(crate) fn receive(&self, fd: BorrowedFd<'_>, batch: &mut Batch) -> io::Result<usize> {
        self.take(fd, batch, libc::MSG_DONTWAIT)
    }

    /// Drains the error queue, shows each transmit stamp to `visit` and returns how many there were.
    pub(crate) fn all_stamps(
        &self,
        fd: BorrowedFd<'_>,
        batch: &mut Batch,
        visit: &mut dyn FnMut(SentStamp<'_>),
    ) -> io::Result<usize> {
        let mut visited = 0;
        let mut count = |stamp: SentStamp<'_>| {
            visited += 1;
            visit(stamp);
        };
        while self.some_stamps(fd, batch, &mut count)? > 0 {}
        Ok(visited)
    }

    /// The same for one batch. Gives how many entries the queue held, up to the batch's capacity: 0 if it was empty.
    pub(crate) fn some_stamps(
        &self,
        fd: BorrowedFd<'_>,
        batch: &mut Batch,
        visit: &mut dyn FnMut(SentStamp<'_>),
    ) -> io::Result<usize> {
        let taken = match self.take(fd, batch, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            taken => taken?,
        };
        for message in batch.messages() {
            let control = message.control();
            // The tail of a cut packet is not the payload's.
            if control::is_sent_stamp(control) && !message.is_truncated() {
                let (kernel, hardware) = (control::software_stamp(control), control::hardware_stamp(control));
                visit(SentStamp { packet: message.data(), kernel, hardware });
            } else {
                self.skipped.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(taken)
    }

    fn take(&self, fd: BorrowedFd<'_>, batch: &mut Batch, flags: libc::c_int) -> io::Result<usize> {
        if !self.one_by_one.load(Ordering::Relaxed) {
            match batch.fill(|messages| sys::receive_many(fd, messages, flags)) {
                Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
                    self.one_by_one.store(true, Ordering::Relaxed);
                }
                received => return received,
            }
        }
        batch.fill(|messages| {
            let mut received = 0;
            for message in messages {
                match sys::receive_one(fd, message, flags) {
                    Ok(()) => received += 1,
                    Err(error) if received == 0 => return Err(error),
                    // An error behind a datagram is not worth losing the datagram for.
                    Err(_) => break,
                }
            }
            Ok(received)
        })
    }
}
