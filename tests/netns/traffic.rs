//! Cross traffic that queues with the probes in the shaped hop: Poisson bursts, or one bulk TCP flow.
//!
//! Bursts arrive as a Poisson process and have geometric lengths: at 60 % of the hop the queue is empty often enough
//! for a minimum filter, and a burst long enough to show a mean that is far off. The source is open-loop: a late
//! wake-up sends what is due at once, so the load stays what was asked for. The flow is the worst case for a minimum
//! filter: its queue hardly ever empties.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::lab::Lab;

/// A frame of 1250 bytes takes 100 µs of the hop; this is what remains of it for UDP.
const PAYLOAD: [u8; 1208] = [0; 1208];
const FRAME_TIME: Duration = Duration::from_micros(100);
const MEAN_BURST: u32 = 4;

/// What the flow's sender hands over at once, and how long that may take before it looks whether it should end.
const FLOW_CHUNK: [u8; 16_384] = [0; 16_384];
const FLOW_PATIENCE: Duration = Duration::from_millis(200);

/// Running traffic; ends with its guard.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    /// Frames, or bytes of a flow.
    sent: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
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
        // The bursts of the two directions are not each other's copies.
        let random = Random(0x5EED + u64::from(address_of(from)[3]));
        let thread = std::thread::spawn(move || {
            // The sink is never read: it only keeps the port from answering "unreachable".
            let _sink = sink;
            send_bursts(&source, target, percent, random, &ended, &count);
        });
        Traffic { stop, sent, threads: vec![thread] }
    }

    /// As much as TCP gets through the hop from `from` to `to`, in one flow.
    pub(crate) fn bulk(lab: &Lab, from: &str, to: &str) -> Traffic {
        let listener = lab.inside(to, || TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], 0))).expect("a free port"));
        let port = listener.local_addr().expect("a bound socket").port();
        let target = SocketAddr::from((address_of(to), port));
        let mut source = lab.inside(from, move || TcpStream::connect(target).expect("the listener is there"));
        let (mut sink, _) = listener.accept().expect("it has connected");
        source.set_write_timeout(Some(FLOW_PATIENCE)).expect("a positive timeout");
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ended, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let sender = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let Ok(written) = source.write(&FLOW_CHUNK) else { continue };
                count.fetch_add(u64::try_from(written).unwrap_or(0), Ordering::Relaxed);
            }
        });
        // It ends with the sender's end of the flow.
        let reader = std::thread::spawn(move || {
            let mut bytes = vec![0; FLOW_CHUNK.len()];
            while sink.read(&mut bytes).is_ok_and(|read| read > 0) {}
        });
        Traffic { stop, sent, threads: vec![sender, reader] }
    }

    /// Frames of bursts sent so far, or bytes of a flow.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
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

fn send_bursts(
    source: &UdpSocket,
    target: SocketAddr,
    percent: u32,
    mut random: Random,
    stop: &AtomicBool,
    sent: &AtomicU64,
) {
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
