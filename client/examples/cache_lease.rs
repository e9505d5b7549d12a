//! Cache leases: a page as argument. A reader keeps a copy until a writer wants to be alone.
use truebound_client::lease::cache::{Client, Limits, Mode, Server, Turn};
use truebound_client::lease::{HolderId, MemoryStore, fresh_nonce};
use truebound_client::{DEFAULT_PAGE, Reader};

const TERM_NS: i64 = 5_000_000_000;
const KEY: u64 = 7;

fn main() -> std::process::ExitCode {
    let outcome = run(&std::env::args().nth(1).unwrap_or(DEFAULT_PAGE.into()));
    outcome.inspect_err(|why| eprintln!("cache lease: {why}")).map_or(1, |()| 0).into()
}

fn run(page: &str) -> Result<(), Box<dyn std::error::Error>> {
    let time = Reader::open(page)?;
    let limits = Limits { longest_ns: TERM_NS, reserve_ns: TERM_NS, leases: 1_000 };
    let mut server = Server::open(MemoryStore::default(), limits)?;
    let mut reader = Client::new(HolderId(fresh_nonce()), 100);
    let mut writer = Client::new(HolderId(fresh_nonce()), 100);

    let request = reader.ask(KEY, fresh_nonce())?;
    reader.granted(&server.read(&time, request, TERM_NS)?)?; // And the datum with it.
    let guard = reader.begin(&time, KEY, Mode::Read)?;
    reader.confirm(&time, guard)?;
    println!("the reader used its copy");

    let request = writer.ask(KEY, fresh_nonce())?;
    if let Turn::Wait { revoke, .. } = server.write(&time, request, TERM_NS)? {
        println!("the writer waits for {} lease", revoke.len());
        revoke.iter().for_each(|revocation| server.given(&reader.revoke(revocation)));
    }
    let Turn::Granted(lease) = server.write(&time, request, TERM_NS)? else { return Err("not alone".into()) };
    writer.granted(&lease)?;
    let guard = writer.begin(&time, KEY, Mode::Write)?;
    server.admits(KEY, guard.fence())?;
    println!("the writer changed it; the reader: {:?}", reader.begin(&time, KEY, Mode::Read).map(|_| ()));
    Ok(writer.confirm(&time, guard).map(|_| ())?)
}
