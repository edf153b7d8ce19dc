//! There are no such sockets here.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Asker;
use crate::failure::Failure;

/// None is ever opened.
#[derive(Debug)]
pub(crate) enum Control {}

impl Control {
    pub(crate) fn open(_: PathBuf) -> Result<Self, Failure> {
        Err(unknown_here())
    }

    pub(crate) async fn next(&mut self) -> Asker {
        match *self {}
    }
}

pub(crate) async fn ask(_: &Path) -> Result<Value, Failure> {
    Err(unknown_here())
}

fn unknown_here() -> Failure {
    Failure::usage(
        "this system has no control sockets (--control); a changed settings file is noticed without",
    )
}
