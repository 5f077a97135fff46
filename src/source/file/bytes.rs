//! The bytes of a file, wherever it is.

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::Hasher;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use ::bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};
use flate2::read::MultiGzDecoder;
use object_store::ObjectStoreExt;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use siphasher::sip128::{Hasher128, SipHasher13};
use url::Url;

use super::Progress;
use crate::source::SourceError;

/// What is read at once; a stream has two such pieces in memory.
const PIECE: u64 = 4 << 20;

/// A file that was found.
pub(super) struct Input {
    url: String,
    name: String,
    place: Place,
    size: u64,
    read: Arc<AtomicU64>,
}

enum Place {
    Local(PathBuf),
    Remote(Arc<Remote>),
}

impl Input {
    pub(super) fn find(url: &str, options: &BTreeMap<String, String>) -> Result<Self, SourceError> {
        let error = |cause: String| SourceError::File { url: url.to_owned(), action: "opened", cause };
        let (place, size) = match remote_url(url) {
            None => {
                let path = local_path(url);
                let metadata = path.metadata().map_err(|cause| error(cause.to_string()))?;
                if metadata.is_dir() {
                    return Err(error("it is a folder; name the files in it".to_owned()));
                }
                (Place::Local(path), metadata.len())
            }
            Some(parsed) => {
                let remote = Remote::open(&parsed, options).map_err(error)?;
                let size = remote.size;
                (Place::Remote(Arc::new(remote)), size)
            }
        };
        let name = url.trim_end_matches('/').rsplit(['/', '\\']).next().unwrap_or(url).to_owned();
        Ok(Self { url: url.to_owned(), name, place, size, read: Arc::default() })
    }

    /// A file of this machine through the object store's client: what tests have of one.
    #[cfg(test)]
    pub(super) fn through_store(url: &Url) -> Result<Self, String> {
        let remote = Remote::open(url, &BTreeMap::new())?;
        let name = url.path().rsplit('/').next().unwrap_or_default().to_owned();
        let size = remote.size;
        Ok(Self { url: url.to_string(), name, place: Place::Remote(Arc::new(remote)), size, read: Arc::default() })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Name and content hash, by reading everything once.
    pub(super) fn identity(&self) -> Result<String, SourceError> {
        let error = |cause: io::Error| self.error("read", &cause);
        let mut stream = self.raw(0).map_err(error)?;
        let mut hasher = SipHasher13::new();
        let mut piece = vec![0; 1 << 18];
        loop {
            let count = stream.read(&mut piece).map_err(error)?;
            let Some(read) = piece.get(..count).filter(|read| !read.is_empty()) else { break };
            hasher.write(read);
        }
        Ok(format!("file:{}#{:016x}", self.name, hasher.finish128().h1))
    }

    /// The content from the start, decompressed when the name ends in `.gz`; counts as progress.
    pub(super) fn stream(&self) -> Result<Box<dyn Read + Send>, SourceError> {
        let raw = self.raw(0).map_err(|cause| self.error("opened", &cause))?;
        let counted = Counted { inner: raw, read: self.read.clone() };
        if self.name.to_ascii_lowercase().ends_with(".gz") {
            Ok(Box::new(MultiGzDecoder::new(BufReader::with_capacity(1 << 18, counted))))
        } else {
            Ok(Box::new(counted))
        }
    }

    pub(super) fn progress(&self) -> Progress {
        Progress { bytes_read: self.read.load(Ordering::Relaxed).min(self.size), bytes_total: self.size }
    }

    pub(super) fn error(&self, action: &'static str, cause: &dyn std::fmt::Display) -> SourceError {
        SourceError::File { url: self.url.clone(), action, cause: cause.to_string() }
    }

    fn raw(&self, start: u64) -> io::Result<Box<dyn Read + Send>> {
        match &self.place {
            Place::Local(path) => {
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(start))?;
                Ok(Box::new(BufReader::with_capacity(1 << 18, file)))
            }
            Place::Remote(remote) => Ok(Box::new(RemoteStream::new(remote.clone(), start))),
        }
    }
}

/// Parquet reads here and there.
pub(super) struct Chunks(pub Arc<Input>);

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.0.size
    }
}

