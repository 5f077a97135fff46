use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};

use super::error::LakeError;
use super::root::Lake;

/// The right to write to a lake, held until it is dropped.
///
/// On a folder it is a lock of the operating system, which a killed process loses at once. On an object store the
/// conditional put of each commit fences a second writer off at its first commit.
#[derive(Debug)]
pub struct Lease {
    _file: Option<File>,
}

impl Lease {
    /// # Errors
    /// [`LakeError::Leased`] while another process holds it; [`LakeError::Root`] when the lock file cannot be made.
    pub fn acquire(lake: &Lake) -> Result<Self, LakeError> {
        Self::of(lake, "lock", |location, holder| LakeError::Leased { location, holder })
    }

    /// The right to send dead letters again: whoever writes the lake goes on beside it. On an object store nobody is hindered,
    /// and what two send at once waits once (`replay.sql`).
    ///
    /// # Errors
    /// [`LakeError::Replayed`] while another process holds it; [`LakeError::Root`] when the lock file cannot be made.
    pub fn of_replay(lake: &Lake) -> Result<Self, LakeError> {
        Self::of(lake, "replay.lock", |location, holder| LakeError::Replayed { location, holder })
    }

    fn of(lake: &Lake, name: &str, held: impl Fn(String, String) -> LakeError) -> Result<Self, LakeError> {
        let Some(folder) = lake.folder() else { return Ok(Self { _file: None }) };
        let path = folder.join("_assay").join(name);
        let error =
            |e: std::io::Error| LakeError::Root { action: format!("locking {}", path.display()), cause: e.to_string() };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(error)?;
        }
        let mut file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).map_err(error)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                let holder = if holder.is_empty() { "unknown".into() } else { holder };
                return Err(held(lake.location(), holder));
            }
            Err(TryLockError::Error(e)) => return Err(error(e)),
        }
        let note = format!("process {}", std::process::id());
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(note.as_bytes())).map_err(error)?;
        Ok(Self { _file: Some(file) })
    }
}
