//! A receiver delivers each message once at most, though it crashes and forgets.
//! `cargo run --example at_most_once [PAGE]`

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use truebound_client::lease::MemoryStore;
use truebound_client::once::{AtMostOnce, Memory, MessageId};
use truebound_client::wait::wait_until_passed;
use truebound_client::{DEFAULT_PAGE, Reader};

const MEMORY: Memory = Memory { age_ns: 10_000_000_000, capacity: 10_000, step_ns: 1_000_000 };

fn run(page: &str) -> Result<(), Box<dyn Error>> {
    let time = Reader::open(page)?;
    let mut disk = MemoryStore::default(); // In earnest a FileStore.
    let message = MessageId { sent_ns: time.now()?.tai.earliest_ns, sender: 1, number: 1 };

    let mut receiver = AtMostOnce::open(&mut disk, MEMORY)?;
    println!("first copy:  {:?}", receiver.accept(message, time.now()?.tai));
    println!("second copy: {:?}", receiver.accept(message, time.now()?.tai));
    let mut receiver = AtMostOnce::open(&mut disk, MEMORY)?;
    println!("third, after a crash: {:?}", receiver.accept(message, time.now()?.tai));

    wait_until_passed(&time, receiver.bound_ns(), Duration::from_secs(5))?; // A millisecond, the step.
    let fresh = MessageId { sent_ns: time.now()?.tai.earliest_ns, sender: 1, number: 2 };
    println!("a new message: {:?}", receiver.accept(fresh, time.now()?.tai));
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
