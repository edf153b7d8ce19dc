//! Settings files for the built program.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use ferrotunnel_tests::TOKEN;
use tempfile::TempDir;

/// A directory with settings files that only their owner may read.
pub struct Files(TempDir);

impl Files {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn dir(&self) -> &Path {
        self.0.path()
    }

    /// Writes it in one step, as a careful editor does.
    pub fn write(&self, name: &str, text: &str) -> String {
        let path: PathBuf = self.dir().join(name);
        let new = self.dir().join(format!("{name}.new"));
        std::fs::write(&new, text).unwrap();
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::rename(&new, &path).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A server on free ports of loopback, with further lines.
    pub fn server(&self, more: &str) -> String {
        let ports = "bind = '127.0.0.1:0'\nhttp-bind = '127.0.0.1:0'";
        self.write("server.toml", &format!("[server]\ntoken = '{TOKEN}'\n{ports}\n{more}"))
    }
}
