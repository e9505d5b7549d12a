//! PTP messages (IEEE 1588-2019 §13): the 34-byte header and the bodies of the messages that tell or ask the time.
//!
//! What follows a body (TLVs, padding) is not read: nothing here needs it, and what is not read cannot surprise.
//! Whether a message makes sense is the gate's business; here only its lengths and its type count.

use crate::ptp::{Correction, PortIdentity};

/// Length of the header.
pub(crate) const HEADER_BYTES: usize = 34;

/// flagField, first octet in the high byte (§13.3.2.8).
pub(crate) mod flag {
    pub(crate) const ALTERNATE_MASTER: u16 = 0x0100;
    pub(crate) const TWO_STEP: u16 = 0x0200;
    pub(crate) const LEAP_61: u16 = 0x0001;
    pub(crate) const LEAP_59: u16 = 0x0002;
    pub(crate) const UTC_OFFSET_VALID: u16 = 0x0004;
    pub(crate) const PTP_TIMESCALE: u16 = 0x0008;
    pub(crate) const TIME_TRACEABLE: u16 = 0x0010;
    pub(crate) const FREQUENCY_TRACEABLE: u16 = 0x0020;
}

/// messageType (§13.3.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum MessageType {
    Sync = 0,
    DelayReq = 1,
    PdelayReq = 2,
    PdelayResp = 3,
    FollowUp = 8,
    DelayResp = 9,
    PdelayRespFollowUp = 10,
    Announce = 11,
    Signaling = 12,
    Management = 13,
}

impl MessageType {
    /// Their names, by their numbers.
    pub(crate) const NAMES: [&'static str; 16] = [
        "sync",
        "delay-req",
        "pdelay-req",
        "pdelay-resp",
        "reserved-4",
        "reserved-5",
        "reserved-6",
        "reserved-7",
        "follow-up",
        "delay-resp",
        "pdelay-resp-follow-up",
        "announce",
        "signaling",
        "management",
        "reserved-14",
        "reserved-15",
    ];

    fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Sync,
            1 => Self::DelayReq,
            2 => Self::PdelayReq,
            3 => Self::PdelayResp,
            8 => Self::FollowUp,
            9 => Self::DelayResp,
            10 => Self::PdelayRespFollowUp,
            11 => Self::Announce,
            12 => Self::Signaling,
            13 => Self::Management,
            _ => return None,
        })
    }

    /// Event messages are stamped (§7.3.3).
    pub(crate) const fn is_event(self) -> bool {
        (self as u8) < 8
    }

    /// Said by masters only.
    pub(crate) const fn is_masters(self) -> bool {
        matches!(self, Self::Sync | Self::FollowUp | Self::DelayResp | Self::Announce)
    }

    /// Length of header and body.
    pub(crate) const fn length(self) -> usize {
        match self {
            Self::Sync | Self::DelayReq | Self::FollowUp | Self::Signaling => 44,
            Self::PdelayReq | Self::PdelayResp | Self::DelayResp | Self::PdelayRespFollowUp => 54,
            Self::Management => 48,
            Self::Announce => 64,
        }
    }
}

/// Timestamp (§5.3.3): seconds have 48 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timestamp {
    pub(crate) seconds: u64,
    pub(crate) nanos: u32,
}

/// The header (§13.3), without what is reserved or obsolete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: MessageType,
    /// majorSdoId and minorSdoId, 12 bits.
    pub(crate) sdo: u16,
    /// versionPTP and minorVersionPTP.
    pub(crate) version: (u8, u8),
    pub(crate) domain: u8,
    pub(crate) flags: u16,
    pub(crate) correction: Correction,
    pub(crate) source: PortIdentity,
    pub(crate) sequence: u16,
    pub(crate) log_interval: i8,
}

