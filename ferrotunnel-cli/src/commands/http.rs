//! `ferrotunnel http`: a local HTTP service under a public host name.

use super::forward::forward;
use crate::args::HttpArgs;
use crate::failure::Failure;
use crate::output::Output;

pub(super) async fn run(args: HttpArgs, output: &Output) -> Result<(), Failure> {
    forward(args.try_into()?, output).await
}
