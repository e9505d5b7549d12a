//! A path as asymmetric as it can be: requests are held back, answers are not.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Forwards datagrams to `server`, requests after `delay`. Gives the address to ask instead.
pub(crate) fn start(server: &str, delay: Duration) -> io::Result<String> {
    let front = Arc::new(UdpSocket::bind("127.0.0.31:0")?);
    let back = Arc::new(UdpSocket::bind("127.0.0.31:0")?);
    back.connect(server)?;
    let client: Arc<Mutex<Option<SocketAddr>>> = Arc::default();
    let address = front.local_addr()?.to_string();
    let (front_in, back_out, last) = (Arc::clone(&front), Arc::clone(&back), Arc::clone(&client));
    std::thread::spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok((length, from)) = front_in.recv_from(&mut buffer) {
            std::thread::sleep(delay);
            if let Ok(mut last) = last.lock() {
                *last = Some(from);
            }
            let _ = back_out.send(&buffer[..length]);
        }
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 1024];
        loop {
            let Ok(length) = back.recv(&mut buffer) else { continue };
            let Some(to) = client.lock().ok().and_then(|client| *client) else { continue };
            let _ = front.send_to(&buffer[..length], to);
        }
    });
    Ok(address)
}
