//! The control socket: one JSON line asks, one JSON line answers.
//!
//! `{"command": "status" | "sources" | "report" | "burst" | "makestep" | "reload"}`, `{"command": "add-source",
//! "text": "…"}` with the lines of a `[[source]]` table, `{"command": "remove-source", "name": "…"}`. The answer is
//! `{"ok": …}` or `{"error": "…"}`. The socket answers its owner only: its mode is 0600.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use truebound_core::io::{Control, Input};

use crate::config::Config;
use crate::shell::Shell;
use crate::view;

/// The longest request that is read.
const MAX_REQUEST: u64 = 65_536;

#[derive(Debug, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
enum Command {
    Status,
    Sources,
    Report,
    Burst,
    Makestep,
    Reload,
    AddSource { text: String },
    RemoveSource { name: String },
}

/// A request and where its answer goes.
pub(crate) struct Request {
    line: String,
    answer: oneshot::Sender<Value>,
}

/// Listens at `path`; requests go to the shell.
pub(crate) fn listen(path: &Path, requests: mpsc::UnboundedSender<Request>) -> io::Result<()> {
    // The page's lock says that no other agent is alive here: a socket that is left over is nobody's.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600))?;
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::task::spawn_local(converse(stream, requests.clone()));
        }
    });
    Ok(())
}

async fn converse(stream: UnixStream, requests: mpsc::UnboundedSender<Request>) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader.take(MAX_REQUEST)).lines();
    while let Some(line) = lines.next_line().await? {
        let (answer, answered) = oneshot::channel();
        if requests.send(Request { line, answer }).is_err() {
            break;
        }
        let Ok(value) = answered.await else { break };
        writer.write_all(format!("{value}\n").as_bytes()).await?;
    }
    Ok(())
}

/// Does what a request says, and answers.
pub(crate) fn serve(shell: &mut Shell, request: Request) {
    let answer = match serde_json::from_str(&request.line) {
        Ok(command) => obey(shell, command),
        Err(error) => Err(format!("not a request: {error}")),
    };
    let value = answer.map_or_else(|error| json!({ "error": error }), |value| json!({ "ok": value }));
    // Whoever asked may be gone.
    let _ = request.answer.send(value);
}

fn obey(shell: &mut Shell, command: Command) -> Result<Value, String> {
    match command {
        Command::Status => {
            let report = shell.report();
            let at = report.at;
            let disciplined = shell.discipline.as_mut().map(|clock| clock.offset_at(at));
            let mut value = view::status(&report, disciplined);
            value["vmclock"] = json!(shell.vm_path);
            Ok(value)
        }
        Command::Sources => Ok(view::sources(&shell.report())),
        Command::Report => Ok(shell.recorder.to_json()),
        Command::Burst => done(shell, Control::Burst, ""),
        Command::Makestep if !shell.steers() => Err("nothing is steered: the discipline is \"observe\"".to_owned()),
        Command::Makestep => done(shell, Control::MakeStep, ""),
        Command::Reload => shell.reload().map(Value::String),
        Command::AddSource { text } => add_source(shell, &text),
        Command::RemoveSource { name } => {
            if !shell.report().sources.iter().any(|source| source.name == name) {
                return Err(format!("no source is named {name}"));
            }
            done(shell, Control::RemoveSource(name), "")
        }
    }
}

fn add_source(shell: &mut Shell, text: &str) -> Result<Value, String> {
    let source = parse_source(text)?;
    if shell.report().sources.iter().any(|known| known.name == source.name) {
        return Err(format!("a source is named {} already", source.name));
    }
    done(shell, Control::AddSource(Box::new(source)), text)
}

/// The one source that the lines of a `[[source]]` table describe.
pub(crate) fn parse_source(text: &str) -> Result<truebound_core::settings::SourceSettings, String> {
    let table = format!("[[source]]\n{text}\n");
    let config = Config::parse(&table, Path::new("request")).map_err(|error| error.to_string())?;
    let mut sources = config.settings.sources;
    match (sources.pop(), sources.is_empty() && config.settings.ptp.is_empty()) {
        (Some(source), true) => Ok(source),
        _ => Err("one source at a time".to_owned()),
    }
}

fn done(shell: &mut Shell, control: Control, text: &str) -> Result<Value, String> {
    shell.handle_text(Input::Control(control), text);
    Ok(json!("done"))
}
