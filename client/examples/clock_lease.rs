//! A clock lease: a page as argument, a granter and two holders in one process.
use truebound_client::lease::{HolderId, MemoryStore, clock, fresh_nonce};
use truebound_client::{DEFAULT_PAGE, Reader};

const TERM_NS: i64 = 2_000_000_000;

fn main() -> std::process::ExitCode {
    let outcome = run(&std::env::args().nth(1).unwrap_or(DEFAULT_PAGE.into()));
    outcome.inspect_err(|why| eprintln!("clock lease: {why}")).map_or(1, |()| 0).into()
}

fn run(page: &str) -> Result<(), Box<dyn std::error::Error>> {
    let time = Reader::open(page)?;
    // Where it matters: a FileStore, and the holders on other hosts.
    let mut granter = clock::Granter::open(MemoryStore::default(), TERM_NS)?;

    let (me, rival) = (HolderId(fresh_nonce()), HolderId(fresh_nonce()));
    let mut holder = clock::Holder::new(me);
    let nonce = fresh_nonce();
    holder.ask(nonce);
    holder.granted(&granter.grant(&time, me, nonce, TERM_NS)?)?;

    let guard = holder.begin(&time)?;
    let answer = 6 * 7; // What the lease protects. Effects elsewhere carry guard.fence().
    println!("under fence {} the answer was worked out", guard.fence());
    let held = guard.confirm(&time)?;
    println!("the answer is {answer}; the lease was held until {} ns TAI at least", held.earliest_ns);

    if let Err(refused) = granter.grant(&time, rival, fresh_nonce(), TERM_NS) {
        println!("a rival asks: {refused}");
    }
    if let Some(lease) = holder.release() {
        granter.release(&lease)?;
    }
    println!("given back; the rival gets fence {}", granter.grant(&time, rival, fresh_nonce(), TERM_NS)?.fence);
    Ok(())
}
