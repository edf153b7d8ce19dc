//! A client that knows the token and none of the manners. It shakes hands by what PROTOCOL.md says,
//! with nothing of the product but its frames.

use std::net::SocketAddr;

use aws_lc_rs::hkdf;
use aws_lc_rs::signature::Ed25519KeyPair;
use ferrotunnel_common::{ClientId, StreamId, Token, TunnelKind};
use ferrotunnel_protocol::frame::{
    CLIENT_PROOF_LEN, Frame, FrameType, GoAwayCode, HEADER_LEN, Header, Hello, Open, Register,
    Reset, ResetCode, WindowUpdate,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::bed::{Carrier, TOKEN};
use crate::patience::soon;
use crate::stranger::Stranger;
use crate::visitor::loopback;

/// An authenticated session in the wrong hands.
pub struct Outlaw {
    speak: Box<dyn AsyncWrite + Send + Unpin>,
    ears: Ears,
}

enum Ears {
    /// What arrives stays in the socket.
    Closed(Box<dyn AsyncRead + Send + Unpin>),
    /// Everything is read at once, and waits here.
    Open { heard: mpsc::UnboundedReceiver<Heard>, task: JoinHandle<()> },
}

/// A frame that the server sent.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Its header.
    pub header: Header,
    /// Its payload; that of Data is not kept.
    pub payload: Vec<u8>,
}

impl std::fmt::Debug for Outlaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Outlaw")
    }
}

impl Drop for Outlaw {
    fn drop(&mut self) {
        if let Ears::Open { task, .. } = &self.ears {
            task.abort();
        }
    }
}

impl Outlaw {
    /// A session that lets the server send so many bytes at first on each stream, and that hears
    /// nothing until told to [listen](Self::listen).
    pub async fn deaf(server: SocketAddr, carrier: Carrier, initial_window: u32) -> Self {
        let mut stranger = Stranger::connect(server, carrier).await;
        let token = Token::new(TOKEN).unwrap();
        let welcome = log_in(&mut stranger, &token, initial_window).await;
        assert_eq!(welcome.header.kind, FrameType::Welcome, "{welcome:?}");
        let (listen, speak) = stranger.split();
        Self { speak: Box::new(speak), ears: Ears::Closed(Box::new(listen)) }
    }

    /// The same, with a usual window and ears.
    pub async fn join(server: SocketAddr, carrier: Carrier) -> Self {
        Self::deaf(server, carrier, 64 << 10).await.listening()
    }

    /// Reads from now on whatever comes.
    pub fn listening(mut self) -> Self {
        self.listen();
        self
    }

    /// Reads from now on whatever comes.
    #[expect(
        clippy::disallowed_methods,
        reason = "who is to hear everything must not stop at a bound"
    )]
    pub fn listen(&mut self) {
        let (tell, heard) = mpsc::unbounded_channel();
        let mut opened = Ears::Open { heard, task: tokio::spawn(async {}) };
        std::mem::swap(&mut self.ears, &mut opened);
        if let (Ears::Closed(mut listen), Ears::Open { task, .. }) = (opened, &mut self.ears) {
            *task = tokio::spawn(async move {
                while let Some(frame) = read(&mut listen).await {
                    if tell.send(frame).is_err() {
                        return;
                    }
                }
            });
        }
    }

    /// Sends a frame; whether it arrives is another matter.
    pub async fn say(&mut self, frame: &Frame) {
        self.say_bytes(&frame.encode()).await;
    }

    /// Sends bytes; whether they arrive is another matter, which the answer tells.
    pub async fn say_bytes(&mut self, bytes: &[u8]) -> bool {
        self.speak.write_all(bytes).await.is_ok() && self.speak.flush().await.is_ok()
    }

    /// Sends the same so many times, or until the server has closed.
    pub async fn flood(&mut self, frame: &[u8], times: usize) {
        let at_once = (BLOCK / frame.len()).max(1);
        let block = frame.repeat(at_once);
        for _ in 0..times.div_ceil(at_once) {
            if !self.say_bytes(&block).await {
                return;
            }
        }
    }

    /// The next frame; `None` when the server has closed.
    pub async fn hear(&mut self) -> Option<Heard> {
        match &mut self.ears {
            Ears::Closed(listen) => read(listen).await,
            Ears::Open { heard, .. } => heard.recv().await,
        }
    }

    /// The next frame of a kind; others before it are passed over.
    pub async fn hear_a(&mut self, kind: FrameType) -> Heard {
        let hearing = async {
            loop {
                match self.hear().await {
                    Some(heard) if heard.header.kind == kind => return heard,
                    Some(heard) if heard.header.kind == FrameType::GoAway => {
                        unreachable!("sent away: {:?}", heard.farewell())
                    }
                    Some(_) => {}
                    None => unreachable!("the server closed"),
                }
            }
        };
        soon(&format!("a {kind:?}"), hearing).await
    }

    /// Waits until it is sent away or the connection just ends, and returns the words if there
    /// were any.
    pub async fn is_sent_away(&mut self) -> Option<(GoAwayCode, String)> {
        let hearing = async {
            while let Some(heard) = self.hear().await {
                if heard.header.kind == FrameType::GoAway {
                    return Some(heard.farewell());
                }
            }
            None
        };
        soon("the end of the outlaw", hearing).await
    }

    /// Asks whether anybody still listens: a Ping comes back.
    pub async fn is_still_heard(&mut self) {
        let opaque = *b"youthere";
        self.say(&Frame::Ping(ferrotunnel_protocol::frame::Ping { ack: false, opaque })).await;
        while self.hear_a(FrameType::Ping).await.payload != opaque {}
    }

    /// A TCP tunnel, and where visitors reach it.
    pub async fn tcp(&mut self, number: u32) -> SocketAddr {
        let port = self.register(number, TunnelKind::Tcp, "").await;
        let port = port.unwrap_or_else(|code| unreachable!("refused: {code}"));
        loopback(port.strip_prefix(':').unwrap().parse().unwrap())
    }

    /// Asks for a tunnel and waits for the answer: the address, or the code of the refusal.
    pub async fn register(
        &mut self,
        number: u32,
        kind: TunnelKind,
        name: &str,
    ) -> Result<String, u8> {
        self.say(&ask_for(number, kind, name)).await;
        let heard = self.hear_a(FrameType::Registered).await;
        assert_eq!(heard.header.stream, number);
        heard.registered()
    }
}

