//! A log is written in the wrong order by one of two nodes: what its intervals prove.
//! `cargo run --example log_order [PAGE]`

use std::error::Error;
use std::process::ExitCode;

use truebound_client::order::log::{Basis, Event, Log};
use truebound_client::{DEFAULT_PAGE, Reader};

fn run(page: &str) -> Result<(), Box<dyn Error>> {
    let time = Reader::open(page)?;
    let mut events = Vec::new();
    for sequence in 0..1_000 {
        // Node 1 stamps its events as they happen; node 2's claim to be a second older.
        let old = time.now()?.tai.plus(-1_000_000_000, -1_000_000_000);
        events.push(Event { node: 1, sequence, span: time.now()?.tai, logical: None });
        events.push(Event { node: 2, sequence, span: old, logical: None });
    }
    // The last event of node 1 is said to have caused the first of node 2.
    let log = Log::new(events, vec![(1_998, 1)])?;
    println!("{:?}", log.counts());
    println!("inverted in the log, the first three: {:?}", log.inverted(Basis::Log, 3));
    match log.total_order() {
        Ok(line) => println!("one line for all begins with {:?}", &line[..3]),
        Err(why) => println!("no line: {why}"),
    }
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