impl Header {
    pub(crate) const fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

/// What an Announce says (§13.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Announce {
    pub(crate) origin: Timestamp,
    pub(crate) utc_offset_s: i16,
    pub(crate) priority1: u8,
    pub(crate) clock_class: u8,
    pub(crate) clock_accuracy: u8,
    pub(crate) variance: u16,
    pub(crate) priority2: u8,
    pub(crate) grandmaster: [u8; 8],
    pub(crate) steps_removed: u16,
    pub(crate) time_source: u8,
}

/// What follows the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// Sync, Delay_Req, Pdelay_Req, Follow_Up: when it (or the Sync) was sent.
    Origin(Timestamp),
    /// Delay_Resp, Pdelay_Resp, Pdelay_Resp_Follow_Up: an instant, and who had asked for it.
    Answer(Timestamp, PortIdentity),
    /// Announce.
    Announce(Announce),
    /// Signaling and Management.
    Unread,
}

/// A message without what follows its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) header: Header,
    pub(crate) body: Body,
}

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParseError {
    /// Shorter than its header, its body or its messageLength.
    Short,
    /// versionPTP is not 2: all other fields may mean anything.
    Version,
    /// A reserved messageType.
    Type,
}

/// Reads a message; `data` may go on behind it.
pub(crate) fn parse(data: &[u8]) -> Result<Message, ParseError> {
    let header: &[u8; HEADER_BYTES] = data.first_chunk().ok_or(ParseError::Short)?;
    if header[1] & 0xf != 2 {
        return Err(ParseError::Version);
    }
    let kind = MessageType::from_number(header[0] & 0xf).ok_or(ParseError::Type)?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if length < kind.length() || length > data.len() {
        return Err(ParseError::Short);
    }
    let mut rest = Reader(&data[HEADER_BYTES..]);
    let body = match kind {
        MessageType::Sync | MessageType::DelayReq | MessageType::PdelayReq | MessageType::FollowUp => {
            Body::Origin(rest.timestamp())
        }
        MessageType::PdelayResp | MessageType::DelayResp | MessageType::PdelayRespFollowUp => {
            Body::Answer(rest.timestamp(), rest.port())
        }
        MessageType::Announce => Body::Announce(rest.announce()),
        MessageType::Signaling | MessageType::Management => Body::Unread,
    };
    Ok(Message { header: parse_header(header, kind), body })
}

fn parse_header(bytes: &[u8; HEADER_BYTES], kind: MessageType) -> Header {
    let mut rest = Reader(&bytes[4..]);
    let (domain, minor_sdo) = (rest.byte(), rest.byte());
    let (flags, correction) = (u16::from_be_bytes(rest.take()), i64::from_be_bytes(rest.take()));
    let _type_specific: [u8; 4] = rest.take();
    let (source, sequence) = (rest.port(), u16::from_be_bytes(rest.take()));
    let _control = rest.byte();
    Header {
        kind,
        sdo: u16::from(bytes[0] >> 4) << 8 | u16::from(minor_sdo),
        version: (bytes[1] & 0xf, bytes[1] >> 4),
        domain,
        flags,
        correction: Correction(correction),
        source,
        sequence,
        log_interval: i8::from_be_bytes(rest.take()),
    }
}

impl Message {
    /// Its bytes. Signaling and Management have no body here: they are never sent.
    pub(crate) fn write(&self) -> Vec<u8> {
        let Header { kind, sdo, version, domain, flags, correction, source, sequence, log_interval } = self.header;
        let [major_sdo, minor_sdo] = sdo.to_be_bytes();
        let mut out = Vec::with_capacity(kind.length());
        out.extend([major_sdo << 4 | kind as u8, version.1 << 4 | version.0, 0, 0, domain, minor_sdo]);
        out.extend(flags.to_be_bytes());
        out.extend(correction.0.to_be_bytes());
        out.extend([0; 4]);
        put_port(&mut out, source);
        out.extend(sequence.to_be_bytes());
        out.push(control(kind));
        out.extend(log_interval.to_be_bytes());
        self.body.write(&mut out);
        out.resize(kind.length(), 0);
        let length = u16::try_from(out.len()).unwrap_or(u16::MAX);
        out[2..4].copy_from_slice(&length.to_be_bytes());
        out
    }
}

