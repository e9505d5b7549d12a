//! The gate: what it lets through can neither make statime panic or wrap nor mean something to nobody.
//!
//! statime adds one to stepsRemoved (65535 wraps), subtracts corrections from timestamps without a sign (a panic, or
//! 10¹⁸ ns), takes nanoseconds above a second, and believes a message that claims to be its own. Each of these is a
//! reason here. The gate stops nonsense, not lies: what is implausible but legal is the association's to judge.

use super::{Correction, PtpTime};
use crate::time::NS_PER_S;
use crate::wire::ptp::{self, Body, Message, MessageType, ParseError, Timestamp, flag};

/// The longest message looked at: Ethernet carries no longer ones, but nobody needs more than this.
const MAX_BYTES: usize = 1024;
/// No clock on the way may hold a message longer than this: 1 s, 2⁻¹⁶ ns.
const MAX_CORRECTION: u64 = 1_000_000_000 << 16;
/// Timestamps that are used are later than any correction, so that their difference is positive, s.
const MIN_SECONDS: u64 = 2;
/// [`PtpTime`] ends in 2262, s.
const END_SECONDS: u64 = 9_200_000_000;
/// A master this far away is none (IEEE 1588-2019 §9.3.2.5).
const MAX_STEPS_REMOVED: u16 = 255;

/// Why a message was dropped unused. Counted per port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gated {
    /// The port has no link.
    NoLink = 0,
    /// Shorter than it should be, or longer than any message.
    Length = 1,
    /// versionPTP is not 2.
    Version = 2,
    /// A reserved messageType.
    Type = 3,
    /// Another domain's.
    ForeignDomain = 4,
    /// Another profile's (sdoId is not 0).
    ForeignSdo = 5,
    /// Our own identity: an echo, or somebody who pretends.
    OwnIdentity = 6,
    /// An event message on the general socket: it has no stamp.
    WrongChannel = 7,
    /// From an alternate master: we do not use them.
    AlternateMaster = 8,
    /// |correctionField| is above 1 s.
    Correction = 9,
    /// Nanoseconds above a second, or a time so early or late that arithmetic fails.
    Timestamp = 10,
    /// stepsRemoved is 255 or more.
    TooFar = 11,
    /// Signaling and Management: nothing here listens to them.
    Unused = 12,
}

impl Gated {
    /// How many reasons there are.
    pub const COUNT: usize = 13;
    /// Their names, in order of their numbers.
    pub const NAMES: [&'static str; Gated::COUNT] = [
        "no-link",
        "length",
        "version",
        "type",
        "foreign-domain",
        "foreign-sdo",
        "own-identity",
        "wrong-channel",
        "alternate-master",
        "correction",
        "timestamp",
        "too-far",
        "unused",
    ];
}

/// What the gate knows of us.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gate {
    pub(super) domain: u8,
    pub(super) identity: [u8; 8],
}

impl Gate {
    /// The message in `data`, if it may go on.
    pub(super) fn admit(&self, data: &[u8], has_stamp_channel: bool) -> Result<Message, Gated> {
        if data.len() > MAX_BYTES {
            return Err(Gated::Length);
        }
        let message = ptp::parse(data).map_err(|error| match error {
            ParseError::Short => Gated::Length,
            ParseError::Version => Gated::Version,
            ParseError::Type => Gated::Type,
        })?;
        self.check_sender(&message)?;
        if message.header.kind.is_event() && !has_stamp_channel {
            return Err(Gated::WrongChannel);
        }
        check_values(&message)?;
        Ok(message)
    }

    fn check_sender(&self, message: &Message) -> Result<(), Gated> {
        let header = &message.header;
        if header.domain != self.domain {
            return Err(Gated::ForeignDomain);
        }
        if header.sdo != 0 {
            return Err(Gated::ForeignSdo);
        }
        // As grandmaster we know better than anybody who repeats what we announced (a boundary clock behind us).
        let claims_us = matches!(message.body, Body::Announce(announce) if announce.grandmaster == self.identity);
        if header.source.clock == self.identity || claims_us {
            return Err(Gated::OwnIdentity);
        }
        if header.kind.is_masters() && header.has(flag::ALTERNATE_MASTER) {
            return Err(Gated::AlternateMaster);
        }
        Ok(())
    }
}

