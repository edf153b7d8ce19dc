//! Writes lines in a thread of its own: a disk that is slow holds nobody up.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Where lines go.
#[derive(Debug)]
pub(super) struct Writer {
    lines: Option<SyncSender<String>>,
    /// Of the lines that wait.
    bytes: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
    /// Hung up when the thread has ended.
    ended: Mutex<Receiver<()>>,
}

impl Writer {
    /// Appends to a file, which is made if need be. One that is moved away is made anew.
    pub(super) fn file(path: &Path) -> io::Result<Self> {
        let place = Place { path: path.to_owned(), file: open(path)?, looked: Instant::now() };
        Self::start(place)
    }

    pub(super) fn stdout() -> io::Result<Self> {
        Self::start(Stdout)
    }

    fn start(place: impl Sink) -> io::Result<Self> {
        let (lines, queue) = sync_channel(QUEUE);
        let (end, ended) = sync_channel(0);
        let (lost, bytes) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicUsize::new(0)));
        let writing = {
            let (lost, bytes) = (Arc::clone(&lost), Arc::clone(&bytes));
            move || {
                write_all(&queue, place, &lost, &bytes);
                drop(end);
            }
        };
        std::thread::Builder::new().name("access-log".to_owned()).spawn(writing)?;
        Ok(Self { lines: Some(lines), bytes, lost, ended: Mutex::new(ended) })
    }

    /// Never waits: when the queue is full the line is lost, which is counted and logged.
    pub(super) fn write(&self, line: String) {
        let length = line.len();
        let before = self.bytes.fetch_add(length, Ordering::Relaxed);
        let has_room = before + length <= QUEUE_BYTES;
        if !has_room || self.lines.as_ref().is_none_or(|lines| lines.try_send(line).is_err()) {
            self.bytes.fetch_sub(length, Ordering::Relaxed);
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Writer {
    /// What was said is written, unless the disk does not answer.
    fn drop(&mut self) {
        self.lines = None;
        if self.ended.get_mut().recv_timeout(LAST_WORDS) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the access log's last lines could not be written in time");
        }
    }
}

trait Sink: Write + Send + 'static {
    /// Before some lines: whether they can be written, and where.
    fn look(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Whether nothing is in it at all.
    fn is_empty(&self) -> bool {
        false
    }
}

/// Keeps lines apart: behind one that a full disk has cut, the next begins on a line of its own.
struct Lines<S> {
    sink: S,
    is_cut: bool,
}

struct Stdout;

struct Place {
    path: PathBuf,
    file: File,
    looked: Instant,
}

impl Sink for Stdout {}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stdout().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

impl Sink for Place {
    fn look(&mut self) -> io::Result<()> {
        if self.looked.elapsed() >= LOOK_EVERY {
            self.looked = Instant::now();
            if was_moved(&self.path, &self.file) {
                self.file = open(&self.path)?;
            }
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.len() == 0)
    }
}

impl Write for Place {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl<S: Sink> Lines<S> {
    fn new(sink: S) -> Self {
        Self { sink, is_cut: false }
    }

    /// Somewhere where a line may begin.
    fn begin(&mut self) -> io::Result<&mut Self> {
        self.sink.look()?;
        if self.is_cut && !self.sink.is_empty() {
            self.write_all(b"\n")?;
        }
        Ok(self)
    }
}

impl<S: Sink> Write for Lines<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.sink.write(bytes)?;
        if let Some(last) = bytes.get(..written).and_then(<[u8]>::last) {
            self.is_cut = *last != b'\n';
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

fn write_all(queue: &Receiver<String>, sink: impl Sink, lost: &AtomicU64, bytes: &AtomicUsize) {
    let mut place = Lines::new(sink);
    let mut is_failing = false;
    while let Ok(first) = queue.recv() {
        let written = batch(&first, queue, &mut place, bytes);
        if let Err(error) = &written
            && !is_failing
        {
            tracing::error!(%error, "the access log cannot be written; lines are lost until it can");
        }
        is_failing = written.is_err();
        match lost.swap(0, Ordering::Relaxed) {
            0 => {}
            lines => tracing::warn!(
                lines,
                "lines of the access log were lost: they came faster than they could be written"
            ),
        }
    }
}

/// That line, and those that wait behind it.
fn batch(
    first: &str,
    queue: &Receiver<String>,
    place: &mut Lines<impl Sink>,
    bytes: &AtomicUsize,
) -> io::Result<()> {
    bytes.fetch_sub(first.len(), Ordering::Relaxed);
    let mut out = BufWriter::with_capacity(BATCH, place.begin()?);
    out.write_all(first.as_bytes())?;
    for line in queue.try_iter().take(QUEUE) {
        bytes.fetch_sub(line.len(), Ordering::Relaxed);
        out.write_all(line.as_bytes())?;
    }
    out.flush()
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // Who visits whom is not for everybody on the machine.
        options.mode(0o640);
    }
    options.open(path)
}

/// Whether the file is no longer the one of that path.
#[cfg(unix)]
fn was_moved(path: &Path, file: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    match (std::fs::metadata(path).map(id), file.metadata().map(id)) {
        (Ok(there), Ok(ours)) => there != ours,
        (Err(error), _) => error.kind() == io::ErrorKind::NotFound,
        (_, Err(_)) => false,
    }
}

/// Files that are open cannot be moved there.
#[cfg(not(unix))]
fn was_moved(path: &Path, _: &File) -> bool {
    !path.exists()
}

/// Lines that wait at most: some 2 MiB as they mostly are, and what a disk that stops for a second costs a busy server.
const QUEUE: usize = 8_192;

/// The same in bytes: what visitors write in their headers may be long.
const QUEUE_BYTES: usize = 8 << 20;

/// A few pages for each write.
const BATCH: usize = 64 << 10;

/// One look costs two system calls.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// As long as an end may take that has nothing more to do.
const LAST_WORDS: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with room for so many bytes, and then for more.
    struct Disk {
        written: Arc<Mutex<Vec<u8>>>,
        room: Arc<AtomicUsize>,
    }

    impl Sink for Disk {}

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let room = self.room.load(Ordering::Relaxed).min(bytes.len());
            if room == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room.fetch_sub(room, Ordering::Relaxed);
            self.written.lock().extend_from_slice(&bytes[..room]);
            Ok(room)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_a_full_disk_has_cut_spoils_no_other() {
        let (written, room) = (Arc::default(), Arc::new(AtomicUsize::new(10)));
        let mut place = Lines::new(Disk { written: Arc::clone(&written), room: Arc::clone(&room) });
        let (lines, queue) = sync_channel(QUEUE);
        let bytes = AtomicUsize::new(1_000);
        lines.send("second\n".to_owned()).unwrap();
        batch("first\n", &queue, &mut place, &bytes).unwrap_err();
        batch("third\n", &queue, &mut place, &bytes).unwrap_err();
        room.store(1_000, Ordering::Relaxed);
        batch("fourth\n", &queue, &mut place, &bytes).unwrap();
        batch("fifth\n", &queue, &mut place, &bytes).unwrap();
        let written = String::from_utf8(written.lock().clone()).unwrap();
        assert_eq!(written, "first\nseco\nfourth\nfifth\n");
    }
}
