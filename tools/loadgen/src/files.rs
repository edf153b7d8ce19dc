//! Open files. A stream through a tunnel of this process takes four of them, and the usual limit
//! is 1,024.

/// Raises the limit to what this user may have. Where that is too little, the run says so by its
/// failed connections.
#[cfg(unix)]
pub fn allow_many_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// There is no such limit.
#[cfg(not(unix))]
pub fn allow_many_files() {}
