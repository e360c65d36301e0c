//! `ecron console`: the API over HTTP and the pages, against given servers. Needs NATS only.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::console::{Bound, ConsoleError, Credentials, Settings, bind, openapi};
use ambient::{Clock, Shutdown};
use clap::Args;

use crate::args::Servers;
use crate::commands::who;
use crate::connect::nats;
use crate::failure::Failure;
use crate::output;

/// The tokens, if no file is named.
const TOKENS_VARIABLE: &str = "ECRON_CONSOLE_TOKENS";

const EXAMPLES: &str = "\
Examples:
  ecron console                                              # http://127.0.0.1:17602
  ecron console --listen 0.0.0.0:17602 --token-file tokens
  ecron console --openapi > ecron-openapi.json

Tokens are lines `NAME read|write TOKEN` of the token file, or of the variable ECRON_CONSOLE_TOKENS; the name is noted in the audit. \
Without tokens the console serves this machine only, and whoever uses this machine may do anything. It needs NATS only. TLS is a \
proxy's business.";

/// Serve the console and the API over HTTP
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ConsoleArgs {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:17602")]
    pub(crate) listen: SocketAddr,
    /// Who is let in
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Print the API's OpenAPI 3.1 document, and end
    #[arg(long)]
    pub(crate) openapi: bool,
}

pub(crate) async fn run(servers: &Servers, args: &ConsoleArgs) -> Result<(), Failure> {
    if args.openapi {
        return output::line(openapi());
    }
    let shutdown = Shutdown::on_signals()?;
    let bound = open(args.listen, args.token_file.as_deref()).await?;
    let bus = nats(servers).await?;
    output::line(format_args!("the console is at {}; Ctrl-C stops it", bound.url()))?;
    let served = bound.serve(Arc::new(bus), Clock::system(), shutdown).await;
    served.map_err(|problem| Failure::failed(format!("failed to {problem}")))
}

/// Takes the console's port, with the tokens of the file or of the environment.
pub(crate) async fn open(listen: SocketAddr, token_file: Option<&Path>) -> Result<Bound, Failure> {
    let refused = |problem| Failure::input(format!("failed to {problem}"));
    let credentials = match (token_file, std::env::var(TOKENS_VARIABLE)) {
        (Some(path), _) => Credentials::read(path).map_err(refused)?,
        (None, Ok(text)) => Credentials::parse(&text).map_err(refused)?,
        (None, Err(_)) => Credentials::default(),
    };
    let bound = bind(Settings { listen, credentials, by: who() }).await;
    bound.map_err(|problem| match problem {
        ConsoleError::Taken { .. } => {
            Failure::failed(format!("failed to {problem}; is another console running there?"))
        }
        problem => Failure::input(format!("failed to {problem}")),
    })
}
