//! A Unix domain socket: clients on the same machine reach the service past TCP, which takes longer than a model.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use axum::serve::Listener;
use tokio::net::{UnixListener, UnixStream};

/// A file that clients connect to; it is gone when this is dropped.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Of the file: another process may put its own in the place.
    identity: (u64, u64),
}

impl Socket {
    /// Listens at `path`. Who may connect, the file's permissions say: by the umask 022 its owner alone.
    ///
    /// A socket that a process left behind when it was killed is replaced. The folder is locked meanwhile (flock): of two that
    /// find such a one, the second finds the first.
    ///
    /// # Errors
    /// [`ErrorKind::AddrInUse`] when somebody listens there, [`ErrorKind::AlreadyExists`] when it is something else,
    /// [`ErrorKind::NotFound`] without its folder, [`ErrorKind::InvalidInput`] when the path is too long, and whatever keeps a
    /// file from being made there.
    ///
    /// # Panics
    /// Where no runtime was entered.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = File::open(folder).map_err(|error| told(error, ErrorKind::NotFound, "its folder is not there"))?;
        folder.lock()?;
        remove_stale(path)?;
        let too_long = "the path of a socket may have 107 bytes at most";
        let listener = UnixListener::bind(path).map_err(|error| told(error, ErrorKind::InvalidInput, too_long))?;
        let identity = identity(&fs::symlink_metadata(path)?);
        Ok(Self { listener, path: path.to_owned(), identity })
    }

    pub(super) async fn accept(&mut self) -> UnixStream {
        Listener::accept(&mut self.listener).await.0
    }
}

/// Removes a socket behind which nobody is.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            let other = "something else is there, a file, a folder or a link: remove it, or name another path";
            Err(io::Error::new(ErrorKind::AlreadyExists, other))
        }
        // Without waiting for a place: whoever has none free is there too.
        Ok(_) => match mio::net::UnixStream::connect(path) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Err(io::Error::new(ErrorKind::AddrInUse, "another process listens there")),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// An error of this kind in better words.
fn told(error: io::Error, kind: ErrorKind, words: &str) -> io::Error {
    if error.kind() == kind { io::Error::new(kind, words) } else { error }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let is_own = fs::symlink_metadata(&self.path).is_ok_and(|found| identity(&found) == self.identity);
        if is_own && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "a socket stays behind");
        }
    }
}

fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of_refusal(path: &Path) -> ErrorKind {
        Socket::bind(path).unwrap_err().kind()
    }

    #[tokio::test]
    async fn a_socket_is_taken_over_from_the_dead_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("assay.sock");
        let socket = Socket::bind(&path).unwrap();
        assert_eq!(kind_of_refusal(&path), ErrorKind::AddrInUse);
        drop(socket);
        assert!(!path.exists());

        // As after a kill: the file is there, and nobody behind it.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(Socket::bind(&path).unwrap());

        fs::write(&path, "precious").unwrap();
        assert_eq!(kind_of_refusal(&path), ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        assert_eq!(kind_of_refusal(&folder.path().join("missing/assay.sock")), ErrorKind::NotFound);
        assert_eq!(kind_of_refusal(&folder.path().join("x".repeat(108))), ErrorKind::InvalidInput);
    }

    #[tokio::test]
    async fn of_two_that_come_after_the_dead_one_gets_the_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("assay.sock");
        let runtime = tokio::runtime::Handle::current();
        for _ in 0..100 {
            drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
            let bind = || {
                let _in_runtime = runtime.enter();
                Socket::bind(&path)
            };
            let bound = std::thread::scope(|scope| {
                let starting = [scope.spawn(bind), scope.spawn(bind)];
                starting.map(|thread| thread.join().unwrap())
            });
            assert_eq!(bound.iter().filter(|bound| bound.is_ok()).count(), 1, "{bound:?}");
            std::os::unix::net::UnixStream::connect(&path).unwrap();
        }
    }

    #[tokio::test]
    async fn the_socket_of_another_process_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("assay.sock");
        let socket = Socket::bind(&path).unwrap();
        fs::rename(&path, folder.path().join("moved")).unwrap();
        let other = Socket::bind(&path).unwrap();
        drop(socket);
        assert!(path.exists());
        drop(other);
        assert!(!path.exists());
    }
}
