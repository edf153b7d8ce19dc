//! There are no such sockets here.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ferrotunnel::Overview;
use serde_json::Value;

use super::{Asker, Request};
use crate::failure::Failure;

/// None is ever opened.
#[derive(Debug)]
pub(crate) enum Control {}

impl Control {
    pub(crate) fn open(_: PathBuf) -> Result<Self, Failure> {
        Err(unknown_here())
    }

    pub(crate) fn shows(&self, _: Arc<Overview>) {
        match *self {}
    }

    pub(crate) async fn next(&mut self) -> Asker {
        match *self {}
    }
}

pub(crate) async fn ask(_: &Path, _: Request) -> Result<Value, Failure> {
    Err(unknown_here())
}

fn unknown_here() -> Failure {
    Failure::usage(
        "this system has no control sockets (--control); a changed settings file is noticed without",
    )
}
