//! What clients ask of a server before their users do: catalogs, layers, tables, types, and what it can do.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::{
    SqlInfoData, SqlInfoDataBuilder, XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder,
};
use arrow_flight::sql::{
    CommandGetCatalogs, CommandGetDbSchemas, CommandGetTableTypes, CommandGetTables, Nullable, Searchable, SqlInfo,
    SqlNullOrdering, SqlSupportedCaseSensitivity, SqlSupportedTransaction, SqlTransactionIsolationLevel, XdbcDataType,
};

use super::rows::sent_table;
use crate::domain::Layer;
use crate::serve::sql::engine::{CATALOG, Tables};
use crate::serve::sql::failure::{Failure, state};

const TABLE: &str = "TABLE";
/// Keys are what the SQL files say, and nothing that the tables would know.
const PRIMARY: &[(&str, DataType, bool)] = &[
    ("catalog_name", DataType::Utf8, true),
    ("db_schema_name", DataType::Utf8, true),
    ("table_name", DataType::Utf8, false),
    ("column_name", DataType::Utf8, false),
    ("key_name", DataType::Utf8, true),
    ("key_sequence", DataType::Int32, false),
];
const FOREIGN: &[(&str, DataType, bool)] = &[
    ("pk_catalog_name", DataType::Utf8, true),
    ("pk_db_schema_name", DataType::Utf8, true),
    ("pk_table_name", DataType::Utf8, false),
    ("pk_column_name", DataType::Utf8, false),
    ("fk_catalog_name", DataType::Utf8, true),
    ("fk_db_schema_name", DataType::Utf8, true),
    ("fk_table_name", DataType::Utf8, false),
    ("fk_column_name", DataType::Utf8, false),
    ("key_sequence", DataType::Int32, false),
    ("fk_key_name", DataType::Utf8, true),
    ("pk_key_name", DataType::Utf8, true),
    ("update_rule", DataType::UInt8, false),
    ("delete_rule", DataType::UInt8, false),
];

pub(super) fn internal(error: FlightError) -> Failure {
    Failure::new(state::INTERNAL, error.to_string())
}

pub(super) fn catalogs(command: CommandGetCatalogs) -> Result<RecordBatch, Failure> {
    let mut catalogs = command.into_builder();
    catalogs.append(CATALOG);
    catalogs.build().map_err(internal)
}

pub(super) fn layers(command: CommandGetDbSchemas) -> Result<RecordBatch, Failure> {
    let mut layers = command.into_builder();
    for layer in Layer::ALL {
        layers.append(CATALOG, layer.as_str());
    }
    layers.build().map_err(internal)
}

pub(super) fn table_types(command: CommandGetTableTypes) -> Result<RecordBatch, Failure> {
    let mut types = command.into_builder();
    types.append(TABLE);
    types.build().map_err(internal)
}

/// The tables that a role may read.
pub(super) async fn tables(command: CommandGetTables, tables: &Tables) -> Result<RecordBatch, Failure> {
    use datafusion::catalog::SchemaProvider as _;
    let with_schema = command.include_schema;
    let mut found = command.into_builder();
    for layer in Layer::ALL {
        let Some(schema) = tables.layer(layer) else { continue };
        for name in schema.table_names() {
            let columns = match with_schema {
                true => schema.table(&name).await.ok().flatten().map(|table| sent_table(&table.schema())),
                false => None,
            };
            let columns = columns.unwrap_or_else(Schema::empty);
            found.append(CATALOG, layer.as_str(), name, TABLE, &columns).map_err(internal)?;
        }
    }
    found.build().map_err(internal)
}

/// No table says what its keys are.
pub(super) fn primary_keys() -> RecordBatch {
    nothing(PRIMARY)
}

/// The same of those that refer to others.
pub(super) fn foreign_keys() -> RecordBatch {
    nothing(FOREIGN)
}

fn nothing(columns: &[(&str, DataType, bool)]) -> RecordBatch {
    let field = |(name, kind, nullable): &(&str, DataType, bool)| Field::new(*name, kind.clone(), *nullable);
    let schema: SchemaRef = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
    RecordBatch::new_empty(schema)
}