fn check_values(message: &Message) -> Result<(), Gated> {
    let header = &message.header;
    if header.correction.0.unsigned_abs() > MAX_CORRECTION {
        return Err(Gated::Correction);
    }
    let (timestamp, is_used) = match message.body {
        Body::Unread => return Err(Gated::Unused),
        Body::Announce(announce) if announce.steps_removed >= MAX_STEPS_REMOVED => return Err(Gated::TooFar),
        Body::Announce(announce) => (announce.origin, false),
        Body::Origin(origin) => (origin, is_origin_used(message)),
        // A responder may give its turnaround time as a correction to timestamps of zero (§11.4.2).
        Body::Answer(sent, _) if header.kind == MessageType::PdelayRespFollowUp => (sent, header.correction.0 < 0),
        Body::Answer(received, _) => (received, header.kind == MessageType::DelayResp),
    };
    let is_sane = i64::from(timestamp.nanos) < NS_PER_S
        && timestamp.seconds < END_SECONDS
        && (timestamp.seconds >= MIN_SECONDS || !is_used);
    if is_sane { Ok(()) } else { Err(Gated::Timestamp) }
}

fn is_origin_used(message: &Message) -> bool {
    match message.header.kind {
        MessageType::Sync => !message.header.has(flag::TWO_STEP),
        MessageType::FollowUp => true,
        _ => false,
    }
}

/// A timestamp that passed the gate, in ns.
pub(super) fn time_of(timestamp: Timestamp) -> PtpTime {
    let seconds = i64::try_from(timestamp.seconds).unwrap_or(i64::MAX);
    PtpTime(seconds.saturating_mul(NS_PER_S).saturating_add(i64::from(timestamp.nanos)))
}

