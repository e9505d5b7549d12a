//! Two nodes stamp a request and its answer with hybrid logical clocks; a forged stamp is refused.
//! `cargo run --example hlc [PAGE]`

use std::error::Error;
use std::process::ExitCode;

use truebound_client::lease::MemoryStore;
use truebound_client::order::hlc::{Hlc, HlcStamp};
use truebound_client::{DEFAULT_PAGE, Reader};

fn run(page: &str) -> Result<(), Box<dyn Error>> {
    let time = Reader::open(page)?;
    // Stored a second ahead. A node that must remember across restarts gives a FileStore.
    let mut here = Hlc::open(MemoryStore::default(), 1_000_000_000)?;
    let mut there = Hlc::open(MemoryStore::default(), 1_000_000_000)?;

    let request = here.send(time.now()?.tai)?;
    let arrived = there.receive(request, time.now()?.tai)?;
    let answer = there.send(time.now()?.tai)?;
    let answered = here.receive(answer, time.now()?.tai)?;
    println!("request {request} < arrived {arrived} < answer {answer} < answered {answered}");

    let tomorrow = HlcStamp::from_bits(answered.to_bits() + (86_400_000_000 << 12));
    match here.receive(tomorrow, time.now()?.tai) {
        Ok(stamp) => println!("believed {stamp}, which cannot be"),
        Err(why) => println!("a stamp of tomorrow: {why}"),
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
