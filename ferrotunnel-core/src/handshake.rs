//! The handshake of a session over a carrier, before its driver begins.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use ferrotunnel_common::{ClientId, SessionId};
use ferrotunnel_protocol::frame::{
    CLIENT_PROOF_LEN, Challenge, GoAway, GoAwayCode, Hello, Welcome,
};
use ferrotunnel_protocol::{
    Accept, Config, Event, HelloRequest, OutFrame, Session, State, Violation,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::auth::{self, Binding, ClientKey, Credential, NoRandom, Nonces};
use crate::carrier::Carrier;
use crate::clock;

/// An established session, ready for its driver.
pub(crate) struct Greeted {
    pub(crate) machine: Session,
    /// What was read beyond the handshake.
    pub(crate) input: BytesMut,
    pub(crate) session_id: SessionId,
    /// A peer that is silent for three of these is gone.
    pub(crate) heartbeat: Duration,
    /// What the peer says that it is; empty if nothing.
    pub(crate) software: String,
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("{0}")]
    Carrier(#[from] io::Error),
    #[error("{0}")]
    Violation(#[from] Violation),
    #[error("the peer ended it ({}): {}", .0.code, .0.reason)]
    GoAway(GoAway),
    #[error("wrong token")]
    WrongToken,
    #[error("the server's proof is wrong")]
    ServerNotTrusted,
    #[error("refused: {0}")]
    Refused(Cow<'static, str>),
    #[error(transparent)]
    NoRandom(#[from] NoRandom),
}

/// Who the client turned out to be.
#[derive(Clone)]
pub(crate) struct Guest {
    pub(crate) client_id: ClientId,
    pub(crate) credential: Arc<Credential>,
    /// The session that the connection is a direct carrier of.
    pub(crate) direct_for: Option<SessionId>,
}

/// What a client shows to be let in.
pub(crate) struct Shown {
    pub(crate) token_id: String,
    pub(crate) proof: [u8; CLIENT_PROOF_LEN],
    pub(crate) nonces: Nonces,
}

/// The server's end, which says that it is `software`. `check` says who has made a proof, if anybody has, or why that is not
/// told; `admit` may still refuse a client whose token is right.
pub(crate) async fn server<C: Carrier, F, G>(
    carrier: &mut C,
    config: Config,
    software: &str,
    binding: &Binding,
    check: impl FnOnce(Shown) -> F,
    admit: impl FnOnce(Guest) -> G,
) -> Result<(Greeted, Guest), HandshakeError>
where
    F: Future<Output = Result<Option<Arc<Credential>>, &'static str>>,
    G: Future<Output = Result<(), Cow<'static, str>>>,
{
    let nonce = auth::random()?;
    let fresh_id = auth::random_session_id()?;
    let heartbeat = config.heartbeat;
    let mut talk = Talk::new(carrier, Session::server(config, nonce, clock::now()));
    let hello = talk.next(|event| match event {
        Event::HelloReceived(hello) => Some(hello),
        _ => None,
    });
    let hello = hello.await?;
    let nonces = Nonces { server: nonce, client: hello.nonce };
    let shown = Shown { token_id: hello.token_id.clone(), proof: hello.proof, nonces };
    let credential = match check(shown).await {
        Ok(Some(credential)) => credential,
        Ok(None) => {
            let reason = "the token is not one of this server's";
            talk.refuse(GoAwayCode::WrongToken, reason).await;
            return Err(HandshakeError::WrongToken);
        }
        Err(reason) => {
            talk.refuse(GoAwayCode::Refused, reason).await;
            return Err(HandshakeError::Refused(Cow::Borrowed(reason)));
        }
    };
    let Hello { client_id, software: theirs, direct_for, .. } = *hello;
    let guest = Guest { client_id, credential, direct_for };
    if let Err(reason) = admit(guest.clone()).await {
        talk.refuse(GoAwayCode::Refused, &reason).await;
        return Err(HandshakeError::Refused(reason));
    }
    let session_id = direct_for.unwrap_or(fresh_id);
    let proof = guest.credential.verifier.server_proof(binding, &nonces);
    let software = software.to_owned();
    talk.machine.accept(Accept { session_id, proof, software }, clock::now());
    talk.flush().await?;
    Ok((talk.into_greeted(session_id, heartbeat, theirs), guest))
}

/// What the client's end says of itself.
pub(crate) struct Caller<'a> {
    pub(crate) key: &'a ClientKey,
    pub(crate) client_id: ClientId,
    pub(crate) software: &'a str,
    /// Makes the connection a direct carrier of that session.
    pub(crate) direct_for: Option<SessionId>,
}

/// The client's end.
pub(crate) async fn client<C: Carrier>(
    carrier: &mut C,
    config: Config,
    binding: &Binding,
    caller: Caller<'_>,
) -> Result<Greeted, HandshakeError> {
    let Caller { key, client_id, software, direct_for } = caller;
    let mut talk = Talk::new(carrier, Session::client(config, clock::now()));
    let challenge: Challenge = talk
        .next(|event| match event {
            Event::Challenged(challenge) => Some(challenge),
            _ => None,
        })
        .await?;
    let nonces = Nonces { server: challenge.nonce, client: auth::random()? };
    talk.machine.hello(HelloRequest {
        client_id,
        token_id: key.token_id().to_owned(),
        nonce: nonces.client,
        proof: key.proof(binding, &nonces),
        software: software.to_owned(),
        direct_for,
    });
    let welcome: Box<Welcome> = talk
        .next(|event| match event {
            Event::Welcomed(welcome) => Some(welcome),
            _ => None,
        })
        .await?;
    if !key.is_server_proof(&welcome.proof, binding, &nonces) {
        talk.refuse(GoAwayCode::WrongToken, "the server's proof is wrong").await;
        return Err(HandshakeError::ServerNotTrusted);
    }
    talk.machine.confirm(clock::now());
    let heartbeat = Duration::from_millis(welcome.heartbeat_ms.into());
    Ok(talk.into_greeted(welcome.session_id, heartbeat, welcome.software))
}

/// A machine in its greeting, and the carrier it talks over.
struct Talk<'a, C> {
    carrier: &'a mut C,
    machine: Session,
    input: BytesMut,
    output: VecDeque<OutFrame>,
}

impl<'a, C: Carrier> Talk<'a, C> {
    fn new(carrier: &'a mut C, machine: Session) -> Self {
        Self { carrier, machine, input: BytesMut::new(), output: VecDeque::new() }
    }

    /// Talks until the event that `pick` wants.
    async fn next<T>(&mut self, pick: impl Fn(Event) -> Option<T>) -> Result<T, HandshakeError> {
        loop {
            self.flush().await?;
            while let Some(event) = self.machine.poll_event() {
                match event {
                    Event::GoAway(go_away) if go_away.code == GoAwayCode::WrongToken => {
                        return Err(HandshakeError::WrongToken);
                    }
                    Event::GoAway(go_away) => return Err(HandshakeError::GoAway(*go_away)),
                    other => {
                        if let Some(wanted) = pick(other) {
                            return Ok(wanted);
                        }
                    }
                }
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> Result<(), HandshakeError> {
        let deadline = self.machine.poll_timeout();
        let (carrier, input) = (&mut *self.carrier, &mut self.input);
        let read = async {
            // Wait first, borrow then: a stranger that says nothing costs no buffer.
            std::future::poll_fn(|cx| carrier.poll_readable(cx)).await?;
            input.reserve(READ_BYTES);
            carrier.read_buf(input).await
        };
        let count = match deadline {
            None => read.await?,
            Some(deadline) => match tokio::time::timeout_at(deadline.into(), read).await {
                Ok(read) => read?,
                Err(_) => {
                    let timed_out = self.machine.handle_timeout(clock::now());
                    let _ = self.flush().await;
                    return timed_out.map_err(HandshakeError::from);
                }
            },
        };
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let handled = self.machine.handle_input(clock::now(), &mut self.input);
        if handled.is_err() {
            let _ = self.flush().await;
        }
        Ok(handled?)
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.machine.poll_transmit(clock::now(), &mut self.output, 0);
        if self.output.is_empty() {
            return Ok(());
        }
        let mut words = Vec::new();
        for frame in self.output.drain(..) {
            words.extend_from_slice(frame.head());
            words.extend_from_slice(frame.body());
        }
        self.carrier.write_all(&words).await?;
        self.carrier.flush().await
    }

    /// Says why, as far as the peer listens.
    async fn refuse(&mut self, code: GoAwayCode, reason: &str) {
        self.machine.close(code, reason);
        let _ = self.flush().await;
        let _ = Pin::new(&mut *self.carrier).shutdown().await;
    }

    fn into_greeted(self, session_id: SessionId, heartbeat: Duration, software: String) -> Greeted {
        debug_assert!(self.machine.state() != State::Greeting);
        Greeted { machine: self.machine, input: self.input, session_id, heartbeat, software }
    }
}

/// One handshake frame fits.
const READ_BYTES: usize = 1 << 10;
