//! Whose turn it is to send an event message through a NIC.
//!
//! Some NICs (82576) hold one transmit stamp at a time and drop those that come before it was read. So of all ports that
//! use one NIC's stamps one event message at a time is under way: the next one goes when the stamp of the one before
//! came, or did not come for [`STAMP_WAIT_NS`]. Such a NIC may be at the other end as well, where it stamps one message
//! that comes at a time: two that leave one after the other keep [`ROOM_NS`] between them.

use std::collections::VecDeque;

use truebound_core::io::{PtpPort, PtpTransmit, TxToken};
use truebound_core::time::RawTime;

/// A NIC's stamp that takes longer than this does not come any more, ns. (Switches behind a slow bus take 40 ms.)
const STAMP_WAIT_NS: i64 = 50_000_000;
/// What a driver takes to read the stamp of a message that came, generously, ns.
const ROOM_NS: i64 = 100_000;
/// Messages that wait for their turn at one NIC; beyond it the newest is not sent.
const MAX_WAITING: usize = 64;

/// Whose message is under way at a NIC, and who waits.
#[derive(Debug, Default)]
pub(super) struct Turn {
    busy: Option<(PtpPort, TxToken, RawTime)>,
    /// When the last one left.
    left: Option<RawTime>,
    waiting: VecDeque<Box<PtpTransmit>>,
}

impl Turn {
    /// The message, if it may go now; otherwise it waits, or comes back as an error if too many do.
    pub(super) fn take(&mut self, transmit: Box<PtpTransmit>) -> Result<Option<Box<PtpTransmit>>, Box<PtpTransmit>> {
        if self.busy.is_none() {
            Ok(Some(transmit))
        } else if self.waiting.len() == MAX_WAITING {
            Err(transmit)
        } else {
            self.waiting.push_back(transmit);
            Ok(None)
        }
    }

    /// It left.
    pub(super) fn begin(&mut self, port: PtpPort, token: TxToken, now: RawTime) {
        self.busy = Some((port, token, now.plus_ns(STAMP_WAIT_NS)));
        self.left = Some(now);
    }

    /// Is the one that left last too near?
    pub(super) fn is_close(&self, now: RawTime) -> bool {
        self.left.is_some_and(|left| (0..ROOM_NS).contains(&now.ns_since(left)))
    }

    /// Its stamp came, or does not come, or it did not leave: gives who is next.
    pub(super) fn end(&mut self, token: TxToken) -> Option<Box<PtpTransmit>> {
        if self.busy.is_some_and(|(_, busy, _)| busy != token) {
            return None;
        }
        self.busy = None;
        self.waiting.pop_front()
    }

    /// Who waits though nobody is under way: the one that had its turn went with its port.
    pub(super) fn stranded(&mut self) -> Option<Box<PtpTransmit>> {
        if self.busy.is_none() { self.waiting.pop_front() } else { None }
    }

    /// The one under way is too late.
    pub(super) fn overdue(&self, now: RawTime) -> Option<(PtpPort, TxToken)> {
        self.busy.filter(|&(_, _, until)| until <= now).map(|(port, token, _)| (port, token))
    }

    /// When the one under way is too late.
    pub(super) fn deadline(&self) -> Option<RawTime> {
        self.busy.map(|(_, _, until)| until)
    }

    /// A port went: gives the messages of it that will not be sent. One under way ends as one whose stamp is overdue, or
    /// the others would wait for ever.
    pub(super) fn leave(&mut self, port: PtpPort) -> Vec<TxToken> {
        let lost = self.waiting.iter().filter(|waiting| waiting.port == port).map(|waiting| waiting.token).collect();
        self.waiting.retain(|waiting| waiting.port != port);
        lost
    }
}

#[cfg(test)]
pub(super) mod tests {
    use truebound_core::io::PtpChannel;

    use super::*;

    /// An event message of a port.
    pub(in super::super) fn message(port: u16, token: u64) -> Box<PtpTransmit> {
        let mut data = vec![0; 44];
        data[30] = u8::try_from(token).expect("small");
        let (port, channel, token) = (PtpPort(port), PtpChannel::Event, TxToken(token));
        Box::new(PtpTransmit { port, channel, is_link_local: false, data, token })
    }

    /// Raw time.
    pub(in super::super) fn at(ns: i64) -> RawTime {
        RawTime::from_ns(ns)
    }

    fn token(transmit: Option<Box<PtpTransmit>>) -> Option<u64> {
        transmit.map(|transmit| transmit.token.0)
    }

    #[test]
    fn one_event_message_at_a_time_is_under_way() {
        let mut turn = Turn::default();
        let first = turn.take(message(0, 1)).expect("room");
        assert_eq!(token(first), Some(1));
        turn.begin(PtpPort(0), TxToken(1), at(0));
        for n in [2, 3] {
            assert_eq!(token(turn.take(message(1, n)).expect("room")), None, "{n} waits");
        }
        assert_eq!(token(turn.end(TxToken(9))), None, "a late stamp of another one releases nobody");
        assert!(turn.busy.is_some());
        assert_eq!(token(turn.end(TxToken(1))), Some(2), "in order");
        assert_eq!(token(turn.end(TxToken(2))), Some(3), "it did not leave");
        assert_eq!(token(turn.take(message(0, 2)).expect("room")), Some(2), "nobody is under way");
        turn.begin(PtpPort(1), TxToken(2), at(5));
        assert_eq!(token(turn.end(TxToken(2))), None, "nobody waits");
    }

    #[test]
    fn a_stamp_is_waited_for_so_long() {
        let mut turn = Turn::default();
        turn.begin(PtpPort(0), TxToken(1), at(100));
        assert_eq!(turn.overdue(at(99 + STAMP_WAIT_NS)), None);
        assert_eq!(turn.overdue(at(100 + STAMP_WAIT_NS)), Some((PtpPort(0), TxToken(1))));
    }

    #[test]
    fn the_next_one_keeps_room() {
        let mut turn = Turn::default();
        assert!(!turn.is_close(at(0)), "nobody left");
        turn.begin(PtpPort(0), TxToken(1), at(1_000));
        assert!(turn.is_close(at(1_000)) && turn.is_close(at(999 + ROOM_NS)) && !turn.is_close(at(1_000 + ROOM_NS)));
        assert!(!turn.is_close(at(0)), "raw time is another one now");
    }

    #[test]
    fn a_port_that_goes_takes_its_messages_along() {
        let mut turn = Turn::default();
        turn.begin(PtpPort(0), TxToken(1), at(0));
        for (port, n) in [(0, 2), (1, 3), (0, 4)] {
            let _ = turn.take(message(port, n)).expect("room");
        }
        assert_eq!(turn.leave(PtpPort(0)), [TxToken(2), TxToken(4)]);
        assert_eq!(turn.waiting.len(), 1);
        assert_eq!(turn.overdue(at(STAMP_WAIT_NS)), Some((PtpPort(0), TxToken(1))));
        assert_eq!(token(turn.end(TxToken(1))), Some(3), "the other port's turn");
    }

    #[test]
    fn no_more_than_so_many_wait() {
        let mut turn = Turn::default();
        turn.begin(PtpPort(0), TxToken(0), at(0));
        for _ in 0..MAX_WAITING {
            assert_eq!(token(turn.take(message(0, 1)).expect("room")), None);
        }
        assert_eq!(turn.take(message(0, 7)).map_err(|transmit| transmit.token.0).expect_err("too many"), 7);
    }
}
