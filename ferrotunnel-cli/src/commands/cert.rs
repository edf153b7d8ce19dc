//! `ferrotunnel cert`: what can be done with certificates. No server is asked.

mod dev;

use crate::args::CertCommand;
use crate::failure::Failure;
use crate::output::Output;

pub(super) fn run(command: &CertCommand, output: &Output) -> Result<(), Failure> {
    match command {
        CertCommand::Dev(args) => dev::run(args, output),
    }
}
