//! Where a control socket lies: in a directory that nobody else can change, and reachable for its owner only.

use std::fs::{DirBuilder, Permissions};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _,
};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// A socket's place in the file system; it goes when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    /// Device and number: what another server has put there since is not ours to remove.
    identity: (u64, u64),
}

impl Place {
    /// Listens there, in place of what a server left behind that is gone.
    ///
    /// # Errors
    /// They say what to do.
    pub(super) fn listen(path: PathBuf) -> Result<(UnixListener, Self)> {
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        make_private(directory)?;
        let is_in_use = is_in_use(&path)?;
        if is_in_use {
            return Err(Error::other(
                "another server listens there; give each server a control socket of its own",
            ));
        }
        // Bound where nobody else can go, so that at no moment others can open it; the last step replaces an old one.
        let nursery = directory.join(format!(".{}", std::process::id()));
        let newborn = nursery.join("s");
        let _ = std::fs::remove_file(&newborn);
        let _ = std::fs::remove_dir(&nursery);
        DirBuilder::new().mode(0o700).create(&nursery)?;
        let moved = bind(&newborn).and_then(|listener| {
            std::fs::rename(&newborn, &path)?;
            Ok(listener)
        });
        let _ = std::fs::remove_file(&newborn);
        let _ = std::fs::remove_dir(&nursery);
        let listener = moved?;
        let identity = identity(&path)?;
        Ok((listener, Self { path, identity }))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn bind(path: &Path) -> Result<UnixListener> {
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn identity(path: &Path) -> Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Makes it if need be. Who can write there could put a socket of their own in place of ours.
fn make_private(directory: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let metadata = std::fs::metadata(directory)?;
    let is_ours = [0, rustix::process::geteuid().as_raw()].contains(&metadata.uid());
    if is_ours && metadata.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(Error::other(format!(
        "other users may write in {}; choose a directory that only this user may write in, like one in $XDG_RUNTIME_DIR",
        directory.display()
    )))
}

/// Whether somebody answers there. What is there and no socket stays.
fn is_in_use(path: &Path) -> Result<bool> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(Error::other("there is something that is no socket; choose another path"));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(false),
        // A full queue is one of somebody who is there.
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_its_owner_s_and_goes_with_its_server() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/control");
        let (listener, place) = Place::listen(path.clone()).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        let names = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(names, 1, "nothing else is left there");
        let error = Place::listen(path.clone()).unwrap_err().to_string();
        assert!(error.contains("another server listens there"), "{error}");
        drop((listener, place));
        assert!(!path.exists());
    }

    #[test]
    fn what_a_server_left_behind_is_replaced_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        drop(UnixListener::bind(&path).unwrap());
        let (_listener, old) = Place::listen(path.clone()).unwrap();
        UnixStream::connect(&path).unwrap();

        // Another one's, by now.
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "mine").unwrap();
        drop(old);
        let error = Place::listen(path.clone()).unwrap_err().to_string();
        assert!(error.contains("no socket"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }

    #[test]
    fn a_directory_that_others_may_write_in_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o770)).unwrap();
        let error = Place::listen(dir.path().join("control")).unwrap_err().to_string();
        assert!(error.contains("other users may write in"), "{error}");
    }
}
