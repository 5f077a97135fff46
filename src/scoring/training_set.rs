//! The rows that a model learns from, read from the lake as of one epoch.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::kernels::cmp::eq;
use arrow::compute::{and, cast, concat_batches};
use arrow::datatypes::{Schema, SchemaRef, TimestampMicrosecondType};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{LogicalPlan, ident};
use datafusion::prelude::DataFrame;

use crate::domain::{did_you_mean, schema};
use crate::features::Features;
use crate::lake::Session;
use crate::model::registry::{LakeColumn, LakeSource};
use crate::model::table::{Roles, Table, TableError, TableFile};
use crate::pipeline::Plan;
use crate::refine::{
    Lineage, Origin, References, RefineSettings, RowsTable, SqlFileError, TrailingCount, TrainingDef, functions, origin,
};

/// Labelled rows, and where they are from.
#[derive(Debug)]
pub struct TrainingSet {
    /// In the order of time, then of the key; without the key and what is ignored.
    pub table: Table,
    pub roles: Roles,
    pub source: LakeSource,
    /// The newest instant among all rows of the query, in microseconds since 1970: labels are as old as that.
    pub newest_us: i64,
}

/// Why the lake gives no rows to learn from.
#[derive(Debug, thiserror::Error)]
pub enum TrainingSetError {
    #[error(transparent)]
    Sql(#[from] SqlFileError),

    #[error("{file} cannot be answered by the lake: {cause}")]
    Query { file: String, cause: String },

    #[error("{file} names the column `{column}` as {role}, and does not select it{hint}")]
    NoColumn { file: String, column: String, role: &'static str, hint: String },

    #[error("{file}: the time `{column}` is a {found}, not a timestamp")]
    NoTime { file: String, column: String, found: String },

    #[error(
        "{file}: the feature `{column}` is computed by the query, and a scorer could not compute it again: write the \
         expression into the SQL file of a table, and select its column"
    )]
    Computed { file: String, column: String },

    #[error(
        "{file}: the feature `{column}` is made from the label `{label}` ({through}): a model would learn to repeat it. \
         Leave it out"
    )]
    FromLabel { file: String, column: String, label: String, through: String },

    #[error("{file}: the feature `{column}` is what a model said of the row: no request has it. Leave it out")]
    FromModel { file: String, column: String },

    #[error("{file} gives {rows} rows more than once, the first with {key} = {value}: join tables by their key")]
    Repeated { file: String, rows: usize, key: String, value: String },

    #[error("epoch {epoch} has no rows for {file}")]
    NoRows { file: String, epoch: i64 },

    #[error(
        "{file}: none of {rows} rows is old enough for its label: labels take {delay_hours} hours to arrive, and the rows \
         span {span_hours} (train.label_delay_hours, or --label-delay HOURS)"
    )]
    NoLabels { file: String, rows: usize, delay_hours: i64, span_hours: i64 },

    #[error(transparent)]
    Table(#[from] TableError),
}

