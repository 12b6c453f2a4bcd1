//! Closes connections whose client takes nothing of what it is sent. The HTTP library would wait for it for ever.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use poem::http::uri::Scheme;
use poem::listener::Acceptor;
use poem::web::{LocalAddr, RemoteAddr};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::metrics;

/// Accepts connections that do not wait for ever.
pub struct Guarded<A> {
    acceptor: A,
    client_timeout: Duration,
}

impl<A> Guarded<A> {
    /// A connection is closed when nothing could be written for so long.
    pub fn new(acceptor: A, client_timeout: Duration) -> Self {
        Self { acceptor, client_timeout }
    }
}

impl<A: Acceptor> Acceptor for Guarded<A> {
    type Io = Connection<A::Io>;

    fn local_addr(&self) -> Vec<LocalAddr> {
        self.acceptor.local_addr()
    }

    async fn accept(&mut self) -> io::Result<(Self::Io, LocalAddr, RemoteAddr, Scheme)> {
        let (io, local, remote, scheme) = self.acceptor.accept().await?;
        let connection =
            Connection { io, client_timeout: self.client_timeout, waiting: None, client: remote.to_string() };
        Ok((connection, local, remote, scheme))
    }
}

/// One that gives up.
pub struct Connection<Io> {
    io: Io,
    client_timeout: Duration,
    /// Since the client took the last byte, if there is something for it.
    waiting: Option<Pin<Box<Sleep>>>,
    client: String,
}

impl<Io> Connection<Io> {
    fn or_give_up(
        &mut self,
        written: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let (length, waiting) = (self.client_timeout, &mut self.waiting);
        ready!(waiting.get_or_insert_with(|| Box::pin(sleep(length))).as_mut().poll(context));
        self.waiting = None;
        metrics::answer_cut("connection_stalled");
        let seconds = length.as_secs_f32();
        tracing::warn!(
            client.address = self.client,
            "a client took nothing for {seconds} s: its connection is closed"
        );
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Connection<Io> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(context, buffer)
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Connection<Io> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(context, bytes);
        this.or_give_up(written, context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
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
        Pin::new(&mut self.get_mut().io).poll_shutdown(context)
    }
}
