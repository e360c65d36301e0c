//! `ecron submit`: ad-hoc work for a queue, now or for later.

use std::collections::BTreeMap;
use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use planner::api::types::{SubmitReply, SubmitRequest, UniqueRequest};

use crate::args::{Servers, SubmitArgs};
use crate::commands::who;
use crate::connect::{ask, nats};
use crate::failure::Failure;
use crate::output;

pub(crate) async fn run(servers: &Servers, args: &SubmitArgs) -> Result<(), Failure> {
    let request = request(args, payload(args)?)?;
    let reply: SubmitReply = ask(&nats(servers).await?, "submit", &request).await?;
    if output::structured(&reply, args.output)? {
        return Ok(());
    }
    match reply.duplicate {
        true => output::line(format_args!("run {} (submitted before)", reply.run)),
        false => output::line(format_args!("run {} submitted", reply.run)),
    }
}

fn payload(args: &SubmitArgs) -> Result<Option<Vec<u8>>, Failure> {
    match args.payload.as_deref() {
        None => Ok(None),
        Some("-") => {
            let mut bytes = Vec::new();
            std::io::stdin().lock().read_to_end(&mut bytes)?;
            Ok(Some(bytes))
        }
        Some(text) => Ok(Some(text.as_bytes().to_vec())),
    }
}

fn request(args: &SubmitArgs, payload: Option<Vec<u8>>) -> Result<SubmitRequest, Failure> {
    let mut headers = BTreeMap::new();
    for header in &args.headers {
        let (name, value) = header.split_once('=').ok_or_else(|| {
            Failure::input(format!("failed to read header {header:?}: expected NAME=VALUE"))
        })?;
        headers.insert(name.to_owned(), value.to_owned());
    }
    let queue = if args.queue.contains('/') {
        args.queue.clone()
    } else {
        format!("{}/{}", args.namespace, args.queue)
    };
    let unique = (args.unique_until.is_some() || args.scope.is_some())
        .then(|| UniqueRequest { scope: args.scope.clone(), until: args.unique_until.clone() });
    Ok(SubmitRequest {
        queue,
        // The handler gets exactly these bytes, whatever they are.
        payload_base64: payload.map(|bytes| STANDARD.encode(bytes)),
        payload: None,
        headers,
        key: args.key.clone(),
        unique,
        timeout: args.timeout.clone(),
        retry: args.retry.clone(),
        at: args.at.clone(),
        delay: args.delay.clone(),
        by: who(),
    })
}
