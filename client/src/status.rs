//! What the agent says of its bound, in one word and one reason.

/// State of the published bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Status {
    /// No bound yet since the agent started.
    Starting = 0,
    /// Enough independence groups answer; the bound is fresh.
    Locked = 1,
    /// No fresh answer; the bound is sound and grows.
    Holdover = 2,
    /// No reference: never had one, or so long ago that the bound has expired.
    FreeRunning = 3,
    /// An assumption broke a moment ago; the old bound is withdrawn while a new one is earned.
    Disrupted = 4,
    /// Sources contradict each other and nobody can say which is right.
    Void = 5,
}

impl Status {
    /// Every status, in order of its number.
    pub const ALL: [Status; 6] =
        [Status::Starting, Status::Locked, Status::Holdover, Status::FreeRunning, Status::Disrupted, Status::Void];

    /// May a reader use the interval?
    #[must_use]
    pub fn has_bound(self) -> bool {
        matches!(self, Status::Locked | Status::Holdover)
    }

    /// The word used in JSON, logs and documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Status::Starting => "starting",
            Status::Locked => "locked",
            Status::Holdover => "holdover",
            Status::FreeRunning => "free-running",
            Status::Disrupted => "disrupted",
            Status::Void => "void",
        }
    }

    /// The status with this number on the page.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Status> {
        Status::ALL.get(usize::from(number)).copied()
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

macro_rules! reasons {
    ($($number:literal $variant:ident $name:literal $meaning:literal;)*) => {
        /// Why the status is what it is. Numbers are part of the page layout and never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        #[non_exhaustive]
        pub enum Reason { $(#[doc = $meaning] $variant = $number,)* }

        impl Reason {
            /// Every reason, in order of its number.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)*];

            /// The word used in JSON, logs and documents.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name,)* }
            }

            /// One sentence for an operator.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Reason::$variant => $meaning,)* }
            }

            /// The reason with this number on the page; an unknown number is [`Reason::Unknown`].
            #[must_use]
            pub fn from_number(number: u16) -> Reason {
                match number { $($number => Reason::$variant,)* _ => Reason::Unknown }
            }
        }
    };
}

reasons! {
    0 Unknown "unknown" "a reason this client does not know";
    1 NoSources "no-sources" "no source is configured";
    2 NoAnswerYet "no-answer-yet" "too few independence groups have answered since the start";
    3 Majority "majority" "more than half of the independence groups agree";
    4 NoLiarTolerated "no-liar-tolerated" "one or two groups only: a lying source could not be outvoted";
    5 AssumesTrust "assumes-trust" "the interval relies on a source that the operator declared truthful";
    6 SourcesSilent "sources-silent" "too few groups answer now; the bound grows from the last answers";
    7 AgentStopped "agent-stopped" "the agent was stopped; the bound grows from its last answers";
    8 BoundExpired "bound-expired" "holdover lasted longer than max-holdover";
    9 SourceJumped "source-jumped" "the only source contradicts its own past; nobody can say which is right";
    10 SourcesDisagree "sources-disagree" "no instant is common to enough independence groups";
    11 OscillatorBroke "oscillator-broke" "several groups became inconsistent together: this host's oscillator left its class";
    12 TrustContradicted "trust-contradicted" "a trusted source lies outside what the groups agree on";
    13 NewEpoch "new-epoch" "the new region contradicts the old one, or starts afresh";
    14 ClocksourceChanged "clocksource-changed" "the kernel changed its clocksource: raw time is another clock now";
    15 Suspended "suspended" "the host slept: raw time stood still";
    16 Restarted "restarted" "the agent restarted; the bound of the previous run still ages";
    19 UnknownClocksource "unknown-clocksource" "the kernel's clocksource is not the TSC or the ARM counter, and no oscillator is stated for it";
    20 AssertedOnly "asserted-only" "no source can prove an interval; what holds by the operator's word is published beside";
    21 VmMoved "vm-moved" "the hypervisor paused, moved or restored this VM: raw time may have jumped";
    18 FrequencyAudit "frequency-audit" "the estimated frequency left the proved interval";
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_round_trip() {
        for status in Status::ALL {
            assert_eq!(Status::from_number(status as u8), Some(status));
        }
        assert_eq!(Status::from_number(6), None);
        for &reason in Reason::ALL {
            assert_eq!(Reason::from_number(reason as u16), reason);
        }
        assert_eq!(Reason::from_number(u16::MAX), Reason::Unknown);
    }
}
