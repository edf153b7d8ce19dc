//! Where a running server or client is spoken with: what `reload` and `status` share.

use std::path::PathBuf;

use crate::args::ControlArgs;
use crate::failure::{Exit, Failure};
use crate::settings_file::SettingsFile;

/// Its control socket: as given, or as its settings file says.
pub(super) fn socket(args: ControlArgs) -> Result<PathBuf, Failure> {
    if let Some(path) = args.control {
        return Ok(path);
    }
    let Some(path) = args.config.config else {
        return Err(Failure::usage(
            "whom to ask? set --control or FERROTUNNEL_CONTROL to the control socket that the server or client was started \
             with, or --config to its settings file if that names one",
        ));
    };
    // What is wrong with the file is what the server would say.
    let file = SettingsFile::load(&path).map_err(|error| {
        let messages = error.into_failure(&path).messages().to_vec();
        Failure::several(Exit::Failed, messages)
    })?;
    let server = file.server.and_then(|server| server.control);
    server.or(file.client.and_then(|client| client.connect.control)).ok_or_else(|| {
        Failure::usage(format!(
            "{} names no control socket; set control in [server] or [client] and restart once, or give --control",
            path.display()
        ))
    })
}