impl ChunkReader for Chunks {
    type T = Box<dyn Read + Send>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(self.0.raw(start)?)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        // Before memory is taken: a damaged file may claim any length.
        if start.checked_add(length as u64).is_none_or(|end| end > self.0.size) {
            return Err(ParquetError::EOF(format!("{length} bytes expected at {start} of {}", self.0.size)));
        }
        let bytes = match &self.0.place {
            Place::Local(path) => {
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(start))?;
                let mut buffer = Vec::with_capacity(length);
                file.take(length as u64).read_to_end(&mut buffer)?;
                buffer.into()
            }
            Place::Remote(remote) => remote.get(start..start + length as u64)?,
        };
        if bytes.len() < length {
            return Err(ParquetError::EOF(format!("{length} bytes expected at {start}, only {} there", bytes.len())));
        }
        self.0.read.fetch_add(length as u64, Ordering::Relaxed);
        Ok(bytes)
    }
}

struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

type Answer = io::Result<Bytes>;

/// An object, read through a thread that owns the asynchronous client: callers may be on any thread, runtime or not.
struct Remote {
    requests: Sender<(Range<u64>, Sender<Answer>)>,
    size: u64,
}

impl Remote {
    fn open(url: &Url, options: &BTreeMap<String, String>) -> Result<Self, String> {
        let (store, path) = object_store::parse_url_opts(url, options).map_err(|error| error.to_string())?;
        let (requests, inbox) = bounded::<(Range<u64>, Sender<Answer>)>(4);
        let (found, size) = bounded::<Result<u64, String>>(1);
        let serve = move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => {
                    let _ = found.send(Err(error.to_string()));
                    return;
                }
            };
            let head = runtime.block_on(store.head(&path));
            let _ = found.send(head.map(|object| object.size).map_err(|error| error.to_string()));
            // Ends when the file is dropped, which closes the channel; an asker who is gone needs no answer.
            for (range, answer) in inbox {
                let bytes = runtime.block_on(store.get_range(&path, range));
                let _ = answer.send(bytes.map_err(io::Error::other));
            }
        };
        thread::Builder::new().name("object-reader".to_owned()).spawn(serve).map_err(|error| error.to_string())?;
        let size = size.recv().map_err(|error| error.to_string())??;
        Ok(Self { requests, size })
    }

    fn ask(&self, range: Range<u64>) -> Receiver<Answer> {
        let (answer, inbox) = bounded(1);
        // A reader that is gone drops the question, and the empty inbox says so.
        let _ = self.requests.send((range, answer));
        inbox
    }

    fn get(&self, range: Range<u64>) -> Answer {
        receive(&self.ask(range))
    }
}

fn receive(inbox: &Receiver<Answer>) -> Answer {
    inbox.recv().unwrap_or_else(|_| Err(io::Error::other("the object's reader has stopped")))
}

/// An object from front to back, one piece ahead.
struct RemoteStream {
    remote: Arc<Remote>,
    piece: Bytes,
    ahead: Option<Receiver<Answer>>,
    next: u64,
}

impl RemoteStream {
    fn new(remote: Arc<Remote>, start: u64) -> Self {
        let mut stream = Self { remote, piece: Bytes::new(), ahead: None, next: start };
        stream.ask();
        stream
    }

    fn ask(&mut self) {
        let end = (self.next + PIECE).min(self.remote.size);
        self.ahead = (self.next < end).then(|| self.remote.ask(self.next..end));
        self.next = end;
    }
}

impl Read for RemoteStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            let Some(ahead) = self.ahead.take() else { return Ok(0) };
            self.piece = receive(&ahead)?;
            self.ask();
        }
        let count = buffer.len().min(self.piece.len());
        let taken = self.piece.split_to(count);
        if let Some(target) = buffer.get_mut(..count) {
            target.copy_from_slice(&taken);
        }
        Ok(count)
    }
}

/// A URL of an object store; `None` for a path of this machine.
fn remote_url(url: &str) -> Option<Url> {
    url.contains("://").then(|| Url::parse(url).ok()).flatten().filter(|url| url.scheme() != "file")
}

fn local_path(url: &str) -> PathBuf {
    Url::parse(url)
        .ok()
        .filter(|parsed| parsed.scheme() == "file")
        .and_then(|parsed| parsed.to_file_path().ok())
        .unwrap_or_else(|| Path::new(url).to_owned())
}