impl Body {
    fn write(&self, out: &mut Vec<u8>) {
        match *self {
            Body::Origin(origin) => put_timestamp(out, origin),
            Body::Answer(instant, requester) => {
                put_timestamp(out, instant);
                put_port(out, requester);
            }
            Body::Announce(announce) => {
                put_timestamp(out, announce.origin);
                out.extend(announce.utc_offset_s.to_be_bytes());
                out.extend([0, announce.priority1, announce.clock_class, announce.clock_accuracy]);
                out.extend(announce.variance.to_be_bytes());
                out.push(announce.priority2);
                out.extend(announce.grandmaster);
                out.extend(announce.steps_removed.to_be_bytes());
                out.push(announce.time_source);
            }
            Body::Unread => {}
        }
    }
}

/// controlField (§13.3.2.13): nobody should read it, but version 1 hardware does.
const fn control(kind: MessageType) -> u8 {
    match kind {
        MessageType::Sync => 0,
        MessageType::DelayReq => 1,
        MessageType::FollowUp => 2,
        MessageType::DelayResp => 3,
        MessageType::Management => 4,
        _ => 5,
    }
}

fn put_timestamp(out: &mut Vec<u8>, timestamp: Timestamp) {
    out.extend(&timestamp.seconds.to_be_bytes()[2..]);
    out.extend(timestamp.nanos.to_be_bytes());
}

fn put_port(out: &mut Vec<u8>, port: PortIdentity) {
    out.extend(port.clock);
    out.extend(port.port.to_be_bytes());
}

