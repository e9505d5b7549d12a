//! Memory of the path: the shortest strip known, and what to make of longer and shorter ones.
//!
//! θ is continuous, a path is not. When most of the last sub-blocks agree on a longer strip the path became longer; if
//! the midpoint jumped with it by up to half the growth, one direction grew more than the other, and that jump is
//! remembered as a correction of the midpoint instead of being followed. A path that was known before gets its old
//! correction back.

use crate::time::RawTime;
use crate::units::to_f64;

/// Sub-blocks watched.
const WATCHED: usize = 10;
/// So many of them have to agree.
const AGREEING: usize = 6;
/// Whole blocks watched.
const BLOCKS: usize = 16;
/// Earlier paths remembered.
const PATHS: usize = 4;
/// The shortest strip is forgotten at this rate, s/s.
const LEAK: f64 = 1e-9;
/// Growth below this is never taken for another path, s.
const LEAST_GROWTH: f64 = 60e-9;
/// Clean blocks before the shortest strip counts as known.
pub(crate) const CONFIRMED: u32 = 3;

/// A path: its shortest strip and the correction of its midpoint, s.
#[derive(Clone, Copy, Debug)]
struct Path {
    strip: f64,
    correction: f64,
}

/// See the module's page.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    shortest: f64,
    since: RawTime,
    /// Clean blocks in a row that met the shortest strip.
    pub(crate) confirmed: u32,
    /// Subtracted from midpoints, s.
    pub(crate) correction: f64,
    earlier: Vec<Path>,
    oldest: usize,
    /// Strips of the last whole blocks.
    blocks: Vec<f64>,
    /// Strip and midpoint surprise of the last sub-blocks.
    watched: Vec<(f64, f64)>,
    /// Changes of path that were corrected for.
    pub(crate) corrected: u32,
}

impl Route {
    pub(crate) fn new(t: RawTime, strip: f64) -> Self {
        Route {
            shortest: strip,
            since: t,
            confirmed: 0,
            correction: 0.0,
            earlier: Vec::new(),
            oldest: 0,
            blocks: Vec::new(),
            watched: Vec::new(),
            corrected: 0,
        }
    }

    /// All exchanges so far have this strip between them, s.
    pub(crate) fn shorten(&mut self, t: RawTime, strip: f64) {
        if strip < self.shortest_at(t) {
            (self.shortest, self.since) = (strip, t);
        }
    }

    pub(crate) fn is_confirmed(&self) -> bool {
        self.confirmed >= CONFIRMED
    }

    /// The shortest strip as far as it is still believed at `t`, s.
    pub(crate) fn shortest_at(&self, t: RawTime) -> f64 {
        self.shortest + LEAK * to_f64(t.ns_since(self.since)) * 1e-9
    }

    /// A sub-block ended with this strip and this surprise of its midpoint; `sigma` is the noise of strips, `doubt` that
    /// of the predicted θ. Says whether the path became longer: then blocks begin anew.
    pub(crate) fn watch(&mut self, t: RawTime, strip: f64, surprise: f64, sigma: f64, doubt: f64) -> bool {
        if self.watched.len() == WATCHED {
            self.watched.remove(0);
        }
        self.watched.push((strip, surprise));
        if self.watched.len() < WATCHED {
            return false;
        }
        let known = self.shortest_at(t);
        let mut strips: Vec<f64> = self.watched.iter().map(|&(strip, _)| strip).collect();
        strips.sort_unstable_by(f64::total_cmp);
        let least = strips[0];
        if least <= known + 8.0 * sigma || strips[AGREEING - 1] - least >= 6.0 * sigma {
            return false;
        }
        let agreeing = self.watched.iter().filter(|(strip, _)| strip - least < 6.0 * sigma);
        let (sum, count) = agreeing.fold((0.0, 0.0), |(sum, count), (_, surprise)| (sum + surprise, count + 1.0));
        self.lengthened(t, known, least, sum / count, sigma, doubt);
        true
    }

    fn lengthened(&mut self, t: RawTime, known: f64, least: f64, jump: f64, sigma: f64, doubt: f64) {
        self.remember(Path { strip: known, correction: self.correction });
        let growth = least - known;
        let is_one_way = growth > LEAST_GROWTH
            && jump.abs() > 3.0 * doubt + 3.0 * sigma
            && jump.abs() <= 0.5 * growth + 4.0 * doubt + 6.0 * sigma;
        if self.is_confirmed() && is_one_way {
            self.correction += jump;
            self.corrected += 1;
        }
        (self.shortest, self.since, self.confirmed) = (least, t, CONFIRMED);
        self.watched.clear();
    }

    fn remember(&mut self, path: Path) {
        if self.earlier.len() < PATHS {
            self.earlier.push(path);
        } else {
            self.earlier[self.oldest] = path;
        }
        self.oldest = (self.oldest + 1) % PATHS;
    }

    /// A whole block had this strip. When of many blocks even the best stays far above the shortest strip, as far as half
    /// of what is usual, that path is gone or never was (a block bent by a wrong ω can fake one): with queues that have a
    /// floor at the shortest strip this happens once in some thousand blocks. It is corrected upwards, to below all of
    /// them; if it was true after all, the next strip that short says so.
    pub(crate) fn concluded(&mut self, t: RawTime, strip: f64) {
        if self.blocks.len() == BLOCKS {
            self.blocks.remove(0);
        }
        self.blocks.push(strip);
        if self.blocks.len() < BLOCKS {
            return;
        }
        let mut sorted = self.blocks.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let (known, least, usual) = (self.shortest_at(t), sorted[0], sorted[BLOCKS / 2]);
        if least - known > 0.5 * (usual - known) && least > known + LEAST_GROWTH {
            (self.shortest, self.since) = (least - 0.25 * (usual - least), t);
            self.blocks.clear();
        }
    }

    /// A strip clearly shorter than the shortest: if that path was known before, its correction is in force again.
    pub(crate) fn recall(&mut self, strip: f64, sigma: f64) {
        let known = self.earlier.iter().rfind(|path| (path.strip - strip).abs() < 12.0 * sigma);
        if let Some(path) = known {
            self.correction = path.correction;
        }
    }

    /// A block was measured with this strip: `candidate` is what it proves of the shortest one.
    pub(crate) fn measured(&mut self, t: RawTime, candidate: f64, is_shorter: bool, is_clean: bool) {
        if candidate < self.shortest_at(t) {
            (self.shortest, self.since) = (candidate, t);
        }
        if is_shorter {
            self.confirmed = 0;
        } else if is_clean {
            self.confirmed = self.confirmed.saturating_add(1);
        }
    }
}