/// A Register.
pub fn ask_for(number: u32, kind: TunnelKind, name: &str) -> Frame {
    let name = name.to_owned();
    let register = Register { kind, name, hosts: Vec::new(), port: 0, options: Vec::new() };
    Frame::Register(number, register)
}

/// A stream is given so much credit.
pub fn credit(stream: u32, credit: u32) -> Frame {
    Frame::WindowUpdate(StreamId(stream), WindowUpdate { credit })
}

/// A stream is broken off.
pub fn reset(stream: u32) -> Frame {
    Frame::Reset(StreamId(stream), Reset { code: ResetCode::Cancelled, reason: String::new() })
}

/// Streams that are opened and reset at once, which no client has to do at all.
pub fn opened_and_reset(streams: impl Iterator<Item = u32>) -> Vec<u8> {
    let open = Open {
        tunnel: 0,
        kind: TunnelKind::Tcp,
        visitor: None,
        ingress: None,
        send_window: 64 << 10,
        receive_window: 64 << 10,
        trace: None,
    };
    let frames = streams.flat_map(|stream| {
        [Frame::Open(StreamId(stream), open.clone()).encode(), reset(stream).encode()]
    });
    frames.collect::<Vec<_>>().concat()
}

/// A Data frame.
pub fn data(stream: u32, flags: u8, bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len().try_into().unwrap();
    let header = Header { kind: FrameType::Data, flags, length, stream };
    [&header.encode(), bytes].concat()
}

impl Heard {
    /// Code and words of a GoAway.
    pub fn farewell(&self) -> (GoAwayCode, String) {
        let code = u16::from_be_bytes([self.payload[4], self.payload[5]]);
        let code = match code {
            1 => GoAwayCode::Drain,
            2 => GoAwayCode::Superseded,
            3 => GoAwayCode::ShuttingDown,
            4 => GoAwayCode::Refused,
            5 => GoAwayCode::WrongToken,
            6 => GoAwayCode::ProtocolError,
            other => GoAwayCode::Other(other),
        };
        (code, String::from_utf8(self.payload[7..].to_vec()).unwrap())
    }

    /// What a Registered says.
    pub fn registered(&self) -> Result<String, u8> {
        match self.payload[0] {
            0 => Ok(String::from_utf8(self.payload[3..].to_vec()).unwrap()),
            code => Err(code),
        }
    }

    /// The first credit that an Open gives.
    pub fn receive_window(&self) -> u32 {
        let end = self.payload.len();
        u32::from_be_bytes(self.payload[end - 4..].try_into().unwrap())
    }
}

/// Shows a token, which may be a wrong one, and hears what the server says to that.
pub async fn log_in(stranger: &mut Stranger, token: &Token, initial_window: u32) -> Heard {
    let challenge = next(stranger).await;
    assert_eq!(challenge.header.kind, FrameType::Challenge);
    let nonce = [5; 32];
    let hello = Frame::Hello(Hello {
        version: 1,
        client_id: ClientId([9; 16]),
        token_id: token.id().to_owned(),
        nonce,
        proof: proof(token, stranger.binding(), &challenge.payload[2..34], &nonce),
        software: "outlaw".to_owned(),
        initial_window,
        direct_for: None,
    });
    stranger.say(&hello.encode()).await;
    next(stranger).await
}

async fn next(stranger: &mut Stranger) -> Heard {
    let mut header = [0; HEADER_LEN];
    header.copy_from_slice(&soon("a frame", stranger.hear(HEADER_LEN)).await);
    let header = Header::decode(&header).unwrap();
    let payload = soon("a payload", stranger.hear(header.length.into())).await;
    Heard { header, payload }
}

async fn read(listen: &mut (impl AsyncRead + Unpin)) -> Option<Heard> {
    let mut header = [0; HEADER_LEN];
    listen.read_exact(&mut header).await.ok()?;
    let header = Header::decode(&header).unwrap();
    let mut payload = vec![0; header.length.into()];
    listen.read_exact(&mut payload).await.ok()?;
    if header.kind == FrameType::Data {
        payload = Vec::new();
    }
    Some(Heard { header, payload })
}

/// Bytes of a flood that are written at once.
const BLOCK: usize = 64 << 10;

/// By section 3 of PROTOCOL.md.
fn proof(
    token: &Token,
    binding: &[u8],
    server_nonce: &[u8],
    client_nonce: &[u8],
) -> [u8; CLIENT_PROOF_LEN] {
    let salt = [&b"ferrotunnel/1"[..], token.id().as_bytes()].concat();
    let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, &salt).extract(token.secret());
    let mut seed = [0; 32];
    let expanded = extracted.expand(&[b"client key"], hkdf::HKDF_SHA256).unwrap();
    expanded.fill(&mut seed).unwrap();
    let message = [b"client", binding, server_nonce, client_nonce].concat();
    let signature = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap().sign(&message);
    signature.as_ref().try_into().unwrap()
}
