//! Another daemon of this host that is told our estimate. It may come and go: what cannot be told now is not told.

use std::io;
use std::path::Path;

use truebound_core::io::FeedSample;
use truebound_core::wire::reference::{shm_segment, sock_datagram};
use truebound_hw::reference::shm::ShmFeed;
use truebound_hw::reference::sock::SockFeed;

use crate::config::FeedConfig;
use crate::log;

/// See the module's page.
#[derive(Default)]
pub(crate) struct Feed {
    sock: Option<SockFeed>,
    shm: Option<ShmFeed>,
    /// What was last complained of, of each.
    complaints: [String; 2],
}

impl Feed {
    pub(crate) fn new(config: &FeedConfig) -> Self {
        let sock = config.sock.as_ref().and_then(|path| {
            SockFeed::new(Path::new(path)).inspect_err(|error| log::warn("feed", &error.to_string())).ok()
        });
        Feed { sock, shm: config.shm.map(ShmFeed::new), complaints: Default::default() }
    }

    /// Tells whoever is there.
    pub(crate) fn tell(&mut self, sample: &FeedSample) {
        let [of_sock, of_shm] = &mut self.complaints;
        if let Some(sock) = &self.sock {
            complain("sock", sock.send(&sock_datagram(sample)), of_sock);
        }
        if let Some(shm) = &mut self.shm {
            complain("shm", shm.write(&shm_segment(sample)), of_shm);
        }
    }
}

/// An error is told once, until it is another one or none.
fn complain(what: &str, outcome: io::Result<()>, told: &mut String) {
    let complaint = outcome.err().map(|error| format!("{what}: {error}; tried again each second")).unwrap_or_default();
    if complaint != *told && !complaint.is_empty() {
        log::warn("feed", &complaint);
    }
    *told = complaint;
}
