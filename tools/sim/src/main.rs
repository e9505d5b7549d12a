//! `truebound-sim`: the simulated world from the command line. Exit 0 is yes, 1 is no, 2 is a mistake in usage.
#![forbid(unsafe_code)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "worlds are small: ns of some years, and seeds"
)]

mod cli;
mod commands;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

const NO: u8 = 1;
const MISTAKE: u8 = 2;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(args) => commands::run::run(&args),
        Command::Seeds(args) => commands::seeds::run(&args),
        Command::Matrix(args) => commands::matrix::run(&args),
        Command::Speed(args) => commands::speed::run(&args),
        Command::Leases(args) => commands::leases::run(&args),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(NO),
        Err(mistake) => {
            eprintln!("truebound-sim: {mistake}");
            ExitCode::from(MISTAKE)
        }
    }
}
