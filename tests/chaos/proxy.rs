//! A TCP proxy that misbehaves on request: the line between one node and one server.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Bytes that are passed on at once.
const CHUNK: usize = 64 * 1024;

/// The state of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Open,
    /// Each chunk comes this much later.
    Slow(Duration),
    /// Nothing passes and nothing breaks; what was on its way arrives when the line is open again.
    Stalled,
    /// Requests arrive and answers vanish. Such a connection is broken when the line is open again.
    DeafToAnswers,
    /// Requests vanish.
    DeafToRequests,
    /// Connections are broken, and new ones as soon as they are made.
    Cut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Request,
    Answer,
}

/// One line, until it is dropped.
#[derive(Debug)]
pub(crate) struct Link {
    port: u16,
    line: watch::Sender<Line>,
    task: JoinHandle<()>,
}

impl Link {
    /// A line to a server's port on this machine.
    pub(crate) async fn to(server: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("open a line")?;
        let port = listener.local_addr()?.port();
        let (line, _) = watch::channel(Line::Open);
        let task = tokio::spawn(accept(listener, server, line.clone()));
        Ok(Self { port, line, task })
    }

    #[must_use]
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn set(&self, line: Line) {
        self.line.send_replace(line);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, server: u16, line: watch::Sender<Line>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        if *line.borrow() == Line::Cut {
            continue;
        }
        tokio::spawn(carry(client, server, line.subscribe()));
    }
}

/// One connection, until either end or the line breaks it.
async fn carry(client: TcpStream, server: u16, line: watch::Receiver<Line>) {
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await else { return };
    // Small messages shouldn't wait for each other: we are no part of what is measured.
    if client.set_nodelay(true).is_err() || server.set_nodelay(true).is_err() {
        return;
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = pump(from_client, to_server, line.clone(), Way::Request) => {}
        () = pump(from_server, to_client, line, Way::Answer) => {}
    }
}

async fn pump<R, W>(mut from: R, mut to: W, mut line: watch::Receiver<Line>, way: Way)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut chunk = vec![0; CHUNK];
    let mut swallowed = false;
    loop {
        let read = tokio::select! {
            biased;
            changed = line.changed() => {
                let now = *line.borrow_and_update();
                let heals = swallowed && !swallows(now, way);
                if changed.is_err() || now == Line::Cut || heals { return }
                continue;
            }
            read = from.read(&mut chunk), if *line.borrow() != Line::Stalled => read,
        };
        let Ok(read @ 1..) = read else { return };
        let now = *line.borrow();
        if swallows(now, way) {
            swallowed = true;
            continue;
        }
        if let Line::Slow(delay) = now {
            tokio::time::sleep(delay).await;
        }
        // What was read just before a stall waits for its end, like everything behind it.
        while *line.borrow() == Line::Stalled {
            if line.changed().await.is_err() {
                return;
            }
        }
        if *line.borrow() == Line::Cut || to.write_all(&chunk[..read]).await.is_err() {
            return;
        }
    }
}

fn swallows(line: Line, way: Way) -> bool {
    matches!((line, way), (Line::DeafToAnswers, Way::Answer) | (Line::DeafToRequests, Way::Request))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(200);

    /// A server that sends back what it gets.
    async fn echo() -> anyhow::Result<u16> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.into_split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        Ok(port)
    }

    async fn says(stream: &mut TcpStream, text: &[u8]) -> anyhow::Result<Option<Vec<u8>>> {
        stream.write_all(text).await?;
        let mut answer = vec![0; text.len()];
        match tokio::time::timeout(SOON, stream.read_exact(&mut answer)).await {
            Ok(Ok(_)) => Ok(Some(answer)),
            Ok(Err(problem)) => Err(problem.into()),
            Err(_) => Ok(None),
        }
    }

    #[tokio::test]
    async fn a_stalled_line_keeps_what_was_sent_and_a_cut_one_breaks() -> anyhow::Result<()> {
        let link = Link::to(echo().await?).await?;
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, link.port())).await?;
        assert_eq!(says(&mut stream, b"one").await?, Some(b"one".to_vec()));
        link.set(Line::Stalled);
        assert_eq!(says(&mut stream, b"two").await?, None);
        link.set(Line::Open);
        let mut late = [0; 3];
        stream.read_exact(&mut late).await?;
        assert_eq!(&late, b"two");
        link.set(Line::Cut);
        assert!(says(&mut stream, b"six").await.is_err());
        let mut refused = TcpStream::connect((Ipv4Addr::LOCALHOST, link.port())).await?;
        assert_eq!(refused.read(&mut late).await.unwrap_or(0), 0);
        link.set(Line::Open);
        let mut again = TcpStream::connect((Ipv4Addr::LOCALHOST, link.port())).await?;
        assert_eq!(says(&mut again, b"ten").await?, Some(b"ten".to_vec()));
        Ok(())
    }

    #[tokio::test]
    async fn a_deaf_line_swallows_one_way_and_breaks_when_it_heals() -> anyhow::Result<()> {
        let link = Link::to(echo().await?).await?;
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, link.port())).await?;
        link.set(Line::DeafToAnswers);
        assert_eq!(says(&mut stream, b"one").await?, None);
        link.set(Line::Open);
        assert!(says(&mut stream, b"two").await.is_err());
        Ok(())
    }
}
