//! The agent under test, as an operator runs it: `truebound run`, asked through its own command line.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::lab::{Lab, Process};
use super::place::truebound;

/// How long the agent may take to reach a status: ten times what it should.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running agent with its runtime directory.
pub(crate) struct Agent {
    process: Process,
    runtime: PathBuf,
}

/// `truebound status --json`, as far as these tests look.
#[derive(Clone, Debug, Default)]
pub(crate) struct AgentStatus {
    pub(crate) status: String,
    pub(crate) reason: String,
    pub(crate) epoch: u64,
}

impl Agent {
    /// Starts an agent on `host`. Agents of the same `name` share the runtime directory: a restart.
    pub(crate) fn start(lab: &Lab, host: &str, name: &str, config: &str) -> Agent {
        Agent::start_under(lab, host, name, config, &[])
    }

    /// The same with variables (`NAME=value`) in its environment.
    pub(crate) fn start_under(lab: &Lab, host: &str, name: &str, config: &str, environment: &[String]) -> Agent {
        let runtime = lab.private_dir(name);
        let file = runtime.join("truebound.toml");
        fs::write(&file, config).expect("the lab's directory is writable");
        let (file, directory) = (file.display().to_string(), runtime.display().to_string());
        let mut args: Vec<&str> = environment.iter().map(String::as_str).collect();
        args.extend([truebound(), "run", "--config", &file, "--runtime-dir", &directory]);
        Agent { process: lab.start(host, name, "env".as_ref(), &args), runtime }
    }

    /// Where it publishes.
    pub(crate) fn page(&self) -> PathBuf {
        self.runtime.join("bound")
    }

    /// Its process.
    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn terminate(self) {
        self.process.terminate();
    }

    pub(crate) fn kill(self) {
        self.process.kill();
    }

    /// `None` until it answers.
    pub(crate) fn status(&self) -> Option<AgentStatus> {
        let answer = self.ask("status")?;
        let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
        Some(AgentStatus { status: text("status"), reason: text("reason"), epoch: answer["epoch"].as_u64()? })
    }

    /// One field of the source called `name`; null until it is known.
    pub(crate) fn source(&self, name: &str, field: &str) -> Value {
        let sources = self.ask("sources").unwrap_or_default();
        let source = sources.as_array().into_iter().flatten().find(|source| source["name"] == name);
        source.map_or(Value::Null, |source| source[field].clone())
    }

    /// Runs `truebound wait`: did it say yes?
    pub(crate) fn gate(&self, max_error: &str, timeout: &str) -> bool {
        let mut wait = self.cli("wait");
        wait.args(["--max-error", max_error, "--timeout", timeout]).status().is_ok_and(|status| status.success())
    }

    /// Waits for `status`.
    #[track_caller]
    pub(crate) fn expect_status(&mut self, lab: &Lab, status: &str) {
        self.expect(lab, &format!("status {status}"), |now| now.status == status);
    }

    /// Waits until what the agent says of itself fulfils `condition`; fails at once if the agent ends.
    #[track_caller]
    pub(crate) fn expect(&mut self, lab: &Lab, what: &str, condition: impl Fn(&AgentStatus) -> bool) {
        lab.wait(what, PATIENCE, || {
            self.process.expect_running();
            self.status().is_some_and(|status| condition(&status))
        });
    }

    /// The answer to a question of the command line. Its exit code says yes or no: both are answers.
    pub(crate) fn ask(&self, question: &str) -> Option<Value> {
        let output = self.cli(question).arg("--json").output().ok()?;
        serde_json::from_slice(&output.stdout).ok()
    }

    fn cli(&self, command: &str) -> Command {
        let mut cli = Command::new(truebound());
        cli.arg(command).arg("--runtime-dir").arg(&self.runtime);
        cli
    }
}

/// A configuration that follows NTP servers, `(name, address)`, at 64 questions a second with interleaved answers.
/// Each is a group of its own: chrony servers that serve their local clock all name the same reference. `extra` is added
/// to each source.
pub(crate) fn following(servers: &[(&str, &str)], extra: &str) -> String {
    following_every("15.625ms", servers, extra)
}

/// The same with another time between two questions.
pub(crate) fn following_every(interval: &str, servers: &[(&str, &str)], extra: &str) -> String {
    let source = |(name, address): &(&str, &str)| {
        format!(
            "[[source]]\nname = \"{name}\"\nserver = \"{address}\"\npoll-min = \"{interval}\"\n\
             poll-max = \"{interval}\"\ninterleaved = true\ngroup = \"{name}\"\n{extra}\n"
        )
    };
    servers.iter().map(source).collect()
}

/// A configuration that serves this host's clock, shifted, and claims to be right within a microsecond.
pub(crate) fn serving_shifted(shift: &str) -> String {
    format!(
        "[[source]]\nname = \"own\"\nlocal = true\nshift = \"{shift}\"\nerror = \"1us\"\n\
         [server]\nenabled = true\nlisten = [\"0.0.0.0:123\"]\nallow = [\"10.77.0.0/24\"]\n"
    )
}
