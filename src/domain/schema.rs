//! The columns that assay adds to what users send: declared here and nowhere else.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};

/// Microseconds since 1970, UTC: the one timestamp type of the lake.
#[must_use]
pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

pub const SOURCE_TOPIC: &str = "source_topic";
pub const SOURCE_PARTITION: &str = "source_partition";
pub const SOURCE_OFFSET: &str = "source_offset";
/// The Kafka timestamp.
pub const SOURCE_AT: &str = "source_at";
pub const SOURCE_KEY: &str = "source_key";
pub const SOURCE_HEADERS: &str = "source_headers";
pub const SCHEMA_ID: &str = "schema_id";
pub const INGESTED_AT: &str = "ingested_at";
pub const EPOCH: &str = "epoch";
/// The partition column of bronze: the UTC date of `ingested_at`.
pub const PROCESSING_DATE: &str = "processing_date";
/// The list of broken expectations in a quarantine table.
pub const BROKEN: &str = "broken_expectations";
/// Virtual columns of a `mode = "window"` SQL file.
pub const WINDOW_START: &str = "window_start";
pub const WINDOW_END: &str = "window_end";

/// What the champion of a model said of a row when it came; NULL where none was asked.
pub const MODEL_PROBABILITY: &str = "fraud_probability";
/// Whether that reaches the model's threshold.
pub const MODEL_DECISION: &str = "is_predicted_fraud";
/// Which version of the model was asked.
pub const MODEL_VERSION: &str = "model_version";

/// A header: `struct<name: string, value: binary>`.
#[must_use]
pub fn header_fields() -> Fields {
    vec![Field::new("name", DataType::Utf8, false), Field::new("value", DataType::Binary, true)].into()
}

/// `list<struct<name, value>>`; Delta names the item of a list `element`.
#[must_use]
pub fn headers_type() -> DataType {
    DataType::List(Arc::new(Field::new("element", DataType::Struct(header_fields()), false)))
}

/// Where a row comes from, the same in every bronze, dead-letter, silver and quarantine table.
#[must_use]
pub fn provenance() -> Vec<FieldRef> {
    let field = |name: &str, kind: DataType, nullable: bool| Arc::new(Field::new(name, kind, nullable));
    vec![
        field(SOURCE_TOPIC, DataType::Utf8, false),
        field(SOURCE_PARTITION, DataType::Int32, false),
        field(SOURCE_OFFSET, DataType::Int64, false),
        field(SOURCE_AT, timestamp(), true),
        field(SOURCE_KEY, DataType::Binary, true),
        field(SOURCE_HEADERS, headers_type(), true),
        field(SCHEMA_ID, DataType::Int32, true),
        field(INGESTED_AT, timestamp(), false),
        field(EPOCH, DataType::Int64, false),
        field(PROCESSING_DATE, DataType::Date32, false),
    ]
}

/// A bronze table: the contract's fields as sent, then [`provenance`].
#[must_use]
pub fn bronze(contract: &Schema) -> SchemaRef {
    let fields = contract.fields().iter().cloned().chain(provenance());
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// What a model adds to the rows of a table whose header names it. All three are NULL, or none is.
#[must_use]
pub fn model_columns() -> [FieldRef; 3] {
    let field = |name: &str, kind: DataType| Arc::new(Field::new(name, kind, true));
    [
        field(MODEL_PROBABILITY, DataType::Float64),
        field(MODEL_DECISION, DataType::Boolean),
        field(MODEL_VERSION, DataType::Utf8),
    ]
}

/// `bronze.dead_letters`: the raw payload, [`provenance`], and why it was refused.
#[must_use]
pub fn dead_letters() -> SchemaRef {
    let mut fields: Vec<FieldRef> = vec![Arc::new(Field::new("payload", DataType::Binary, true))];
    fields.extend(provenance());
    for name in ["stage", "reason", "detail"] {
        fields.push(Arc::new(Field::new(name, DataType::Utf8, false)));
    }
    Arc::new(Schema::new(fields))
}

/// A quarantine table: the bronze row, and the names of every expectation that it breaks.
#[must_use]
pub fn quarantine(bronze: &Schema) -> SchemaRef {
    let item = Arc::new(Field::new("element", DataType::Utf8, false));
    let broken = Arc::new(Field::new(BROKEN, DataType::List(item), false));
    let fields = bronze.fields().iter().cloned().chain([broken]);
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
