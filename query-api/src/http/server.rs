//! Twin: the same file in both processes. Connections, from accept to close: HTTP/1.1 by hyper, answered by the app.
//!
//! Not poem's own server, which sets none of hyper's limits: a client that never ends its request's head would hold a
//! connection for ever, a process without free file descriptors would spin in `accept`, and what hyper refuses below the
//! router would be an empty answer. HTTP/2 is for the proxy in front: hardly a client speaks it without TLS.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use poem::http::StatusCode;
use poem::http::uri::Scheme;
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Endpoint, Request, Response};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::error::ApiError;
use crate::metrics;

/// Most bytes of an address: path and query.
pub const MAX_ADDRESS: usize = 16 << 10;
/// Most header fields.
pub const MAX_FIELDS: usize = 100;
/// Most bytes of their names and values.
pub const MAX_FIELD_BYTES: usize = 64 << 10;
/// How long a request's head may take, and how long a connection may be idle: longer than proxies keep theirs.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// Where hyper refuses by itself, far above our own limits: its answer knows neither path nor id of the request.
const HYPER_FIELDS: usize = 256;
const HYPER_HEAD: usize = 512 << 10;
/// What a client still sends after a refusal is read for so long: closed earlier, the connection would be reset and the
/// answer lost.
const LINGER: Duration = Duration::from_secs(1);

/// Answers until `stop`; open requests then have `drain`. Bytes go through what `open` makes of a client's stream.
pub async fn serve<E, S>(
    listener: TcpListener,
    open: impl Fn(TcpStream) -> S,
    app: E,
    stop: CancellationToken,
    drain: Duration,
    head_timeout: Duration,
) where
    E: Endpoint<Output = Response> + 'static,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let app = Arc::new(app);
    let (connections, cut) = (TaskTracker::new(), CancellationToken::new());
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, client)) => {
                // An answer's end is not held back until the client acknowledges its beginning.
                let (Ok(()), Ok(local)) = (stream.set_nodelay(true), stream.local_addr()) else { continue };
                let addresses = (LocalAddr(local.into()), RemoteAddr(client.into()));
                let connection =
                    connection(open(stream), addresses, Arc::clone(&app), stop.clone(), head_timeout);
                connections.spawn(cut.clone().run_until_cancelled_owned(connection));
            }
            // No descriptor is free, or the client is gone already.
            Err(error) => {
                tracing::warn!("a connection could not be accepted: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(drain, connections.wait()).await.is_err() {
        tracing::warn!("requests are still open after {drain:?}: cut off");
        cut.cancel();
        connections.wait().await;
    }
}

async fn connection<E, S>(
    stream: S,
    addresses: (LocalAddr, RemoteAddr),
    app: Arc<E>,
    stop: CancellationToken,
    head_timeout: Duration,
) where
    E: Endpoint<Output = Response> + 'static,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let (local, client) = addresses.clone();
        let app = Arc::clone(&app);
        Box::pin(async move {
            let request = Request::from((request, local, client, Scheme::HTTP));
            Ok::<hyper::Response<_>, Infallible>(app.get_response(request).await.into())
        })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_headers(HYPER_FIELDS)
        .max_buf_size(HYPER_HEAD)
        .serve_connection(TokioIo::new(Unrefused { stream, refusal: None }), service);
    let ended = tokio::select! {
        ended = poll_fn(|context| connection.poll_without_shutdown(context)) => ended,
        () = stop.cancelled() => {
            Pin::new(&mut connection).graceful_shutdown();
            poll_fn(|context| connection.poll_without_shutdown(context)).await
        }
    };
    let parts = connection.into_parts();
    let Unrefused { mut stream, refusal } = parts.io.into_inner();
    let late = ended.is_err_and(|error| error.is_timeout());
    if let Some(error) = refused_below(refusal, late, &parts.read_buf) {
        let written = write_refusal(&mut stream, error).await;
        written.unwrap_or_else(|error| tracing::debug!("a refusal could not be sent: {error}"));
    }
    close(stream, &stop).await;
}

/// Sends what is left, then reads until the client has closed too.
async fn close(mut stream: impl AsyncRead + AsyncWrite + Unpin, stop: &CancellationToken) {
    if stream.shutdown().await.is_ok() && !stop.is_cancelled() {
        let mut rest = [0; 4096];
        let client_closes = async { while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {} };
        // Whoever takes longer sees a reset.
        drop(tokio::time::timeout(LINGER, client_closes).await);
    }
}

