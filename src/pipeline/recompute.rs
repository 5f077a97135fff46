//! Tables that follow from silver row by row, and what a model said of the rows, computed once more.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, Schema, SchemaRef};
use arrow::util::display::array_value_to_string;
use datafusion::prelude::SessionContext;

use super::arrival::{Arrivals, chunks};
use super::error::PipelineError;
use super::fingerprint::ByEpoch;
use super::plan::Plan;
use super::rebuild::Target;
use super::scored::RowScorer;
use super::stages::Compiled;
use super::tables::Tables;
use super::verify::{Finding, Subject, Verification};
use super::work::EpochWork;
use crate::domain::{ManualClock, schema};
use crate::lake::{DataFile, FileHistory, RangeFilter, Table};

/// From the version of each epoch to what says again what it said, or why it cannot.
pub type Recall<'a> = dyn Fn(&BTreeMap<i64, String>) -> Result<Box<dyn RowScorer>, String> + 'a;

/// Computes the tables that follow from silver row by row once more, in the order of arrival, with fresh memory.
pub(super) fn rows_again(
    tables: &Tables,
    subject: &Subject<'_>,
    said: &BTreeMap<i64, String>,
    report: &mut Verification,
) -> Result<(), PipelineError> {
    let compiled = Compiled::new(subject.plan, subject.settings, subject.hash_key)?;
    let silver = Arrivals::of_silver(tables);
    let mut history = FileHistory::new(tables.reader(&tables.silver), subject.plan.event_time());
    history.written(0, Vec::<DataFile>::new());
    let mut stages = compiled.with_history(history, None, Arc::new(ManualClock::default()));
    stages.only(Target::Scores);
    let recalled = match subject.recall.filter(|_| !said.is_empty()).map(|recall| recall(said)) {
        Some(Ok(scorer)) => {
            stages.ask(scorer);
            true
        }
        Some(Err(problem)) => {
            report.notes.push(format!("what the model said of rows was not computed again: {problem}"));
            false
        }
        None => said.is_empty(),
    };
    let compared: Vec<SchemaRef> = tables.rows.iter().map(|table| without_model(table.schema(), recalled)).collect();
    let mut again: Vec<ByEpoch> = tables.rows.iter().map(|_| ByEpoch::default()).collect();
    for epochs in chunks(tables, subject.settings.chunk_rows)? {
        for batch in silver.rows(&epochs)? {
            let mut work = EpochWork::default();
            stages.derive(&batch, &mut work)?;
            for ((schema, rows), print) in compared.iter().zip(work.rows).zip(&mut again) {
                for rows in rows {
                    print.add(&rows, schema)?;
                }
            }
        }
        stages.reached(epochs.end - 1, silver.files().to_vec());
    }
    for ((table, schema), print) in tables.rows.iter().zip(&compared).zip(again) {
        let reader = tables.reader(table);
        let mut standing = ByEpoch::default();
        let complete = RangeFilter { column: schema::EPOCH.into(), from: i64::MIN, to: tables.ledger.last_epoch() + 1 };
        for file in table.files() {
            for batch in reader.read(file, &reader.columns(), Some(complete.clone()))? {
                standing.add(&batch, schema)?;
            }
        }
        let rows: u64 = print.epochs.values().map(|print| print.rows).sum();
        let mut differing = print
            .epochs
            .iter()
            .filter(|(epoch, value)| standing.epochs.get(epoch) != Some(*value))
            .map(|(epoch, _)| *epoch);
        match differing.next() {
            None if standing.epochs.len() == print.epochs.len() => {
                report.proven.push(format!(
                    "{rows} rows of {} equal a recomputation from {}",
                    table.name(),
                    subject.plan.silver.table
                ));
            }
            epoch => report.findings.push(Finding {
                check: "recomputation",
                epoch,
                table: Some(table.name().to_string()),
                detail: format!("its rows are not what a recomputation from {} gives", subject.plan.silver.table),
            }),
        }
    }
    Ok(())
}

/// The columns that are compared: what a model said only where it can be asked again.
fn without_model(schema: &SchemaRef, recalled: bool) -> SchemaRef {
    let added = schema::model_columns();
    let kept = schema.fields().iter().filter(|field| recalled || !added.iter().any(|own| own.name() == field.name()));
    Arc::new(Schema::new(kept.cloned().collect::<Vec<_>>()))
}

/// Which version of the model answered in each epoch; that it is one, and that all its columns are filled or none.
pub(super) async fn said_by_epoch(
    context: &SessionContext,
    tables: &Tables,
    plan: &Plan,
    report: &mut Verification,
) -> Result<BTreeMap<i64, String>, PipelineError> {
    let mut said = BTreeMap::new();
    let with_model = plan.rows.iter().zip(&tables.rows).find(|(def, _)| def.model.is_some());
    // A lake from before gets the columns with its next epoch.
    let has_columns = |table: &Table| table.schema().column_with_name(schema::MODEL_VERSION).is_some();
    let Some((def, _)) = with_model.filter(|(_, table)| has_columns(table)) else { return Ok(said) };
    let mut find = |epoch: i64, detail: String| {
        let (epoch, table) = (Some(epoch), Some(def.table.to_string()));
        report.findings.push(Finding { check: "model", epoch, table, detail });
    };
    let (probability, decision, version) = (schema::MODEL_PROBABILITY, schema::MODEL_DECISION, schema::MODEL_VERSION);
    let sql = format!(
        "SELECT epoch, min({version}), max({version}), count({version}), count({probability}), count({decision}) FROM {} \
         GROUP BY epoch ORDER BY epoch",
        def.table
    );
    for batch in context.sql(&sql).await?.collect().await? {
        let epochs = batch.column(0).as_primitive::<Int64Type>();
        for (row, epoch) in epochs.values().iter().enumerate() {
            let text = |column: usize| array_value_to_string(batch.column(column), row);
            let count = |column: usize| batch.column(column).as_primitive::<Int64Type>().value(row);
            if count(3) != count(4) || count(3) != count(5) {
                find(*epoch, format!("{version}, {probability} and {decision} are not NULL in the same rows"));
            }
            if count(3) == 0 {
                continue;
            }
            if text(1)? == text(2)? {
                said.insert(*epoch, text(1)?);
            } else {
                find(*epoch, format!("versions {} and {} both answered in it", text(1)?, text(2)?));
            }
        }
    }
    Ok(said)
}