impl TrainingSet {
    /// Runs the query of `def`, and leaves out the rows whose label cannot have arrived: those younger than
    /// `label_delay_us` before the newest one.
    ///
    /// # Errors
    /// When the query cannot be answered, a feature is computed by it or made from the label, a row stands twice, or no
    /// row is old enough.
    pub async fn read(
        session: &Session,
        def: &TrainingDef,
        references: &Arc<References>,
        lineage: &Lineage,
        place: (&str, &str),
        label_delay_us: i64,
    ) -> Result<Self, TrainingSetError> {
        let file = || def.file.clone();
        let epoch = session.record.as_ref().map_or(0, |record| record.epoch);
        let (state, plan, columns) = planned(session, def, references, lineage).await?;
        let in_query =
            |error: DataFusionError| TrainingSetError::Query { file: file(), cause: error.strip_backtrace() };
        let order = [&def.time, &def.key].map(|name| ident(name.as_str()).sort(true, false)).to_vec();
        let frame = DataFrame::new(state, plan).sort(order).map_err(in_query)?;
        let found = SchemaRef::clone(frame.schema().inner());
        let batches = frame.collect().await.map_err(in_query)?;
        let rows = concat_batches(&found, &batches).map_err(|error| in_query(error.into()))?;
        let times = times(def, &rows)?;
        let (Some(first_us), Some(newest_us)) = (times.values().first(), times.values().last()) else {
            return Err(TrainingSetError::NoRows { file: file(), epoch });
        };
        check_unique(def, &rows)?;
        let labelled = times.values().partition_point(|at| *at <= newest_us.saturating_sub(label_delay_us));
        if labelled == 0 {
            return Err(TrainingSetError::NoLabels {
                file: file(),
                rows: rows.num_rows(),
                delay_hours: label_delay_us / HOUR_US,
                span_hours: newest_us.saturating_sub(*first_us) / HOUR_US,
            });
        }
        let stored = TableFile { path: file(), bytes: def.bytes, blake3: def.blake3.clone(), rows: 0 };
        let is_read = |column: &str| column != def.key && !def.ignore.iter().any(|ignored| ignored == column);
        let table = Table::of_batches(stored, &[rows.slice(0, labelled)], is_read)?;
        let roles = Roles {
            label: def.label.clone(),
            time: Some(def.time.clone()),
            card: def.card.clone(),
            segments: def.segments.clone(),
        };
        let (location, pipeline) = place;
        let source = LakeSource {
            location: location.to_owned(),
            pipeline: pipeline.to_owned(),
            epoch,
            set: def.name.clone(),
            unlabelled: (rows.num_rows() - labelled) as u64,
            columns,
        };
        Ok(Self { table, roles, source, newest_us: *newest_us })
    }
}

const HOUR_US: i64 = 3_600_000_000;

/// What the columns of silver and of the tables that follow from it row by row are made from.
///
/// # Errors
/// When a SQL file does not fit its source.
pub fn lineage(plan: &Plan) -> Result<Lineage, SqlFileError> {
    let references = &plan.catalog.references;
    let mut lineage = Lineage::default();
    lineage.add(&plan.silver, &plan.bronze_schema, references)?;
    let silver = RowsTable::compile(&plan.silver, &plan.bronze_schema, references)?;
    for def in &plan.rows {
        lineage.add(def, &with_added(def, silver.schema())?, references)?;
    }
    Ok(lineage)
}

