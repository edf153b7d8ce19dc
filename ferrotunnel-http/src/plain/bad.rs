//! What can be wrong with an answer.

/// Why an answer is none, or ends before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Bad {
    #[error("the local service closed the connection before the end of its answer")]
    CutOff,
    #[error("the head of the answer is not one of HTTP/1.1")]
    Head,
    #[error("a header of the answer is not one of HTTP/1.1")]
    Header,
    #[error("the length of the answer cannot be told")]
    Length,
    #[error("the answer has more or longer headers than are taken")]
    TooLong,
    #[error("a chunk of the answer is not what its size says, or the size is none")]
    Chunk,
    #[error("the local service switches to another protocol without having been asked")]
    Switched,
}
