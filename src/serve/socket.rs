//! A Unix domain socket: clients on the same machine reach the service past TCP, which takes longer than a model.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream as StdUnixStream;
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
    /// A socket that a process left behind when it was killed is replaced.
    ///
    /// # Errors
    /// [`ErrorKind::AddrInUse`] when somebody answers there, [`ErrorKind::AlreadyExists`] when it is a file of another kind, and
    /// whatever keeps a file from being made there.
    ///
    /// # Panics
    /// Where no runtime was entered.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(io::Error::new(ErrorKind::AlreadyExists, "there is a file that is no socket"));
            }
            Ok(_) => match StdUnixStream::connect(path) {
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path)?,
                Err(error) => return Err(error),
                Ok(_) => return Err(io::Error::new(ErrorKind::AddrInUse, "another process listens there")),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let listener = UnixListener::bind(path)?;
        let identity = identity(&fs::symlink_metadata(path)?);
        Ok(Self { listener, path: path.to_owned(), identity })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) async fn accept(&mut self) -> UnixStream {
        Listener::accept(&mut self.listener).await.0
    }
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
