//! The reference clocks that the core asks for: opened when first looked at, given up when they fail, tried again at the
//! next look.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use tokio::sync::mpsc::UnboundedSender;
use truebound_core::io::AssociationId;
use truebound_core::settings::{ReferenceClock, SockAccess};
use truebound_core::wire::reference::SHM_BYTES;
use truebound_hw::reference::pps::{PpsClock, Pulse};
use truebound_hw::reference::shm::{Look, ShmClock};
use truebound_hw::reference::sock::SockClock;

use crate::log;
use crate::watch::{Ready, Watch};

/// One that is open.
enum Open {
    Shm(ShmClock),
    Sock(Watch<SockClock>),
    Pps(PpsClock),
}

#[derive(Default)]
struct Slot {
    open: Option<Open>,
    /// What was last complained of.
    complaint: String,
}

/// What a look found.
pub(crate) enum Seen {
    /// A segment's bytes.
    Segment([u8; SHM_BYTES]),
    /// Somebody wrote all the time.
    Torn,
    /// The last pulse.
    Pulse(Pulse),
    /// It speaks by itself.
    Listening,
}

/// All of them.
pub(crate) struct References {
    slots: BTreeMap<AssociationId, Slot>,
    ready: UnboundedSender<Ready>,
}

impl References {
    pub(crate) fn new(ready: UnboundedSender<Ready>) -> Self {
        References { slots: BTreeMap::new(), ready }
    }

    /// Looks at one; `None`: it is not there. An error is told once, until it is another one or none.
    pub(crate) fn look(&mut self, id: AssociationId, clock: &ReferenceClock) -> Option<Seen> {
        let slot = self.slots.entry(id).or_default();
        let open = match slot.open.take() {
            Some(open) => Ok(open),
            None => open_clock(id, clock, &self.ready),
        };
        let seen = open.and_then(|mut open| {
            let seen = look_at(&mut open)?;
            slot.open = Some(open);
            Ok(seen)
        });
        let complaint = match &seen {
            Err(error) => format!("{}: {error}; tried again each second", clock.place()),
            Ok(_) if slot.is_exposed() => {
                format!("{}: others than its owner may write to it, or its owner is neither root nor us", clock.place())
            }
            Ok(_) => String::new(),
        };
        if complaint != slot.complaint && !complaint.is_empty() {
            log::warn("reference", &complaint);
        }
        slot.complaint = complaint;
        seen.ok()
    }

    /// The socket that one speaks through.
    pub(crate) fn socket(&self, id: AssociationId) -> Option<&Watch<SockClock>> {
        match self.slots.get(&id)?.open.as_ref()? {
            Open::Sock(watch) => Some(watch),
            Open::Shm(_) | Open::Pps(_) => None,
        }
    }

    pub(crate) fn close(&mut self, id: AssociationId) {
        self.slots.remove(&id);
    }
}

impl Slot {
    fn is_exposed(&self) -> bool {
        matches!(&self.open, Some(Open::Shm(shm)) if shm.is_exposed())
    }
}

fn open_clock(id: AssociationId, clock: &ReferenceClock, ready: &UnboundedSender<Ready>) -> io::Result<Open> {
    Ok(match clock {
        ReferenceClock::Shm { unit } => Open::Shm(ShmClock::new(*unit)),
        ReferenceClock::Sock { path, access } => {
            let mode = match access {
                SockAccess::Owner => 0o600,
                SockAccess::Group => 0o660,
                SockAccess::All => 0o666,
            };
            let socket = SockClock::bind(Path::new(path), mode)?;
            Open::Sock(Watch::new(Ready::Reference(id), socket, ready.clone())?)
        }
        ReferenceClock::Pps { device, edge } => Open::Pps(PpsClock::open(Path::new(device), *edge)?),
    })
}

fn look_at(open: &mut Open) -> io::Result<Seen> {
    Ok(match open {
        Open::Shm(shm) => match shm.look()? {
            Look::Whole(bytes) => Seen::Segment(bytes),
            Look::Torn => Seen::Torn,
        },
        Open::Sock(_) => Seen::Listening,
        Open::Pps(pps) => Seen::Pulse(pps.last()?),
    })
}
