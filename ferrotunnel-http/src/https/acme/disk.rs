//! What is kept on disk: whole or not at all, and for this user only.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use ferrotunnel_core::{BuildError, IdentityFiles, TlsIdentity};

/// A directory of what one ACME server has given us.
///
/// A certificate lies in one file with its key, so that the two cannot be of different orders.
#[derive(Clone, Debug)]
pub(super) struct Disk(PathBuf);

impl Disk {
    /// Makes it if need be. Servers do not share: what a test server issued is of no use with another one.
    pub(super) fn open(state: &Path, server: &str) -> Result<Self, BuildError> {
        let disk = Self(state.join(folder(server)));
        let made = make(&disk.certificates()).and_then(|()| disk.remove_rests());
        made.map_err(|error| BuildError::File {
            path: state.to_owned(),
            setting: "acme, --acme-dir",
            reason: format!("{error}; give a directory that this user may write in"),
        })?;
        Ok(disk)
    }

    fn certificates(&self) -> PathBuf {
        self.0.join("certificates")
    }

    fn file_of(&self, name: &str) -> PathBuf {
        self.certificates().join(format!("{}.pem", name.replace('*', "_wildcard")))
    }

    pub(super) fn account(&self) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.0.join("account.json")) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn keep_account(&self, account: &[u8]) -> io::Result<()> {
        write(&self.0.join("account.json"), account)
    }

    pub(super) fn keep_certificate(&self, name: &str, chain: &str, key: &str) -> io::Result<()> {
        write(&self.file_of(name), format!("{key}{chain}").as_bytes())
    }

    pub(super) fn forget_account(&self) -> io::Result<()> {
        remove(&self.0.join("account.json"))
    }

    pub(super) fn forget_certificate(&self, name: &str) -> io::Result<()> {
        remove(&self.file_of(name))
    }

    /// All certificates, with their files.
    pub(super) fn load(&self) -> io::Result<Vec<(PathBuf, Result<TlsIdentity, BuildError>)>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(self.certificates())? {
            let path = entry?.path();
            if path.extension().is_some_and(|kind| kind == "pem") {
                let files = IdentityFiles { cert: path.clone(), key: path.clone() };
                all.push((path, files.load(["acme, --acme-dir"; 2])));
            }
        }
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(all)
    }

    /// What was being written when the process ended.
    fn remove_rests(&self) -> io::Result<()> {
        for directory in [self.0.clone(), self.certificates()] {
            for entry in fs::read_dir(directory)? {
                let path = entry?.path();
                if path.extension().is_some_and(|kind| kind == "new") {
                    fs::remove_file(path)?;
                }
            }
        }
        Ok(())
    }
}

/// A folder's name for a server: its URL, as far as every file system takes it.
fn folder(server: &str) -> String {
    let bare = server.trim_start_matches("https://");
    let keep = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '_' };
    let name: String = bare.chars().take(MOST_NAME).map(keep).collect();
    // Neither hidden nor the directory above.
    name.trim_start_matches('.').to_owned()
}

const MOST_NAME: usize = 128;

fn make(directory: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Beside it first, then in its place: who reads sees the one or the other, after a crash too.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // Nobody else writes here; what lies there is a rest.
    let _ = fs::remove_file(&new);
    let mut file = options.open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    sync_directory_of(path)
}

#[cfg(unix)]
fn sync_directory_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

/// Elsewhere a directory cannot be opened as a file.
#[cfg(not(unix))]
fn sync_directory_of(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "https://acme.example:14000/dir?x=../y";

    #[test]
    fn what_is_kept_is_there_again_and_for_this_user_only() {
        let state = tempfile::tempdir().unwrap();
        let disk = Disk::open(&state.path().join("a/b"), SERVER).unwrap();
        assert_eq!(disk.account().unwrap(), None);
        disk.keep_account(b"one").unwrap();
        disk.keep_account(b"two").unwrap();
        assert_eq!(disk.account().unwrap().as_deref(), Some(&b"two"[..]));
        disk.keep_certificate("*.a.example", "chain", "key").unwrap();
        assert_eq!(fs::read(disk.file_of("*.a.example")).unwrap(), b"keychain");
        assert!(disk.file_of("*.a.example").ends_with("_wildcard.a.example.pem"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&disk.0), 0o700);
            assert_eq!(mode(&disk.0.join("account.json")), 0o600);
            assert_eq!(mode(&disk.file_of("*.a.example")), 0o600);
        }
    }

    #[test]
    fn a_rest_of_a_crash_is_removed_and_in_nobodys_way() {
        let state = tempfile::tempdir().unwrap();
        let disk = Disk::open(state.path(), SERVER).unwrap();
        let rest = disk.certificates().join("a.example.new");
        fs::write(&rest, "half").unwrap();
        disk.keep_certificate("a.example", "chain", "key").unwrap();
        assert!(!rest.exists());
        fs::write(&rest, "half").unwrap();
        Disk::open(state.path(), SERVER).unwrap();
        assert!(!rest.exists() && disk.file_of("a.example").exists());
    }

    #[test]
    fn a_servers_folder_stays_where_it_belongs() {
        assert_eq!(folder(SERVER), "acme.example_14000_dir_x_.._y");
        assert_eq!(folder("https://../x"), "_x");
    }
}
