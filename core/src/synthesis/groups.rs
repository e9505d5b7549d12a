//! Who is independent of whom, and for whom each association speaks: worked out anew only when somebody's place
//! changed, because names and addresses are costly to compare and a synthesis needs them at every answer.

use core::net::{IpAddr, SocketAddr};
use std::collections::{BTreeMap, BTreeSet};

use crate::association::{Association, Peer};
use crate::io::AssociationId;
use crate::ptp::folded;
use crate::responder::reference_id_of;
use crate::settings::{Settings, SourceKind, SourceSettings};
use crate::smear::Smear;
use crate::synthesis::World;

/// Strata above one another that are followed upwards: NTP has 15.
const MAX_STRATA: u32 = 15;

/// Who is independent of whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    /// The operator's word.
    Named(String),
    /// Servers that smear leap seconds in the same way: they share what they make of a leap, right or wrong.
    Smeared(Smear),
    /// Servers that follow the same upstream.
    Upstream([u8; 4], u8),
    /// A server by itself.
    Address(IpAddr),
    /// A PTP grandmaster, whichever way its time comes.
    Grandmaster([u8; 8]),
    /// A PTP hardware clock.
    Phc(u32),
    /// A reference clock, by where its samples are found.
    Reference(String),
    /// A configured source that has no address yet: source and slot.
    Missing(u32, u32),
    /// This host's clock as root.
    Local(u32),
}

impl std::fmt::Display for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Group::Named(name) => f.write_str(name),
            Group::Smeared(smear) => write!(f, "smear {}", smear.name()),
            Group::Upstream(id, stratum) => write!(f, "upstream {}.{}.{}.{}/{stratum}", id[0], id[1], id[2], id[3]),
            Group::Address(address) => write!(f, "{address}"),
            Group::Grandmaster(identity) => {
                f.write_str("grandmaster ")?;
                identity.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Group::Phc(phc) => write!(f, "phc{phc}"),
            Group::Reference(place) => f.write_str(place),
            Group::Missing(source, slot) => write!(f, "missing {source}/{slot}"),
            Group::Local(source) => write!(f, "local {source}"),
        }
    }
}

/// The groups, numbered, and who belongs to which.
#[derive(Clone, Debug, Default)]
pub(super) struct Roster {
    /// What it was worked out from; `None`: from settings that are no longer in force.
    basis: Option<Basis>,
    /// In the order of the associations.
    pub(super) members: Vec<Member>,
    /// How many groups have a number.
    pub(super) groups: usize,
    /// Groups of configured slots that no association fills.
    pub(super) missing: Vec<usize>,
    /// This host's clock.
    pub(super) local: Option<usize>,
}

/// An association's place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    place: Place,
    /// The group for which it speaks.
    pub(super) voice: usize,
    /// The group that it stands for when it says nothing.
    pub(super) silent: usize,
    /// It only echoes us.
    pub(super) follows_us: bool,
}

/// What decides an association's place, beside its address and its line of the settings, which are its for life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    id: AssociationId,
    stratum: u8,
    reference_id: [u8; 4],
    local_address: Option<IpAddr>,
    /// Of a PTP master: it may change behind one and the same boundary clock.
    grandmaster: Option<[u8; 8]>,
}

impl Place {
    fn of(association: &Association) -> Self {
        Place {
            id: association.id,
            stratum: association.upstream.stratum,
            reference_id: association.upstream.reference_id,
            local_address: association.local_address,
            grandmaster: association.master().and_then(|master| master.announced).map(|a| a.grandmaster),
        }
    }
}

/// What decides the groups, beside the places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Basis {
    local: Option<u32>,
    /// Addresses are only ever added, as long as the settings stay.
    asked_at: usize,
    /// Clocks that our PTP ports were are only ever added.
    identities: usize,
}

impl Roster {
    /// The settings changed.
    pub(super) fn forget(&mut self) {
        self.basis = None;
    }

    /// Follows what changed since the last time, if anything did.
    pub(super) fn refresh(&mut self, world: &World<'_>) {
        let asked_at = world.asked_at.map_or(0, std::collections::BTreeSet::len);
        let basis =
            Basis { local: world.local.map(|local| local.source), asked_at, identities: world.identities.len() };
        let is_same = self.basis == Some(basis)
            && self.members.len() == world.associations.len()
            && self.members.iter().zip(world.associations.iter()).all(|(m, a)| m.place == Place::of(a));
        if !is_same {
            *self = Roster::of(world, basis);
        }
    }

