//! Connections that can be broken: by an answer that cannot be finished, and by a client that takes nothing of what it is
//! sent, for which the HTTP library would wait for ever.
//!
//! The library ends a chunked body as if it were whole when its server is polled once more after the body's error, which is
//! what poem does. So what may not be sent any more is refused here.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use poem::Request;
use poem::web::{LocalAddr, RemoteAddr};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use crate::metrics;

/// Those that are open, by both their addresses, and whether they are broken.
#[derive(Default)]
pub struct Connections(Mutex<HashMap<Addresses, Arc<AtomicBool>>>);

/// The client's and ours.
pub type Addresses = (String, String);

impl Connections {
    /// Of the connection that the request came by.
    #[must_use]
    pub fn of(request: &Request) -> Addresses {
        addresses(request.remote_addr(), request.local_addr())
    }

    /// Nothing is written to it any more.
    pub fn break_off(&self, addresses: &Addresses) {
        if let Some(is_broken) = self.all().get(addresses) {
            is_broken.store(true, Ordering::Relaxed);
        }
    }

    /// One more. It is broken when nothing could be written for `client_timeout`.
    pub fn open(self: &Arc<Self>, io: TcpStream, client_timeout: Duration) -> Connection {
        let local = io.local_addr().map(|address| LocalAddr(address.into())).unwrap_or_default();
        let remote = io.peer_addr().map(|address| RemoteAddr(address.into())).unwrap_or_default();
        let (addresses, is_broken) = (addresses(&remote, &local), Arc::<AtomicBool>::default());
        self.all().insert(addresses.clone(), Arc::clone(&is_broken));
        Connection { io, client_timeout, waiting: None, is_broken, addresses, connections: Arc::clone(self) }
    }

    fn all(&self) -> std::sync::MutexGuard<'_, HashMap<Addresses, Arc<AtomicBool>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn addresses(remote: &RemoteAddr, local: &LocalAddr) -> Addresses {
    (remote.to_string(), local.to_string())
}

/// One that can be broken.
pub struct Connection {
    io: TcpStream,
    client_timeout: Duration,
    /// Since the client took the last byte, if there is something for it.
    waiting: Option<Pin<Box<Sleep>>>,
    is_broken: Arc<AtomicBool>,
    addresses: Addresses,
    connections: Arc<Connections>,
}

impl Connection {
    fn check(&self) -> io::Result<()> {
        if self.is_broken.load(Ordering::Relaxed) {
            Err(io::ErrorKind::ConnectionAborted.into())
        } else {
            Ok(())
        }
    }

    fn or_give_up(
        &mut self,
        written: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let length = self.client_timeout;
        ready!(self.waiting.get_or_insert_with(|| Box::pin(sleep(length))).as_mut().poll(context));
        self.is_broken.store(true, Ordering::Relaxed);
        metrics::answer_cut("connection_stalled");
        let (client, seconds) = (&self.addresses.0, length.as_secs_f32());
        tracing::warn!(
            client.address = client,
            "a client took nothing for {seconds} s: its connection is closed"
        );
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

/// A broken one is reset: to a client without chunks an orderly end would look like the end of the answer.
impl Drop for Connection {
    fn drop(&mut self) {
        self.connections.all().remove(&self.addresses);
        if self.check().is_err() {
            self.io.set_zero_linger().unwrap_or_default();
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check()?;
        let written = Pin::new(&mut this.io).poll_write(context, bytes);
        this.or_give_up(written, context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check()?;
        let written = Pin::new(&mut this.io).poll_write_vectored(context, slices);
        this.or_give_up(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check()?;
        Pin::new(&mut this.io).poll_shutdown(context)
    }
}
