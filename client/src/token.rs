//! Tokens, certificates and authenticators under a clock that says how wrong it can be.
//!
//! A token is valid from one instant to another. Now is an interval, so a verifier may not know: it then follows one of
//! two policies, and each breaks what the other keeps. Usual verifiers compare one reading with a "leeway" of minutes
//! and keep neither.
//!
//! **Guarantees**, while the interval contains true time: [`Policy::NeverAcceptExpired`] accepts only at true instants
//! within the validity; [`Policy::NeverRefuseValid`] refuses only at true instants outside. **Cost:** the first refuses
//! valid tokens within one width of the interval after their start and before their end; the second accepts invalid
//! ones as long before and after. Both are of the instant of the reading: an effect that comes later needs a lease.
//!
//! Sources: validity as in RFC 5280 section 4.1.2.5 and RFC 7519 sections 4.1.4 and 4.1.5; authenticators as in RFC 4120
//! section 3.2.3, with proved intervals in the place of a skew of minutes.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;

use crate::interval::{Interval, Span};
use crate::lease::Store;
use crate::once::{AtMostOnce, Memory, MessageId, Refusal};

const NS_PER_S: i64 = 1_000_000_000;

/// When a token is valid: both ends included, ns since 1970, TAI or Unix time, whichever it was made with.
///
/// Unix time repeats a second after an inserted leap second; a Unix end within that second is met twice. What must not
/// be valid again keeps TAI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Valid from here on.
    pub not_before_ns: i64,
    /// Valid until here.
    pub not_after_ns: i64,
}

/// What is certain of a token now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Valid, wherever in the interval true time is.
    Valid,
    /// Not valid, wherever in the interval true time is.
    Invalid(Invalid),
    /// It depends on where in the interval true time is.
    Undecided,
}

/// Why a token is certainly not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// It becomes valid in at least so many ns.
    NotYet(i64),
    /// It ceased to be valid at least so many ns ago.
    Expired(i64),
    /// Its end is before its start.
    Never,
}

/// What a verifier does when it cannot know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Refuse: no token is accepted outside its validity. For what gives access.
    NeverAcceptExpired,
    /// Accept: no token is refused within its validity. For what only saves work, such as a cache.
    NeverRefuseValid,
}

impl Verdict {
    /// Does a verifier with this policy accept?
    #[must_use]
    pub const fn accepts(self, policy: Policy) -> bool {
        match self {
            Verdict::Valid => true,
            Verdict::Invalid(_) => false,
            Verdict::Undecided => matches!(policy, Policy::NeverRefuseValid),
        }
    }

    /// Both must hold: the worse of the two.
    #[must_use]
    pub const fn and(self, other: Verdict) -> Verdict {
        match (self, other) {
            (Verdict::Invalid(why), _) | (_, Verdict::Invalid(why)) => Verdict::Invalid(why),
            (Verdict::Valid, Verdict::Valid) => Verdict::Valid,
            _ => Verdict::Undecided,
        }
    }
}

impl Validity {
    /// A certificate's Unix seconds: `not_after_s` is its last instant (RFC 5280). Saturates.
    #[must_use]
    pub const fn from_unix_s(not_before_s: i64, not_after_s: i64) -> Self {
        Validity {
            not_before_ns: not_before_s.saturating_mul(NS_PER_S),
            not_after_ns: not_after_s.saturating_mul(NS_PER_S),
        }
    }

    /// A JSON Web Token's `nbf` and `exp`, Unix seconds: "on or after" `exp` it is no longer valid (RFC 7519), so its
    /// last instant is a nanosecond earlier. Absent claims do not limit. Saturates.
    #[must_use]
    pub const fn from_jwt_s(nbf_s: Option<i64>, exp_s: Option<i64>) -> Self {
        let not_before_ns = match nbf_s {
            Some(nbf_s) => nbf_s.saturating_mul(NS_PER_S),
            None => i64::MIN,
        };
        let not_after_ns = match exp_s {
            Some(exp_s) => exp_s.saturating_mul(NS_PER_S).saturating_sub(1),
            None => i64::MAX,
        };
        Validity { not_before_ns, not_after_ns }
    }

    /// The same instants on TAI, for a validity in Unix time within which TAI − UTC is `tai_offset_s`
    /// ([`Interval::tai_offset_s`]; 37 since 2017). An end that is open stays open. Saturates.
    #[must_use]
    pub const fn to_tai(self, tai_offset_s: i32) -> Self {
        // i32 fits: no `From` in a constant.
        let offset_ns = (tai_offset_s as i64) * NS_PER_S;
        let not_before_ns = match self.not_before_ns {
            i64::MIN => i64::MIN,
            start_ns => start_ns.saturating_add(offset_ns),
        };
        let not_after_ns = match self.not_after_ns {
            i64::MAX => i64::MAX,
            end_ns => end_ns.saturating_add(offset_ns),
        };
        Validity { not_before_ns, not_after_ns }
    }

