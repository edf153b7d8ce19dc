//! Files that something was made of, and when to make it anew.
//!
//! Files are told apart by how they look from outside ([`FileLook`]), so that keys are not read again
//! and again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, RwLock};
use tokio::time::MissedTickBehavior;

use super::identity::IdentityFiles;
use crate::error::BuildError;
use crate::file_look::FileLook;

/// Something made of files. Who uses it keeps what it got; who comes later gets the newest.
pub struct FromFiles<T> {
    list: List,
    make: Make<T>,
    current: RwLock<Arc<T>>,
    watch: Mutex<Watch>,
}

impl<T> std::fmt::Debug for FromFiles<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FromFiles").field("watch", &self.watch).finish_non_exhaustive()
    }
}

/// What it is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// Certificates with their keys.
    pub identities: Vec<IdentityFiles>,
    /// Anything else; a directory, so that what comes into it and goes is noticed.
    pub others: Vec<PathBuf>,
}

impl Files {
    /// An identity, and files of CAs and the like, as far as there are any.
    pub(super) fn of(identity: Option<IdentityFiles>, others: Vec<PathBuf>) -> Self {
        Self { identities: identity.into_iter().collect(), others }
    }

    fn looks(&self) -> Vec<FileLook> {
        let identities = self.identities.iter().flat_map(IdentityFiles::paths);
        self.others.iter().cloned().chain(identities).map(|path| FileLook::of(&path)).collect()
    }

    fn warn_of_open_keys(&self) {
        self.identities.iter().for_each(IdentityFiles::warn_of_open_key);
    }
}

/// Says which files there are at present.
type List = Box<dyn Fn() -> Files + Send + Sync>;

/// Reads the files and makes it; from the second time on it is shown what is there already.
type Make<T> = Box<dyn Fn(Option<&T>) -> Result<T, BuildError> + Send + Sync>;

impl<T> FromFiles<T> {
    /// Makes it of the files that `list` names; it is asked again at every look.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn load(
        list: impl Fn() -> Files + Send + Sync + 'static,
        make: impl Fn(Option<&T>) -> Result<T, BuildError> + Send + Sync + 'static,
    ) -> Result<Self, BuildError> {
        let files = list();
        // Before they are read: a change in between is seen at the next look.
        let seen = files.looks();
        let current = RwLock::new(Arc::new(make(None)?));
        let watch = Mutex::new(Watch::new(seen, SystemTime::now()));
        files.warn_of_open_keys();
        Ok(Self { list: Box::new(list), make: Box::new(make), current, watch })
    }

    /// Whether it could ever change.
    pub(super) fn has_files(&self) -> bool {
        (self.list)() != Files::default()
    }

    /// What the files came to when they were read last.
    pub fn current(&self) -> Arc<T> {
        Arc::clone(&self.current.read())
    }

    /// Makes it anew now. After an error what was there stays.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn reload(&self) -> Result<(), BuildError> {
        let mut watch = self.watch.lock();
        let files = (self.list)();
        let seen = files.looks();
        self.make_anew(&mut watch, &files, seen)
    }

    /// Makes it anew if the files have changed; says so, and says once what is wrong with them.
    pub fn look(&self) {
        let mut watch = self.watch.lock();
        let files = (self.list)();
        let seen = files.looks();
        if !watch.is_worth_loading(&seen) {
            return;
        }
        let have_changed = watch.have_changed(&seen);
        match self.make_anew(&mut watch, &files, seen) {
            Ok(()) if have_changed => tracing::info!("certificates have changed; new ones in use"),
            Ok(()) => {}
            Err(error) => {
                if watch.failed(&error.to_string()) {
                    tracing::warn!(%error, "certificates have changed but cannot be used; the old ones stay, and the files are tried again");
                }
            }
        }
    }

    fn make_anew(
        &self,
        watch: &mut Watch,
        files: &Files,
        seen: Vec<FileLook>,
    ) -> Result<(), BuildError> {
        let old = self.current();
        let made = (self.make)(Some(&old))?;
        if watch.have_changed(&seen) {
            files.warn_of_open_keys();
        }
        *watch = Watch::new(seen, SystemTime::now());
        *self.current.write() = Arc::new(made);
        Ok(())
    }
}

