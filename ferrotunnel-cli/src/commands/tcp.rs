//! `ferrotunnel tcp`: a local TCP service on a public port.

use super::forward::forward;
use crate::args::TcpArgs;
use crate::failure::Failure;
use crate::output::Output;

pub(super) async fn run(args: TcpArgs, output: &Output) -> Result<(), Failure> {
    forward(args.try_into()?, output).await
}
