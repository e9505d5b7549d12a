//! An oracle gives timestamps, crashes, and its successor goes on above them.
//! `cargo run --example timestamp_oracle [PAGE]`

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use truebound_client::lease::MemoryStore;
use truebound_client::oracle::{Oracle, OracleError};
use truebound_client::wait::wait_until_passed;
use truebound_client::{DEFAULT_PAGE, Reader};

fn run(page: &str) -> Result<(), Box<dyn Error>> {
    let time = Reader::open(page)?;
    let mut shared = MemoryStore::default(); // In earnest a FileStore, or a shared store with a conditional put.
    let window_ns = 20_000_000;

    let mut oracle = Oracle::open(&time, &mut shared, window_ns)?;
    println!("the first gives     {:?}", oracle.allocate(3)?);
    println!("and then            {:?}", oracle.allocate(3)?);

    let mut successor = Oracle::open(&time, &mut shared, window_ns)?;
    if let Err(OracleError::PredecessorMayLive(until_ns)) = successor.allocate(3) {
        wait_until_passed(&time, until_ns, Duration::from_secs(5))?;
    }
    let batch = successor.allocate(3)?;
    println!("the successor gives {batch:?}");
    wait_until_passed(&time, batch.last_ns, Duration::from_secs(5))?; // Commit wait.
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
