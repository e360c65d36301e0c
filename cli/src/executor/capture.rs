//! Capturing what a process prints, in bounded memory, without waiting for those that merely hold the pipe open.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use executor_sdk::Excerpt;
use model::limits::OUTPUT_BYTES_MAX;
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

impl Capture {
    pub(super) fn new() -> Self {
        let printed =
            Printed { both: Excerpt::new(OUTPUT_BYTES_MAX), stderr: Excerpt::new(STDERR_BYTES_MAX) };
        Self(Arc::new(Mutex::new(printed)))
    }

    /// Reads a pipe to its end.
    pub(super) async fn read(&self, pipe: Pipe, mut from: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let read = from.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
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
