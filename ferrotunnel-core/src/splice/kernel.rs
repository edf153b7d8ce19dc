//! Bytes from socket to socket inside the kernel, by splice(2): no copy of ours between them.
//!
//! A splice into a socket that is broken raises SIGPIPE, which Rust programs ignore unless told
//! otherwise.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use rustix::pipe::{
    PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice,
};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// A pipe between two sockets: what was taken from the one and not yet given to the other lies
/// in it as references to the pages it arrived in.
pub(super) struct KernelPipe {
    read: OwnedFd,
    write: OwnedFd,
    held: usize,
    _place: Place,
}

/// One of the pipes that this process may have.
struct Place;

impl Place {
    fn take() -> io::Result<Self> {
        if PIPES.fetch_add(1, Ordering::Relaxed) < MOST_PIPES {
            return Ok(Self);
        }
        drop(Self);
        Err(io::ErrorKind::QuotaExceeded.into())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        PIPES.fetch_sub(1, Ordering::Relaxed);
    }
}

impl KernelPipe {
    /// Two descriptors.
    ///
    /// # Errors
    /// There are none left, or no memory for a pipe that is worth it.
    pub(super) fn new() -> io::Result<Self> {
        let place = Place::take()?;
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // A user has a share of pipe memory; what is left beyond it is slower than copying.
        let _ = fcntl_setpipe_size(&write, CAPACITY);
        if fcntl_getpipe_size(&write)? < LEAST_CAPACITY {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        Ok(Self { read, write, held: 0, _place: place })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Takes what `source` has. `false`: the end.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        source: &TcpStream,
    ) -> Poll<io::Result<bool>> {
        loop {
            ready!(source.poll_read_ready(cx))?;
            let moved = source
                .try_io(Interest::READABLE, || take(source.as_fd(), self.write.as_fd(), CAPACITY));
            match moved {
                Ok(count) => {
                    self.held += count;
                    return Poll::Ready(Ok(count > 0));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Gives `sink` what it takes of what is held.
    pub(super) fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        sink: &TcpStream,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(sink.poll_write_ready(cx))?;
            let moved = sink
                .try_io(Interest::WRITABLE, || take(self.read.as_fd(), sink.as_fd(), self.held));
            match moved {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => {
                    self.held = self.held.saturating_sub(count);
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

fn take(from: impl AsFd, to: impl AsFd, most: usize) -> io::Result<usize> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    loop {
        match splice(&from, None, &to, None, most, flags) {
            Err(rustix::io::Errno::INTR) => {}
            moved => return Ok(moved?),
        }
    }
}

/// As much as a read of our own: more grows cold before it is written.
const CAPACITY: usize = 256 << 10;

/// What a pipe has when nobody asks for more.
const LEAST_CAPACITY: usize = 64 << 10;

/// Pipes of this process at once; what stalls in them is outside every other limit. Beyond it
/// bytes are copied.
const MOST_PIPES: usize = 1_024;

static PIPES: AtomicUsize = AtomicUsize::new(0);
