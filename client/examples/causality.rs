//! What messages prove of order, and what the bound adds where none was sent.
//! `cargo run --example causality [PAGE]`

use std::error::Error;
use std::process::ExitCode;

use truebound_client::order::lamport::LamportClock;
use truebound_client::order::vector::{VectorClock, VectorStamp};
use truebound_client::{DEFAULT_PAGE, Reader};

fn run(page: &str) -> Result<(), Box<dyn Error>> {
    let time = Reader::open(page)?;
    let (mut a, mut b) = (VectorClock::new(1, 8), VectorClock::new(2, 8));
    let (mut a_count, mut b_count) = (LamportClock::new(1), LamportClock::new(2));

    let (sent, count, at) = (a.tick()?, a_count.tick()?, time.now()?);
    let (alone, alone_count, later) = (b.tick()?, b_count.tick()?, time.now()?);
    let received = b.receive(&VectorStamp::from_bytes(&sent.to_bytes(), 8)?)?;
    let received_count = b_count.receive(count)?;

    println!("sent and received: {:?}; Lamport {} and {}", sent.compare(&received), count.count, received_count.count);
    println!("sent and b's own:  {:?}; Lamport {} and {}", sent.compare(&alone), count.count, alone_count.count);
    println!("the same two by their intervals: {:?}", at.tai.order(later.tai));
    Ok(())
}

fn main() -> ExitCode {
    let page = std::env::args().nth(1).unwrap_or(DEFAULT_PAGE.into());
    if let Err(why) = run(&page) {
        eprintln!("{why}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
