//! The lake as of one complete epoch, narrowed to the rows of some epochs.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::catalog::{CatalogProvider, MemorySchemaProvider, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::cast as cast_to;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::prelude::{DataFrame, col, lit};
use futures::StreamExt;

use crate::domain::TableName;
use crate::lake::{EpochLedger, LakeError, Session};
use crate::refine::{References, SqlFileError, functions};

use super::definitions::Definitions;
use super::error::WarehouseError;
use super::file::{ADDED, EPOCH, SCHEMA, TableFile};
use super::kind::Kind;

/// The lake's side of a run.
pub struct Source {
    session: Session,
    catalog: Arc<dyn CatalogProvider>,
    /// The tables with rows by epoch, whole.
    whole: Vec<(TableName, Arc<dyn TableProvider>)>,
    silver: (TableName, SchemaRef),
}

/// Epochs in `(after, to]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub after: i64,
    pub to: i64,
}

/// A row of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch {
    pub epoch: i64,
    pub silver_rows: u64,
    pub is_rebuild: bool,
    pub published_at_us: i64,
}

/// A table as PostgreSQL is to have it.
#[derive(Debug, Clone)]
pub struct Table {
    pub file: TableFile,
    pub columns: Vec<Column>,
    /// Of the columns that the query gives.
    pub kinds: Vec<Kind>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    /// As PostgreSQL's `format_type` shows it.
    pub kind: String,
    pub not_null: bool,
    pub about: String,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("epoch", &self.epoch()).finish_non_exhaustive()
    }
}

impl Source {
    /// `silver` says all columns that the table may have: one that no message has filled yet is not there.
    ///
    /// # Errors
    /// When the session has no place for the other files.
    pub fn new(
        session: Session,
        definitions: &Definitions,
        references: &Arc<References>,
        silver: (TableName, SchemaRef),
    ) -> Result<Self, WarehouseError> {
        functions::register(&session.context, references);
        let catalog = session
            .context
            .catalog("assay")
            .ok_or_else(|| WarehouseError::Lake(LakeError::Epoch("the session has no catalog".to_owned())))?;
        catalog
            .register_schema(SCHEMA, Arc::new(MemorySchemaProvider::new()))
            .map_err(|error| WarehouseError::Lake(LakeError::Epoch(error.to_string())))?;
        Ok(Self { session, catalog, whole: Vec::with_capacity(definitions.sources.len()), silver })
    }

    /// The epoch at which the lake is read; 0 in one without epochs.
    #[must_use]
    pub fn epoch(&self) -> i64 {
        self.session.record.as_ref().map_or(0, |record| record.epoch)
    }

    /// From now on the tables hold the rows of these epochs only.
    ///
    /// # Errors
    /// When a table has no epochs, or a view cannot be planned.
    pub async fn narrow(&mut self, definitions: &Definitions, span: Span) -> Result<(), WarehouseError> {
        if self.whole.is_empty() {
            for name in &definitions.sources {
                let Some(schema) = self.catalog.schema(name.layer.as_str()) else { continue };
                // Tables that are declared and not filled, such as features that are not enabled, are not there.
                if let Some(table) = schema.table(&name.name).await.map_err(|e| unreadable(name, &e))? {
                    self.whole.push((name.clone(), table));
                }
            }
        }
        let context = &self.session.context;
        for (name, whole) in &self.whole {
            let rows = col(EPOCH).gt(lit(span.after)).and(col(EPOCH).lt_eq(lit(span.to)));
            let narrowed = context.read_table(Arc::clone(whole)).and_then(|table| table.filter(rows));
            let narrowed = narrowed.and_then(|rows| self.complete(name, rows));
            let narrowed = narrowed.map_err(|error| unreadable(name, &error))?.into_view();
            replace(&*self.catalog, name.layer.as_str(), &name.name, narrowed).map_err(|e| unreadable(name, &e))?;
        }
        for view in &definitions.views {
            let rows = self.plan(view).await?.into_view();
            replace(&*self.catalog, SCHEMA, &view.name, rows).map_err(|error| in_sql(view, &error))?;
        }
        Ok(())
    }

    fn complete(&self, name: &TableName, mut rows: DataFrame) -> Result<DataFrame, DataFusionError> {
        let (silver, schema) = &self.silver;
        for field in schema.fields().iter().filter(|_| name == silver) {
            if rows.schema().has_column_with_unqualified_name(field.name()) {
                continue;
            }
            rows = rows.with_column(field.name(), cast_to(lit(ScalarValue::Null), field.data_type().clone()))?;
        }
        Ok(rows)
    }

    /// The query of a file, planned.
    ///
    /// # Errors
    /// With its place in the file.
    pub async fn plan(&self, file: &TableFile) -> Result<DataFrame, WarehouseError> {
        Ok(crate::query::plan(&self.session.context, &file.sql).await.map_err(|error| in_sql(file, &error))?)
    }

