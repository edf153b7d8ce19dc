//! How a file looks from outside, to notice without reading it that it has changed.

use std::fs::Metadata;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// A file from outside. Two looks that are equal show the same file, with the same content as far as
/// can be told without reading it.
///
/// A path is followed to its end: a file that was replaced by rename and a symbolic link on the way that
/// leads elsewhere now both look different. Written twice within one tick of the file system's clock, a
/// file may look the same: see to it that it has come to rest before it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLook(Look);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Look {
    Hidden(io::ErrorKind),
    There(Stamp),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    written: Option<SystemTime>,
    len: u64,
    /// Device, inode, and when the inode changed: another file of the same age and length differs, and
    /// so does one whose rights have changed.
    node: [i128; 4],
}

impl FileLook {
    /// How it looks now; one that is not there, or not to be seen, has a look too.
    pub fn of(path: &Path) -> Self {
        Self(match std::fs::metadata(path) {
            Ok(metadata) => Look::There(Stamp {
                written: metadata.modified().ok(),
                len: metadata.len(),
                node: node(&metadata),
            }),
            Err(error) => Look::Hidden(error.kind()),
        })
    }

    /// Whether it was written so shortly before that a second write may look the same.
    pub(crate) fn is_fresh(&self, now: SystemTime) -> bool {
        let Self(Look::There(Stamp { written: Some(written), .. })) = self else { return false };
        let ahead = || written.duration_since(now).unwrap_or_default();
        now.duration_since(*written).unwrap_or_else(|_| ahead()) < COARSEST_CLOCK
    }
}

#[cfg(unix)]
fn node(metadata: &Metadata) -> [i128; 4] {
    use std::os::unix::fs::MetadataExt as _;
    let (seconds, nanos) = (metadata.ctime().into(), metadata.ctime_nsec().into());
    [metadata.dev().into(), metadata.ino().into(), seconds, nanos]
}

#[cfg(not(unix))]
fn node(_: &Metadata) -> [i128; 4] {
    [0; 4]
}

/// How long two writes can look like one: FAT counts in steps of two seconds, others in ticks of the
/// kernel.
const COARSEST_CLOCK: Duration = Duration::from_secs(2);

#[cfg(test)]
impl FileLook {
    pub(crate) fn there(written: SystemTime, len: u64, inode: i128) -> Self {
        Self(Look::There(Stamp { written: Some(written), len, node: [1, inode, 0, 0] }))
    }

    pub(crate) fn hidden(why: io::ErrorKind) -> Self {
        Self(Look::Hidden(why))
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_file_looks_different_after_whatever_can_happen_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("file"), dir.path().join("other"));
        let link = dir.path().join("link");
        let missing = FileLook::of(&path);
        std::fs::write(&path, "one").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let first = FileLook::of(&path);
        assert_ne!(first, missing);
        assert_eq!((&FileLook::of(&path), &FileLook::of(&link)), (&first, &first));
        std::fs::write(&path, "longer").unwrap();
        assert_ne!(FileLook::of(&path), first);
        // Of the same age and length, but another.
        std::fs::write(&other, "longer").unwrap();
        let second = FileLook::of(&path);
        std::fs::rename(&other, &path).unwrap();
        assert_ne!(FileLook::of(&path), second);
        let turned = FileLook::of(&link);
        std::fs::write(&other, "longer").unwrap();
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(&other, &link).unwrap();
        assert_ne!(FileLook::of(&link), turned);
    }
}