/// min(correction, 0).
pub(super) fn negative_part(correction: Correction) -> Correction {
    Correction(correction.0.min(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ptp::PortIdentity;
    use crate::wire::ptp::{Announce, Header};

    const US: [u8; 8] = [9; 8];
    const GATE: Gate = Gate { domain: 5, identity: US };
    const OTHER: PortIdentity = PortIdentity { clock: [1; 8], port: 1 };
    const NOW: Timestamp = Timestamp { seconds: 1_800_000_000, nanos: 999_999_999 };

    fn message(kind: MessageType) -> Message {
        let body = match kind {
            MessageType::Announce => Body::Announce(Announce { steps_removed: 254, ..Announce::default() }),
            MessageType::Signaling | MessageType::Management => Body::Unread,
            _ if kind.length() == 44 || kind == MessageType::PdelayReq => Body::Origin(NOW),
            _ => Body::Answer(NOW, OTHER),
        };
        let header = Header {
            kind,
            sdo: 0,
            version: (2, 1),
            domain: 5,
            flags: 0,
            correction: Correction(1_000_000_000 << 16),
            source: OTHER,
            sequence: 1,
            log_interval: 0,
        };
        Message { header, body }
    }

    fn verdict(message: Message) -> Option<Gated> {
        GATE.admit(&message.write(), true).err()
    }

    fn changed(kind: MessageType, change: impl Fn(&mut Header)) -> Option<Gated> {
        let mut message = message(kind);
        change(&mut message.header);
        verdict(message)
    }

    fn stamped(kind: MessageType, seconds: u64, nanos: u32) -> Message {
        let mut message = message(kind);
        let timestamp = Timestamp { seconds, nanos };
        message.body = match message.body {
            Body::Answer(_, port) => Body::Answer(timestamp, port),
            Body::Announce(announce) => Body::Announce(Announce { origin: timestamp, ..announce }),
            Body::Origin(_) | Body::Unread => Body::Origin(timestamp),
        };
        message
    }

    #[test]
    fn each_reason_starts_exactly_at_its_limit() {
        use MessageType as M;
        for kind in [M::Sync, M::DelayReq, M::PdelayReq, M::PdelayResp, M::FollowUp, M::DelayResp, M::Announce] {
            assert_eq!(verdict(message(kind)), None, "{kind:?}");
        }
        assert_eq!(verdict(message(M::Signaling)), Some(Gated::Unused));
        assert_eq!(changed(M::Sync, |h| h.domain = 0), Some(Gated::ForeignDomain));
        assert_eq!(changed(M::Sync, |h| h.sdo = 0x100), Some(Gated::ForeignSdo));
        assert_eq!(changed(M::Sync, |h| h.version.0 = 1), Some(Gated::Version));
        assert_eq!(changed(M::Sync, |h| h.source.clock = US), Some(Gated::OwnIdentity));
        assert_eq!(changed(M::Sync, |h| h.flags = flag::ALTERNATE_MASTER), Some(Gated::AlternateMaster));
        assert_eq!(changed(M::DelayReq, |h| h.flags = flag::ALTERNATE_MASTER), None);
        assert_eq!(changed(M::Sync, |h| h.correction.0 += 1), Some(Gated::Correction));
        assert_eq!(changed(M::Sync, |h| h.correction.0 = -h.correction.0), None);
        assert_eq!(changed(M::Sync, |h| h.correction.0 = -h.correction.0 - 1), Some(Gated::Correction));
        assert_eq!(changed(M::Sync, |h| h.correction.0 = i64::MIN), Some(Gated::Correction));
        assert_eq!(GATE.admit(&message(M::Sync).write(), false).err(), Some(Gated::WrongChannel));
        assert_eq!(GATE.admit(&message(M::FollowUp).write(), false).err(), None);
        let mut far = message(M::Announce);
        far.body = Body::Announce(Announce { steps_removed: 255, ..Announce::default() });
        assert_eq!(verdict(far), Some(Gated::TooFar));
        far.body = Body::Announce(Announce { grandmaster: US, ..Announce::default() });
        assert_eq!(verdict(far), Some(Gated::OwnIdentity));
    }

    #[test]
    fn timestamps_that_are_used_leave_room_for_their_corrections() {
        use MessageType as M;
        for kind in [M::Sync, M::FollowUp, M::DelayResp] {
            assert_eq!(verdict(stamped(kind, 2, 0)), None, "{kind:?}");
            assert_eq!(verdict(stamped(kind, 1, 999_999_999)), Some(Gated::Timestamp), "{kind:?}");
        }
        for kind in [M::DelayReq, M::PdelayReq, M::PdelayResp, M::PdelayRespFollowUp, M::Announce] {
            assert_eq!(verdict(stamped(kind, 0, 0)), None, "{kind:?}");
            assert_eq!(verdict(stamped(kind, 0, 1_000_000_000)), Some(Gated::Timestamp), "{kind:?}");
            assert_eq!(verdict(stamped(kind, END_SECONDS, 0)), Some(Gated::Timestamp), "{kind:?}");
        }
        let mut turnaround = stamped(M::PdelayRespFollowUp, 0, 0);
        turnaround.header.correction.0 = -1;
        assert_eq!(verdict(turnaround), Some(Gated::Timestamp));
        let mut two_step = stamped(M::Sync, 0, 0);
        two_step.header.flags = flag::TWO_STEP;
        assert_eq!(verdict(two_step), None);
    }

    #[test]
    fn length_is_bounded_on_both_sides() {
        let mut bytes = message(MessageType::Sync).write();
        assert_eq!(GATE.admit(&bytes[..43], true).err(), Some(Gated::Length));
        bytes.resize(MAX_BYTES, 0);
        assert_eq!(GATE.admit(&bytes, true).err(), None);
        bytes.push(0);
        assert_eq!(GATE.admit(&bytes, true).err(), Some(Gated::Length));
    }

    #[test]
    fn the_latest_time_admitted_fits() {
        let time = time_of(Timestamp { seconds: END_SECONDS - 1, nanos: 999_999_999 });
        assert_eq!(time, PtpTime(9_199_999_999_999_999_999));
    }
}