/// Why hyper gave up on what it had read, in our words; none if there was no request.
fn refused_below(refusal: Option<u16>, late: bool, read: &[u8]) -> Option<ApiError> {
    let line_ends = read.iter().take(MAX_ADDRESS).any(|byte| *byte == b'\n');
    match refusal {
        Some(431) if line_ends => Some(ApiError::HeadTooLarge),
        Some(414 | 431) => Some(ApiError::AddressTooLong),
        Some(_) => Some(ApiError::Unreadable("this is not a request of HTTP/1.1".to_owned())),
        None if read.starts_with(b"PRI * HTTP/2") => Some(ApiError::Other {
            status: StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            detail: "this service speaks HTTP/1.1; HTTP/2 is for a proxy in front of it".to_owned(),
        }),
        None if late && !read.is_empty() => Some(ApiError::RequestTimeout(
            "the head of the request did not come to its end in time".to_owned(),
        )),
        None => None,
    }
}

/// A refusal of a request that the app never saw: nobody knows its path or id.
async fn write_refusal(stream: &mut (impl AsyncWrite + Unpin), error: ApiError) -> io::Result<()> {
    let id = Uuid::new_v4().to_string();
    let mut response = error.into_response(String::new(), id.clone());
    let status = response.status();
    let body = response.take_body().into_bytes().await.map_err(io::Error::other)?;
    let mut head = format!("HTTP/1.1 {status}\r\nx-request-id: {id}\r\nconnection: close\r\n").into_bytes();
    for (name, value) in response.headers() {
        head.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    head.extend(format!("content-length: {}\r\n\r\n", body.len()).into_bytes());
    tracing::info_span!("request", request.id = id)
        .in_scope(|| tracing::info!(http.status = status.as_u16(), "refused below the router"));
    metrics::http_request("other", "none".to_owned(), status.as_u16(), Duration::ZERO);
    stream.write_all(&[head.as_slice(), &body].concat()).await
}

/// A client's stream that holds back hyper's own, empty refusal, so that ours can take its place.
struct Unrefused<S> {
    stream: S,
    /// The status that hyper wanted to send.
    refusal: Option<u16>,
}

/// Where hyper's refusal begins at the end of what it writes. No answer of ours can look like it: in a head stands
/// `x-request-id`, and no body has a carriage return.
fn refusal(bytes: &[u8]) -> Option<(usize, u16)> {
    const DATE: usize = "date: Sat, 28 Nov 2026 18:52:43 GMT\r\n\r\n".len();
    let undated = bytes.get(..bytes.len().checked_sub(DATE)?)?;
    let line = undated.strip_suffix(b"\r\nconnection: close\r\ncontent-length: 0\r\n")?;
    let lines = [(400, "Bad Request"), (414, "URI Too Long"), (431, "Request Header Fields Too Large")];
    lines.into_iter().find_map(|(status, reason)| {
        let before = line.strip_suffix(format!("HTTP/1.1 {status} {reason}").as_bytes())?;
        Some((before.len(), status))
    })
}

impl<S: AsyncRead + Unpin> AsyncRead for Unrefused<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unrefused<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match refusal(bytes) {
            Some((0, status)) => {
                self.refusal = Some(status);
                Poll::Ready(Ok(bytes.len()))
            }
            // An answer to the request before it comes first.
            Some((start, _)) => {
                Pin::new(&mut self.stream).poll_write(context, bytes.get(..start).unwrap_or_default())
            }
            None => Pin::new(&mut self.stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// # Errors
/// The request's head is larger than ours may be.
pub fn within_limits(request: &Request) -> Result<(), ApiError> {
    let (address, headers) = (request.uri(), request.headers());
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if address.path().len() + address.query().map_or(0, |query| query.len() + 1) > MAX_ADDRESS {
        return Err(ApiError::AddressTooLong);
    }
    if headers.len() > MAX_FIELDS || bytes > MAX_FIELD_BYTES { Err(ApiError::HeadTooLarge) } else { Ok(()) }
}

/// `/docs/` is `/docs`.
pub fn trim_slash(request: &mut Request) {
    let path = request.uri().path();
    let Some(path) = path.strip_suffix('/').filter(|path| !path.is_empty() && !path.ends_with('/')) else {
        return;
    };
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    if let Ok(uri) = format!("{path}{query}").parse() {
        *request.uri_mut() = uri;
    }
}