    fn of(world: &World<'_>, basis: Basis) -> Self {
        let mut numbers: BTreeMap<Group, usize> = BTreeMap::new();
        let mut number = |group: Group| {
            let next = numbers.len();
            *numbers.entry(group).or_insert(next)
        };
        let asked_at = world.asked_at.into_iter().flatten().copied();
        let own: Vec<IpAddr> = world.associations.iter().filter_map(|a| a.local_address).chain(asked_at).collect();
        let members = world.associations.iter().map(|association| Member {
            place: Place::of(association),
            voice: number(voice_of(association, world.associations, world.settings, MAX_STRATA)),
            silent: number(silent_group_of(association, world.settings)),
            follows_us: follows_us(association, &own, world.identities),
        });
        let members = members.collect();
        let missing = missing_groups(world.settings, world.associations).into_iter().map(&mut number).collect();
        let local = basis.local.map(|source| number(Group::Local(source)));
        Roster { basis: Some(basis), members, groups: numbers.len(), missing, local }
    }
}

/// Slots of the configuration that no association fills: silent groups of their own.
fn missing_groups(settings: &Settings, associations: &[Association]) -> Vec<Group> {
    let mut groups = Vec::new();
    for (source, line) in (0u32..).zip(&settings.sources) {
        let slots = match line.kind {
            SourceKind::Server { .. }
            | SourceKind::Ptp { .. }
            | SourceKind::Phc { .. }
            | SourceKind::Reference { .. } => 1,
            SourceKind::Pool { count, .. } => u32::from(count),
            SourceKind::Local { .. } => 0,
        };
        let filled = associations.iter().filter(|a| a.source == source).count();
        for slot in u32::try_from(filled).unwrap_or(u32::MAX)..slots {
            let group = stated_group(line).unwrap_or(Group::Missing(source, slot));
            groups.push(group);
        }
    }
    groups
}

/// What the operator's words make of a source: the group that he names, or that of its smear.
fn stated_group(line: &SourceSettings) -> Option<Group> {
    let smeared = (line.smear != Smear::None).then_some(Group::Smeared(line.smear));
    line.group.clone().map(Group::Named).or(smeared)
}

/// The independence group of an association: the operator's word, or a common upstream, or its address.
pub(crate) fn group_of(association: &Association, settings: &Settings) -> Group {
    if let Some(stated) = settings.sources.get(association.source as usize).and_then(stated_group) {
        return stated;
    }
    match &association.peer {
        Peer::Ntp { address, .. } if association.upstream.stratum <= 1 => Group::Address(address.ip()),
        Peer::Ntp { .. } => Group::Upstream(association.upstream.reference_id, association.upstream.stratum),
        Peer::Ptp(master) => {
            Group::Grandmaster(master.announced.map_or(master.identity.clock, |announced| announced.grandmaster))
        }
        Peer::Phc(source) => Group::Phc(source.phc.0),
        Peer::Reference(reference) => Group::Reference(reference.clock.place()),
    }
}

/// The group that a silent member stands for.
fn silent_group_of(association: &Association, settings: &Settings) -> Group {
    match (group_of(association, settings), association.address()) {
        (Group::Upstream(..), Some(address)) => Group::Address(address.ip()),
        (group, _) => group,
    }
}

/// A server that follows another of our sources speaks for that one, and so on up.
fn voice_of(association: &Association, all: &[Association], settings: &Settings, depth: u32) -> Group {
    let own = group_of(association, settings);
    let id = match own {
        Group::Upstream(id, _) => id,
        // What it smears says nothing of whom it follows.
        Group::Smeared(_) if association.upstream.stratum > 1 => association.upstream.reference_id,
        _ => return own,
    };
    let upstream = all.iter().find(|other| other.id != association.id && reference_ids_of(other).contains(&Some(id)));
    match upstream.filter(|_| depth > 0) {
        Some(upstream) => voice_of(upstream, all, settings, depth - 1),
        None => own,
    }
}

/// How those that follow it may name it.
fn reference_ids_of(association: &Association) -> [Option<[u8; 4]>; 2] {
    match &association.peer {
        Peer::Ntp { address, .. } => [Some(reference_id_of(*address)), None],
        Peer::Ptp(master) => {
            [Some(master.identity.folded()), master.announced.map(|announced| folded(announced.grandmaster))]
        }
        Peer::Phc(_) | Peer::Reference(_) => [None, None],
    }
}

/// A server that names one of our addresses, or the clock that our PTP ports are, as its upstream only echoes us.
pub(crate) fn follows_us(association: &Association, own: &[IpAddr], identities: &BTreeSet<[u8; 8]>) -> bool {
    let is_ours = |&address: &IpAddr| {
        let named = reference_id_of(SocketAddr::new(address, 0)) == association.upstream.reference_id;
        named && !address.to_canonical().is_loopback()
    };
    let is_our_clock = |&identity: &[u8; 8]| folded(identity) == association.upstream.reference_id;
    let is_named = own.iter().any(is_ours) || identities.iter().any(is_our_clock);
    association.upstream.stratum > 1 && is_named
}