    /// What is certain when the validity is in TAI and true time is in `now`. An inverted `now` leaves it undecided.
    #[must_use]
    pub const fn judge_tai(self, now: Span) -> Verdict {
        if self.not_after_ns < self.not_before_ns {
            Verdict::Invalid(Invalid::Never)
        } else if !now.is_valid() {
            Verdict::Undecided
        } else if now.latest_ns < self.not_before_ns {
            Verdict::Invalid(Invalid::NotYet(self.not_before_ns.saturating_sub(now.latest_ns)))
        } else if self.not_after_ns < now.earliest_ns {
            Verdict::Invalid(Invalid::Expired(now.earliest_ns.saturating_sub(self.not_after_ns)))
        } else if self.not_before_ns <= now.earliest_ns && now.latest_ns <= self.not_after_ns {
            Verdict::Valid
        } else {
            Verdict::Undecided
        }
    }

    /// What is certain when the validity is in Unix time. The interval's Unix ends are apart by a second more where a
    /// leap second is unknown or under way, so no table is needed.
    #[must_use]
    pub const fn judge_unix(self, now: &Interval) -> Verdict {
        self.judge_tai(now.utc())
    }
}

/// Is an authenticator fresh, that was made within `made` (its maker's interval, TAI): not older than `lifetime_ns`, nor
/// from the future? A maker without a bound is given one: its reading ± the skew that it is granted.
///
/// A message is made before it is read, so one from the future is refused only where that is certain: it is then
/// forged, or one of the two intervals is false.
///
/// A fresh one may still be a copy: [`ReplayWindow`] accepts each once.
#[must_use]
pub const fn judge_freshness(made: Span, lifetime_ns: i64, now: Span) -> Verdict {
    if !made.is_valid() {
        return Verdict::Invalid(Invalid::Never);
    }
    let if_made_last =
        Validity { not_before_ns: made.earliest_ns, not_after_ns: made.latest_ns.saturating_add(lifetime_ns) };
    let fresh_until_ns = made.earliest_ns.saturating_add(lifetime_ns);
    match if_made_last.judge_tai(now) {
        Verdict::Invalid(why) => Verdict::Invalid(why),
        _ if now.is_valid() && now.latest_ns <= fresh_until_ns => Verdict::Valid,
        _ => Verdict::Undecided,
    }
}

/// What authenticators a verifier accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// Accepted until so long after they were made, ns. Not below 0.
    pub lifetime_ns: i64,
    /// Makers with wider intervals are refused, ns: else a forged width would make an old one possibly fresh.
    pub widest_ns: i64,
    /// Where it cannot be known.
    pub policy: Policy,
}

/// Why an authenticator is not accepted.
#[derive(Debug)]
#[non_exhaustive]
pub enum Rejected {
    /// It is not fresh, or nobody can know and the policy says no.
    NotFresh(Verdict),
    /// Its maker's interval is this wide, ns.
    TooWide(i64),
    /// It was accepted before, or may have been.
    Replay(Refusal),
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rejected::NotFresh(verdict) => write!(f, "not fresh ({verdict:?}): make a new one"),
            Rejected::TooWide(ns) => write!(f, "its maker's clock is only known to {ns} ns: synchronise it"),
            Rejected::Replay(refusal) => refusal.fmt(f),
        }
    }
}

impl std::error::Error for Rejected {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Rejected::Replay(refusal) => Some(refusal),
            _ => None,
        }
    }
}

/// Accepts each fresh authenticator once, across crashes too: Kerberos's replay cache (RFC 4120 section 3.2.3), with a
/// bound in the place of the cache's lifetime.
///
/// **Guarantee:** as [`AtMostOnce`] and as its policy. The filter remembers for longer than lifetime + widest, so for
/// want of age it refuses only what is certainly stale; after a restart and beyond its capacity it also refuses fresh
/// ones, for twice is worse than never: its client makes a new one.
#[derive(Debug)]
pub struct ReplayWindow<S> {
    freshness: Freshness,
    accepted: AtMostOnce<S>,
}

impl<S: Store> ReplayWindow<S> {
    /// Remembers at most `capacity` authenticators, and stores its mark `step_ns` ahead: see [`Memory`].
    ///
    /// # Errors
    /// The store's.
    pub fn open(store: S, freshness: Freshness, capacity: usize, step_ns: i64) -> io::Result<Self> {
        let age_ns = freshness.lifetime_ns.max(0).saturating_add(freshness.widest_ns.max(0)).saturating_add(1);
        let accepted = AtMostOnce::open(store, Memory { age_ns, capacity, step_ns })?;
        Ok(ReplayWindow { freshness, accepted })
    }

