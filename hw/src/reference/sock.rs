//! chrony's SOCK: a Unix datagram socket of whoever wants samples, to which whoever has them sends.
//!
//! Whoever may write to the socket's file may send. The file gets its mode before it has a name, so that there is no
//! moment at which others may.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, socket};
use nix::sys::stat::{Mode, fchmod};

/// A socket that others send to. Its file goes with it.
#[derive(Debug)]
pub struct SockClock {
    socket: UnixDatagram,
    path: PathBuf,
    /// Of the file: another one in its place is not ours.
    inode: u64,
}

impl SockClock {
    /// Makes the socket; `mode` is that of its file. What a daemon that is gone left there is removed.
    pub fn bind(path: &Path, mode: u32) -> io::Result<SockClock> {
        remove_leftover(path)?;
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
        fchmod(&socket, Mode::from_bits_truncate(mode))?;
        bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
        // The creation mask may have taken something away.
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
        let inode = fs::symlink_metadata(path)?.ino();
        Ok(SockClock { socket: socket.into(), path: path.to_owned(), inode })
    }

    /// The next datagram, cut off to the buffer.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.recv(buffer)
    }
}

impl AsRawFd for SockClock {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Drop for SockClock {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|facts| facts.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A socket that answers belongs to somebody, and so does a file that is none.
fn remove_leftover(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(facts) if !facts.file_type().is_socket() => return Err(io::ErrorKind::AlreadyExists.into()),
        Ok(_) => {}
    }
    match UnixDatagram::unbound()?.connect(path) {
        Ok(()) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

/// Sends to a socket of somebody else's, who may come and go.
#[derive(Debug)]
pub struct SockFeed {
    socket: UnixDatagram,
    path: PathBuf,
}

impl SockFeed {
    /// Samples go to the socket at `path`, whenever it is there.
    pub fn new(path: &Path) -> io::Result<SockFeed> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(SockFeed { socket, path: path.to_owned() })
    }

    /// Sends one. An error: nobody is there, or does not read what was sent before.
    pub fn send(&self, datagram: &[u8]) -> io::Result<()> {
        self.socket.send_to(datagram, &self.path).map(drop)
    }
}
