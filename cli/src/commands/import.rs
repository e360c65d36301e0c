//! `ecron import`.
use crate::args::ImportCommand;
use crate::failure::Failure;
pub(crate) fn run(_command: ImportCommand) -> Result<(), Failure> {
    Err(Failure::failed("tmp"))
}
