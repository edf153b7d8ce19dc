//! The handshake: rustls' from the first byte to the last key, driven over a socket.
//!
//! rustls is shown one record after the other, so that nothing behind the handshake gets into its
//! hands: the first records of the peer may come in one segment with its last message.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{
    AlertDescription, ClientConfig, ContentType, ExtractedSecrets, HandshakeKind, KeyLog,
    ServerConfig,
};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::exporter::Exporter;
use super::keys::{HEADER_LEN, Secrets};
use super::passes::Pass;
use super::records::{RECORDS_PER_KEY, Records};
use super::stream::TlsStream;
use super::turns::HandshakeTurns;
use crate::auth::Binding;

/// A connection whose handshake is done.
pub(crate) struct Secured {
    pub(crate) stream: TlsStream,
    /// The exporter of the connection.
    pub(crate) binding: Binding,
    /// A ticket stood for the certificate.
    pub(crate) is_resumed: bool,
    /// At the server's end of a resumed connection: what the client had shown when it got the ticket.
    pub(super) certificates: Vec<CertificateDer<'static>>,
    /// At the server's end: what its tickets are, once the client has proven the token.
    pub(crate) passes: Vec<Pass>,
}

/// The client's end. `name` is the server's, if it is verified.
pub(super) async fn connect(
    config: &ClientConfig,
    name: ServerName<'static>,
    socket: TcpStream,
) -> io::Result<Secured> {
    let exporter = Arc::new(Exporter::default());
    let mut config = config.clone();
    config.key_log = Arc::clone(&exporter) as Arc<dyn KeyLog>;
    let greeter = UnbufferedClientConnection::new(Arc::new(config), name).map_err(invalid)?;
    let most = [MOST_IN_FLIGHT; 2];
    let mut secured = Handshake::new(greeter, socket, most).run(&exporter).await?;
    // The server speaks first, and not before it has our last message.
    secured.stream.flush().await?;
    Ok(secured)
}

/// The server's end. Its ticket leaves with whatever is written first. `input` was read already. With `turns` it computes
/// when it is its turn among others of its source, and among sources.
pub(super) async fn accept(
    mut config: ServerConfig,
    socket: TcpStream,
    input: BytesMut,
    turns: Option<(&HandshakeTurns, IpAddr)>,
) -> io::Result<Secured> {
    let exporter = Arc::new(Exporter::default());
    config.key_log = Arc::clone(&exporter) as Arc<dyn KeyLog>;
    let greeter = UnbufferedServerConnection::new(Arc::new(config)).map_err(invalid)?;
    let most = [MOST_FROM_STRANGER, MOST_IN_FLIGHT];
    let turns = turns.map(|(turns, from)| (turns.clone(), from));
    Handshake { input, turns, ..Handshake::new(greeter, socket, most) }.run(&exporter).await
}

/// A connection of rustls' that is not established yet.
trait Greeter {
    type Data;

    fn process<'a, 'i>(&'a mut self, input: &'i mut [u8]) -> UnbufferedStatus<'a, 'i, Self::Data>;

    fn is_handshaking(&self) -> bool;

    fn kind(&self) -> Option<HandshakeKind>;

    /// What a client has shown, now or when it got the ticket that it shows now.
    fn client_certificates(&self) -> Vec<CertificateDer<'static>>;

    fn extract(self) -> Result<(ExtractedSecrets, Secrets), rustls::Error>;
}

impl Greeter for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'a, 'i>(&'a mut self, input: &'i mut [u8]) -> UnbufferedStatus<'a, 'i, Self::Data> {
        self.process_tls_records(input)
    }

    fn is_handshaking(&self) -> bool {
        (**self).is_handshaking()
    }

    fn kind(&self) -> Option<HandshakeKind> {
        self.handshake_kind()
    }

    fn client_certificates(&self) -> Vec<CertificateDer<'static>> {
        Vec::new()
    }

    fn extract(self) -> Result<(ExtractedSecrets, Secrets), rustls::Error> {
        let (extracted, kept) = self.dangerous_into_kernel_connection()?;
        Ok((extracted, Secrets::Client(kept)))
    }
}

