//! A client that takes little of the processor that it shares with the reader: what a client needs is not the reader's.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::http::Server;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// One connection that asks one thing after the other.
pub struct Asker {
    requests: SendRequest<Empty<Bytes>>,
    host: String,
}

impl Asker {
    /// # Errors
    /// The server cannot be reached.
    pub async fn of(server: &Server) -> Result<Self> {
        let host = server.base.strip_prefix("http://").context("the server has no address")?.to_owned();
        let stream = TcpStream::connect(&host).await?;
        stream.set_nodelay(true)?;
        let (requests, connection) = handshake(TokioIo::new(stream)).await?;
        TaskTracker::new().spawn(connection); // Ends with the requests.
        Ok(Self { requests, host })
    }

    /// Asks for a path with its query, and reads the answer to its end without a look at it.
    ///
    /// # Errors
    /// No answer, or one that is no success.
    pub async fn ask(&mut self, path: &str) -> Result<()> {
        timeout(PATIENCE, self.ask_for(path)).await.context("no answer within 20 s")?
    }

    async fn ask_for(&mut self, path: &str) -> Result<()> {
        let request = Request::get(path).header(HOST, &self.host).body(Empty::new())?;
        self.requests.ready().await?;
        let mut answer = self.requests.send_request(request).await?;
        ensure!(answer.status().is_success(), "GET {path} answers {}", answer.status());
        while let Some(frame) = answer.frame().await {
            frame?;
        }
        Ok(())
    }
}
