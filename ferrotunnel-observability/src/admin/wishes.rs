//! What the admin interface cannot do by itself: only the program that it is part of can end, or knows where its settings come
//! from.

use std::sync::OnceLock;

use tokio::sync::{mpsc, oneshot};

use super::house::Refused;

/// Something that was asked for.
#[derive(Debug)]
#[non_exhaustive]
pub enum AdminWish {
    /// To finish what is open and end.
    Drain,
    /// To read the settings again.
    Reload(Reply),
}

/// How it is told what came of a wish.
#[derive(Debug)]
pub struct Reply(oneshot::Sender<Result<String, String>>);

impl Reply {
    /// It was done, and what came of it; or why not.
    pub fn tell(self, outcome: Result<String, String>) {
        // Who has gone away does not want to know.
        let _ = self.0.send(outcome);
    }
}

/// What is asked for at an admin interface, for the program that it is part of.
#[derive(Debug)]
pub struct AdminWishes(mpsc::Receiver<AdminWish>);

impl AdminWishes {
    /// The next one. Waits for ever when there is no admin interface any more. Safe to drop and call again.
    pub async fn next(&mut self) -> AdminWish {
        match self.0.recv().await {
            Some(wish) => wish,
            None => std::future::pending().await,
        }
    }
}

/// The interface's end.
#[derive(Debug, Default)]
pub(crate) struct Wishing(OnceLock<mpsc::Sender<AdminWish>>);

impl Wishing {
    /// The other end; `None` when somebody has it.
    pub(crate) fn granted(&self) -> Option<AdminWishes> {
        let (sender, receiver) = mpsc::channel(MOST_WAITING);
        self.0.set(sender).ok().map(|()| AdminWishes(receiver))
    }

    pub(crate) fn drain(&self) -> Result<String, Refused> {
        self.send(AdminWish::Drain)?;
        Ok("it finishes what is open, and ends".to_owned())
    }

    pub(crate) async fn reload(&self) -> Result<String, Refused> {
        let (reply, outcome) = oneshot::channel();
        self.send(AdminWish::Reload(Reply(reply)))?;
        match outcome.await {
            Ok(outcome) => outcome.map_err(Refused::Conflict),
            Err(_) => Err(Refused::Conflict("the program is about to end".to_owned())),
        }
    }

    fn send(&self, wish: AdminWish) -> Result<(), Refused> {
        let not_here = "the program that this is part of does not let it be asked for here";
        let sent = match self.0.get() {
            None => Err(not_here),
            Some(sender) => sender.try_send(wish).map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => "it is busy with what was asked for before",
                mpsc::error::TrySendError::Closed(_) => not_here,
            }),
        };
        sent.map_err(|why| Refused::Conflict(why.to_owned()))
    }
}

/// People ask one at a time.
const MOST_WAITING: usize = 8;
