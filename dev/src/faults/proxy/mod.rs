//! A TCP proxy on the loopback interface, between a process and a server, that does to the bytes what networks do.

mod connection;
mod rules;
mod trap;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

pub use rules::{Cut, CutAfter, Flow, Hole, Rules};
pub use trap::{COMMIT, Moment, Trap};

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the process to the server.
    ToServer,
    /// Its answers.
    ToClient,
}

/// What is done to all connections there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Ends them.
    Cut(Cut),
    /// The server's side ends; the client's stays open, and nobody is there any more.
    HalfOpen,
}

/// Listens until it is dropped; what goes through it is cut, held up or lost as told, also while it runs.
pub struct Proxy {
    address: SocketAddr,
    controls: Arc<Controls>,
    accepting: AbortHandle,
}

/// What the connections look at.
struct Controls {
    target: Mutex<SocketAddr>,
    rules: watch::Sender<Rules>,
    /// The number tells two equal orders apart.
    orders: watch::Sender<(u64, Option<Order>)>,
    trap: Mutex<Option<Trap>>,
    trapped: AtomicU64,
    /// How often a connection was cut at a byte.
    cuts: AtomicU64,
    /// Bytes since the rules were set, by direction.
    passed: [AtomicU64; 2],
    open: AtomicUsize,
    accepted: AtomicU64,
}

impl Proxy {
    /// Listens on a free port and forwards to this address.
    ///
    /// # Errors
    /// No port is free.
    pub async fn to(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("no port for a proxy")?;
        let address = listener.local_addr()?;
        let controls = Arc::new(Controls {
            target: Mutex::new(target),
            rules: watch::Sender::new(Rules::default()),
            orders: watch::Sender::new((0, None)),
            trap: Mutex::default(),
            trapped: AtomicU64::new(0),
            cuts: AtomicU64::new(0),
            passed: Default::default(),
            open: AtomicUsize::new(0),
            accepted: AtomicU64::new(0),
        });
        let accepting = spawn(accept(listener, Arc::clone(&controls)));
        Ok(Self { address, controls, accepting })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on new connections go there.
    pub fn switch_to(&self, target: SocketAddr) {
        *lock(&self.controls.target) = target;
    }

    /// Changes what is done to bytes, of open connections too; counts for [`CutAfter`] in total start anew.
    pub fn change(&self, change: impl FnOnce(&mut Rules)) {
        self.controls.passed.iter().for_each(|passed| passed.store(0, Ordering::Relaxed));
        self.controls.rules.send_modify(change);
    }

    /// No rules and no trap any more; what was held up goes on.
    pub fn heal(&self) {
        *lock(&self.controls.trap) = None;
        self.change(|rules| *rules = Rules::default());
    }

    /// Ends all connections there are.
    pub fn cut_all(&self, how: Cut) {
        self.controls.order(Order::Cut(how));
    }

    /// For all connections there are the server is gone, and their client does not hear of it.
    pub fn leave_half_open(&self) {
        self.controls.order(Order::HalfOpen);
    }

    /// Waits for bytes to pass; replaces a trap that has not sprung.
    pub fn set_trap(&self, trap: Trap) {
        *lock(&self.controls.trap) = Some(trap);
    }

    /// How often a trap has sprung so far.
    #[must_use]
    pub fn trapped(&self) -> u64 {
        self.controls.trapped.load(Ordering::SeqCst)
    }

    /// How often a connection was cut at a byte so far.
    #[must_use]
    pub fn cuts(&self) -> u64 {
        self.controls.cuts.load(Ordering::SeqCst)
    }

    /// Connections that are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.controls.open.load(Ordering::SeqCst)
    }

    /// Connections there ever were, refused ones too.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.controls.accepted.load(Ordering::SeqCst)
    }

    /// Bytes forwarded since the rules were last changed.
    #[must_use]
    pub fn passed(&self, direction: Direction) -> u64 {
        self.controls.passed(direction).load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut_all(Cut::Reset);
    }
}

impl Controls {
    fn order(&self, order: Order) {
        self.orders.send_modify(|(number, current)| (*number, *current) = (*number + 1, Some(order)));
    }

    fn passed(&self, direction: Direction) -> &AtomicU64 {
        let [to_server, to_client] = &self.passed;
        match direction {
            Direction::ToServer => to_server,
            Direction::ToClient => to_client,
        }
    }
}

async fn accept(listener: TcpListener, controls: Arc<Controls>) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        controls.accepted.fetch_add(1, Ordering::SeqCst);
        if controls.rules.borrow().refuses {
            reset(&client);
            continue;
        }
        let target = *lock(&controls.target);
        let controls = Arc::clone(&controls);
        spawn(async move {
            match TcpStream::connect(target).await {
                Ok(server) => {
                    controls.open.fetch_add(1, Ordering::SeqCst);
                    connection::run(Arc::clone(&controls), client, server).await;
                    controls.open.fetch_sub(1, Ordering::SeqCst);
                }
                Err(_) => reset(&client),
            }
        });
    }
}

/// Its end, once it is dropped, is a RST.
fn reset(stream: &TcpStream) {
    // Where it is refused the end is a FIN: a cut as well.
    drop(stream.set_zero_linger());
}

fn apply(cut: Cut, streams: [&TcpStream; 2]) {
    if cut == Cut::Reset {
        streams.into_iter().for_each(reset);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(clippy::disallowed_methods, reason = "the proxy's tasks end with it or with their connection")]
fn spawn(task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
    tokio::spawn(task).abort_handle()
}

/// Why a direction came to its end.
enum End {
    Closed,
    Cut(Cut),
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Cut(Cut::Reset)
    }
}

#[cfg(test)]
mod tests;
