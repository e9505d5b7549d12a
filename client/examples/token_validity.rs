//! Is this web token valid? By the proved interval, under both policies. `exp` is now, so one of them must err.
//! `cargo run --example token_validity [PAGE]`

use std::error::Error;
use std::process::ExitCode;

use truebound_client::token::{Policy, Validity, judge_freshness};
use truebound_client::{DEFAULT_PAGE, Reader};

fn run(page: &str) -> Result<(), Box<dyn Error>> {
    let time = Reader::open(page)?;
    let now = time.now()?;
    let now_s = now.midpoint_ns() / 1_000_000_000;
    let at_now = Validity { not_before_ns: 0, not_after_ns: now.midpoint_ns() };
    for (name, token) in [
        ("an hour left", Validity::from_jwt_s(Some(now_s - 60), Some(now_s + 3_600))),
        ("ends about now", at_now),
        ("ended a minute ago", Validity::from_jwt_s(None, Some(now_s - 60))),
    ] {
        let verdict = token.judge_unix(&now);
        let strict = verdict.accepts(Policy::NeverAcceptExpired);
        let lenient = verdict.accepts(Policy::NeverRefuseValid);
        println!("{name}: {verdict:?}; strict accepts: {strict}, lenient accepts: {lenient}");
    }
    println!("an authenticator made just now, for 5 s: {:?}", judge_freshness(now.tai, 5_000_000_000, time.now()?.tai));
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
