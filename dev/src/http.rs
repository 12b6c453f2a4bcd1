//! Asks a process over HTTP.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::Value;

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its content type, empty if it has none.
    pub content_type: String,
    /// Its `Allow` header, which may be empty: no method is allowed.
    pub allow: Option<String>,
    /// As it came.
    pub text: String,
    /// Its JSON, `null` if it is none.
    pub json: Value,
}

/// One of the two servers.
#[derive(Debug, Clone)]
pub struct Server {
    /// `http://host:port`.
    pub base: String,
    client: Client,
}

impl Server {
    /// # Errors
    /// No client could be made.
    pub fn at(port: u16) -> Result<Self> {
        let client = Client::builder().timeout(Duration::from_secs(20)).build().context("no HTTP client")?;
        Ok(Self { base: format!("http://127.0.0.1:{port}"), client })
    }

    /// Asks for a path with its query.
    ///
    /// # Errors
    /// No answer.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        answer(self.request(Method::GET, path)).await
    }

    /// The JSON of a successful answer.
    ///
    /// # Errors
    /// No answer, or another status than 200.
    pub async fn get_json(&self, path: &str) -> Result<Value> {
        let answer = self.get(path).await?;
        ensure!(answer.status == StatusCode::OK, "GET {path} answers {}: {}", answer.status, answer.text);
        Ok(answer.json)
    }

    /// Posts a body as JSON, whatever it is.
    ///
    /// # Errors
    /// No answer.
    pub async fn post(&self, path: &str, body: impl Into<String>) -> Result<Answer> {
        let request = self.request(Method::POST, path).header("content-type", "application/json");
        answer(request.body(body.into())).await
    }

    /// Sends nothing by any method.
    ///
    /// # Errors
    /// No answer.
    pub async fn send(&self, method: Method, path: &str) -> Result<Answer> {
        answer(self.request(method, path)).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }
}

async fn answer(request: RequestBuilder) -> Result<Answer> {
    let response = request.send().await?;
    let status = response.status();
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (content_type, allow) = (header("content-type").unwrap_or_default(), header("allow"));
    let text = response.text().await?;
    let json = serde_json::from_str(&text).unwrap_or(Value::Null);
    Ok(Answer { status, content_type, allow, text, json })
}
