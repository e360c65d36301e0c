//! The plainest HTTP/1.1 client: every header is the test's to choose, also `Host` and `Origin`, which real clients guard.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long an answer may take on a busy machine.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// A server.
#[derive(Clone, Debug)]
pub struct Http {
    authority: String,
    /// Sent with each request.
    headers: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> anyhow::Result<serde_json::Value> {
        serde_json::from_str(&self.body).with_context(|| format!("read {self:?} as JSON"))
    }

    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(String::as_str).unwrap_or_default()
    }
}

impl Http {
    /// The server on this port of this machine.
    #[must_use]
    pub fn at(port: u16) -> Self {
        Self { authority: format!("127.0.0.1:{port}"), headers: vec![] }
    }

    /// The same, saying this with each request. A `host` replaces the real one.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut other = self.clone();
        other.headers.push((name.to_lowercase(), value.to_owned()));
        other
    }

    pub async fn get(&self, path: &str) -> anyhow::Result<Reply> {
        self.send("GET", path, None, "").await
    }

    pub async fn post(&self, path: &str, body: &serde_json::Value) -> anyhow::Result<Reply> {
        self.send("POST", path, Some("application/json"), &body.to_string()).await
    }

    pub async fn put(&self, path: &str, body: &serde_json::Value) -> anyhow::Result<Reply> {
        self.send("PUT", path, Some("application/json"), &body.to_string()).await
    }

    /// As a browser sends a form: `a=b&c=d`, encoded already.
    pub async fn form(&self, path: &str, fields: &str) -> anyhow::Result<Reply> {
        self.send("POST", path, Some("application/x-www-form-urlencoded"), fields).await
    }

    pub async fn send(
        &self,
        method: &str,
        path: &str,
        kind: Option<&str>,
        body: &str,
    ) -> anyhow::Result<Reply> {
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, async {
            let mut stream = self.ask(method, path, kind, body).await?;
            let mut bytes = Vec::new();
            // A server that refuses a body may close before it has read it.
            let read = stream.read_to_end(&mut bytes).await;
            if bytes.is_empty() { read.map(|_| bytes) } else { Ok(bytes) }
        });
        let bytes = answer.await.with_context(|| format!("{method} {path} isn't answered"))??;
        parsed(&String::from_utf8_lossy(&bytes)).with_context(|| format!("{method} {path}"))
    }

    /// Reads an endless answer until it holds this text; answers with all that was read.
    pub async fn until(&self, path: &str, text: &str) -> anyhow::Result<String> {
        let heard = tokio::time::timeout(ANSWER_TIMEOUT, async {
            let mut stream = self.ask("GET", path, None, "").await?;
            let mut all = Vec::new();
            let mut chunk = [0; 4096];
            loop {
                let length = stream.read(&mut chunk).await?;
                all.extend_from_slice(&chunk[..length]);
                let said = String::from_utf8_lossy(&all);
                if said.contains(text) {
                    return Ok(said.into_owned());
                }
                if length == 0 {
                    bail!("{path} ended without {text:?}: {said}");
                }
            }
        });
        heard.await.with_context(|| format!("{path} never says {text:?}"))?
    }

    async fn ask(
        &self,
        method: &str,
        path: &str,
        kind: Option<&str>,
        body: &str,
    ) -> std::io::Result<TcpStream> {
        let mut stream = TcpStream::connect(&self.authority).await?;
        let mut request = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
        if self.headers.iter().all(|(name, _)| name != "host") {
            request.push_str(&format!("host: {}\r\n", self.authority));
        }
        for (name, value) in &self.headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(kind) = kind {
            request.push_str(&format!("content-type: {kind}\r\ncontent-length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await?;
        // The same: what was refused needn't arrive.
        let _sent = stream.write_all(body.as_bytes()).await;
        Ok(stream)
    }
}

fn parsed(text: &str) -> anyhow::Result<Reply> {
    let (head, body) =
        text.split_once("\r\n\r\n").with_context(|| format!("no end of the headers: {text:?}"))?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let is_chunked = headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked");
    let body = if is_chunked { unchunked(body) } else { body.to_owned() };
    Ok(Reply { status: status.context("no status")?, headers, body })
}

/// Chunks put together; of UTF-8 only, which is all that our servers send.
fn unchunked(body: &str) -> String {
    let (mut all, mut rest) = (Vec::new(), body.as_bytes());
    loop {
        let line = rest.windows(2).position(|pair| pair == b"\r\n");
        let size =
            line.and_then(|end| usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?, 16).ok());
        let (Some(end), Some(size)) = (line, size) else { break };
        let (from, to) = (end + 2, end + 2 + size);
        if size == 0 || to > rest.len() {
            break;
        }
        all.extend_from_slice(&rest[from..to]);
        rest = rest.get(to + 2..).unwrap_or_default();
    }
    String::from_utf8_lossy(&all).into_owned()
}
