//! The eight bytes before every payload.

use crate::error::FrameError;

/// Length of a header in bytes.
pub const HEADER_LEN: usize = 8;

/// Longest payload in bytes, by the format: the length field has 16 bits, so no peer can make us
/// hold more for one frame, before or after authentication.
pub const MAX_PAYLOAD: usize = 65_535;

/// Flag of `Data`: nothing follows in this direction.
pub const FIN: u8 = 0x01;

/// Flag of `Data`, beside [`FIN`]: nothing follows here, and the direction goes on over the direct carrier that has asked
/// for the stream.
pub const MOVED: u8 = 0x02;

/// Flag of `Ping`: this one answers.
pub const ACK: u8 = 0x01;

/// Flag of `Register`: the tunnel is taken away.
pub const REMOVE: u8 = 0x01;

/// What every frame begins with: `type u8 | flags u8 | length u16 | stream u32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which of the thirteen frames this is.
    pub kind: FrameType,
    /// [`FIN`], [`MOVED`], [`ACK`], [`REMOVE`] or 0; the type says which may be set.
    pub flags: u8,
    /// Bytes of payload that follow.
    pub length: u16,
    /// The stream; 0 for the session itself; the tunnel's number in `Register` and `Registered`.
    pub stream: u32,
}

impl Header {
    /// The header as it travels.
    pub fn encode(self) -> [u8; HEADER_LEN] {
        let [l0, l1] = self.length.to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        [self.kind as u8, self.flags, l0, l1, s0, s1, s2, s3]
    }

    /// Reads a header.
    ///
    /// # Errors
    ///
    /// [`FrameError::UnknownType`], and [`FrameError::ReservedFlag`] for a bit that the type does
    /// not define, or not alone. The stream field is judged with the frame.
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, FrameError> {
        let [kind, flags, l0, l1, s0, s1, s2, s3] = *bytes;
        let kind = FrameType::from_wire(kind)?;
        let reserved = flags & !kind.defined_flags();
        if reserved != 0 {
            return Err(FrameError::ReservedFlag(reserved));
        }
        if kind == FrameType::Data && flags == MOVED {
            return Err(FrameError::ReservedFlag(MOVED));
        }
        Ok(Self {
            kind,
            flags,
            length: u16::from_be_bytes([l0, l1]),
            stream: u32::from_be_bytes([s0, s1, s2, s3]),
        })
    }

    /// Whether `flag` is set.
    pub(crate) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Session frames belong to stream 0 and all others to a stream or tunnel of their own;
    /// only credit is given to both.
    pub(crate) fn check_stream(self) -> Result<(), FrameError> {
        let fits = match self.kind {
            FrameType::Challenge
            | FrameType::Hello
            | FrameType::Welcome
            | FrameType::Ping
            | FrameType::GoAway => self.stream == 0,
            FrameType::Register
            | FrameType::Registered
            | FrameType::Open
            | FrameType::Data
            | FrameType::Reset
            | FrameType::Datagram
            | FrameType::Move => self.stream != 0,
            FrameType::WindowUpdate => true,
        };
        if fits { Ok(()) } else { Err(FrameError::WrongStream) }
    }
}

/// The type byte of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameType {
    /// Server to client: version range and nonce.
    Challenge = 1,
    /// Client to server: who it is, with its proof.
    Hello = 2,
    /// Server to client: its proof and the terms.
    Welcome = 3,
    /// Client to server: adds or removes a tunnel.
    Register = 4,
    /// Server to client: the fate of a tunnel.
    Registered = 5,
    /// Opens a stream.
    Open = 6,
    /// Bytes of a stream.
    Data = 7,
    /// Credit.
    WindowUpdate = 8,
    /// Aborts a stream.
    Reset = 9,
    /// One UDP payload.
    Datagram = 10,
    /// A sign of life.
    Ping = 11,
    /// No new streams after this.
    GoAway = 12,
    /// On a direct carrier: a stream is to go on here.
    Move = 13,
}

impl FrameType {
    /// The name used in this crate's documents, errors and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Challenge => "Challenge",
            Self::Hello => "Hello",
            Self::Welcome => "Welcome",
            Self::Register => "Register",
            Self::Registered => "Registered",
            Self::Open => "Open",
            Self::Data => "Data",
            Self::WindowUpdate => "WindowUpdate",
            Self::Reset => "Reset",
            Self::Datagram => "Datagram",
            Self::Ping => "Ping",
            Self::GoAway => "GoAway",
            Self::Move => "Move",
        }
    }

    fn from_wire(number: u8) -> Result<Self, FrameError> {
        Ok(match number {
            1 => Self::Challenge,
            2 => Self::Hello,
            3 => Self::Welcome,
            4 => Self::Register,
            5 => Self::Registered,
            6 => Self::Open,
            7 => Self::Data,
            8 => Self::WindowUpdate,
            9 => Self::Reset,
            10 => Self::Datagram,
            11 => Self::Ping,
            12 => Self::GoAway,
            13 => Self::Move,
            _ => return Err(FrameError::UnknownType(number)),
        })
    }

    fn defined_flags(self) -> u8 {
        match self {
            Self::Data => FIN | MOVED,
            Self::Ping => ACK,
            Self::Register => REMOVE,
            _ => 0,
        }
    }
}
