//! Tables of windows, computed once more from silver by the plain engine, in parts that fit memory.
//!
//! A count of distinct values keeps a set for each group, which takes kilobytes. So a few windows are taken at a time, and
//! where one is too large alone, a share of its keys at a time.

mod parts;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type, SchemaRef, TimeUnit};
use arrow::util::pretty::pretty_format_batches;
use datafusion::functions::core::expr_fn::arrow_cast;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{Expr, cast, ident, lit};
use datafusion::prelude::{DataFrame, SessionContext};

use self::parts::{Bounds, Part, Weights, parts, share};
use super::error::PipelineError;
use super::fingerprint::Fingerprint;
use super::plan::Plan;
use super::verify::{Finding, Verification};
use crate::domain::schema::{self, WINDOW_END, WINDOW_START};
use crate::refine::{TableDef, WindowSpec, run_over, window_view};

/// Holds a table of windows against a recomputation from silver.
pub(super) async fn windows_again(
    context: &SessionContext,
    plan: &Plan,
    def: &TableDef,
    chunk_rows: usize,
    report: &mut Verification,
) -> Result<(), PipelineError> {
    let again = Again::new(context, plan, def).await?;
    let schema = again.schema().await?;
    let standing = again.standing(&schema).await?;
    let parts = match again.place(&standing) {
        Some(_) => parts(&again.weights(&standing).await?, !again.keys().is_empty(), Bounds::of_chunks(chunk_rows)),
        None => vec![Part::WHOLE],
    };
    let found = Fingerprint::of(standing.clone(), &schema).await?;
    let mut wanted = Fingerprint::default();
    for part in &parts {
        wanted.and(Fingerprint::of(again.part(part).await?, &schema).await?);
    }
    if found == wanted {
        let rows = found.rows;
        report.proven.push(format!("{rows} rows of {} equal a recomputation from {}", def.table, plan.silver.table));
        return Ok(());
    }
    let (mut missing, mut surplus) = (Difference::default(), Difference::default());
    for part in &parts {
        let (is, should) = (again.within(standing.clone(), part)?, again.part(part).await?);
        missing.add(should.clone().except(is.clone())?).await?;
        surplus.add(is.except(should)?).await?;
    }
    let mut find = |detail| {
        let table = Some(def.table.to_string());
        report.findings.push(Finding { check: "recomputation", epoch: None, table, detail });
    };
    for (difference, what) in [
        (&missing, "that a recomputation from silver gives are not there"),
        (&surplus, "are not what a recomputation from silver gives"),
    ] {
        if difference.rows > 0 {
            find(format!(
                "{} rows {what} (where its SQL is new or was changed, `assay rebuild gold` makes them), for example\n{}",
                difference.rows,
                pretty_format_batches(&difference.sample)?
            ));
        }
    }
    if missing.rows + surplus.rows == 0 {
        let (stand, should) = (found.rows, wanted.rows);
        find(format!("{stand} rows stand there, and a recomputation from silver gives {should}: some stand twice"));
    }
    Ok(())
}

/// Rows that one side has and the other has not.
#[derive(Default)]
struct Difference {
    rows: usize,
    /// The first of them.
    sample: Vec<RecordBatch>,
}

impl Difference {
    async fn add(&mut self, rows: DataFrame) -> Result<(), PipelineError> {
        let found = rows.clone().count().await?;
        if found > 0 && self.rows == 0 {
            self.sample = rows.limit(0, Some(1))?.collect().await?;
        }
        self.rows += found;
        Ok(())
    }
}

/// A table of windows and where its rows come from.
struct Again<'a> {
    context: &'a SessionContext,
    def: &'a TableDef,
    silver: DataFrame,
    event_time: &'a str,
    window: WindowSpec,
}

impl<'a> Again<'a> {
    async fn new(context: &'a SessionContext, plan: &Plan, def: &'a TableDef) -> Result<Self, PipelineError> {
        let (Some(window), Some(event_time)) = (def.window, &def.event_time) else {
            return Err(PipelineError::State(format!("{} has no window or no event_time", def.table)));
        };
        let silver = context.table(plan.silver.table.to_string()).await?;
        Ok(Self { context, def, silver, event_time, window })
    }

