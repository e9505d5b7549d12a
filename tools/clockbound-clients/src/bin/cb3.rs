//! The client 3.x, judged.

use std::process::ExitCode;

use clock_bound::{Client, ClockStatus};
use clockbound_clients::{Reading, Task, unix_ns};

fn main() -> ExitCode {
    let task = match Task::from_args() {
        Ok(task) => task,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let open = |segment: &str, vmclock: &str| {
        Client::new_with_paths(segment, vmclock).map_err(|error| format!("{:?}", error.kind))
    };
    task.run(open, |client| {
        let now = client.now().map_err(|error| format!("{:?}", error.kind))?;
        Ok(Reading {
            earliest_ns: unix_ns(now.earliest.tv_sec(), now.earliest.tv_nsec()),
            latest_ns: unix_ns(now.latest.tv_sec(), now.latest.tv_nsec()),
            status: match now.clock_status {
                ClockStatus::Unknown => "unknown",
                ClockStatus::Synchronized => "synchronized",
                ClockStatus::FreeRunning => "free-running",
                ClockStatus::Disrupted => "disrupted",
            },
        })
    });
    ExitCode::SUCCESS
}
