use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanBufferBuilder, RecordBatch, RecordBatchOptions};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use datafusion::common::{DFSchemaRef, ToDFSchema};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;

use super::expression::{Expression, Input};
use super::rows::check_expression;
use super::silver::EVENT_TIME_PRESENT;
use super::{Expectation, OnFail, References, SqlFileError, TableDef, Told, planning};

/// The expectations of a table, compiled.
#[derive(Debug)]
pub(super) struct Checks {
    checks: Vec<Check>,
    /// The columns of the result, then those of the source that have no namesake there.
    columns: SchemaRef,
    from_source: Vec<usize>,
    /// The column that [`EVENT_TIME_PRESENT`] looks at, which is the last of the outcomes.
    event_time: Option<(usize, OnFail)>,
}

#[derive(Debug)]
struct Check {
    name: String,
    on_fail: OnFail,
    expression: Expression,
}

/// What one expectation says of a batch.
#[derive(Debug)]
pub(super) struct Outcome<'a> {
    pub(super) name: &'a str,
    pub(super) on_fail: OnFail,
    /// The rows for which it is true; `None` when that is all of them.
    pub(super) holds: Option<BooleanBuffer>,
}

impl Checks {
    pub(super) fn compile(
        def: &TableDef,
        result: &Schema,
        source: &Schema,
        references: &Arc<References>,
    ) -> Result<Self, SqlFileError> {
        let is_new = |index: &usize| result.column_with_name(source.field(*index).name()).is_none();
        let from_source = (0..source.fields().len()).filter(is_new).collect::<Vec<_>>();
        let fields = result.fields().iter().chain(from_source.iter().map(|index| &source.fields()[*index]));
        let columns = Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()));
        let session = planning::session(references);
        let state = session.state();
        let named =
            Arc::clone(&columns).to_dfschema_ref().map_err(|error| SqlFileError::in_sql(&def.file, 1, &error))?;
        let checks = def.expectations.iter().map(|expectation| compile(def, expectation, &state, &named, references));
        // Without a quarantine there is nowhere to go for a row that windows and partitions cannot place.
        let on_fail = if def.quarantine.is_some() { OnFail::Quarantine } else { OnFail::Fail };
        let event_time = def.event_time.as_deref().and_then(|name| result.column_with_name(name));
        Ok(Self {
            checks: checks.collect::<Result<_, _>>()?,
            columns,
            from_source,
            event_time: event_time.map(|(index, _)| (index, on_fail)),
        })
    }

    /// Those for which DataFusion is needed however few the rows are.
    #[cfg(test)]
    pub(super) fn slow(&self) -> Vec<&str> {
        self.checks.iter().filter(|check| !check.expression.is_quick()).map(|check| check.name.as_str()).collect()
    }

    /// One outcome for each expectation, in the order of the header, then the built-in one.
    ///
    /// An expectation whose check cannot be computed for a row does not hold for it.
    pub(super) fn judge(&self, result: &RecordBatch, source: &RecordBatch) -> Result<Vec<Outcome<'_>>, ArrowError> {
        let rows = result.num_rows();
        let from_source = self.from_source.iter().filter_map(|index| source.columns().get(*index));
        let columns = result.columns().iter().chain(from_source).cloned().collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.columns), columns, &options)?;
        let input = Input::new(&batch);
        let mut outcomes = Vec::with_capacity(self.checks.len() + 1);
        for Check { name, on_fail, expression } in &self.checks {
            let holds = holds(expression, &input).filter(|holds| holds.count_set_bits() < rows);
            outcomes.push(Outcome { name, on_fail: *on_fail, holds });
        }
        if let Some((index, on_fail)) = self.event_time
            && let Some(nulls) = result.columns().get(index).and_then(|times| times.nulls())
            && nulls.null_count() > 0
        {
            // A row that is quarantined for a reason of its own needs no second one.
            let holds = match kept(&outcomes) {
                Some(kept) => nulls.inner() | &!&kept,
                None => nulls.inner().clone(),
            };
            let holds = Some(holds).filter(|holds| holds.count_set_bits() < rows);
            outcomes.push(Outcome { name: EVENT_TIME_PRESENT, on_fail, holds });
        }
        Ok(outcomes)
    }
}

/// The rows that no expectation sends to quarantine; `None` when that is all of them.
pub(super) fn kept(outcomes: &[Outcome<'_>]) -> Option<BooleanBuffer> {
    let quarantining = outcomes.iter().filter(|outcome| outcome.on_fail == OnFail::Quarantine);
    quarantining.filter_map(|outcome| outcome.holds.clone()).reduce(|one, other| &one & &other)
}

fn compile(
    def: &TableDef,
    expectation: &Expectation,
    state: &SessionState,
    columns: &DFSchemaRef,
    references: &Arc<References>,
) -> Result<Check, SqlFileError> {
    let Expectation { name, check, on_fail, line } = expectation;
    let refuse = |problem: String| SqlFileError::new(&def.file, *line, format!("expectation `{name}`: {problem}"));
    let planner = |error: DataFusionError| refuse(Told::new(&error).problem);
    let logical = state.create_logical_expr(check, columns).map_err(planner)?;
    check_expression(&logical).map_err(refuse)?;
    let logical = planning::computable(state, logical, Arc::clone(columns)).map_err(planner)?;
    let expression = state.create_physical_expr(logical, columns).map_err(planner)?;
    let kind = expression.data_type(columns.as_arrow()).map_err(planner)?;
    if kind != DataType::Boolean {
        return Err(refuse(format!("the check gives a {kind}, not true or false")));
    }
    let expression = Expression::new(expression, columns.as_arrow(), references).map_err(planner)?;
    Ok(Check { name: name.clone(), on_fail: *on_fail, expression })
}

/// The rows for which the check is true: not false, not NULL, not in error. `None` when that is all of them.
fn holds(expression: &Expression, input: &Input<'_>) -> Option<BooleanBuffer> {
    let Ok(computed) = expression.evaluate(input) else { return Some(holds_by_halves(expression, input.batch)) };
    let computed = computed.as_boolean_opt()?;
    match computed.nulls() {
        None => Some(computed.values().clone()),
        Some(nulls) => Some(computed.values() & nulls.inner()),
    }
}

fn holds_by_halves(expression: &Expression, batch: &RecordBatch) -> BooleanBuffer {
    let rows = batch.num_rows();
    if rows <= 1 {
        return BooleanBuffer::new_unset(rows);
    }
    let mut all = BooleanBufferBuilder::new(rows);
    for (start, len) in [(0, rows / 2), (rows / 2, rows - rows / 2)] {
        match holds(expression, &Input::new(&batch.slice(start, len))) {
            Some(half) => all.append_buffer(&half),
            None => all.append_n(len, true),
        }
    }
    all.finish()
}
