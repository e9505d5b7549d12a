//! The PI servo of PTP daemons: the offset from the median of the last delays, and a proportional and an integral gain
//! that depend on the interval between exchanges.

use super::{Exchange, Law};
use crate::stats::median;

/// A virtual clock raw + φ, steered towards true time.
#[derive(Debug)]
pub(super) struct Pi {
    proportional: f64,
    integral: f64,
    drift: f64,
    delays_s: Vec<f64>,
    count: usize,
    state: Option<State>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    at_s: f64,
    phi_s: f64,
    rate: f64,
}

const DELAYS: usize = 10;

impl Pi {
    pub(super) fn new(rate: f64, hardware: bool, drift: f64) -> Self {
        let interval_s = 1.0 / rate;
        let (kp, ki) = if hardware { (0.7, 0.3) } else { (0.1, 0.001) };
        // gains ∝ interval^−0.3 and interval^0.4, no larger than is stable
        let to_two_fifths = fifth_root(interval_s * interval_s);
        let to_three_tenths = fifth_root(interval_s * interval_s * interval_s).sqrt();
        Pi {
            proportional: (kp / to_three_tenths).min(0.7 / interval_s),
            integral: (ki * to_two_fifths).min(0.3 / interval_s),
            drift,
            delays_s: Vec::new(),
            count: 0,
            state: None,
        }
    }

    fn median_delay_s(&mut self, delay_s: f64) -> f64 {
        if self.delays_s.len() < DELAYS {
            self.delays_s.push(delay_s);
        } else {
            self.delays_s[self.count % DELAYS] = delay_s;
        }
        self.count += 1;
        median(self.delays_s.clone()).unwrap_or(delay_s)
    }
}

impl Law for Pi {
    fn push(&mut self, exchange: &Exchange) {
        let delay_s = self.median_delay_s(0.5 * exchange.delay_s());
        let carried_s = self.at(exchange.t4_s);
        let offset_s = carried_s.unwrap_or(0.0) - exchange.lower_s - delay_s;
        let (phi_s, rate) = if let Some(carried_s) = carried_s {
            self.drift -= self.integral * offset_s;
            (carried_s, self.drift - self.proportional * offset_s)
        } else {
            (-offset_s, self.drift)
        };
        self.state = Some(State { at_s: exchange.t4_s, phi_s, rate });
    }

    fn at(&self, raw_s: f64) -> Option<f64> {
        self.state.map(|state| state.phi_s + state.rate * (raw_s - state.at_s))
    }
}

/// x^(1/5) for x > 0, by Newton's iteration from above.
fn fifth_root(x: f64) -> f64 {
    let mut y = x.max(1.0);
    loop {
        let next = (4.0 * y + x / (y * y * y * y)) / 5.0;
        if next >= y {
            return y;
        }
        y = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gains_follow_the_interval() {
        for x in [1e-6f64, 0.1, 1.0, 7.0, 3e4] {
            let y = fifth_root(x);
            assert!((y * y * y * y * y / x - 1.0).abs() < 1e-14, "{x}");
        }
        let pi = Pi::new(8.0, true, 0.0);
        assert!((pi.proportional - 1.306_246).abs() < 1e-6, "{}", pi.proportional);
        assert!((pi.integral - 0.130_583).abs() < 1e-6, "{}", pi.integral);
    }
}
