//! What clients and servers are set up with alike.

use std::time::Duration;

use ferrotunnel_common::{Token, TokenError};

use crate::error::Error;

/// A token as a builder was given it; nothing is wrong before [`resolve`](Self::resolve).
#[derive(Clone, Debug, Default)]
pub(crate) struct TokenSetting(Option<Result<Token, TokenError>>);

impl TokenSetting {
    pub(crate) fn given(token: String) -> Self {
        Self(Some(Token::new(token)))
    }

    /// The token, if one was given.
    pub(crate) fn resolve(self) -> Result<Option<Token>, Error> {
        self.0.transpose().map_err(|error| Error::config(error.to_string()))
    }
}

/// Long enough for a page to load, short enough for a restart to feel like one.
pub(crate) const DRAIN_GRACE: Duration = Duration::from_secs(10);

/// A time of nothing leaves none to anybody, and one beyond a day is a mistake of its unit.
pub(crate) fn check_time(name: &str, time: Duration) -> Result<(), Error> {
    if time.is_zero() {
        return Err(Error::config(format!("{name} is 0: nothing could be done in it")));
    }
    if time > A_DAY {
        return Err(Error::config(format!("{name} is longer than a day")));
    }
    Ok(())
}

pub(crate) const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);