impl Greeter for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'a, 'i>(&'a mut self, input: &'i mut [u8]) -> UnbufferedStatus<'a, 'i, Self::Data> {
        self.process_tls_records(input)
    }

    fn is_handshaking(&self) -> bool {
        (**self).is_handshaking()
    }

    fn kind(&self) -> Option<HandshakeKind> {
        self.handshake_kind()
    }

    fn client_certificates(&self) -> Vec<CertificateDer<'static>> {
        self.peer_certificates().map(<[_]>::to_vec).unwrap_or_default()
    }

    fn extract(self) -> Result<(ExtractedSecrets, Secrets), rustls::Error> {
        let (extracted, kept) = self.dangerous_into_kernel_connection()?;
        Ok((extracted, Secrets::Server(kept)))
    }
}

struct Handshake<G> {
    greeter: G,
    socket: TcpStream,
    input: BytesMut,
    /// Bytes of `input` that rustls may look at: whole records, and what it keeps of earlier ones.
    shown: usize,
    output: Vec<u8>,
    /// Bytes of `input` at most.
    limit: usize,
    /// The same once the peer has said something that makes sense.
    limit_later: usize,
    turns: Option<(HandshakeTurns, IpAddr)>,
}

/// What rustls wants next.
enum Step {
    Again,
    Read,
    Done,
}

impl<G: Greeter> Handshake<G> {
    fn new(greeter: G, socket: TcpStream, [limit, limit_later]: [usize; 2]) -> Self {
        let (input, output) = (BytesMut::new(), Vec::new());
        Self { greeter, socket, input, shown: 0, output, limit, limit_later, turns: None }
    }

    async fn run(mut self, exporter: &Exporter) -> io::Result<Secured> {
        loop {
            let turn = match &self.turns {
                Some((turns, from)) if self.shown > 0 => Some(turns.take(*from).await),
                _ => None,
            };
            let mut step = self.step();
            while let Ok(Step::Again) = step {
                step = self.step();
            }
            drop(turn);
            match step {
                Ok(Step::Done) => break,
                Ok(_) => self.show_more().await?,
                Err(error) => {
                    self.complain(&error).await;
                    return Err(invalid(error));
                }
            }
        }
        let Self { greeter, socket, input, output, .. } = self;
        let exported = exporter.exported().ok_or_else(|| io::Error::other("no exporter"))?;
        let is_resumed = greeter.kind() == Some(HandshakeKind::Resumed);
        let certificates = if is_resumed { greeter.client_certificates() } else { Vec::new() };
        let (extracted, secrets) = greeter.extract().map_err(invalid)?;
        let records = Records::new(extracted, secrets, RECORDS_PER_KEY)?;
        Ok(Secured {
            stream: TlsStream::new(socket, records, input, output),
            binding: Binding::Exporter(exported),
            is_resumed,
            certificates,
            passes: Vec::new(),
        })
    }

    fn step(&mut self) -> Result<Step, rustls::Error> {
        let shown = self.input.get_mut(..self.shown).unwrap_or_default();
        let UnbufferedStatus { discard, state } = self.greeter.process(shown);
        let step = state.and_then(|state| match state {
            ConnectionState::EncodeTlsData(encoder) => {
                encode(encoder, &mut self.output);
                self.limit = self.limit_later;
                Ok(Step::Again)
            }
            ConnectionState::TransmitTlsData(transmit) => {
                // It is, before anything else is read.
                transmit.done();
                Ok(Step::Again)
            }
            ConnectionState::BlockedHandshake => Ok(Step::Read),
            ConnectionState::WriteTraffic(_) => Ok(Step::Done),
            _ => Err(rustls::Error::HandshakeNotComplete),
        });
        // In any case: rustls counts on being shown the rest of what it has kept, at its place.
        self.input.advance(discard.min(self.input.len()));
        self.shown = self.shown.saturating_sub(discard);
        match step? {
            // A server may talk before the client has answered; ours does not.
            Step::Done if self.greeter.is_handshaking() => Ok(Step::Read),
            Step::Done if self.shown > 0 => Err(rustls::Error::HandshakeNotComplete),
            step => Ok(step),
        }
    }

    /// Shows one record more, once it is there and what we have to say has been written.
    async fn show_more(&mut self) -> io::Result<()> {
        loop {
            if let Some(len) = next_len(self.input.get(self.shown..).unwrap_or_default()) {
                self.shown += len;
                return Ok(());
            }
            self.socket.write_all(&self.output).await?;
            self.output.clear();
            read_more(&mut self.socket, &mut self.input, self.limit).await?;
        }
    }