    /// The columns that its SQL gives.
    async fn schema(&self) -> Result<SchemaRef, PipelineError> {
        let view = window_view(self.silver.clone(), self.event_time, self.window)?;
        Ok(SchemaRef::clone(run_over(self.context, self.def, view).await?.schema().inner()))
    }

    /// What stands in the lake, in these columns.
    async fn standing(&self, schema: &SchemaRef) -> Result<DataFrame, PipelineError> {
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let table = self.context.table(self.def.table.to_string()).await?;
        Ok(table.select_columns(&names)?)
    }

    /// The columns of the key that name no window.
    fn keys(&self) -> Vec<Expr> {
        let keys = self.def.key.iter().filter(|name| ![WINDOW_START, WINDOW_END].contains(&name.as_str()));
        keys.map(ident).collect()
    }

    /// How many rows and groups each window has. Groups are those that stand there: they say what fits, not what is right.
    async fn weights(&self, standing: &DataFrame) -> Result<Weights, PipelineError> {
        let mut weights = Weights::default();
        let view = window_view(self.silver.clone(), self.event_time, self.window)?;
        for (start, rows) in counts(view, ident(WINDOW_START)).await? {
            weights.entry(start).or_default().rows = rows;
        }
        if let Some((column, shift_us)) = self.place(standing) {
            for (at, groups) in counts(standing.clone(), column).await? {
                weights.entry(at - shift_us).or_default().groups = groups;
            }
        }
        Ok(weights)
    }

    /// The column that tells the window of a row, and by how much it is past its start.
    fn place(&self, standing: &DataFrame) -> Option<(Expr, i64)> {
        let has = |name: &str| standing.schema().has_column_with_unqualified_name(name);
        [(WINDOW_START, 0), (WINDOW_END, self.window.size_us)]
            .into_iter()
            .find(|(name, _)| has(name))
            .map(|(name, shift_us)| (ident(name), shift_us))
    }

    /// The rows of a part, computed from silver.
    async fn part(&self, part: &Part) -> Result<DataFrame, PipelineError> {
        let mut silver = self.silver.clone();
        // Files are passed over by what they say of the event time itself.
        let plain = silver.schema().field_with_unqualified_name(self.event_time)?.data_type().clone();
        if matches!(plain, DataType::Timestamp(TimeUnit::Microsecond, _)) {
            let reach =
                Part { to_us: part.to_us.map(|to_us| to_us.saturating_add(self.window.size_us)), ..part.clone() };
            silver = silver.filter(reach.holds(&ident(self.event_time), 0, &plain))?;
        }
        let view = window_view(silver, self.event_time, self.window)?;
        let view = view.filter(part.holds(&ident(WINDOW_START), 0, &schema::timestamp()))?;
        let rows = run_over(self.context, self.def, view).await?;
        self.shared(rows, part)
    }

    /// The rows of a part among those that stand there.
    fn within(&self, standing: DataFrame, part: &Part) -> Result<DataFrame, PipelineError> {
        let rows = match self.place(&standing) {
            Some((column, shift_us)) => standing.filter(part.holds(&column, shift_us, &schema::timestamp()))?,
            None => standing,
        };
        self.shared(rows, part)
    }

    fn shared(&self, rows: DataFrame, part: &Part) -> Result<DataFrame, PipelineError> {
        if part.shares == 1 {
            return Ok(rows);
        }
        Ok(rows.filter(share(part.shares).call(self.keys()).eq(lit(part.share)))?)
    }
}

/// How many rows have each value of an instant, in µs.
async fn counts(rows: DataFrame, instant: Expr) -> Result<Vec<(i64, u64)>, PipelineError> {
    let us = cast(arrow_cast(instant, lit("Timestamp(Microsecond, None)")), DataType::Int64).alias("us");
    let grouped = rows.aggregate(vec![us], vec![count(lit(1_i64)).alias("n")])?.collect().await?;
    let pairs = grouped.iter().flat_map(|batch| {
        let (instants, counts) =
            (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_primitive::<Int64Type>());
        instants.values().iter().copied().zip(counts.values().iter().map(|n| u64::try_from(*n).unwrap_or(0)))
    });
    Ok(pairs.collect())
}
