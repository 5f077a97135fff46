use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};

use super::expression::{Expression, Input};
use super::{Mode, References, RefineError, SqlFileError, TableDef, planning};
use crate::domain::schema;

/// The query of a `rows` table, planned once and then evaluated batch by batch: one row out for each row in, in the
/// same order, without a runtime.
#[derive(Debug, Clone)]
pub struct RowsTable {
    table: String,
    file: String,
    source: SchemaRef,
    /// The columns of the source that the first stage reads.
    columns: Vec<usize>,
    scanned: SchemaRef,
    stages: Vec<Stage>,
    schema: SchemaRef,
    /// Whether the last stage has the lake's types already.
    is_of_lake: bool,
}

/// One projection. What several expressions share was moved to the stage before by the optimiser.
#[derive(Debug, Clone)]
struct Stage {
    expressions: Vec<Expression>,
    schema: SchemaRef,
}

impl RowsTable {
    /// Plans and optimises the query of `def` for a source with these columns.
    ///
    /// The result has the lake's types: texts as Utf8, timestamps in microseconds UTC; a column is nullable when its
    /// expression is.
    ///
    /// # Errors
    /// When the query does not fit the source, or is more than a chain of projections over it (filters, joins,
    /// aggregates, window functions, subqueries, functions whose answer changes), with file and line.
    pub fn compile(def: &TableDef, source: &SchemaRef, references: &Arc<References>) -> Result<Self, SqlFileError> {
        if def.mode != Mode::Rows {
            return Err(SqlFileError::in_header(def, format!("{} is not of mode = \"rows\"", def.table)));
        }
        let at_sql = |problem: String| SqlFileError::new(&def.file, def.sql_line, problem);
        let in_sql = |error: DataFusionError| SqlFileError::in_sql(&def.file, def.sql_line, &error);
        let session = planning::session(references);
        let plan = planning::plan(&session, def, source)?;
        check_shape(&plan).map_err(at_sql)?;
        let state = session.state();
        let plan = state.optimize(&plan).map_err(in_sql)?;
        let mut compiler = Compiler {
            state: &state,
            references,
            columns: Vec::new(),
            scanned: Arc::clone(source),
            stages: Vec::new(),
        };
        compiler.compile(&plan).map_err(in_sql)?;
        let Compiler { columns, scanned, stages, .. } = compiler;
        let last = stages.last().map_or(&scanned, |stage| &stage.schema);
        let schema = lake_schema(last).map_err(at_sql)?;
        let is_of_lake = *last == schema;
        check_columns(def, &schema)?;
        Ok(Self {
            table: def.table.to_string(),
            file: def.file.clone(),
            source: Arc::clone(source),
            columns,
            scanned,
            stages,
            schema,
            is_of_lake,
        })
    }

    /// The columns of the result.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Computes all rows, or none.
    ///
    /// # Errors
    /// [`RefineError::Schema`] when the batch is not one of the source; [`RefineError::Evaluate`] when an expression
    /// fails on a row (an overflow, a bad cast). [`Self::evaluate_rows`] finds out which.
    pub fn evaluate(&self, input: &RecordBatch) -> Result<RecordBatch, RefineError> {
        self.check(input)?;
        self.run(input).map_err(|error| RefineError::Evaluate {
            table: self.table.clone(),
            file: self.file.clone(),
            rows: input.num_rows() as u64,
            place: "an unknown row".to_owned(),
            cause: error.strip_backtrace(),
        })
    }

    /// Computes the rows that can be computed, and names the others, in order, with the first one's error.
    ///
    /// # Errors
    /// [`RefineError::Schema`] when the batch is not one of the source.
    pub fn evaluate_rows(&self, input: &RecordBatch) -> Result<Evaluated, RefineError> {
        self.check(input)?;
        let (error, size) = match self.run(input) {
            Ok(batch) => return Ok(Evaluated { batch, failing: Vec::new(), cause: String::new() }),
            Err(error) => (error, input.num_rows()),
        };
        let mut failing = Vec::new();
        let mut cause = error.strip_backtrace();
        let mut computed = Vec::new();
        // Halves in the order of the rows, so that what is computed needs no sorting.
        let mut spans = vec![(0, size)];
        while let Some((start, len)) = spans.pop() {
            match self.run(&input.slice(start, len)) {
                Ok(batch) => computed.push(batch),
                Err(error) if len <= 1 => {
                    if failing.is_empty() {
                        cause = error.strip_backtrace();
                    }
                    failing.push(start);
                }
                Err(_) => spans.extend([(start + len / 2, len - len / 2), (start, len / 2)]),
            }
        }
        let batch = arrow::compute::concat_batches(&self.schema, &computed)
            .map_err(|error| RefineError::Schema { table: self.table.clone(), detail: error.to_string() })?;
        Ok(Evaluated { batch, failing, cause })
    }

