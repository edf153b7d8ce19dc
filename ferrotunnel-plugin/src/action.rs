//! What a plugin may decide, and what that means for the request.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};

/// Whatever went wrong in a plugin. It costs the request a 500 and is logged; the visitor does not read it.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// What the phases of a [`Plugin`](crate::Plugin) return.
pub type Result<T> = std::result::Result<T, Error>;

/// What a plugin decides in a phase. To rewrite a request or response, change it and continue.
#[derive(Debug)]
#[non_exhaustive]
pub enum PluginAction {
    /// On to the next plugin, and in the end to the local service.
    Continue,
    /// Refuse, with an answer in the server's own form: text, a page for browsers, or a status of gRPC.
    Reject {
        /// From 400 to 599.
        status: u16,
        /// For the visitor to read.
        reason: String,
    },
    /// Answer with this.
    Respond(Response<Bytes>),
    /// Send the visitor elsewhere.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// Value of `Location`.
        location: String,
    },
}

/// How a request is answered in place of the local service: an action that has been found to make sense.
#[derive(Debug)]
pub enum Answer {
    /// In the server's own form.
    Reject {
        /// From 400 to 599.
        status: StatusCode,
        /// For the visitor to read.
        reason: String,
    },
    /// As the plugin wrote it.
    Respond(Response<Bytes>),
    /// To somewhere else.
    Redirect {
        /// A redirection.
        status: StatusCode,
        /// Where to.
        location: HeaderValue,
    },
    /// The plugin failed; the log says how.
    Failed,
}

impl PluginAction {
    /// What is to be answered, if anything. The error says what is wrong with the action.
    pub(crate) fn parsed(self) -> std::result::Result<Option<Answer>, String> {
        match self {
            Self::Continue => Ok(None),
            Self::Reject { status, reason } => match StatusCode::from_u16(status) {
                Ok(status) if status.is_client_error() || status.is_server_error() => {
                    Ok(Some(Answer::Reject { status, reason }))
                }
                _ => Err(format!("rejected with status {status}, which is not from 400 to 599")),
            },
            // An interim answer is not the last word, and the visitor would wait for that.
            Self::Respond(response) if response.status().is_informational() => {
                Err(format!("responded with {}, which is no final status", response.status()))
            }
            Self::Respond(response) => Ok(Some(Answer::Respond(response))),
            Self::Redirect { status, location } => {
                let code = match status {
                    301 | 302 | 303 | 307 | 308 => StatusCode::from_u16(status).ok(),
                    _ => None,
                };
                let code = code.ok_or_else(|| format!("redirected with status {status}"))?;
                let location = HeaderValue::try_from(location)
                    .map_err(|_| "redirected to what cannot stand in a header".to_owned())?;
                Ok(Some(Answer::Redirect { status: code, location }))
            }
        }
    }
}
