//! What the shaped hop carries beside the probes.

use serde::{Deserialize, Serialize};

use crate::netns::lab::Lab;
use crate::netns::traffic::Traffic;

/// One kind of traffic. "Down" is from the servers to the clients: it queues with answers and Syncs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scenario {
    /// Nothing else
    Idle,
    /// Poisson bursts down, 30 % of the hop
    Down30,
    /// Poisson bursts down, 60 %
    Down60,
    /// Poisson bursts down, 90 %
    Down90,
    /// Poisson bursts both ways, 30 % each
    Both30,
    /// Poisson bursts both ways, 60 % each
    Both60,
    /// Poisson bursts both ways, 90 % each
    Both90,
    /// One bulk TCP flow down
    Bulk,
}

impl Scenario {
    pub(crate) const ALL: [Scenario; 8] = {
        use Scenario::{Both30, Both60, Both90, Bulk, Down30, Down60, Down90, Idle};
        [Idle, Down30, Down60, Down90, Both30, Both60, Both90, Bulk]
    };

    pub(crate) fn name(self) -> &'static str {
        match self {
            Scenario::Idle => "idle",
            Scenario::Down30 => "down 30 %",
            Scenario::Down60 => "down 60 %",
            Scenario::Down90 => "down 90 %",
            Scenario::Both30 => "both ways 30 %",
            Scenario::Both60 => "both ways 60 %",
            Scenario::Both90 => "both ways 90 %",
            Scenario::Bulk => "bulk TCP down",
        }
    }

    /// Of the hop, each way that has any; none of a flow, which takes what it gets.
    pub(crate) fn percent(self) -> u32 {
        match self {
            Scenario::Idle | Scenario::Bulk => 0,
            Scenario::Down30 | Scenario::Both30 => 30,
            Scenario::Down60 | Scenario::Both60 => 60,
            Scenario::Down90 | Scenario::Both90 => 90,
        }
    }

    /// The traffic; it ends with its guards.
    pub(crate) fn start(self, lab: &Lab) -> Vec<Traffic> {
        let bursts = |from, to| Traffic::start(lab, from, to, self.percent());
        match self {
            Scenario::Idle => Vec::new(),
            Scenario::Down30 | Scenario::Down60 | Scenario::Down90 => vec![bursts("load", "sink")],
            Scenario::Both30 | Scenario::Both60 | Scenario::Both90 => {
                vec![bursts("load", "sink"), bursts("sink", "load")]
            }
            Scenario::Bulk => vec![Traffic::bulk(lab, "load", "sink")],
        }
    }
}