    fn check(&self, input: &RecordBatch) -> Result<(), RefineError> {
        if Arc::ptr_eq(&self.source, input.schema_ref()) {
            return Ok(());
        }
        let expected = self.source.fields().iter().map(|field| (field.name(), field.data_type()));
        let found = input.schema_ref().fields().iter().map(|field| (field.name(), field.data_type()));
        if expected.clone().eq(found.clone()) {
            return Ok(());
        }
        let difference = expected.clone().zip(found.clone()).find(|(expected, found)| expected != found);
        let detail = match difference {
            Some((expected, found)) => format!("expected {} {}, found {} {}", expected.0, expected.1, found.0, found.1),
            None => format!("expected {} columns, found {}", expected.len(), found.len()),
        };
        Err(RefineError::Schema { table: self.table.clone(), detail })
    }

    fn run(&self, input: &RecordBatch) -> PlanResult<RecordBatch> {
        let rows = input.num_rows();
        // Of another schema it is not known whether NULL stands only where it may.
        let mut batch = if Arc::ptr_eq(input.schema_ref(), &self.scanned) || *input.schema_ref() == self.scanned {
            input.clone()
        } else {
            let columns = self.columns.iter().filter_map(|index| input.columns().get(*index).cloned()).collect();
            build(&self.scanned, columns, rows)?
        };
        for stage in &self.stages {
            let below = Input::new(&batch);
            let columns = stage.expressions.iter().map(|expression| expression.evaluate(&below));
            let columns = columns.collect::<PlanResult<_>>()?;
            batch = build(&stage.schema, columns, rows)?;
        }
        if self.is_of_lake {
            return Ok(batch);
        }
        let lake =
            batch.columns().iter().zip(self.schema.fields()).map(|(column, field)| to_lake(column, field.data_type()));
        build(&self.schema, lake.collect::<PlanResult<_>>()?, rows)
    }
}

/// What [`RowsTable::evaluate_rows`] computed.
#[derive(Debug, Clone)]
pub struct Evaluated {
    /// The rows that could be computed, in the order of the input.
    pub batch: RecordBatch,
    /// The rows of the input that could not, ascending.
    pub failing: Vec<usize>,
    /// Why the first of them could not; empty when there is none.
    pub cause: String,
}

fn build(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> PlanResult<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

/// Cuts an optimised plan into stages, from the scan upwards.
struct Compiler<'a> {
    state: &'a SessionState,
    references: &'a Arc<References>,
    columns: Vec<usize>,
    scanned: SchemaRef,
    stages: Vec<Stage>,
}

impl Compiler<'_> {
    fn compile(&mut self, plan: &LogicalPlan) -> PlanResult<()> {
        match plan {
            LogicalPlan::TableScan(scan) if scan.filters.is_empty() && scan.fetch.is_none() => {
                let all = || (0..self.scanned.fields().len()).collect();
                self.columns = scan.projection.clone().unwrap_or_else(all);
                self.scanned = Arc::new(self.scanned.project(&self.columns)?);
                Ok(())
            }
            LogicalPlan::SubqueryAlias(alias) => self.compile(&alias.input),
            LogicalPlan::Projection(projection) => {
                self.compile(&projection.input)?;
                let below = Arc::clone(self.stages.last().map_or(&self.scanned, |stage| &stage.schema));
                let mut expressions = Vec::with_capacity(projection.expr.len());
                let mut fields = Vec::with_capacity(projection.expr.len());
                for (expression, field) in projection.expr.iter().zip(projection.schema.fields()) {
                    let physical = self.state.create_physical_expr(expression.clone(), projection.input.schema())?;
                    let nullable = physical.nullable(&below)?;
                    fields.push(Field::new(field.name(), physical.data_type(&below)?, nullable));
                    expressions.push(Expression::new(physical, &below, self.references)?);
                }
                self.stages.push(Stage { expressions, schema: Arc::new(Schema::new(fields)) });
                Ok(())
            }
            other => Err(DataFusionError::Plan(refusal(other))),
        }
    }
}

