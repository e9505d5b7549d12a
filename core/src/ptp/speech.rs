//! What leaves: statime's messages with what it gets wrong put right, or nothing where we have nothing to say.
//!
//! As a grandmaster statime announces neither a UTC offset nor traceability, and logMessageInterval is always 0. As a
//! master we tell our bound's time, so a master without a bound is silent; peers on the link are answered all the same,
//! for those answers hold differences only.

use super::Quality;
use crate::settings::{PtpRole, PtpSettings};
use crate::wire::ptp::{Announce, Body, Header, Message, MessageType, flag};

/// logMessageInterval of messages that are not periodic (IEEE 1588-2019 table 42).
const NOT_PERIODIC: i8 = 0x7f;

/// Who speaks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Speaker<'a> {
    pub(super) settings: &'a PtpSettings,
    pub(super) identity: [u8; 8],
    pub(super) quality: Option<Quality>,
    /// A port of this domain has a parent: then we may repeat its grandmaster.
    pub(super) follows: bool,
}

impl Speaker<'_> {
    /// The message as it may leave; `None`: it may not.
    pub(super) fn say(&self, mut message: Message) -> Option<Message> {
        let kind = message.header.kind;
        if kind.is_masters() {
            let quality = self.quality.filter(|_| self.settings.role != PtpRole::Slave)?;
            if let Body::Announce(announce) = &mut message.body {
                let is_grandmaster = announce.steps_removed == 0 && announce.grandmaster == self.identity;
                if is_grandmaster {
                    self.describe(quality, announce, &mut message.header);
                } else if !self.follows {
                    return None;
                }
            }
        }
        if kind == MessageType::DelayResp {
            // statime repeats the flags and the version of whoever asked.
            (message.header.flags, message.header.version) = (0, (2, 1));
        }
        message.header.log_interval = match kind {
            MessageType::Sync | MessageType::FollowUp => self.settings.log_sync,
            MessageType::Announce => self.settings.log_announce,
            MessageType::DelayResp => self.settings.log_delay,
            _ => NOT_PERIODIC,
        };
        Some(message)
    }

    /// A port that is always master may say how good it is. One that competes must not: statime compares others with
    /// its own class 248 and unknown accuracy, and two ports that each hear a better claim than they make to themselves
    /// would both become slaves.
    fn describe(&self, quality: Quality, announce: &mut Announce, header: &mut Header) {
        if self.settings.role == PtpRole::Master {
            announce.clock_class = quality.clock_class;
            announce.clock_accuracy = quality.clock_accuracy;
        }
        announce.time_source = quality.time_source;
        announce.utc_offset_s = quality.utc_offset_s.unwrap_or(0);
        let flags = [
            (flag::PTP_TIMESCALE, true),
            (flag::UTC_OFFSET_VALID, quality.utc_offset_s.is_some()),
            (flag::LEAP_61, quality.leap > 0),
            (flag::LEAP_59, quality.leap < 0),
            (flag::TIME_TRACEABLE, quality.is_traceable),
            (flag::FREQUENCY_TRACEABLE, quality.is_traceable),
        ];
        header.flags = flags.iter().filter(|(_, is_set)| *is_set).fold(0, |flags, (bit, _)| flags | bit);
    }
}
