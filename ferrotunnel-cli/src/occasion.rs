//! When a settings file is to be read again: on SIGHUP, when somebody asks for it, and when it has changed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ferrotunnel::FileLook;
use serde_json::Value;
use tokio::task::spawn_blocking;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::control::{Asker, Control, next_asker};
use crate::failure::Failure;
use crate::signals::HangUps;

/// Waits for the next one.
pub(crate) struct Occasion {
    path: PathBuf,
    hang_ups: HangUps,
    /// Where others than signals ask, if there is such a place.
    control: Option<Control>,
    /// Who asked there, and waits for what comes of it.
    askers: Vec<Asker>,
    /// It was asked for, and has not come to it yet.
    is_asked_for: bool,
    watch: Watch,
    pulse: Interval,
    /// A pipe can be read once.
    is_regular: bool,
}

impl Occasion {
    /// To be called before the file is read for the first time, so that no change falls in between.
    pub(crate) fn of(path: &Path) -> Result<Self, Failure> {
        let mut pulse = interval(LOOK_EVERY);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            path: path.to_owned(),
            hang_ups: HangUps::listen()?,
            control: None,
            askers: Vec::new(),
            is_asked_for: false,
            watch: Watch::new(FileLook::of(path)),
            pulse,
            is_regular: path.is_file(),
        })
    }

    /// From now on it can be asked for there, too.
    pub(crate) fn listens_on(&mut self, control: Control) {
        self.control = Some(control);
    }

    /// Somebody asks for it elsewhere: the file is due.
    pub(crate) fn is_asked_by(&mut self, asker: Asker) {
        self.askers.push(asker);
        self.is_asked_for = true;
    }

    /// The next who asks for it at the control socket, for whom it is too early. Safe to drop and call again.
    pub(crate) async fn asker(&mut self) -> Asker {
        next_asker(&mut self.control).await
    }

    /// Resolves when the file should be read again. Safe to drop and call again.
    pub(crate) async fn due(&mut self) {
        loop {
            if !self.is_asked_for {
                tokio::select! {
                    () = self.hang_ups.next() => self.is_asked_for = true,
                    asker = next_asker(&mut self.control) => {
                        self.askers.push(asker);
                        self.is_asked_for = true;
                    }
                    _ = self.pulse.tick(), if self.is_regular => {}
                }
            }
            let look = self.look().await;
            if std::mem::take(&mut self.is_asked_for) {
                return self.watch.loads(look);
            }
            if self.watch.is_due(look) {
                return;
            }
        }
    }

    /// Tells those who asked what came of it.
    pub(crate) fn came_to(&mut self, event: &Value) {
        for asker in self.askers.drain(..) {
            asker.tell(event);
        }
    }

    /// Files may lie on a disk that is far away.
    async fn look(&self) -> FileLook {
        let path = self.path.clone();
        let look = spawn_blocking(move || FileLook::of(&path)).await;
        look.unwrap_or_else(|_| self.watch.loaded.clone())
    }
}

/// When a file that is looked at now and then is to be read. Pure.
///
/// The beginning of a settings file is often a good one too, so a file is left alone while it is being written: it has
/// to look the same twice.
#[derive(Debug)]
struct Watch {
    loaded: FileLook,
    seen: FileLook,
}

impl Watch {
    fn new(look: FileLook) -> Self {
        Self { loaded: look.clone(), seen: look }
    }

    /// It is read now, whatever it looks like.
    fn loads(&mut self, look: FileLook) {
        *self = Self::new(look);
    }

    /// Whether a file that looks like that is to be read now.
    fn is_due(&mut self, look: FileLook) -> bool {
        let rests = look == self.seen;
        let has_changed = look != self.loaded;
        self.seen = look.clone();
        if rests && has_changed {
            self.loaded = look;
        }
        rests && has_changed
    }
}

/// A change takes two looks to be taken over, and a token that is taken out of the file ends its sessions within a second;
/// one look costs a system call.
const LOOK_EVERY: Duration = Duration::from_millis(400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_once_when_it_has_come_to_rest() {
        let dir = tempfile::tempdir().unwrap();
        let look = |length: usize| {
            let path = dir.path().join("file");
            std::fs::write(&path, "x".repeat(length)).unwrap();
            FileLook::of(&path)
        };
        let (old, half, new) = (look(1), look(2), look(3));
        let mut watch = Watch::new(old.clone());
        let mut is_due = |look: &FileLook| watch.is_due(look.clone());
        assert!(!is_due(&old));
        assert!(!is_due(&half) && !is_due(&new), "it is being written");
        assert!(is_due(&new), "it rests");
        assert!(!is_due(&new), "it has been read");
        assert!(!is_due(&half) && !is_due(&new), "as if nothing had been");
        watch.loads(half.clone());
        assert!(!watch.is_due(half), "it was read when that was asked for");
    }
}
