//! Who else has a say in sessions and tunnels, and sees streams come and go. Without hooks each of these places has
//! one branch.

use std::fmt::Debug;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ferrotunnel_common::{ClientId, SessionId, TraceContext, TunnelKind};
use ferrotunnel_protocol::frame::{GoAwayCode, Refusal, RefusalCode, Register, Registered};
use tokio::sync::mpsc;

use crate::client::Target;
use crate::clock;
use crate::driver::Incoming;
use crate::options::Condition;
use crate::registry::{Owner, Registry};

/// What a hook decides in its own time.
pub type Decision<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// Sees streams come and go.
pub trait StreamHooks: Debug + Send + Sync + 'static {
    /// A stream was opened. What is returned is dropped when it has ended.
    fn opened(&self, stream: OpenedStream<'_>) -> Box<dyn Send + Sync>;

    /// At a client: its local service was dialled for a stream whose opener keeps a trace.
    fn dialled(&self, _: &Dialled<'_>) {}
}

/// Hears at a client of local services that were dialled for streams of which a trace is kept.
pub trait DialTracer: Debug + Send + Sync + 'static {
    /// One was dialled. It must not take its time.
    fn dialled(&self, dialled: &Dialled<'_>);
}

/// How a local service was dialled.
#[derive(Clone, Copy, Debug)]
pub struct Dialled<'a> {
    /// The span in whose course the stream was opened.
    pub trace: TraceContext,
    /// The local service, as it was given.
    pub target: &'a Target,
    /// When it began.
    pub at: SystemTime,
    /// Until there was a connection, or none.
    pub took: Duration,
    /// Why there is none.
    pub error: Option<std::io::ErrorKind>,
}

/// Has a say in what happens at a server. Errors are reasons for the client to read.
pub trait ServerHooks: StreamHooks {
    /// Whether a session may begin whose client has proven its token.
    fn session<'a>(&'a self, session: &'a NewSession) -> Decision<'a>;

    /// Whether a client may ask for a tunnel; then it is the registry's turn.
    fn registration<'a>(&'a self, session: &'a NewSession, wanted: &'a Register) -> Decision<'a>;

    /// What that came to.
    fn answered<'a>(
        &'a self,
        session: &'a NewSession,
        wanted: &'a Register,
        answer: &'a Registered,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

/// A session whose client has proven its token.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Its name.
    pub session_id: SessionId,
    /// The client's number for itself.
    pub client_id: ClientId,
    /// Whose token it is.
    pub principal: String,
    /// Where the client comes from.
    pub peer: SocketAddr,
    /// What the client calls itself.
    pub software: String,
}

/// A stream of a tunnel.
#[derive(Clone, Copy, Debug)]
pub struct OpenedStream<'a> {
    /// The tunnel's name; for `tcp` its port at a server.
    pub tunnel: &'a str,
    /// What it carries.
    pub kind: TunnelKind,
    /// A session over which the tunnel is registered, where that is known.
    pub session: Option<SessionId>,
    /// Whose tunnel it is; empty at a client.
    pub principal: &'a str,
    /// Who it was opened for.
    pub visitor: Option<SocketAddr>,
}

/// Waits for a hook, but not for ever.
pub(crate) async fn decide(decision: Decision<'_>) -> Result<(), String> {
    match tokio::time::timeout(DECIDE_WITHIN, decision).await {
        Ok(decided) => decided,
        Err(_) => {
            tracing::error!(limit = ?DECIDE_WITHIN, "a hook has not decided in time");
            Err("the server could not decide about it in time".to_owned())
        }
    }
}

/// Less than the time after which a client takes a silent server for dead.
const DECIDE_WITHIN: Duration = Duration::from_secs(10);

/// Handles what one session asks for, one after the other: a hook may take its time, and what the client says next
/// must not overtake it.
pub(crate) struct Desk {
    owner: Arc<Owner>,
    queue: mpsc::Sender<Waiting>,
}

/// What a session asks for, and when it did.
type Waiting = (Instant, Incoming);

impl Desk {
    /// A desk, and what waits there for [`attend`].
    pub(crate) fn new(owner: Arc<Owner>, max_tunnels: u32) -> (Self, mpsc::Receiver<Waiting>) {
        // Each tunnel may come and go while one is thought about.
        let room = (max_tunnels as usize).saturating_mul(2).saturating_add(MARGIN);
        let (queue, waiting) = mpsc::channel(room.min(MOST_WAITING));
        (Self { owner, queue }, waiting)
    }

    /// Takes what the session asks for.
    pub(crate) fn take(&self, incoming: Incoming) {
        if self.queue.try_send((clock::now(), incoming)).is_err() {
            // Nothing of it may be left out, or server and client would disagree about what there is.
            let reason = "too many registrations wait for an answer";
            self.owner.session.close(GoAwayCode::Refused, reason);
        }
    }
}

/// Handles what waits at a desk. Ends when the session does.
pub(crate) async fn attend(
    mut waiting: mpsc::Receiver<Waiting>,
    hooks: &dyn ServerHooks,
    session: &NewSession,
    registry: &Registry,
    owner: &Arc<Owner>,
    otherwise: impl Fn(Incoming),
) {
    while let Some((asked, incoming)) = waiting.recv().await {
        let Incoming::Register(number, wanted) = incoming else {
            otherwise(incoming);
            continue;
        };
        if owner.has(number) && Condition::of(&wanted).is_some() {
            // It has been decided on; what its client says of it changes nothing of that.
            if let Some(answer) = registry.register(owner, number, *wanted, asked) {
                owner.session.registered(number, answer);
            }
            continue;
        }
        let answer = match decide(hooks.registration(session, &wanted)).await {
            Ok(()) => registry.register(owner, number, (*wanted).clone(), asked),
            Err(reason) => {
                Some(Registered::Refused(Refusal { code: RefusalCode::NotAllowed, reason }))
            }
        };
        let Some(answer) = answer else { continue };
        owner.session.registered(number, answer.clone());
        // Whoever only listens holds nobody up for longer than who decides.
        let answered = hooks.answered(session, &wanted, &answer);
        if tokio::time::timeout(DECIDE_WITHIN, answered).await.is_err() {
            tracing::error!(session = %owner.session_id, "a plugin did not take note of a registration in time");
        }
    }
}

const MARGIN: usize = 64;

/// Some 100 bytes each, and a reason to look at what asks for so many.
const MOST_WAITING: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_hook_that_does_not_decide_has_refused() {
        let began = tokio::time::Instant::now();
        let decided = decide(Box::pin(std::future::pending())).await;
        assert!(decided.unwrap_err().contains("in time"));
        assert_eq!(began.elapsed(), DECIDE_WITHIN);
        assert_eq!(decide(Box::pin(async { Ok(()) })).await, Ok(()));
    }
}