    /// What a loaded table looks like in PostgreSQL.
    ///
    /// # Errors
    /// When the columns of the query are not those of the header, or have no type there.
    pub async fn table(&self, file: &TableFile) -> Result<Table, WarehouseError> {
        let frame = self.plan(file).await?;
        let wrong = |problem: String| WarehouseError::Sql(SqlFileError::new(&file.file, 1, problem));
        let (mut columns, mut kinds) = (Vec::new(), Vec::new());
        for field in frame.schema().fields() {
            let name = field.name();
            let Some(def) = file.column(name) else {
                return Err(wrong(format!("the query selects `{name}`, and `columns` does not say what it is")));
            };
            let kind = Kind::of(field.data_type()).map_err(|problem| wrong(format!("`{name}`: {problem}")))?;
            columns.push(Column {
                name: name.clone(),
                kind: kind.to_string(),
                not_null: def.not_null,
                about: def.about.clone(),
            });
            kinds.push(kind);
        }
        if let Some(def) = file.columns.iter().find(|def| columns.iter().all(|column| column.name != def.name)) {
            return Err(wrong(format!("`columns` names `{}`, and the query does not select it", def.name)));
        }
        if columns.iter().any(|column| column.name == EPOCH && column.kind != Kind::BigInt.to_string()) {
            return Err(wrong("`epoch` must be the epoch of the rows: a BIGINT".to_owned()));
        }
        for ((name, about), kind) in ADDED.into_iter().zip([Kind::Uuid, Kind::Text]) {
            columns.push(Column { name: name.into(), kind: kind.to_string(), not_null: true, about: about.into() });
        }
        Ok(Table { file: file.clone(), columns, kinds })
    }

    /// Goes through the ledger in order.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn epochs(&self, span: Span, mut each: impl FnMut(Epoch)) -> Result<(), WarehouseError> {
        let failed = |error: DataFusionError| unreadable(&EpochLedger::table_name(), &error);
        let mut stream = self.ledger(span).await.map_err(failed)?;
        while let Some(batch) = stream.next().await {
            epochs_of(&batch.map_err(failed)?).map_err(failed)?.into_iter().for_each(&mut each);
        }
        Ok(())
    }

    async fn ledger(&self, span: Span) -> Result<SendableRecordBatchStream, DataFusionError> {
        let ledger = self.session.context.table(EpochLedger::table_name().to_string()).await?;
        let columns = vec![
            col(EPOCH),
            col("silver_rows"),
            col("kind").eq(lit("rebuild")).alias("is_rebuild"),
            col("published_at"),
        ];
        let rows = col(EPOCH).gt(lit(span.after)).and(col(EPOCH).lt_eq(lit(span.to)));
        let frame = ledger.filter(rows)?.select(columns)?.sort(vec![col(EPOCH).sort(true, false)])?;
        frame.execute_stream().await
    }
}

fn epochs_of(batch: &RecordBatch) -> Result<Vec<Epoch>, DataFusionError> {
    let numbers = |column: usize| {
        let column = cast(batch.column(column), &DataType::Int64)?;
        Ok::<_, DataFusionError>(column.as_primitive::<Int64Type>().clone())
    };
    let (epoch, rows, published) = (numbers(0)?, numbers(1)?, numbers(3)?);
    let is_rebuild = batch.column(2).as_boolean();
    let of = |row: usize| Epoch {
        epoch: epoch.value(row),
        silver_rows: u64::try_from(rows.value(row)).unwrap_or(0),
        is_rebuild: is_rebuild.value(row),
        published_at_us: published.value(row),
    };
    Ok((0..batch.num_rows()).map(of).collect())
}

/// A table of people's, as its file says it.
#[must_use]
pub fn kept(file: &TableFile) -> Table {
    let column = |def: &super::file::ColumnDef| Column {
        name: def.name.clone(),
        kind: def.kind.clone().unwrap_or_default(),
        not_null: def.not_null,
        about: def.about.clone(),
    };
    Table { file: file.clone(), columns: file.columns.iter().map(column).collect(), kinds: Vec::new() }
}

fn replace(
    catalog: &dyn CatalogProvider,
    schema: &str,
    name: &str,
    table: Arc<dyn TableProvider>,
) -> Result<(), DataFusionError> {
    let Some(schema) = catalog.schema(schema) else { return Ok(()) };
    schema.deregister_table(name)?;
    schema.register_table(name.to_owned(), table)?;
    Ok(())
}

fn in_sql(file: &TableFile, error: &DataFusionError) -> SqlFileError {
    SqlFileError::in_sql(&file.file, file.sql_line, error)
}

fn unreadable(table: &TableName, error: &DataFusionError) -> WarehouseError {
    WarehouseError::Lake(LakeError::Read { table: table.clone(), cause: error.strip_backtrace() })
}
