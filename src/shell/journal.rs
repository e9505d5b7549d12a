//! The journal being written: every input, and a digest of what came out.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use truebound_core::io::{Input, Output};
use truebound_core::journal::{Digest, Header, Writer};
use truebound_core::time::RawTime;

use super::{Plan, StartError};
use crate::log;

/// See the module's page.
pub(super) struct Journal {
    writer: Writer,
    digest: Digest,
    file: File,
}

impl Journal {
    /// The journal that the plan asks for, beginning at `start`.
    pub(super) fn open(plan: &Plan, start: RawTime) -> Result<Option<Journal>, StartError> {
        let Some(path) = &plan.config.agent.journal else { return Ok(None) };
        let file = create_private(path).map_err(|error| StartError::Path(path.clone(), error))?;
        let leap = plan.config.settings.leap.to_text();
        let header = Header { seed: plan.seed, start, config: plan.text.clone(), leap };
        Ok(Some(Journal { writer: Writer::new(&header), digest: Digest::default(), file }))
    }

    pub(super) fn input(&mut self, now: RawTime, input: &Input<'_>, text: &str) {
        self.writer.input(now, input, text);
    }

    pub(super) fn output(&mut self, output: &Output) {
        self.digest.add(output);
    }

    /// The digest of what came out, then everything to the file.
    pub(super) fn flush(&mut self) {
        self.writer.outputs(std::mem::take(&mut self.digest));
        if let Err(error) = self.file.write_all(&self.writer.take()) {
            log::warn("journal", &error.to_string());
        }
    }
}

/// An empty file for this user only: whoever reads the journal knows the seed, and with it every cookie.
fn create_private(path: &Path) -> std::io::Result<File> {
    let file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    let facts = file.metadata()?;
    if facts.is_file() && facts.permissions().mode() & 0o777 != 0o600 {
        file.set_permissions(PermissionsExt::from_mode(0o600))?;
    }
    Ok(file)
}
