//! Cross traffic: Poisson bursts that queue with the probes in the shaped hop.
//!
//! Bursts arrive as a Poisson process and have geometric lengths: at 60 % of the hop the queue is empty often enough
//! for a minimum filter, and a burst long enough to show a mean that is far off. The source is open-loop: a late
//! wake-up sends what is due at once, so the load stays what was asked for.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::lab::Lab;

/// A frame of 1250 bytes takes 100 µs of the hop; this is what remains of it for UDP.
const PAYLOAD: [u8; 1208] = [0; 1208];
const FRAME_TIME: Duration = Duration::from_micros(100);
const MEAN_BURST: u32 = 4;

/// Running traffic; ends with its guard.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Traffic {
    /// `percent` of the hop's 100 Mbit/s from `from` to `to`.
    pub(crate) fn start(lab: &Lab, from: &str, to: &str, percent: u32) -> Traffic {
        let sink = lab.socket(to);
        let port = sink.local_addr().expect("a bound socket").port();
        let target = SocketAddr::from((address_of(to), port));
        let source = lab.socket(from);
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ended, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = std::thread::spawn(move || {
            // The sink is never read: it only keeps the port from answering "unreachable".
            let _sink = sink;
            send_bursts(&source, target, percent, &ended, &count);
        });
        Traffic { stop, sent, thread: Some(thread) }
    }

    /// Frames sent so far.
    pub(crate) fn frames(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn address_of(host: &str) -> [u8; 4] {
    match host {
        "load" => [10, 77, 0, 21],
        "sink" => [10, 77, 0, 22],
        other => panic!("no traffic to {other}"),
    }
}

fn send_bursts(source: &UdpSocket, target: SocketAddr, percent: u32, stop: &AtomicBool, sent: &AtomicU64) {
    let mut random = Random(0x5EED);
    let mean_gap = FRAME_TIME * MEAN_BURST * 100 / percent;
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        due += mean_gap.mul_f64(random.exponential());
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        for _ in 0..random.geometric(MEAN_BURST) {
            // A full queue drops: that is the hop's business.
            let _ = source.send_to(&PAYLOAD, target);
            sent.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// SplitMix64, with a fixed seed.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        u32::try_from((z ^ (z >> 31)) >> 32).unwrap_or(0)
    }

    /// Mean 1.
    fn exponential(&mut self) -> f64 {
        -((f64::from(self.bits()) + 1.0) / 4_294_967_296.0).ln()
    }

    /// At least 1.
    fn geometric(&mut self, mean: u32) -> u32 {
        let mut length = 1;
        while !self.bits().is_multiple_of(mean) {
            length += 1;
        }
        length
    }
}
