//! A token that lies in a file.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::path::Path;

use ferrotunnel::Token;

use crate::failure::Failure;
use crate::output;

/// The token in a file, blanks and line ends around it left out. A file that others may read is used all the same,
/// with a warning.
pub(crate) fn read(flag: &str, path: &Path) -> Result<String, Failure> {
    let shown = path.display();
    let failed = |what: String| Failure::failed(format!("{flag}: {what}"));
    let unreadable = |error| {
        failed(format!(
            "cannot read {shown}: {error}; give the path of a file that this user may read"
        ))
    };
    let file = File::open(path).map_err(unreadable)?;
    warn_if_open(flag, path, file.metadata().ok());
    let mut text = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut text).map_err(unreadable)?;
    let text = String::from_utf8(text).map_err(|_| {
        failed(format!("{shown} is no text; it should hold a token and nothing else"))
    })?;
    if text.trim().is_empty() {
        return Err(failed(format!("{shown} is empty; it should hold a token and nothing else")));
    }
    Token::new(&*text).map_err(|error| failed(format!("{shown}: {error}")))?;
    Ok(text.trim().to_owned())
}

/// Says what to do when others may read a secret.
pub(crate) fn warn_if_open(flag: &str, path: &Path, metadata: Option<Metadata>) {
    if let Some(mode) = metadata.and_then(|metadata| open_to_others(&metadata)) {
        let shown = path.display();
        output::warning(format_args!(
            "{flag}: others may read {shown} (mode {mode:04o}); run: chmod 600 {shown}"
        ));
    }
}

/// The permissions of a file that others may do something with. Pipes and the like have a reader of their own.
#[cfg(unix)]
fn open_to_others(metadata: &Metadata) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt as _;

    let mode = metadata.permissions().mode() & 0o7777;
    (metadata.is_file() && mode & 0o077 != 0).then_some(mode)
}

/// What others may do is not for this program to say here.
#[cfg(not(unix))]
fn open_to_others(_: &Metadata) -> Option<u32> {
    None
}

/// More than a token may have, so that one that is too long is found to be.
const MOST_BYTES: u64 = 4 * Token::MAX_LEN as u64;
