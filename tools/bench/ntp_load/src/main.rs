//! Asks an NTP server as fast as it answers, or faster, and checks that every answer is honest.
//!
//!   cargo run --release -p truebound-ntp-load -- [--json] [--seconds N] [--ports N] [--lanes N] [--interleaved] [--flood] SERVER
//!
//! It stands for ports · lanes clients. Each has one request under way: it asks again as soon as it is answered, or gives
//! the answer up after a while. With `--flood` nobody waits, which offers more than is served; with `--interleaved` each
//! names the receive stamp of its last answer (RFC 9769). Client and server share one kernel, whose CLOCK_REALTIME is the
//! truth: what an answer tells must lie between the client's own readings before sending and after receiving, within the
//! root distance that the answer claims.
//!
//! With `--bare` it answers instead, doing as little as can be done: what the kernel alone takes.
//!
//! Exit 1 if an answer was not honest, or if there was none.
#![forbid(unsafe_code)]

mod bare;
mod client;
mod port;
mod tally;

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use port::{Habit, Port};
use tally::Tally;

/// With nothing to do, this long until lost requests are looked for again.
const IDLE_MS: u16 = 5;

#[derive(Parser)]
#[command(about = "Asks an NTP server as fast as it answers, or faster, and checks that every answer is honest")]
struct Arguments {
    /// Address and port of the server
    server: SocketAddr,
    /// Print one JSON object instead of a line
    #[arg(long)]
    json: bool,
    /// How long to ask
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Source ports
    #[arg(long, default_value_t = 64)]
    ports: usize,
    /// Clients behind each port, each with one request under way; at most 256
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    lanes: u16,
    /// Ask for the transmit stamp of the previous answer (RFC 9769)
    #[arg(long)]
    interleaved: bool,
    /// Ask without waiting for answers
    #[arg(long)]
    flood: bool,
    /// Answer at this address instead of asking, doing as little as can be done, until killed
    #[arg(long, conflicts_with_all = ["json", "interleaved", "flood"])]
    bare: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome =
        if arguments.bare { bare::serve(arguments.server).map(|()| Tally::default()) } else { run(&arguments) };
    let tally = match outcome {
        Ok(tally) => tally,
        Err(error) => {
            eprintln!("ntp_load: {error}");
            return ExitCode::from(2);
        }
    };
    if arguments.json {
        println!("{}", tally.as_json())
    } else {
        println!("{tally}")
    }
    if tally.violations == 0 && tally.answers > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(arguments: &Arguments) -> std::io::Result<Tally> {
    let habit = Habit { interleaved: arguments.interleaved, flood: arguments.flood };
    let open = |number| Port::open(arguments.server, number, usize::from(arguments.lanes), habit);
    let mut ports: Vec<Port> = (0..arguments.ports).map(open).collect::<Result<_, _>>()?;
    let mut tally = Tally::default();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs_f64(arguments.seconds) {
        let mut is_busy = arguments.flood;
        for port in &mut ports {
            is_busy |= port.turn(&mut tally);
        }
        if !is_busy {
            let mut fds: Vec<PollFd<'_>> =
                ports.iter().map(|port| PollFd::new(port.as_fd(), PollFlags::POLLIN)).collect();
            poll(&mut fds, PollTimeout::from(IDLE_MS))?;
        }
    }
    tally.elapsed = begin.elapsed();
    Ok(tally)
}
