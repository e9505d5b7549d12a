//! A server that does as little as can be done: it shows what the kernel alone takes for an answer.
//!
//! It receives and sends in batches through the same sockets as the agent, and tells CLOCK_REALTIME as it is. It keeps no
//! time, looks at no stamp and believes every request.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use truebound_core::time::UtcTime;
use truebound_core::wire::ntp::{self, HEADER_BYTES, Leap, Mode, NtpTimestamp, Packet, Rounding, ShortTime};
use truebound_hw::socket::{Batch, Outgoing, StampSocket};

use crate::port::real_now;

/// Requests answered at once.
const BATCH: usize = 16;

/// Answers for ever.
pub(crate) fn serve(address: SocketAddr) -> io::Result<()> {
    let socket = StampSocket::server(address)?;
    let mut batch = Batch::new(BATCH);
    loop {
        match socket.receive(&mut batch) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE)?;
                continue;
            }
            Err(error) => return Err(error),
        }
        let now = NtpTimestamp::from_utc(UtcTime::from_ns(real_now().as_ns()), Rounding::Down);
        let mut answers = [[0; HEADER_BYTES]; BATCH];
        for (datagram, bytes) in batch.datagrams().zip(&mut answers) {
            if let Ok((request, _)) = ntp::parse(datagram.data) {
                answer(&request, now).write(bytes);
            }
        }
        let outgoing: Vec<Outgoing<'_>> = batch
            .datagrams()
            .zip(&answers)
            .map(|(datagram, data)| Outgoing { to: Some(datagram.from), from: datagram.to, ..Outgoing::to_peer(data) })
            .collect();
        socket.send_many(&outgoing);
    }
}

/// Received now, sent now: a second of dispersion makes up for the time that it waited.
fn answer(request: &Packet, now: NtpTimestamp) -> Packet {
    Packet {
        leap: Leap::None,
        mode: Mode::Server,
        stratum: 1,
        root_dispersion: ShortTime::from_ns_up(1_000_000_000),
        origin: request.transmit,
        receive: now,
        transmit: now,
        ..*request
    }
}
