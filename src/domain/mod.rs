//! What every room speaks of: messages, positions, rejects, epochs and the columns of provenance.
//!
//! No I/O, no async, nothing of ours from elsewhere.

mod causes;
mod clock;
mod epoch;
mod history;
mod message;
mod position;
mod reaction;
mod reject;
pub mod schema;
mod similar;
mod stint;
mod table_name;

pub use causes::with_causes;
pub use clock::{Clock, ManualClock, SystemClock};
pub use epoch::{EpochKind, EpochRecord, STAGES, StageTime, TableVersion};
pub use history::{History, HistoryError, NoHistory};
pub use message::{Header, Message, MessageBatch, MessageBatchBuilder};
pub use position::{OffsetRange, Partition, Positions, Ranges};
pub use reaction::Reaction;
pub use reject::{DeadLetter, Reason, Stage};
pub use similar::{closest, did_you_mean};
pub use stint::{Stint, Timeline};
pub use table_name::{Layer, TableName, TableNameError};
