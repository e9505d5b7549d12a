//! What came of the requests.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};
use truebound_core::wire::ntp::Packet;

use crate::client::{Verdict, root_distance_ns};

/// Counts, and the worst cases.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) elapsed: Duration,
    pub(crate) requests: u64,
    /// Valid answers, honest or not.
    pub(crate) answers: u64,
    pub(crate) interleaved: u64,
    /// Requests given up.
    pub(crate) lost: u64,
    /// Answers to requests that were given up.
    pub(crate) late: u64,
    /// "You ask too often".
    pub(crate) kisses: u64,
    pub(crate) unsynchronised: u64,
    pub(crate) malformed: u64,
    /// Answers that told what cannot be.
    pub(crate) violations: u64,
    pub(crate) worst_violation_ns: i64,
    pub(crate) worst_distance_ns: i64,
}

impl Tally {
    pub(crate) fn add(&mut self, verdict: Verdict, answer: &Packet) {
        match verdict {
            Verdict::Late => self.late += 1,
            Verdict::Kiss => self.kisses += 1,
            Verdict::Unsynchronised => self.unsynchronised += 1,
            Verdict::Honest { interleaved } => {
                self.answers += 1;
                self.interleaved += u64::from(interleaved);
                self.worst_distance_ns = self.worst_distance_ns.max(root_distance_ns(answer));
            }
            Verdict::Dishonest { by_ns } => {
                self.answers += 1;
                self.violations += 1;
                self.worst_violation_ns = self.worst_violation_ns.max(by_ns);
            }
        }
    }

    pub(crate) fn as_json(&self) -> Value {
        json!({
            "elapsed_s": self.elapsed.as_secs_f64(),
            "requests": self.requests,
            "answers": self.answers,
            "interleaved": self.interleaved,
            "lost": self.lost,
            "late": self.late,
            "kisses": self.kisses,
            "unsynchronised": self.unsynchronised,
            "malformed": self.malformed,
            "violations": self.violations,
            "worst_violation_ns": self.worst_violation_ns,
            "worst_distance_ns": self.worst_distance_ns,
        })
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_s = |count: u64| u128::from(count) * 1_000_000_000 / self.elapsed.as_nanos().max(1);
        write!(
            f,
            "{} requests/s, {} answers/s ({} interleaved), {} lost, {} late, {} kisses, {} unsynchronised, {} malformed; \
             {} violations (worst {} ns), root distance up to {} ns",
            per_s(self.requests),
            per_s(self.answers),
            self.interleaved,
            self.lost,
            self.late,
            self.kisses,
            self.unsynchronised,
            self.malformed,
            self.violations,
            self.worst_violation_ns,
            self.worst_distance_ns,
        )
    }
}