    /// Accept the authenticator `number` of `maker`, who made it within `made`? `now` is read after it arrived; both TAI.
    ///
    /// # Errors
    /// [`Rejected`] says why not.
    pub fn accept(&mut self, maker: u64, number: u64, made: Span, now: Span) -> Result<(), Rejected> {
        if made.width_ns() > self.freshness.widest_ns {
            return Err(Rejected::TooWide(made.width_ns()));
        }
        let verdict = judge_freshness(made, self.freshness.lifetime_ns, now);
        if !verdict.accepts(self.freshness.policy) {
            return Err(Rejected::NotFresh(verdict));
        }
        let id = MessageId { sent_ns: made.earliest_ns, sender: maker, number };
        self.accepted.accept(id, now).map_err(Rejected::Replay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::MemoryStore;
    use crate::status::Status;
    use proptest::prelude::*;

    const NOON: Validity = Validity { not_before_ns: 100, not_after_ns: 200 };

    #[test]
    fn verdicts_change_at_the_ends_and_not_beside_them() {
        let judge = |earliest_ns, latest_ns| NOON.judge_tai(Span::new(earliest_ns, latest_ns));
        assert_eq!(judge(100, 200), Verdict::Valid);
        assert_eq!(judge(99, 150), Verdict::Undecided);
        assert_eq!(judge(150, 201), Verdict::Undecided);
        assert_eq!(judge(0, 100), Verdict::Undecided);
        assert_eq!(judge(0, 99), Verdict::Invalid(Invalid::NotYet(1)));
        assert_eq!(judge(200, 300), Verdict::Undecided);
        assert_eq!(judge(201, 300), Verdict::Invalid(Invalid::Expired(1)));
        assert_eq!(judge(150, 149), Verdict::Undecided);
        let never = Validity { not_before_ns: 1, not_after_ns: 0 };
        assert_eq!(never.judge_tai(Span::new(0, 1)), Verdict::Invalid(Invalid::Never));
    }

    #[test]
    fn a_web_token_ends_before_exp_and_a_certificate_with_not_after() {
        let at = |s: i64, ns: i64| Span::new(s * NS_PER_S + ns, s * NS_PER_S + ns);
        let token = Validity::from_jwt_s(Some(10), Some(20));
        assert_eq!(token.judge_tai(at(20, -1)), Verdict::Valid);
        assert_eq!(token.judge_tai(at(20, 0)), Verdict::Invalid(Invalid::Expired(1)));
        assert_eq!(token.judge_tai(at(10, -1)), Verdict::Invalid(Invalid::NotYet(1)));
        assert_eq!(Validity::from_unix_s(10, 20).judge_tai(at(20, 0)), Verdict::Valid);
        assert_eq!(Validity::from_jwt_s(None, None).to_tai(37).judge_tai(at(1, 0)), Verdict::Valid);
    }

    #[test]
    fn across_a_leap_second_unix_ends_are_undecided_for_the_second() {
        let tai = Span::new(1_000 * NS_PER_S, 1_000 * NS_PER_S + 5);
        let utc = Span::new(962 * NS_PER_S, 963 * NS_PER_S + 5);
        let now = Interval {
            earliest_ns: utc.earliest_ns,
            latest_ns: utc.latest_ns,
            tai,
            epoch: 1,
            status: Status::Locked,
            tai_offset_s: 37,
        };
        assert_eq!(Validity::from_unix_s(0, 963).judge_unix(&now), Verdict::Undecided);
        assert_eq!(Validity::from_unix_s(0, 961).judge_unix(&now), Verdict::Invalid(Invalid::Expired(NS_PER_S)));
        assert_eq!(Validity::from_unix_s(0, 964).judge_unix(&now), Verdict::Valid);
        assert_eq!(Validity::from_unix_s(0, 963).to_tai(37).judge_tai(tai), Verdict::Undecided);
    }

    proptest! {
        /// Whatever the true instant in the interval.
        #[test]
        fn each_policy_keeps_its_promise(
            start in 0i64..50, length in -2i64..50, now in 0i64..120, below in 0i64..30, above in 0i64..30
        ) {
            let token = Validity { not_before_ns: start, not_after_ns: start + length };
            let verdict = token.judge_tai(Span::new(now - below, now + above));
            let is_valid = start <= now && now <= start + length;
            prop_assert!(is_valid || !verdict.accepts(Policy::NeverAcceptExpired));
            prop_assert!(!is_valid || verdict.accepts(Policy::NeverRefuseValid));
            // And is no more careful than it must be: with an exact clock nothing is undecided.
            prop_assert!(below + above > 0 || verdict != Verdict::Undecided);
            let extremes = [now - below, now + above].map(|t| start <= t && t <= start + length);
            prop_assert!(verdict != Verdict::Undecided || extremes != [true, true]);
        }

        #[test]
        fn what_is_called_fresh_is_and_what_is_called_stale_is_not(
            made in 0i64..100, delay in 0i64..60, lifetime in 0i64..50, edges in prop::array::uniform4(0i64..20)
        ) {
            let span = |at: i64, below: i64, above: i64| Span::new(at - below, at + above);
            let (maker, now) = (span(made, edges[0], edges[1]), span(made + delay, edges[2], edges[3]));
            match judge_freshness(maker, lifetime, now) {
                Verdict::Valid => prop_assert!(delay <= lifetime),
                Verdict::Invalid(Invalid::Expired(_)) => prop_assert!(delay > lifetime),
                Verdict::Invalid(why) => prop_assert!(false, "an honest one is never {:?}", why),
                Verdict::Undecided => prop_assert!(edges.iter().sum::<i64>() > 0),
            }
        }
    }

    proptest! {
        /// Many arrivals of few authenticators: each once at most, a fresh one always where the policy says so, and a
        /// stale one never where it says that.
        #[test]
        fn a_replay_window_accepts_once_what_is_fresh(
            policy in prop_oneof![Just(Policy::NeverAcceptExpired), Just(Policy::NeverRefuseValid)],
            arrivals in prop::collection::vec((0u8..6, 0i64..12, 0i64..10, 0i64..10), 1..80),
            widths in prop::array::uniform6((0i64..10, 0i64..10)),
        ) {
            let freshness = Freshness { lifetime_ns: 40, widest_ns: 18, policy };
            let mut window = ReplayWindow::open(MemoryStore::default(), freshness, 100, 5).expect("memory");
            let mut accepted = std::collections::BTreeSet::new();
            let mut true_ns = 100;
            for (number, pause_ns, below_ns, above_ns) in arrivals {
                true_ns += pause_ns;
                // All were made before the first arrived.
                let made_ns = 100 - 7 * i64::from(number);
                let (below, above) = widths[usize::from(number)];
                let made = Span::new(made_ns - below, made_ns + above);
                let now = Span::new(true_ns - below_ns, true_ns + above_ns);
                let is_fresh = true_ns - made_ns <= 40;
                let is_first = !accepted.contains(&number);
                if window.accept(1, u64::from(number), made, now).is_ok() {
                    prop_assert!(accepted.insert(number), "{} twice", number);
                    prop_assert!(is_fresh || policy == Policy::NeverRefuseValid);
                } else {
                    prop_assert!(!(is_fresh && is_first && policy == Policy::NeverRefuseValid));
                }
            }
        }
    }

    #[test]
    fn a_forged_width_does_not_keep_an_authenticator_fresh() {
        let freshness = Freshness { lifetime_ns: 40, widest_ns: 18, policy: Policy::NeverRefuseValid };
        let mut window = ReplayWindow::open(MemoryStore::default(), freshness, 100, 5).expect("memory");
        let now = Span::new(1_000, 1_000);
        assert!(matches!(window.accept(1, 1, Span::new(941, 960), now), Err(Rejected::TooWide(19))));
        assert!(window.accept(1, 1, Span::new(942, 960), now).is_ok());
        assert!(matches!(window.accept(1, 1, Span::new(942, 960), now), Err(Rejected::Replay(Refusal::Duplicate))));
        let stale = window.accept(1, 2, Span::new(941, 959), now);
        assert!(matches!(stale, Err(Rejected::NotFresh(Verdict::Invalid(Invalid::Expired(1))))));
    }

    #[test]
    fn an_authenticator_from_the_future_is_refused_when_that_is_certain() {
        let judge = |earliest_ns| judge_freshness(Span::new(earliest_ns, 500), 10, Span::new(90, 100));
        assert_eq!(judge(101), Verdict::Invalid(Invalid::NotYet(1)));
        assert_eq!(judge(100), Verdict::Valid);
    }

    #[test]
    fn of_two_verdicts_the_worse_stands() {
        let (no, maybe) = (Verdict::Invalid(Invalid::Never), Verdict::Undecided);
        assert_eq!(
            (Verdict::Valid.and(maybe), maybe.and(no), Verdict::Valid.and(Verdict::Valid)),
            (maybe, no, Verdict::Valid)
        );
    }
}
