//! A rate lease: a page as argument. Neither side needs to know what time it is.
use truebound_client::lease::rate::{Granter, Holder, Margin};
use truebound_client::lease::{HolderId, MemoryStore, fresh_nonce};
use truebound_client::{DEFAULT_PAGE, Reader};

const TERM_NS: i64 = 200_000_000;

fn main() -> std::process::ExitCode {
    let outcome = run(&std::env::args().nth(1).unwrap_or(DEFAULT_PAGE.into()));
    outcome.inspect_err(|why| eprintln!("rate lease: {why}")).map_or(1, |()| 0).into()
}

fn run(page: &str) -> Result<(), Box<dyn std::error::Error>> {
    let time = Reader::open(page)?;
    let mut granter = Granter::open(MemoryStore::default(), TERM_NS)?;
    if let Some(margin) = Margin::of(&time.tick()?, TERM_NS) {
        let blanket_ns = Margin::blanket_idle_ns(TERM_NS);
        println!("of {TERM_NS} ns nobody may use {} ns; by the rule of 1.0021: {blanket_ns} ns", margin.idle_ns());
    }

    let (me, nonce) = (HolderId(fresh_nonce()), fresh_nonce());
    let holder = Holder::new(me);
    holder.ask(&time, nonce)?; // The term counts from here …
    holder.granted(&granter.grant(&time, me, nonce, TERM_NS)?)?; // … for the granter from after this.

    let guard = holder.begin(&time)?;
    println!("worked under fence {}", guard.fence());
    guard.confirm(&time)?;

    while granter.expect_free(&time).is_err() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    println!("the granter knows that the term is over; the holder: {:?}", holder.begin(&time).map(|_| ()));
    Ok(())
}
