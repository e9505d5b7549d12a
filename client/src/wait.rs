//! Commit wait: returns once an instant has certainly passed (Corbett et al., Spanner, OSDI 2012, section 4.1.2).
//!
//! A transaction takes a timestamp that is certainly not in the past (`latest`), waits until it certainly is
//! (`earliest` beyond it), and only then lets anybody see its effects: whoever sees them, anywhere, then takes a later
//! timestamp. `earliest > instant` is stable: once true, it stays so. The wait is about the width of the interval.
#![forbid(unsafe_code)]

use std::fmt;
use std::time::{Duration, Instant};

use crate::interval::{Interval, Unavailable};
use crate::source::TimeSource;

/// Not shorter than this: the wait never spins.
const SHORTEST_SLEEP: Duration = Duration::from_micros(20);
/// Not longer than this: an interval that becomes narrower ends the wait early.
const LONGEST_SLEEP: Duration = Duration::from_millis(10);
/// The first sleep without a bound; each further one is twice as long.
const FIRST_SLEEP_UNBOUND: Duration = Duration::from_micros(500);

/// Lets a wait sleep, and tells how long it has been. [`ThreadSleeper`], or a world of its own for tests.
pub trait Sleeper {
    /// Sleeps for about so long; shorter or longer is right too.
    fn sleep(&mut self, duration: Duration);

    /// How long it has been since the wait began: to give up by, no proof of anything.
    fn waited(&self) -> Duration;
}

/// Sleeps the calling thread.
#[derive(Clone, Copy, Debug)]
pub struct ThreadSleeper {
    began: Instant,
}

impl ThreadSleeper {
    /// A wait that begins now.
    #[must_use]
    pub fn new() -> Self {
        ThreadSleeper { began: Instant::now() }
    }
}

impl Default for ThreadSleeper {
    fn default() -> Self {
        ThreadSleeper::new()
    }
}

impl Sleeper for ThreadSleeper {
    fn sleep(&mut self, duration: Duration) {
        std::thread::sleep(duration);
    }

    fn waited(&self) -> Duration {
        self.began.elapsed()
    }
}

/// Why a wait ended without proof. The instant may have passed or not: do not go on as if it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitError {
    /// By the last reading it had not certainly passed. That reading, ns of TAI; and the instant.
    TooLate {
        /// Not certainly passed.
        instant_tai_ns: i64,
        /// Of the last reading.
        earliest_tai_ns: i64,
    },
    /// There was no bound at the end of the wait, for this reason.
    Unavailable(Unavailable),
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitError::TooLate { instant_tai_ns, earliest_tai_ns } => {
                let left_ns = instant_tai_ns.saturating_sub(*earliest_tai_ns);
                write!(f, "the instant may be up to {left_ns} ns ahead still: wait longer, or take an earlier one")
            }
            WaitError::Unavailable(why) => why.fmt(f),
        }
    }
}

impl std::error::Error for WaitError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            WaitError::TooLate { .. } => None,
            WaitError::Unavailable(why) => Some(why),
        }
    }
}

/// Returns once `instant_tai_ns` (TAI, ns) has certainly passed, with the strict reading that proves it; gives up after
/// `limit`. A bound that is lost meanwhile and comes back does no harm. It reads at least once, and once more at the
/// end.
///
/// # Errors
/// [`WaitError`]: no proof within `limit`.
pub fn wait_until_passed(time: &impl TimeSource, instant_tai_ns: i64, limit: Duration) -> Result<Interval, WaitError> {
    wait_with(time, instant_tai_ns, limit, &mut ThreadSleeper::new())
}

/// The same with another way of sleeping.
///
/// # Errors
/// [`WaitError`]: no proof within `limit`.
pub fn wait_with(
    time: &impl TimeSource,
    instant_tai_ns: i64,
    limit: Duration,
    sleeper: &mut impl Sleeper,
) -> Result<Interval, WaitError> {
    let mut unbound = FIRST_SLEEP_UNBOUND;
    loop {
        // Before the reading: after the last sleep there is one more.
        let left = limit.saturating_sub(sleeper.waited());
        let (wish, error) = match time.now_strict() {
            Ok(now) if now.tai.earliest_ns > instant_tai_ns => return Ok(now),
            Ok(now) => {
                unbound = FIRST_SLEEP_UNBOUND;
                let earliest_tai_ns = now.tai.earliest_ns;
                (until_past(earliest_tai_ns, instant_tai_ns), WaitError::TooLate { instant_tai_ns, earliest_tai_ns })
            }
            Err(why) => {
                let wish = unbound;
                unbound = unbound.saturating_mul(2).min(LONGEST_SLEEP);
                (wish, WaitError::Unavailable(why))
            }
        };
        if left.is_zero() {
            return Err(error);
        }
        sleeper.sleep(wish.clamp(SHORTEST_SLEEP, LONGEST_SLEEP).min(left.max(SHORTEST_SLEEP)));
    }
}

