//! Commit wait: a page as argument. Takes a timestamp, and waits until it is certainly in the past everywhere.
use std::time::{Duration, Instant};

use truebound_client::wait::wait_until_passed;
use truebound_client::{DEFAULT_PAGE, Reader};

fn main() -> std::process::ExitCode {
    let outcome = run(&std::env::args().nth(1).unwrap_or(DEFAULT_PAGE.into()));
    outcome.inspect_err(|why| eprintln!("commit wait: {why}")).map_or(1, |()| 0).into()
}

fn run(page: &str) -> Result<(), Box<dyn std::error::Error>> {
    let time = Reader::open(page)?;
    let now = time.now_strict()?;
    // Not before now, whatever the clock does within its bound: it orders this commit after all that were visible.
    let commit_ns = now.tai.latest_ns;
    println!("commit at {commit_ns} ns TAI; true time is known within ±{} ns", now.half_width_ns());

    let began = Instant::now();
    let later = wait_until_passed(&time, commit_ns, Duration::from_secs(1))?;
    println!("visible after {:?}: it is {} ns TAI by now at least", began.elapsed(), later.tai.earliest_ns);
    Ok(())
}
