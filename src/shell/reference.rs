//! The shell's part in reference clocks: a look, then a reading of CLOCK_REALTIME, in which they stamp, then the word to
//! the core. The reading before the stamp is that of the look before.

use std::io::{self, ErrorKind};

use truebound_core::io::{AssociationId, Found, Input, ReferenceRead};
use truebound_core::settings::ReferenceClock;
use truebound_core::wire::reference::SOCK_BYTES;

use super::Shell;
use crate::references::Seen;

impl Shell {
    pub(super) fn read_reference(&mut self, association: AssociationId, clock: &ReferenceClock) {
        match self.references.look(association, clock) {
            None => self.tell_reference(association, Found::Absent),
            // The clock is read all the same: a datagram's stamp needs a reading before it.
            Some(Seen::Listening) => self.cross(),
            Some(Seen::Segment(bytes)) => self.tell_reference(association, Found::Segment(&bytes)),
            Some(Seen::Torn) => self.tell_reference(association, Found::Torn),
            Some(Seen::Pulse(pulse)) => {
                self.tell_reference(association, Found::Pulse { sequence: pulse.sequence, at: pulse.at });
            }
        }
    }

    /// As [`Shell::socket_ready`].
    pub(super) fn reference_ready(&mut self, association: AssociationId) -> bool {
        let Some(watch) = self.references.socket(association) else { return false };
        watch.look();
        let may_hold_more = self.drain(|shell| shell.receive_reference(association));
        if may_hold_more && let Some(watch) = self.references.socket(association) {
            watch.look_again();
        }
        may_hold_more
    }

    fn receive_reference(&mut self, association: AssociationId) -> io::Result<()> {
        // One byte more: what is longer is no sample.
        let mut buffer = [0; SOCK_BYTES + 1];
        let watch = self.references.socket(association).ok_or(ErrorKind::WouldBlock)?;
        let length = watch.get().receive(&mut buffer)?;
        self.tell_reference(association, Found::Datagram(&buffer[..length]));
        Ok(())
    }

    fn tell_reference(&mut self, association: AssociationId, found: Found<'_>) {
        let user_after = self.clock.raw_now();
        self.cross();
        self.step(Input::Reference(ReferenceRead { association, user_after, found }), "");
    }
}
