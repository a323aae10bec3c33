//! Starts and stops the live lab.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::config::BenchConfig;
use super::connections::Connections;
use super::guard::{Guard, random_token};
use super::respond::Site;
use super::shared::Shared;
use super::text::Text;
use super::trainer::{Names, Request, Trainer};
use crate::data::Mnist;
use crate::device::Found;

/// Requests that may wait for the next step.
const WAITING: usize = 64;
/// The most time for the head of a request to arrive, and for a connection to say nothing between two requests.
const HEAD: Duration = Duration::from_secs(10);
/// The most bytes of the head of a request.
const HEAD_BYTES: usize = 32 << 10;

/// Settings of a live lab.
#[derive(Debug)]
pub struct LiveConfig {
    /// The images.
    pub data: Mnist,
    /// Their name, as the page shows it.
    pub data_name: String,
    /// Where the networks train.
    pub device: Found,
    /// Where to listen. Port 0 is any free one. Beyond loopback, everybody who reaches the address can steer the lab.
    pub address: SocketAddr,
    /// The bench that the page opens with.
    pub bench: BenchConfig,
}

/// Why a live lab could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// The server cannot listen on the address.
    #[error("cannot listen on {address}: {source}; choose another port with `--port`")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The system refuses a thread or a socket.
    #[error("cannot start the server: {0}")]
    System(#[from] io::Error),
    /// The system gives no random numbers for the token.
    #[error("the system has no random numbers for the token that guards the lab: {0}")]
    Random(#[from] getrandom::Error),
    /// The configuration of the bench is invalid.
    #[error("{}", .0.en)]
    Bench(Text),
}

/// A live lab: a server and the networks that it shows. Dropping it ends both.
pub struct Live {
    address: SocketAddr,
    token: String,
    /// Ends the server when dropped.
    stop: Option<oneshot::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl Live {
    /// Starts the lab.
    ///
    /// The networks train while a page is open, and for some seconds after the last one is closed.
    ///
    /// # Errors
    ///
    /// The address is taken; the configuration of the bench is invalid; the system refuses a thread.
    pub fn start(config: LiveConfig) -> Result<Self, LiveError> {
        let listener = bind(config.address)?;
        let shared = Shared::new();
        let names = Names {
            device: config.device.to_string(),
            data: config.data_name,
        };
        let trainer = Trainer::new(
            &config.bench,
            config.data,
            config.device.device,
            names,
            shared.clone(),
        );
        let trainer = trainer.map_err(LiveError::Bench)?;
        let pictures = serde_json::to_string(trainer.pictures()).map_err(io::Error::other)?;
        let (requests, received) = sync_channel(WAITING);
        let mut live = Self::open(listener, shared, Some(requests), pictures)?;
        // The trainer ends once the server has, which holds the other end of its requests.
        let train = thread("live-trainer", move || trainer.run(&received))?;
        live.threads.push(train);
        Ok(live)
    }

    /// Starts the server alone. `pictures` are the shown digits, in JSON.
    pub(super) fn open(
        listener: TcpListener,
        shared: Shared,
        requests: Option<SyncSender<Request>>,
        pictures: String,
    ) -> Result<Self, LiveError> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let token = random_token()?;
        let site = Site {
            guard: Guard {
                address,
                token: token.clone(),
            },
            shared,
            requests,
            pictures,
            connections: Connections::default(),
            pages: Arc::default(),
        };
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let listener = {
            let _inside = runtime.enter();
            net::TcpListener::from_std(listener)?
        };
        let serve = thread("live-server", move || {
            runtime.block_on(async {
                tokio::spawn(serve(listener, Arc::new(site)));
                // An error says that the lab was dropped.
                let _ = stopped.await;
            });
            // Ends all connections, whatever they wait for.
            runtime.shutdown_background();
        })?;
        Ok(Self {
            address,
            token,
            stop: Some(stop),
            threads: vec![serve],
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of the page.
    pub fn url(&self) -> String {
        let mut shown = self.address;
        if shown.ip().is_unspecified() {
            shown.set_ip(match shown {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        format!("http://{shown}/")
    }

    /// The token that requests need. The page has it.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Waits until the lab ends. It does not end on its own.
    pub fn wait(mut self) {
        self.join();
    }

    fn join(&mut self) {
        for thread in self.threads.drain(..) {
            // Its panic has been printed.
            let _ = thread.join();
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.stop = None;
        self.join();
    }
}

/// Listens at an address.
pub(super) fn bind(address: SocketAddr) -> Result<TcpListener, LiveError> {
    TcpListener::bind(address).map_err(|source| LiveError::Listen { address, source })
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(run)
}

async fn serve(listener: net::TcpListener, site: Arc<Site>) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES);
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => {
                // The system has no more sockets for now, or the connection has ended already.
                sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        // What is sent is small and should go at once.
        let _ = stream.set_nodelay(true);
        let number = site.connections.number();
        let service = {
            let site = site.clone();
            service_fn(move |request| site.clone().respond(number, request))
        };
        let connection = http.serve_connection(TokioIo::new(stream), service);
        let task = tokio::spawn(async move {
            // An error ends the connection: the client is gone, or sent something invalid.
            let _ = connection.await;
        });
        site.connections.opened(number, task.abort_handle());
    }
}