/// About so long until `earliest` is beyond the instant, if the interval moves as time does.
fn until_past(earliest_ns: i64, instant_ns: i64) -> Duration {
    let left_ns = instant_ns.saturating_sub(earliest_ns).saturating_add(1);
    Duration::from_nanos(u64::try_from(left_ns).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;
    use crate::interval::Span;
    use crate::status::{Reason, Status};
    use crate::tick::Tick;

    const LOST: Unavailable = Unavailable::NoBound(Status::Void, Reason::SourcesDisagree);

    /// True time moves only by sleeping, a little less than asked for.
    struct World {
        passed: Cell<Duration>,
        half_width_ns: i64,
        /// Without a bound from here until there.
        lost: std::ops::Range<Duration>,
        sleeps: RefCell<Vec<Duration>>,
    }

    impl World {
        fn new(half_width_ns: i64, lost_ms: std::ops::Range<u64>) -> Self {
            let lost = Duration::from_millis(lost_ms.start)..Duration::from_millis(lost_ms.end);
            World { passed: Cell::default(), half_width_ns, lost, sleeps: RefCell::default() }
        }

        fn truth_ns(&self) -> i64 {
            i64::try_from(self.passed.get().as_nanos()).expect("short")
        }

        fn wait(&self, instant_ns: i64, limit: Duration) -> Result<Interval, WaitError> {
            wait_with(self, instant_ns, limit, &mut &*self)
        }

        /// No more readings than for polling at the longest interval, and some to get there.
        fn expect_cool(&self) {
            let allowed = 40 + self.passed.get().as_nanos() / LONGEST_SLEEP.as_nanos();
            let sleeps = self.sleeps.borrow();
            assert!(sleeps.len() as u128 <= allowed, "{} sleeps, {allowed} allowed", sleeps.len());
            assert!(sleeps.iter().all(|&sleep| (SHORTEST_SLEEP..=LONGEST_SLEEP).contains(&sleep)), "{sleeps:?}");
        }
    }

    impl TimeSource for World {
        fn now(&self) -> Result<Interval, Unavailable> {
            Err(Unavailable::Malformed) // Not the strict one: must not be taken.
        }

        fn now_strict(&self) -> Result<Interval, Unavailable> {
            if self.lost.contains(&self.passed.get()) {
                return Err(LOST);
            }
            let (earliest_ns, latest_ns) = (self.truth_ns() - self.half_width_ns, self.truth_ns() + self.half_width_ns);
            let tai = Span::new(earliest_ns, latest_ns);
            Ok(Interval { earliest_ns, latest_ns, tai, epoch: 1, status: Status::Locked, tai_offset_s: 0 })
        }

        fn tick(&self) -> Result<Tick, Unavailable> {
            Err(LOST)
        }
    }

    impl Sleeper for &World {
        fn sleep(&mut self, duration: Duration) {
            self.sleeps.borrow_mut().push(duration);
            // 500 ppm short.
            self.passed.set(self.passed.get() + duration - duration / 2_000);
        }

        fn waited(&self) -> Duration {
            self.passed.get()
        }
    }

    #[test]
    fn it_ends_when_the_instant_has_certainly_passed_and_soon_after() {
        for half_width_ns in [0, 1, 10_000, 3_000_000, 200_000_000] {
            let world = World::new(half_width_ns, 0..0);
            let instant_ns = half_width_ns; // `latest` of now: a commit.
            let now = world.wait(instant_ns, Duration::from_secs(9)).expect("it passes");
            assert!(now.tai.earliest_ns > instant_ns);
            let late_ns = world.truth_ns() - 2 * half_width_ns;
            assert!((1..=40_000).contains(&late_ns), "{late_ns} ns late at ±{half_width_ns} ns");
            world.expect_cool();
        }
    }

    #[test]
    fn an_instant_that_has_passed_is_not_waited_for() {
        let world = World::new(5, 0..0);
        world.wait(-6, Duration::ZERO).expect("it has passed");
        assert!(world.sleeps.borrow().is_empty());
        let not_yet = WaitError::TooLate { instant_tai_ns: -5, earliest_tai_ns: -5 };
        assert_eq!(world.wait(-5, Duration::ZERO), Err(not_yet), "the instant itself may be now");
    }

    #[test]
    fn it_gives_up_after_its_limit_and_not_before() {
        let world = World::new(1_000, 0..0);
        let limit = Duration::from_millis(50);
        assert!(matches!(world.wait(i64::MAX, limit), Err(WaitError::TooLate { instant_tai_ns: i64::MAX, .. })));
        assert!((limit..=limit + LONGEST_SLEEP).contains(&world.passed.get()), "{:?}", world.passed);
        world.expect_cool();
    }

    #[test]
    fn a_bound_that_is_lost_and_comes_back_does_no_harm() {
        let world = World::new(1_000, 3..400);
        world.wait(20_000_000, Duration::from_secs(9)).expect("it comes back");
        assert!((400..=410).contains(&world.passed.get().as_millis()), "{:?}", world.passed);
        world.expect_cool();
    }

    #[test]
    fn without_a_bound_it_says_why_there_is_none() {
        let world = World::new(1_000, 0..1_000_000);
        assert_eq!(world.wait(0, Duration::from_millis(100)), Err(WaitError::Unavailable(LOST)));
        assert!((100..=110).contains(&world.passed.get().as_millis()), "{:?}", world.passed);
        world.expect_cool();
    }
}
