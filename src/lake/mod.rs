//! The lake: Delta tables on a folder or an S3-compatible store, with one writer and many readers.
//!
//! The only room that knows deltalake. A commit is one conditional put of a log entry that this room writes itself: it
//! stays flat in the number of files and versions, and a put that loses means that another writer was here.

mod columns;
mod commit;
mod compaction;
mod data_file;
mod encoder;
mod epochs;
mod error;
mod history;
mod intake;
mod lease;
mod partitioned;
mod presence;
mod reader;
mod records;
pub mod restatements;
mod rewrite;
mod root;
mod session;
mod table;
mod tidy;

pub use commit::{Commit, Outcome};
pub use compaction::{Compaction, CompactionSettings};
pub use data_file::{DataFile, Encoded, Encoding};
pub use encoder::{Encoder, store_file};
pub use epochs::EpochLedger;
pub use error::LakeError;
pub use history::FileHistory;
pub use intake::Intake;
pub use lease::Lease;
pub use presence::{missing_tables, newest_tables, require_tables};
pub use reader::{FileReader, RangeFilter};
pub use records::{Put, RecordAppender, RecordSpec, predictions_table, put_records};
pub use rewrite::{Revision, successor};
pub use root::{Lake, LakeSettings};
pub use session::{Session, TableVersions, open_session};
pub use table::{Table, TableSpec};
pub use tidy::{Expiry, tidy};