/// What the server says that it is and can do.
pub(super) fn abilities() -> Result<SqlInfoData, Failure> {
    let mut info = SqlInfoDataBuilder::new();
    info.append(SqlInfo::FlightSqlServerName, "assay");
    info.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    info.append(SqlInfo::FlightSqlServerArrowVersion, arrow::ARROW_VERSION);
    info.append(SqlInfo::FlightSqlServerReadOnly, true);
    info.append(SqlInfo::FlightSqlServerSql, true);
    info.append(SqlInfo::FlightSqlServerSubstrait, false);
    info.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::Transaction as i32);
    info.append(SqlInfo::FlightSqlServerCancel, true);
    info.append(SqlInfo::FlightSqlServerBulkIngestion, false);
    info.append(SqlInfo::FlightSqlServerIngestTransactionsSupported, false);
    info.append(SqlInfo::SqlDdlCatalog, false);
    info.append(SqlInfo::SqlDdlSchema, false);
    info.append(SqlInfo::SqlDdlTable, false);
    info.append(SqlInfo::SqlIdentifierCase, SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i32);
    info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    info.append(
        SqlInfo::SqlQuotedIdentifierCase,
        SqlSupportedCaseSensitivity::SqlCaseSensitivityCaseInsensitive as i32,
    );
    info.append(SqlInfo::SqlAllTablesAreSelectable, true);
    info.append(SqlInfo::SqlNullOrdering, SqlNullOrdering::SqlNullsSortedHigh as i32);
    info.append(SqlInfo::SqlSchemaTerm, "layer");
    info.append(SqlInfo::SqlCatalogTerm, "catalog");
    info.append(SqlInfo::SqlSupportsColumnAliasing, true);
    info.append(SqlInfo::SqlSupportsTableCorrelationNames, true);
    info.append(SqlInfo::SqlSupportsExpressionsInOrderBy, true);
    info.append(SqlInfo::SqlSupportsOrderByUnrelated, true);
    info.append(SqlInfo::SqlSupportsLikeEscapeClause, true);
    info.append(SqlInfo::SqlSupportsNonNullableColumns, true);
    info.append(SqlInfo::SqlTransactionsSupported, true);
    let isolation = SqlTransactionIsolationLevel::SqlTransactionRepeatableRead as i32;
    info.append(SqlInfo::SqlDefaultTransactionIsolation, i64::from(isolation));
    info.append(SqlInfo::SqlSupportedTransactionsIsolationLevels, 1 << isolation);
    info.append(SqlInfo::SqlSavepointsSupported, false);
    info.append(SqlInfo::SqlBatchUpdatesSupported, false);
    info.build().map_err(internal)
}

/// The types of columns, for clients that speak ODBC or JDBC to their users.
pub(super) fn types() -> Result<XdbcTypeInfoData, Failure> {
    let known = [
        ("boolean", XdbcDataType::XdbcBit, Some(1), None),
        ("smallint", XdbcDataType::XdbcSmallint, Some(16), Some(2)),
        ("integer", XdbcDataType::XdbcInteger, Some(32), Some(2)),
        ("bigint", XdbcDataType::XdbcBigint, Some(64), Some(2)),
        ("real", XdbcDataType::XdbcReal, Some(24), Some(2)),
        ("double", XdbcDataType::XdbcDouble, Some(53), Some(2)),
        ("decimal", XdbcDataType::XdbcDecimal, Some(38), Some(10)),
        ("varchar", XdbcDataType::XdbcVarchar, None, None),
        ("bytea", XdbcDataType::XdbcVarbinary, None, None),
        ("date", XdbcDataType::XdbcDate, Some(10), None),
        ("time", XdbcDataType::XdbcTime, Some(15), None),
        ("timestamp", XdbcDataType::XdbcTimestamp, Some(27), None),
        ("interval", XdbcDataType::XdbcInterval, None, None),
    ];
    let mut types = XdbcTypeInfoDataBuilder::new();
    for (name, kind, size, radix) in known {
        let is_number = radix.is_some();
        let quote = (!is_number && name != "boolean").then(|| "'".to_owned());
        let is_decimal = name == "decimal";
        types.append(XdbcTypeInfo {
            type_name: name.to_owned(),
            data_type: kind,
            column_size: size,
            literal_prefix: quote.clone(),
            literal_suffix: quote,
            create_params: is_decimal.then(|| vec!["precision".to_owned(), "scale".to_owned()]),
            nullable: Nullable::NullabilityNullable,
            case_sensitive: name == "varchar",
            searchable: Searchable::Full,
            unsigned_attribute: is_number.then_some(false),
            fixed_prec_scale: false,
            auto_increment: is_number.then_some(false),
            local_type_name: Some(name.to_owned()),
            minimum_scale: is_decimal.then_some(0),
            maximum_scale: is_decimal.then_some(38),
            sql_data_type: kind,
            datetime_subcode: None,
            num_prec_radix: radix,
            interval_precision: None,
        });
    }
    types.build().map_err(internal)
}