/// Only projections, one over the other, over one scan.
fn check_shape(plan: &LogicalPlan) -> Result<(), String> {
    match plan {
        LogicalPlan::TableScan(_) => Ok(()),
        LogicalPlan::SubqueryAlias(alias) => check_shape(&alias.input),
        LogicalPlan::Projection(projection) => {
            projection.expr.iter().try_for_each(check_expression)?;
            check_shape(&projection.input)
        }
        other => Err(refusal(other)),
    }
}

fn refusal(plan: &LogicalPlan) -> String {
    let what = match plan {
        LogicalPlan::Filter(_) => "WHERE (rows are never dropped; send them to quarantine by an expectation)",
        LogicalPlan::Aggregate(_) => "an aggregate (use mode = \"window\")",
        LogicalPlan::Window(_) => "a window function (use `trailing` in the header)",
        LogicalPlan::Join(_) => "a join (use a reference list and is_listed)",
        LogicalPlan::Distinct(_) => "DISTINCT (use `key` and `deduplicate` in the header)",
        LogicalPlan::Sort(_) => "ORDER BY",
        LogicalPlan::Limit(_) => "LIMIT",
        LogicalPlan::Union(_) => "UNION",
        LogicalPlan::Unnest(_) => "unnest",
        other => return format!("mode = \"rows\" gives one row for each row, and cannot hold: {}", other.display()),
    };
    format!("mode = \"rows\" gives one row for each row, and cannot hold {what}")
}

pub(super) fn check_expression(expression: &Expr) -> Result<(), String> {
    let mut problem = None;
    let walked = expression.apply(|part| {
        problem = match part {
            Expr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable => Some(format!(
                "{} gives another answer at another time, so that a rebuild would differ",
                call.func.name()
            )),
            Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_) => {
                Some("a subquery in an expression cannot be kept incrementally".to_owned())
            }
            Expr::AggregateFunction(_) | Expr::WindowFunction(_) => {
                Some("aggregates and window functions look at other rows; a row is computed by itself".to_owned())
            }
            Expr::Placeholder(_) => Some("a query in a file has no parameters".to_owned()),
            _ => None,
        };
        Ok(if problem.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    walked.map_err(|error| error.strip_backtrace())?;
    problem.map_or(Ok(()), Err)
}

/// The names that the header speaks of must be columns of the result.
fn check_columns(def: &TableDef, schema: &Schema) -> Result<(), SqlFileError> {
    for (index, field) in schema.fields().iter().enumerate() {
        if schema.fields().iter().take(index).any(|other| other.name() == field.name()) {
            return Err(SqlFileError::new(
                &def.file,
                def.sql_line,
                format!("the column `{}` is selected twice", field.name()),
            ));
        }
    }
    let named = def.event_time.iter().map(|name| ("event_time", name));
    let named = named.chain(def.key.iter().map(|name| ("key", name)));
    let named = named.chain(def.partition_by.iter().map(|name| ("partition_by", name)));
    for (what, name) in named {
        let Some((_, field)) = schema.column_with_name(name) else {
            return Err(SqlFileError::in_header(
                def,
                format!("{what} names `{name}`, which the query does not select"),
            ));
        };
        if what == "event_time" && *field.data_type() != schema::timestamp() {
            let problem =
                format!("event_time `{name}` is a {}, not a timestamp; use event_time(text)", field.data_type());
            return Err(SqlFileError::in_header(def, problem));
        }
    }
    Ok(())
}

fn lake_schema(schema: &Schema) -> Result<SchemaRef, String> {
    let mut fields = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let kind = lake_type(field.data_type()).ok_or_else(|| {
            format!("the column `{}` is a {}, which Delta tables do not hold: cast it", field.name(), field.data_type())
        })?;
        fields.push(Field::new(field.name(), kind, field.is_nullable()));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// The type in which the lake holds values of this type.
pub(super) fn lake_type(kind: &DataType) -> Option<DataType> {
    Some(match kind {
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::Binary | DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::Timestamp(_, _) => schema::timestamp(),
        DataType::Date32 | DataType::Date64 => DataType::Date32,
        DataType::Dictionary(_, values) => lake_type(values)?,
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Decimal128(_, _)
        | DataType::List(_)
        | DataType::Struct(_) => kind.clone(),
        _ => return None,
    })
}

/// `column` in the lake's type; an error where a value does not fit.
pub(super) fn to_lake(column: &ArrayRef, kind: &DataType) -> PlanResult<ArrayRef> {
    if column.data_type() == kind {
        return Ok(Arc::clone(column));
    }
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    Ok(cast_with_options(column, kind, &strict)?)
}

#[cfg(test)]
mod tests;
