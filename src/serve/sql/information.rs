//! `information_schema`: the engine's, with the columns described as PostgreSQL does.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use arrow_pg::datatypes::into_pg_type;
use async_trait::async_trait;
use datafusion::catalog::information_schema::InformationSchemaProvider;
use datafusion::catalog::{CatalogProviderList, MemorySchemaProvider, SchemaProvider, TableProvider};
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::MemTable;

use super::engine::CATALOG;

pub(in crate::serve) struct InformationSchema {
    /// The list that this stands in.
    engine: std::sync::Weak<dyn CatalogProviderList>,
    schemas: BTreeMap<&'static str, Arc<MemorySchemaProvider>>,
}

impl InformationSchema {
    pub fn new(
        catalogs: Arc<dyn CatalogProviderList>,
        schemas: BTreeMap<&'static str, Arc<MemorySchemaProvider>>,
    ) -> Self {
        Self { engine: Arc::downgrade(&catalogs), schemas }
    }

    fn engine(&self) -> Option<InformationSchemaProvider> {
        self.engine.upgrade().map(InformationSchemaProvider::new)
    }
}

impl std::fmt::Debug for InformationSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InformationSchema").finish_non_exhaustive()
    }
}

#[async_trait]
impl SchemaProvider for InformationSchema {
    fn table_names(&self) -> Vec<String> {
        self.engine().map(|engine| engine.table_names()).unwrap_or_default()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        match name.to_ascii_lowercase().as_str() {
            "columns" => columns(&self.schemas).await.map(Some),
            "tables" => tables(&self.schemas).map(Some),
            _ => match self.engine() {
                Some(engine) => engine.table(name).await,
                None => Ok(None),
            },
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.table_names().iter().any(|known| known == &name.to_ascii_lowercase())
    }
}

fn names_in_order(schema: &MemorySchemaProvider) -> Vec<String> {
    let mut names = schema.table_names();
    names.sort_unstable();
    names
}

fn tables(schemas: &BTreeMap<&'static str, Arc<MemorySchemaProvider>>) -> Result<Arc<dyn TableProvider>> {
    let found =
        schemas.iter().flat_map(|(schema, tables)| names_in_order(tables).into_iter().map(move |name| (*schema, name)));
    let (layers, names): (Vec<&str>, Vec<String>) = found.unzip();
    let same = |value: &'static str| Arc::new(StringArray::from_iter_values(names.iter().map(|_| value))) as ArrayRef;
    table(vec![
        ("table_catalog", same(CATALOG)),
        ("table_schema", Arc::new(StringArray::from(layers)) as ArrayRef),
        ("table_name", Arc::new(StringArray::from_iter_values(&names)) as ArrayRef),
        ("table_type", same("BASE TABLE")),
        ("is_insertable_into", same("NO")),
    ])
}

async fn columns(schemas: &BTreeMap<&'static str, Arc<MemorySchemaProvider>>) -> Result<Arc<dyn TableProvider>> {
    let mut texts: [Vec<Option<String>>; 6] = Default::default();
    let mut numbers: [Vec<Option<i32>>; 4] = Default::default();
    for (schema, tables) in schemas {
        for name in names_in_order(tables) {
            let Some(provider) = tables.table(&name).await? else { continue };
            for (at, field) in (1..).zip(provider.schema().fields()) {
                let (kind, udt) = type_names(field.data_type());
                let nullable = if field.is_nullable() { "YES" } else { "NO" };
                let row = [*schema, &name, field.name(), nullable, &kind, &udt];
                texts.iter_mut().zip(row).for_each(|(column, value)| column.push(Some(value.to_owned())));
                let (precision, scale) = match field.data_type() {
                    DataType::Decimal128(precision, scale) => (Some(i32::from(*precision)), Some(i32::from(*scale))),
                    _ => (None, None),
                };
                let moment = matches!(field.data_type(), DataType::Timestamp(..)).then_some(6);
                numbers
                    .iter_mut()
                    .zip([Some(at), precision, scale, moment])
                    .for_each(|(column, value)| column.push(value));
            }
        }
    }
    let rows = numbers.first().map_or(0, Vec::len);
    let same = |value: Option<&'static str>| Arc::new(StringArray::from_iter((0..rows).map(|_| value))) as ArrayRef;
    let [schema, table_name, column, nullable, kind, udt] =
        texts.map(|column| Arc::new(StringArray::from_iter(column)) as ArrayRef);
    let [position, precision, scale, moment] =
        numbers.map(|column| Arc::new(Int32Array::from_iter(column)) as ArrayRef);
    table(vec![
        ("table_catalog", same(Some(CATALOG))),
        ("table_schema", schema),
        ("table_name", table_name),
        ("column_name", column),
        ("ordinal_position", position),
        ("column_default", same(None)),
        ("is_nullable", nullable),
        ("data_type", kind),
        ("character_maximum_length", Arc::new(Int32Array::from_iter((0..rows).map(|_| None::<i32>)))),
        ("numeric_precision", precision),
        ("numeric_scale", scale),
        ("datetime_precision", moment),
        ("udt_catalog", same(Some(CATALOG))),
        ("udt_schema", same(Some("pg_catalog"))),
        ("udt_name", udt),
        ("is_identity", same(Some("NO"))),
        ("is_generated", same(Some("NEVER"))),
        ("is_updatable", same(Some("NO"))),
    ])
}

/// `data_type` and `udt_name`.
fn type_names(kind: &DataType) -> (String, String) {
    let Some(udt) = into_pg_type(kind).ok().filter(|_| !is_json(kind)) else {
        return ("json".to_owned(), "json".to_owned());
    };
    let udt = udt.name().to_owned();
    let long = match udt.as_str() {
        "bool" => "boolean",
        "int2" => "smallint",
        "int4" => "integer",
        "int8" => "bigint",
        "float4" => "real",
        "float8" => "double precision",
        "timestamp" => "timestamp without time zone",
        "timestamptz" => "timestamp with time zone",
        "time" => "time without time zone",
        array if array.starts_with('_') => "ARRAY",
        other => other,
    };
    (long.to_owned(), udt.clone())
}

/// Whether values are JSON to a client of PostgreSQL: lists of plain values are its arrays, all else that is nested is not.
pub(in crate::serve) fn is_json(kind: &DataType) -> bool {
    match kind {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            item.data_type().is_nested()
        }
        kind => kind.is_nested(),
    }
}

fn table(columns: Vec<(&str, ArrayRef)>) -> Result<Arc<dyn TableProvider>> {
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))?;
    Ok(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))
}
