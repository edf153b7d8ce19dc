//! `ferrotunnel client`: a local address, exposed over HTTP.

use super::forward::forward;
use crate::args::ClientArgs;
use crate::failure::Failure;
use crate::output::Output;

pub(super) async fn run(args: ClientArgs, output: &Output) -> Result<(), Failure> {
    forward(args.try_into()?, output).await
}
