//! What the kernel offers to everybody: stamps of packets, and word of steps of CLOCK_REALTIME.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::Expiration;
use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags, TimerSetTimeFlags};
use truebound_hw::socket::{Batch, Outgoing, StampSocket};

use super::Finding;

/// How long a datagram and its stamps may take on loopback, ms.
const PATIENCE_MS: u16 = 500;
/// A time that CLOCK_REALTIME does not show in this process's life, s.
const NEVER_S: i64 = i64::MAX / 1_000_000_000;

/// Looks and judges.
pub(crate) fn check() -> Vec<Finding> {
    vec![judge_stamps(&stamps_on_loopback()), judge_step_watch(step_watch().err())]
}

/// Which stamps one datagram on loopback got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    arrived: bool,
    rx: bool,
    tx: bool,
}

/// Sends one datagram to itself over 127.0.0.1.
fn stamps_on_loopback() -> io::Result<Seen> {
    let receiver = StampSocket::server((Ipv4Addr::LOCALHOST, 0).into())?;
    let sender = StampSocket::client(receiver.local_addr()?)?;
    sender.send(&Outgoing::to_peer(b"truebound doctor"))?;
    let (mut seen, mut batch) = (Seen::default(), Batch::new(1));
    if is_ready(&receiver, PollFlags::POLLIN) && receiver.receive(&mut batch)? > 0 {
        seen.arrived = true;
        seen.rx = batch.datagrams().any(|datagram| datagram.kernel.is_some());
    }
    // What waits on an error queue is told without being asked for.
    if is_ready(&sender, PollFlags::empty()) {
        sender.sent_stamps(&mut batch, &mut |stamp| seen.tx |= stamp.kernel.is_some())?;
    }
    Ok(seen)
}

fn is_ready(socket: &StampSocket, what: PollFlags) -> bool {
    poll(&mut [PollFd::new(socket.as_fd(), what)], PATIENCE_MS).is_ok_and(|ready| ready > 0)
}

fn judge_stamps(seen: &io::Result<Seen>) -> Finding {
    const CHECK: &str = "kernel-stamps";
    const FIX: &str = "use a kernel and drivers that stamp (a simulated one may not), and leave \
                       net.core.tstamp_allow_data at 1; the bound is wider until then";
    match seen {
        Ok(Seen { rx: true, tx: true, .. }) => Finding::ok(CHECK, "the kernel stamps packets both ways"),
        // The first datagram after the kernel starts stamping may go without: not a fault.
        Ok(Seen { tx: true, arrived: true, .. }) => Finding::ok(CHECK, "the kernel stamps packets"),
        Ok(Seen { arrived: false, .. }) => {
            Finding::note(CHECK, "a datagram to 127.0.0.1 did not arrive, so nothing is known of stamps")
                .fix("let loopback pass its own packets")
        }
        Ok(_) => Finding::missing(CHECK, "the kernel does not stamp packets that leave", FIX),
        Err(error) => {
            Finding::note(CHECK, format!("no datagram can be sent to 127.0.0.1: {error}")).fix("ip link set lo up")
        }
    }
}

/// Asks the kernel to tell when somebody sets CLOCK_REALTIME.
fn step_watch() -> nix::Result<()> {
    let timer = TimerFd::new(ClockId::CLOCK_REALTIME, TimerFlags::TFD_CLOEXEC)?;
    let never = Expiration::OneShot(TimeSpec::new(NEVER_S, 0));
    timer.set(never, TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET)
}

fn judge_step_watch(error: Option<nix::Error>) -> Finding {
    const CHECK: &str = "step-watch";
    match error {
        // Somebody set the clock just now, and we were told.
        None | Some(nix::Error::ECANCELED) => Finding::ok(CHECK, "the kernel tells when CLOCK_REALTIME is set"),
        Some(error) => {
            let says = format!("the kernel does not tell when CLOCK_REALTIME is set: {error}");
            Finding::note(CHECK, says).fix("set watch-steps = false in [stamps]; steps are then seen by their effect")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Outcome;

    #[test]
    fn only_stamps_that_are_known_to_lack_are_missing() {
        let outcome = |seen| judge_stamps(&seen).verdict;
        let all = Seen { arrived: true, rx: true, tx: true };
        assert_eq!(outcome(Ok(all)), Outcome::Ok);
        assert_eq!(outcome(Ok(Seen { rx: false, ..all })), Outcome::Ok);
        assert_eq!(outcome(Ok(Seen { tx: false, ..all })), Outcome::Missing);
        assert_eq!(outcome(Ok(Seen::default())), Outcome::Note);
        assert_eq!(outcome(Err(io::ErrorKind::NetworkUnreachable.into())), Outcome::Note);
    }

    #[test]
    fn a_watch_that_was_just_used_works() {
        assert_eq!(judge_step_watch(None).verdict, Outcome::Ok);
        assert_eq!(judge_step_watch(Some(nix::Error::ECANCELED)).verdict, Outcome::Ok);
        assert_eq!(judge_step_watch(Some(nix::Error::EINVAL)).verdict, Outcome::Note);
    }
}