impl<T: Send + Sync + 'static> FromFiles<T> {
    /// Loads the files whenever they change. Ends at once if there are none.
    pub async fn watch(self: Arc<Self>) {
        if !self.has_files() {
            return;
        }
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let this = Arc::clone(&self);
            // Files may lie on a disk that is far away.
            let _ = tokio::task::spawn_blocking(move || this.look()).await;
        }
    }
}

/// What was loaded, by the looks of its files, and what has gone wrong since. Pure.
#[derive(Debug)]
struct Watch {
    loaded: Vec<FileLook>,
    /// They were written so shortly before they were read that a second write may look the same.
    is_fresh: bool,
    /// Why they could not be loaded since.
    complaint: Option<String>,
}

impl Watch {
    fn new(loaded: Vec<FileLook>, now: SystemTime) -> Self {
        let is_fresh = loaded.iter().any(|look| look.is_fresh(now));
        Self { loaded, is_fresh, complaint: None }
    }

    fn have_changed(&self, seen: &[FileLook]) -> bool {
        self.loaded != seen
    }

    /// Whether to load them. What has failed is tried again at every look: a pair that was half
    /// written is whole the next time, and what was in the way may have nothing to do with the files.
    fn is_worth_loading(&self, seen: &[FileLook]) -> bool {
        self.is_fresh || self.complaint.is_some() || self.have_changed(seen)
    }

    /// They cannot be loaded. Whether that is news.
    fn failed(&mut self, reason: &str) -> bool {
        let is_news = self.complaint.as_deref() != Some(reason);
        if is_news {
            self.complaint = Some(reason.to_owned());
        }
        is_news
    }
}

/// How soon a certificate that was renewed is shown. A look costs a call of the system for each file.
const LOOK_EVERY: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use super::*;

    fn file(written_at: u64, len: u64, inode: i128) -> FileLook {
        FileLook::there(at(written_at), len, inode)
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn files_are_loaded_when_anything_about_them_differs() {
        let watch = Watch::new(vec![file(10, 5, 1), file(10, 6, 2)], at(100));
        assert!(!watch.is_worth_loading(&[file(10, 5, 1), file(10, 6, 2)]));
        for seen in [
            [file(11, 5, 1), file(10, 6, 2)],
            [file(10, 4, 1), file(10, 6, 2)],
            [file(10, 5, 3), file(10, 6, 2)],
            [file(10, 5, 1), FileLook::hidden(io::ErrorKind::NotFound)],
        ] {
            assert!(watch.is_worth_loading(&seen), "{seen:?}");
        }
    }

    #[test]
    fn what_was_just_written_is_looked_at_again() {
        for (now, is_fresh) in [(9, true), (10, true), (11, true), (12, false), (7, false)] {
            let watch = Watch::new(vec![file(10, 5, 1)], at(now));
            assert_eq!(watch.is_worth_loading(&[file(10, 5, 1)]), is_fresh, "at {now}");
        }
    }

    #[test]
    fn what_failed_is_tried_again_and_complained_of_once() {
        let mut watch = Watch::new(vec![file(10, 5, 1)], at(100));
        let half = [file(90, 5, 1)];
        assert!(watch.is_worth_loading(&half));
        assert!(watch.failed("the key is another's"));
        assert!(watch.is_worth_loading(&half) && !watch.failed("the key is another's"));
        assert!(watch.failed("the file is empty"));
        // Back as it was: whether it is still of use has to be seen.
        assert!(watch.is_worth_loading(&[file(10, 5, 1)]));
        let watch = Watch::new(vec![file(91, 5, 1)], at(100));
        assert!(!watch.is_worth_loading(&[file(91, 5, 1)]));
    }
}
