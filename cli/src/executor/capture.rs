//! Capturing what a process prints, in bounded memory, without waiting for those that merely hold the pipe open.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use executor_sdk::{Context, Excerpt};
use model::limits::{LOG_LINE_BYTES_MAX, OUTPUT_BYTES_MAX};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Bytes of stderr among which the last line is looked for.
const STDERR_BYTES_MAX: usize = 2 * 1024;
const READ_BYTES: usize = 16 * 1024;

/// What has been printed so far. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Capture(Arc<Mutex<Printed>>);

#[derive(Debug)]
struct Printed {
    /// stdout and stderr as they came.
    both: Excerpt,
    stderr: Excerpt,
}

/// Which pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pipe {
    Stdout,
    Stderr,
}

/// Puts a pipe's lines together, for the log. A last line without its end is one, too.
struct Lines<'a> {
    ctx: &'a Context,
    pipe: Pipe,
    begun: Vec<u8>,
}

impl Lines<'_> {
    fn push(&mut self, bytes: &[u8]) {
        self.begun.extend_from_slice(bytes);
        let whole = self.begun.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        // What never ends a line is cut into lines: this may hold no more than that.
        let whole = if self.begun.len() - whole > LOG_LINE_BYTES_MAX { self.begun.len() } else { whole };
        let rest = self.begun.split_off(whole);
        self.tell();
        self.begun = rest;
    }

    fn tell(&mut self) {
        if !self.begun.is_empty() {
            self.ctx.log_from(self.pipe.name(), String::from_utf8_lossy(&self.begun));
            self.begun.clear();
        }
    }
}

impl Drop for Lines<'_> {
    fn drop(&mut self) {
        self.tell();
    }
}

impl Pipe {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

impl Capture {
    pub(super) fn new() -> Self {
        let printed =
            Printed { both: Excerpt::new(OUTPUT_BYTES_MAX), stderr: Excerpt::new(STDERR_BYTES_MAX) };
        Self(Arc::new(Mutex::new(printed)))
    }

    /// Reads a pipe to its end; its lines go to the run's log as they come.
    pub(super) async fn read(
        &self,
        ctx: &Context,
        pipe: Pipe,
        mut from: impl AsyncRead + Unpin,
    ) -> io::Result<()> {
        let mut buffer = vec![0; READ_BYTES];
        let mut lines = Lines { ctx, pipe, begun: Vec::new() };
        loop {
            let read = from.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            lines.push(&buffer[..read]);
            let mut printed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            printed.both.push(&buffer[..read]);
            if pipe == Pipe::Stderr {
                printed.stderr.push(&buffer[..read]);
            }
        }
    }

    /// The output, and the last line of stderr that isn't blank. Empties the capture.
    pub(super) fn take(&self) -> (String, Option<String>) {
        let empty = Printed { both: Excerpt::new(0), stderr: Excerpt::new(0) };
        let mut printed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Printed { both, stderr } = std::mem::replace(&mut *printed, empty);
        let stderr = stderr.into_text();
        let last = stderr.lines().rev().map(str::trim).find(|line| !line.is_empty());
        (both.into_text(), last.map(str::to_owned))
    }
}