/// The columns of a source with those that the header of a table adds to them: trailing counts, features.
pub(super) fn with_added(def: &crate::refine::TableDef, source: &SchemaRef) -> Result<SchemaRef, SqlFileError> {
    let event_time = def.event_time.as_deref().unwrap_or_default();
    let mut fields = source.fields().to_vec();
    for trailing in &def.trailing {
        let count = TrailingCount::new(trailing, source, event_time, &RefineSettings::default(), [0; 16]);
        let count = count.map_err(|problem| SqlFileError::new(&def.file, 1, problem))?;
        fields.push(Arc::new(count.field(source)));
    }
    if !def.features.is_empty() {
        let features = Features::new(&def.features, source, event_time, [0; 16]);
        let features = features.map_err(|problem| SqlFileError::new(&def.file, 1, problem))?;
        fields.extend(features.fields().into_iter().map(Arc::new));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// The query of a set, planned and found to be one that a model can learn from, and what its features are in the lake.
pub(super) async fn planned(
    session: &Session,
    def: &TrainingDef,
    references: &Arc<References>,
    lineage: &Lineage,
) -> Result<(SessionState, LogicalPlan, Vec<LakeColumn>), TrainingSetError> {
    functions::register(&session.context, references);
    let state = session.context.state();
    let in_sql = |error: DataFusionError| SqlFileError::in_sql(&def.file, def.sql_line, &error);
    let plan = state.create_logical_plan(&def.sql).await.map_err(in_sql)?;
    check_roles(def, &plan)?;
    let columns = features(def, &plan, lineage)?;
    Ok((state, plan, columns))
}

fn check_roles(def: &TrainingDef, plan: &LogicalPlan) -> Result<(), TrainingSetError> {
    let names: Vec<&str> = plan.schema().fields().iter().map(|field| field.name().as_str()).collect();
    let single = [(&def.key, "key"), (&def.label, "label"), (&def.time, "time")];
    let card = def.card.iter().map(|name| (name, "card"));
    let lists = def.segments.iter().map(|name| (name, "segment")).chain(def.ignore.iter().map(|name| (name, "ignore")));
    for (column, role) in single.into_iter().chain(card).chain(lists) {
        if !names.contains(&column.as_str()) {
            let hint = did_you_mean(column, names.iter().copied());
            return Err(TrainingSetError::NoColumn { file: def.file.clone(), column: column.clone(), role, hint });
        }
    }
    Ok(())
}

/// What each feature is in the lake: a column that a scorer has too, and that knows nothing of the label.
fn features(def: &TrainingDef, plan: &LogicalPlan, lineage: &Lineage) -> Result<Vec<LakeColumn>, TrainingSetError> {
    let of = |found: &Origin| lineage.of(&found.table, &found.column);
    let fields = plan.schema().fields();
    let label = fields.iter().position(|field| *field.name() == def.label).and_then(|index| origin(plan, index));
    let from_label: BTreeSet<Origin> = label.as_ref().map(of).unwrap_or_default();
    let mut columns = Vec::new();
    for (index, field) in fields.iter().enumerate().filter(|(_, field)| def.is_feature(field.name())) {
        let (file, column) = (def.file.clone(), field.name().clone());
        let Some(found) = origin(plan, index) else { return Err(TrainingSetError::Computed { file, column }) };
        if schema::model_columns().iter().any(|said| *said.name() == found.column) {
            return Err(TrainingSetError::FromModel { file, column });
        }
        if let Some(through) = of(&found).intersection(&from_label).next() {
            let through = format!("both by way of {}.{}", through.table, through.column);
            return Err(TrainingSetError::FromLabel { file, column, label: def.label.clone(), through });
        }
        columns.push(LakeColumn { column, table: found.table.to_string(), of: found.column });
    }
    Ok(columns)
}

fn column<'a>(rows: &'a RecordBatch, name: &str) -> Option<&'a ArrayRef> {
    rows.column_by_name(name)
}

fn times(
    def: &TrainingDef,
    rows: &RecordBatch,
) -> Result<arrow::array::PrimitiveArray<TimestampMicrosecondType>, TrainingSetError> {
    let found = column(rows, &def.time).map(|column| column.data_type().to_string()).unwrap_or_default();
    let times = column(rows, &def.time)
        .filter(|column| matches!(column.data_type(), arrow::datatypes::DataType::Timestamp(..)))
        .and_then(|column| cast(column, &schema::timestamp()).ok())
        .and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>().cloned());
    times.ok_or_else(|| TrainingSetError::NoTime { file: def.file.clone(), column: def.time.clone(), found })
}

/// Rows stand in the order of time and key, so a row that is there twice has itself as a neighbour.
fn check_unique(def: &TrainingDef, rows: &RecordBatch) -> Result<(), TrainingSetError> {
    let neighbours = rows.num_rows().saturating_sub(1);
    let same = |name: &str| {
        let column = column(rows, name)?;
        eq(&column.slice(0, neighbours), &column.slice(1, neighbours)).ok()
    };
    let (Some(times), Some(keys)) = (same(&def.time), same(&def.key)) else { return Ok(()) };
    let Ok(repeated) = and(&times, &keys) else { return Ok(()) };
    let Some(first) = (0..repeated.len()).find(|row| repeated.is_valid(*row) && repeated.value(*row)) else {
        return Ok(());
    };
    let shown = column(rows, &def.key).map(|column| arrow::util::display::array_value_to_string(column, first));
    Err(TrainingSetError::Repeated {
        file: def.file.clone(),
        rows: repeated.true_count(),
        key: def.key.clone(),
        value: shown.and_then(Result::ok).unwrap_or_default(),
    })
}
