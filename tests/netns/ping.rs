//! A bare NTP question and how long its answer takes: shows the path without any daemon of ours.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::lab::Lab;
use super::stats::Samples;

/// Longer than a full queue of the shaped hop lasts (24 ms).
const TIMEOUT: Duration = Duration::from_millis(200);

/// Round trips of `count` questions from `host` to the server at 10.77.0.1; a lost one counts as the timeout.
pub(crate) fn round_trips(lab: &Lab, host: &str, count: usize) -> Samples {
    let socket = lab.socket(host);
    let server = SocketAddr::from(([10, 77, 0, 1], 123));
    socket.set_read_timeout(Some(TIMEOUT)).expect("a positive timeout");
    let mut samples = Samples::default();
    for _ in 0..count {
        let start = Instant::now();
        socket.send_to(&question(), server).expect("the route exists");
        // A late answer to an earlier question would look fast; a loaded run loses none, so that cannot hide the queue.
        let _ = socket.recv(&mut [0; 512]);
        samples.push(i64::try_from(start.elapsed().as_nanos()).unwrap_or(i64::MAX));
        std::thread::sleep(Duration::from_millis(5));
    }
    samples
}

/// Version 4, mode 3 (client), with a transmit time for the server to echo.
fn question() -> [u8; 48] {
    let mut packet = [0; 48];
    packet[0] = 0b00_100_011;
    packet[40] = 0xEE;
    packet
}
