//! A small HTTP server: one function from a request's text to the bytes of an answer.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

/// What the server does after it has read a request.
#[derive(Clone)]
pub(crate) enum Reaction {
    Answer(String),
    /// This, and then `x` for as long as somebody reads.
    Endless(String),
    /// This, and then nothing, with the connection open.
    Silence(String),
}

impl Server {
    pub(crate) async fn start(react: impl Fn(&str) -> Reaction + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (react, requests) = (Arc::new(react), Arc::new(Mutex::new(Vec::new())));
        let kept = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (react, kept) = (Arc::clone(&react), Arc::clone(&kept));
                tokio::spawn(async move { serve(stream, &*react, &kept).await });
            }
        });
        Self { address, requests }
    }

    pub(crate) async fn answering(answer: &'static str) -> Self {
        Self::start(move |_| Reaction::Answer(answer.to_owned())).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    react: &(dyn Fn(&str) -> Reaction + Send + Sync),
    kept: &Mutex<Vec<String>>,
) {
    let Some(request) = read(&mut stream).await else { return };
    kept.lock().unwrap().push(request.clone());
    // A client that has seen enough hangs up.
    match react(&request) {
        Reaction::Answer(text) => {
            let _ = stream.write_all(text.as_bytes()).await;
        }
        Reaction::Endless(text) => {
            let _ = stream.write_all(text.as_bytes()).await;
            while stream.write_all(&[b'x'; 64 * 1024]).await.is_ok() {}
        }
        Reaction::Silence(text) => {
            let _ = stream.write_all(text.as_bytes()).await;
            let _ = stream.read(&mut [0; 1]).await;
        }
    }
}

/// Head and body of a request, the body as long as its head says.
async fn read(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some(text);
            }
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&chunk[..read]),
        }
    }
}
