//! The SQL files of a pipeline, in their roles.

use arrow::datatypes::SchemaRef;

use super::error::PipelineError;
use crate::domain::{Layer, TableName, schema};
use crate::refine::{Catalog, Mode, TableDef};

/// One table follows from bronze, silver; the others follow from it.
#[derive(Debug, Clone)]
pub struct Plan {
    pub catalog: Catalog,
    pub bronze: TableName,
    pub bronze_schema: SchemaRef,
    pub silver: TableDef,
    pub rows: Vec<TableDef>,
    pub windows: Vec<TableDef>,
}

impl Plan {
    /// Sorts the tables of the catalog into their roles.
    ///
    /// # Errors
    /// When not exactly one table follows from bronze, or one follows from something else than it.
    pub fn new(catalog: Catalog, bronze: TableName, bronze_schema: SchemaRef) -> Result<Self, PipelineError> {
        let from_bronze: Vec<&TableDef> = catalog.tables.iter().filter(|def| def.source == bronze).collect();
        let silver = match from_bronze.as_slice() {
            [silver] if silver.mode == Mode::Rows && silver.event_time.is_some() => (*silver).clone(),
            [silver] => {
                return Err(PipelineError::Layout(format!(
                    "{}: {} must have mode = \"rows\" and an event_time, because it refines {bronze}",
                    silver.file, silver.table
                )));
            }
            found => {
                let names: Vec<String> = found.iter().map(|def| def.table.to_string()).collect();
                return Err(PipelineError::Layout(format!(
                    "exactly one table must select FROM {bronze}, and {} do ({})",
                    found.len(),
                    names.join(", ")
                )));
            }
        };
        let rest: Vec<TableDef> = catalog.tables.iter().filter(|def| def.table != silver.table).cloned().collect();
        if let Some(def) = rest.iter().find(|def| def.source != silver.table) {
            return Err(PipelineError::Layout(format!(
                "{}: {} selects FROM {}, but tables follow from {}",
                def.file, def.table, def.source, silver.table
            )));
        }
        if let Some(def) = catalog.tables.iter().find(|def| def.partition_by.len() > 1) {
            return Err(PipelineError::Layout(format!(
                "{}: {} may have one partition column, not more",
                def.file, def.table
            )));
        }
        let (windows, rows): (Vec<_>, Vec<TableDef>) = rest.into_iter().partition(|def| def.mode == Mode::Window);
        if silver.model.is_some() {
            return Err(PipelineError::Layout(format!(
                "{}: `model` belongs to a table that follows from {}, not to itself",
                silver.file, silver.table
            )));
        }
        let mut with_model = rows.iter().filter(|def| def.model.is_some());
        if let (Some(one), Some(other)) = (with_model.next(), with_model.next()) {
            return Err(PipelineError::Layout(format!(
                "{} and {} both name a `model`; one table gets what it says",
                one.file, other.file
            )));
        }
        Ok(Self { catalog, bronze, bronze_schema, silver, rows, windows })
    }

    /// The column of silver that holds the event time.
    #[must_use]
    pub fn event_time(&self) -> &str {
        self.silver.event_time.as_deref().unwrap_or_default()
    }
}

/// The name of a pipeline's bronze table.
#[must_use]
pub fn bronze_name(contract: &str) -> TableName {
    TableName::new(Layer::Bronze, contract)
}

/// The columns of bronze for a contract.
#[must_use]
pub fn bronze_schema(contract: &crate::contract::Contract) -> SchemaRef {
    schema::bronze(&contract.arrow_schema())
}
