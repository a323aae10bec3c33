//! Devices on other machines.

use std::io::{self, Error, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::Duration;
use std::vec;

use burn::remote::RemoteHost;
use burn::server::{RemoteServer, WebSocketTransport};
use burn::tensor::Device;
use socket2::SockRef;

use super::DeviceError;
use burn_kindling::norm::op;

/// Makes a server that lends `devices`, all of one backend, to programs that connect to `listener`. Also returns the
/// transport for the server to listen on.
///
/// The connection is unencrypted and unauthenticated.
///
/// # Errors
///
/// The system refuses to set an option of the listener.
pub fn lend(
    devices: impl IntoIterator<Item = Device>,
    listener: TcpListener,
) -> io::Result<(RemoteServer, WebSocketTransport)> {
    // Each connection inherits this option. Without it, an answer waits until the receiver has acknowledged the
    // previous one: 40 ms, the time of many training steps.
    SockRef::from(&listener).set_tcp_nodelay(true)?;
    let server = op::remote_server(devices);
    Ok((server, WebSocketTransport::from_listener(listener)))
}

/// Connects to a device that a server at `HOST:PORT` lends.
pub(super) fn connect(name: &str, server: &str, index: usize) -> Result<Device, DeviceError> {
    let no_answer = |reason: String| DeviceError::NoAnswer {
        name: name.to_string(),
        reason,
    };
    // Burn would keep trying for about 15 seconds.
    let dial = |addresses: vec::IntoIter<SocketAddr>| {
        let nothing = Err(Error::new(ErrorKind::NotFound, "the host has no address"));
        addresses.fold(nothing, |outcome, address| {
            outcome.or_else(|_| TcpStream::connect_timeout(&address, Duration::from_secs(3)))
        })
    };
    server.to_socket_addrs().and_then(dial).map_err(|error| {
        no_answer(format!(
            "{error}; `cargo run --release --features remote --example serve` lends a device there"
        ))
    })?;
    let host = RemoteHost::websocket(&format!("ws://{server}"));
    let device = Device::remote_options(&host).device_index(index).init();
    device.map_err(|error| no_answer(error.to_string()))
}
