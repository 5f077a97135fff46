//! Dead letters sent to their topic once more.
//!
//! A replayed message is a new message: it goes through contract and expectations like all others, whoever writes the lake
//! meanwhile. It carries the place of the letter in a header, so that bronze and the dead letters tell which letters were
//! replayed already.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type};
use arrow::error::ArrowError;
use datafusion::common::{DataFusionError, ParamValues, ScalarValue};
use datafusion::physical_plan::SendableRecordBatchStream;

use crate::domain::{Header, TableName};
use crate::lake::Session;

/// The header that names the lake and the place of the letter: lake/topic/partition/offset. Several lakes may read one topic.
pub const REPLAYED: &str = "assay-replay";
const LETTERS: &str = include_str!("replay.sql");

/// Which letters are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replay {
    /// [`crate::lake::Lake::id`].
    pub lake: String,
    /// By their reason; all where none is given.
    pub reasons: Vec<String>,
    /// Epochs, both included.
    pub from_epoch: Option<i64>,
    pub to_epoch: Option<i64>,
    /// Topics that letters may come from; those of files have none to be sent to.
    pub topics: Vec<String>,
}

/// A letter as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    pub topic: String,
    /// Where the others of its key are.
    pub partition: i32,
    pub key: Option<Vec<u8>>,
    pub payload: Option<Vec<u8>>,
    /// Those that it came with, and where it came from.
    pub headers: Vec<Header>,
}

impl Replay {
    /// The letters that were not replayed yet, in the order in which they came.
    ///
    /// # Errors
    /// When the tables cannot be read.
    pub async fn letters(
        &self,
        session: &Session,
        bronze: &TableName,
    ) -> Result<SendableRecordBatchStream, DataFusionError> {
        let list = |values: &[String]| values.iter().map(|value| quoted(value)).collect::<Vec<_>>().join(", ");
        let mut wanted = vec![format!("source_topic IN ({})", list(&self.topics))];
        if !self.reasons.is_empty() {
            wanted.push(format!("reason IN ({})", list(&self.reasons)));
        }
        let sql = LETTERS
            .replace("{lake}", &self.lake)
            .replace("{bronze}", &bronze.to_string())
            .replace("{wanted}", &wanted.join(" AND "));
        let frame = session.context.sql(&sql).await?;
        let bounds = [self.from_epoch.unwrap_or(0), self.to_epoch.unwrap_or(i64::MAX)];
        let frame = frame.with_param_values(ParamValues::from(bounds.map(ScalarValue::from).to_vec()))?;
        frame.execute_stream().await
    }
}

/// The letters of a batch, in its order.
///
/// # Errors
/// When it is no batch of [`Replay::letters`].
pub fn letters_of(batch: &RecordBatch) -> Result<Vec<Letter>, ArrowError> {
    let column = |name: &str, kind: &DataType| {
        let column = batch.column_by_name(name);
        cast(column.ok_or_else(|| ArrowError::SchemaError(format!("no column {name}")))?, kind)
    };
    let bytes =
        |column: &ArrayRef, row: usize| (!column.is_null(row)).then(|| column.as_binary::<i64>().value(row).to_vec());
    let [topics, origins] = ["source_topic", "origin"].map(|name| column(name, &DataType::Utf8));
    let [keys, payloads] = ["source_key", "payload"].map(|name| column(name, &DataType::LargeBinary));
    let (topics, origins, keys, payloads) = (topics?, origins?, keys?, payloads?);
    let partitions = column("source_partition", &DataType::Int32)?;
    let partitions = partitions.as_primitive::<Int32Type>();
    let all_headers = batch.column_by_name("source_headers").and_then(|of| of.as_list_opt::<i32>());
    let letter = |row: usize| {
        let came = all_headers.filter(|lists| !lists.is_null(row)).map(|lists| headers(&lists.value(row)));
        let mut headers = came.transpose()?.unwrap_or_default();
        headers.retain(|header| header.name != REPLAYED);
        let origin = origins.as_string::<i32>().value(row);
        headers.push(Header { name: REPLAYED.to_owned(), value: Some(origin.as_bytes().to_vec()) });
        let topic = topics.as_string::<i32>().value(row).to_owned();
        let partition = partitions.value(row);
        Ok(Letter { topic, partition, key: bytes(&keys, row), payload: bytes(&payloads, row), headers })
    };
    (0..batch.num_rows()).map(letter).collect()
}

fn headers(pairs: &ArrayRef) -> Result<Vec<Header>, ArrowError> {
    let column = |name: &str, kind: &DataType| {
        let column = pairs.as_struct_opt().and_then(|pairs| pairs.column_by_name(name));
        cast(column.ok_or_else(|| ArrowError::SchemaError(format!("headers without {name}")))?, kind)
    };
    let (names, values) = (column("name", &DataType::Utf8)?, column("value", &DataType::LargeBinary)?);
    let (names, values) = (names.as_string::<i32>(), values.as_binary::<i64>());
    let header = |at: usize| Header {
        name: names.value(at).to_owned(),
        value: (!values.is_null(at)).then(|| values.value(at).to_vec()),
    };
    Ok((0..pairs.len()).map(header).collect())
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