/// The bytes not read yet. Lengths were checked; beyond the end are zeros.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let Some((first, rest)) = self.0.split_first_chunk() else {
            self.0 = &[];
            return [0; N];
        };
        self.0 = rest;
        *first
    }

    fn byte(&mut self) -> u8 {
        let [byte] = self.take();
        byte
    }

    fn timestamp(&mut self) -> Timestamp {
        let [a, b, c, d, e, f] = self.take();
        Timestamp { seconds: u64::from_be_bytes([0, 0, a, b, c, d, e, f]), nanos: u32::from_be_bytes(self.take()) }
    }

    fn port(&mut self) -> PortIdentity {
        PortIdentity { clock: self.take(), port: u16::from_be_bytes(self.take()) }
    }

    fn announce(&mut self) -> Announce {
        let (origin, utc_offset_s, _reserved) = (self.timestamp(), i16::from_be_bytes(self.take()), self.byte());
        Announce {
            origin,
            utc_offset_s,
            priority1: self.byte(),
            clock_class: self.byte(),
            clock_accuracy: self.byte(),
            variance: u16::from_be_bytes(self.take()),
            priority2: self.byte(),
            grandmaster: self.take(),
            steps_removed: u16::from_be_bytes(self.take()),
            time_source: self.byte(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An Announce of a grandmaster with GNSS, written by hand from §13.
    #[rustfmt::skip]
    const ANNOUNCE: [u8; 64] = [
        0x0b, 0x12, 0, 64, 24, 0, 0, 0x3c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        1, 2, 3, 0xff, 0xfe, 4, 5, 6, 0, 7, 0x12, 0x34, 5, 0xfe,
        0, 0, 0x65, 0, 0, 1, 0, 0, 0, 9, 0, 37, 0, 128, 6, 0x21, 0x4e, 0x5d, 127,
        1, 2, 3, 0xff, 0xfe, 4, 5, 6, 0, 2, 0x20,
    ];

    #[test]
    fn golden_announce() {
        let message = parse(&ANNOUNCE).expect("a whole Announce");
        let (header, Body::Announce(body)) = (message.header, message.body) else { panic!("an Announce") };
        let identity = [1, 2, 3, 0xff, 0xfe, 4, 5, 6];
        assert_eq!((header.kind, header.version, header.domain, header.sdo), (MessageType::Announce, (2, 1), 24, 0));
        assert_eq!((header.source, header.sequence), (PortIdentity { clock: identity, port: 7 }, 0x1234));
        assert_eq!((header.log_interval, header.correction), (-2, Correction(0)));
        assert!(header.has(flag::UTC_OFFSET_VALID) && header.has(flag::FREQUENCY_TRACEABLE));
        assert!(!header.has(flag::LEAP_61) && !header.has(flag::TWO_STEP));
        assert_eq!((body.utc_offset_s, body.priority1, body.clock_class, body.clock_accuracy), (37, 128, 6, 0x21));
        assert_eq!((body.variance, body.priority2, body.steps_removed), (0x4e5d, 127, 2));
        assert_eq!((body.grandmaster, body.time_source), (identity, 0x20));
        assert_eq!(body.origin, Timestamp { seconds: 0x6500_0001, nanos: 9 });
        assert_eq!(message.write(), ANNOUNCE);
    }

    #[test]
    fn every_length_below_the_body_is_too_short() {
        for number in 0..16 {
            let Some(kind) = MessageType::from_number(number) else { continue };
            for length in 0..kind.length() + 3 {
                let mut bytes = vec![0; length];
                bytes.iter_mut().zip([number, 2]).for_each(|(byte, value)| *byte = value);
                if let Some(field) = bytes.get_mut(2..4) {
                    field.copy_from_slice(&u16::try_from(length).expect("short").to_be_bytes());
                }
                assert_eq!(parse(&bytes).is_ok(), length >= kind.length(), "{kind:?} {length}");
            }
        }
    }

    #[test]
    fn the_length_field_neither_exceeds_the_data_nor_cuts_the_body() {
        for (claimed, ok) in [(63_u16, false), (64, true), (66, true), (67, false), (u16::MAX, false)] {
            let mut padded = ANNOUNCE.to_vec();
            padded.extend([0, 0]);
            padded[2..4].copy_from_slice(&claimed.to_be_bytes());
            assert_eq!(parse(&padded).is_ok(), ok, "{claimed}");
        }
    }

    fn header() -> impl Strategy<Value = Header> {
        let kind = prop::sample::select((0..12).filter_map(MessageType::from_number).collect::<Vec<_>>());
        let identity = (any::<[u8; 8]>(), any::<u16>()).prop_map(|(clock, port)| PortIdentity { clock, port });
        (kind, 0..0x1000_u16, 0..16_u8, any::<(u8, u16, i64, u16, i8)>(), identity).prop_map(
            |(kind, sdo, minor, (domain, flags, correction, sequence, log_interval), source)| Header {
                kind,
                sdo,
                version: (2, minor),
                domain,
                flags,
                correction: Correction(correction),
                source,
                sequence,
                log_interval,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            header in header(),
            bytes: [u8; 30],
            tail in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut rest = Reader(&bytes);
            let body = match header.kind.length() {
                44 => Body::Origin(rest.timestamp()),
                54 if header.kind == MessageType::PdelayReq => Body::Origin(rest.timestamp()),
                54 => Body::Answer(rest.timestamp(), rest.port()),
                _ => Body::Announce(rest.announce()),
            };
            let message = Message { header, body };
            let mut out = message.write();
            prop_assert_eq!(out.len(), header.kind.length());
            out.extend(tail);
            prop_assert_eq!(parse(&out), Ok(message));
        }

        #[test]
        fn any_bytes_are_survived(mut data in prop::collection::vec(any::<u8>(), 0..80), honest: bool) {
            if honest && data.len() >= 4 {
                data[1] = 0x12;
                data[2..4].copy_from_slice(&[0, 54]);
            }
            if let Ok(message) = parse(&data) {
                prop_assert!(data.len() >= message.header.kind.length());
                prop_assert_eq!(message.header.version.0, 2);
            }
        }
    }
}