    /// Tells the peer what is wrong, as far as it listens.
    async fn complain(&mut self, error: &rustls::Error) {
        // Once: behind the alert rustls would look at the same records again.
        let _ = self.step();
        let _ = self.socket.write_all(&self.output).await;
        // Whoever shows a certificate shall learn why it is not taken. A socket that is closed while
        // something in it is unread, like the rest of a long chain, takes back what it has said.
        if is_about_a_certificate(error) {
            let _ = self.socket.shutdown().await;
            let _ = tokio::time::timeout(LINGER, self.hear_out()).await;
        }
    }

    /// Takes what the peer has said meanwhile, until it hangs up.
    async fn hear_out(&mut self) {
        let mut left = self.limit;
        self.input.clear();
        while left > 0 {
            self.input.reserve(READ_BYTES);
            match self.socket.read_buf(&mut self.input).await {
                Ok(count @ 1..) => left = left.saturating_sub(count),
                _ => return,
            }
            self.input.clear();
        }
    }
}

/// The first record of a peer that nobody has answered yet, or the header of what is none.
pub(super) async fn first_record<'a>(
    socket: &mut TcpStream,
    input: &'a mut BytesMut,
) -> io::Result<&'a [u8]> {
    let len = loop {
        match next_len(input) {
            Some(len) => break len,
            None => read_more(socket, input, MOST_FROM_STRANGER).await?,
        }
    };
    Ok(input.get(..len).unwrap_or_default())
}

/// Reads what comes next, up to so many bytes in all.
async fn read_more(socket: &mut TcpStream, input: &mut BytesMut, limit: usize) -> io::Result<()> {
    let room = limit.saturating_sub(input.len());
    if room == 0 {
        let reason = "a handshake that is longer than any";
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    if input.is_empty() {
        // Wait first, borrow then: a stranger that says nothing costs no buffer.
        *input = BytesMut::new();
        socket.readable().await?;
    }
    input.reserve(room.min(READ_BYTES));
    match socket.read_buf(&mut bytes::BufMut::limit(input, room)).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

fn is_about_a_certificate(error: &rustls::Error) -> bool {
    matches!(error, rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)
}

/// What tells the peer of that error.
pub(super) fn alert_for(error: &rustls::Error) -> AlertDescription {
    match error {
        rustls::Error::InvalidCertificate(error) => error.clone().into(),
        rustls::Error::NoCertificatesPresented => AlertDescription::CertificateRequired,
        _ => AlertDescription::HandshakeFailure,
    }
}

fn encode<Data>(mut encoder: EncodeTlsData<'_, Data>, output: &mut Vec<u8>) {
    if let Err(EncodeError::InsufficientSize(size)) = encoder.encode(&mut []) {
        let start = output.len();
        output.resize(start + size.required_size, 0);
        // The size is what it asked for.
        let _ = encoder.encode(output.get_mut(start..).unwrap_or_default());
    }
}

/// Bytes of the record that `input` begins with, if it is whole. One that rustls will refuse for its
/// header need not be waited for.
fn next_len(input: &[u8]) -> Option<usize> {
    let &[kind, major, _, high, low] = input.first_chunk::<HEADER_LEN>()?;
    let body_len = usize::from(u16::from_be_bytes([high, low]));
    let is_known = !matches!(ContentType::from(kind), ContentType::Unknown(_));
    if !is_known || major != 3 || body_len > MOST_BODY {
        return Some(HEADER_LEN);
    }
    let len = HEADER_LEN + body_len;
    (len <= input.len()).then_some(len)
}

pub(super) fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// A client's first message has half a KiB, with a post-quantum key share less than two.
pub(super) const READ_BYTES: usize = 2 << 10;

/// Body of a record that rustls does not refuse for its length alone.
const MOST_BODY: usize = (16 << 10) + (2 << 10);

/// What a stranger makes a server hold: one record.
pub(crate) const MOST_FROM_STRANGER: usize = HEADER_LEN + MOST_BODY;

/// Certificate chains are larger, also those of clients; as much as rustls itself takes.
const MOST_IN_FLIGHT: usize = 64 << 10;

/// How long a peer may take to hang up once it has been told why. It has the alert within a round
/// trip; meanwhile it holds its place like one that has not finished.
const LINGER: Duration = Duration::from_secs(1);
