//! A primary lease: a page as argument. Five members, four elect; so two promises are enough to act alone.
use truebound_client::lease::primary::{Backup, Primary, Quorums};
use truebound_client::lease::{Fence, HolderId, MemoryStore};
use truebound_client::{DEFAULT_PAGE, Reader};

const TERM_NS: i64 = 2_000_000_000;

fn main() -> std::process::ExitCode {
    let outcome = run(&std::env::args().nth(1).unwrap_or(DEFAULT_PAGE.into()));
    outcome.inspect_err(|why| eprintln!("primary lease: {why}")).map_or(1, |()| 0).into()
}

fn run(page: &str) -> Result<(), Box<dyn std::error::Error>> {
    let time = Reader::open(page)?;
    let quorums = Quorums::new(5, 2, 4).ok_or("these quorums do not intersect")?;
    let open = |member| Backup::open(member, MemoryStore::default(), TERM_NS);
    let mut members = (0..5).map(open).collect::<Result<Vec<_>, _>>()?;

    let (me, ballot, rival) = (HolderId(1), Fence(1), HolderId(2));
    let votes: Vec<_> = members[..4].iter_mut().map(|it| it.vote(&time, me, ballot)).collect::<Result<_, _>>()?;
    let primary = Primary::new(quorums, me, ballot, &votes)?;
    for member in &mut members[..2] {
        primary.promised(&member.promise(&time, me, ballot, TERM_NS)?)?;
    }

    let guard = primary.begin(&time)?;
    println!("acting under ballot {}", primary.fence());
    let held = guard.confirm(&time)?;
    println!("it was the only primary until {} ns TAI at least", held.earliest_ns);

    let votes = members.iter_mut().filter_map(|it| it.vote(&time, rival, Fence(2)).ok()).count();
    println!("a rival gets {votes} votes of the 4 that it needs");
    Ok(())
}
