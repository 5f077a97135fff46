//! An epoch as bronze's commit describes it: offsets and rows in one atomic put.

use serde_json::{Value, json};

use super::work::EpochWork;
use crate::domain::{OffsetRange, Partition, Positions, Ranges};

/// What bronze's commit says of its epoch: enough to go on reading, and to refine it later.
pub(super) fn bronze_info(work: &EpochWork) -> Value {
    let ranges: Vec<Value> = work
        .ranges
        .iter()
        .map(|(at, range)| json!([at.topic, at.partition, range.first, range.next, range.messages]))
        .collect();
    let next: Vec<Value> = work.next.iter().map(|(at, next)| json!([at.topic, at.partition, next])).collect();
    json!({
        "epoch": work.epoch,
        "started_at_us": work.started_at_us,
        "messages": work.messages,
        "bronze_rows": work.bronze_rows,
        "dead_letters": work.dead_letters,
        "evolved": work.evolved,
        "ranges": ranges,
        "next": next,
    })
}

/// An epoch as bronze's commit describes it.
#[derive(Debug, Clone, Default)]
pub struct BronzeEpoch {
    pub epoch: i64,
    pub started_at_us: i64,
    pub messages: u64,
    pub bronze_rows: u64,
    pub dead_letters: u64,
    pub evolved: bool,
    pub ranges: Ranges,
    pub next: Positions,
}

impl BronzeEpoch {
    /// Reads what [`bronze_info`] wrote.
    #[must_use]
    pub fn parse(info: &Value) -> Option<Self> {
        let number = |key: &str| info.get(key)?.as_i64();
        let count = |key: &str| info.get(key)?.as_u64();
        let place = |entry: &[Value]| -> Option<Partition> {
            Some(Partition::new(entry.first()?.as_str()?, i32::try_from(entry.get(1)?.as_i64()?).ok()?))
        };
        let mut parsed = Self {
            epoch: number("epoch")?,
            started_at_us: number("started_at_us")?,
            messages: count("messages")?,
            bronze_rows: count("bronze_rows")?,
            dead_letters: count("dead_letters")?,
            evolved: info.get("evolved")?.as_bool()?,
            ..Self::default()
        };
        for entry in info.get("ranges")?.as_array()? {
            let entry = entry.as_array()?;
            let range = OffsetRange {
                first: entry.get(2)?.as_i64()?,
                next: entry.get(3)?.as_i64()?,
                messages: entry.get(4)?.as_u64()?,
            };
            parsed.ranges.insert(place(entry)?, range);
        }
        for entry in info.get("next")?.as_array()? {
            let entry = entry.as_array()?;
            parsed.next.insert(place(entry)?, entry.get(2)?.as_i64()?);
        }
        Some(parsed)
    }
}
