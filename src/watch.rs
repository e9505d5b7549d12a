//! Watches a socket and tells the agent when it is ready: once until the agent looks, however often it becomes so.

use std::cell::Cell;
use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::{JoinHandle, spawn_local};
use truebound_core::io::{AssociationId, PtpChannel, PtpPort, SocketId};

/// Which socket is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ready {
    /// One of NTP.
    Ntp(SocketId),
    /// One of a PTP port's.
    Ptp(PtpPort, PtpChannel),
    /// That of a reference clock.
    Reference(AssociationId),
}

/// Rings once until somebody looks.
struct Bell {
    name: Ready,
    is_ringing: Cell<bool>,
    ready: UnboundedSender<Ready>,
}

impl Bell {
    /// False if nobody listens any more.
    fn ring(&self) -> bool {
        self.is_ringing.replace(true) || self.ready.send(self.name).is_ok()
    }
}

/// A socket and the task that watches it.
pub(crate) struct Watch<S: AsRawFd + 'static> {
    socket: Rc<AsyncFd<S>>,
    bell: Rc<Bell>,
    task: JoinHandle<()>,
}

impl<S: AsRawFd + 'static> Drop for Watch<S> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<S: AsRawFd + 'static> Watch<S> {
    #[expect(
        deprecated,
        reason = "sound for a type that owns its descriptor; the successor asks the caller to promise it"
    )]
    pub(crate) fn new(name: Ready, socket: S, ready: UnboundedSender<Ready>) -> io::Result<Self> {
        let socket = Rc::new(AsyncFd::with_interest(socket, Interest::READABLE | Interest::ERROR)?);
        Ok(Watch::start(name, socket, ready))
    }

    /// The same socket under another name.
    pub(crate) fn under(&self, name: Ready, ready: UnboundedSender<Ready>) -> Self {
        let watch = Watch::start(name, Rc::clone(&self.socket), ready);
        // Its readiness may have been told under the old name.
        watch.look_again();
        watch
    }

    fn start(name: Ready, socket: Rc<AsyncFd<S>>, ready: UnboundedSender<Ready>) -> Self {
        let watched = Rc::clone(&socket);
        let bell = Rc::new(Bell { name, is_ringing: Cell::new(false), ready });
        let rings = Rc::clone(&bell);
        let task = spawn_local(async move {
            // Readiness is cleared before the agent drains the socket: what arrives meanwhile is announced again.
            while let Ok(mut guard) = watched.ready(Interest::READABLE | Interest::ERROR).await {
                guard.clear_ready();
                if !rings.ring() {
                    return;
                }
            }
        });
        Watch { socket, bell, task }
    }

    pub(crate) fn get(&self) -> &S {
        self.socket.get_ref()
    }

    /// The agent looks now: what comes from now on is announced again.
    pub(crate) fn look(&self) {
        self.bell.is_ringing.set(false);
    }

    /// The agent stopped looking before the socket was empty, and nothing else would say so.
    pub(crate) fn look_again(&self) {
        self.bell.ring();
    }
}
