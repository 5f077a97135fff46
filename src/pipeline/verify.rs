//! Proving the lake again from the tables alone: conservation, uniqueness, and gold against a recomputation from silver.

use std::collections::BTreeMap;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use arrow::util::display::array_value_to_string;
use datafusion::prelude::SessionContext;

use super::error::PipelineError;
use super::plan::Plan;
use super::recompute::{Recall, rows_again, said_by_epoch};
use super::stages::StageSettings;
use super::standing;
use super::tables::Tables;
use super::windows_again::windows_again;
use crate::domain::{EpochKind, EpochRecord, Positions, TableName, schema};
use crate::refine::functions;

/// Something that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// The law that is broken: `ledger`, `tables`, `versions`, `conservation`, `uniqueness`, `recomputation`,
    /// `end_offsets`, `features`, `model`.
    pub check: &'static str,
    pub epoch: Option<i64>,
    pub table: Option<String>,
    pub detail: String,
}

/// What was proven, and what was found wanting.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Verification {
    pub epochs: i64,
    pub messages: u64,
    /// One line for each thing that was checked.
    pub proven: Vec<String>,
    /// What is good to know and breaks no law.
    pub notes: Vec<String>,
    pub findings: Vec<Finding>,
}

/// What verification looks at beside the tables.
pub struct Subject<'a> {
    pub plan: &'a Plan,
    pub settings: &'a StageSettings,
    pub hash_key: [u64; 2],
    /// The next offset of each partition in Kafka, when it was asked.
    pub ends: Option<&'a Positions>,
    /// Asks the versions of a model that answered in these epochs once more; `None` leaves what models said alone.
    pub recall: Option<&'a Recall<'a>>,
}

/// Checks a whole lake. `context` has its tables as of the newest epoch. Blocking but for the queries.
///
/// # Errors
/// When a table cannot be read; what does not hold is no error but a finding.
pub fn verify(
    tables: &Tables,
    context: &SessionContext,
    subject: &Subject<'_>,
    mut step: impl FnMut(&str),
) -> Result<Verification, PipelineError> {
    let mut report = Verification::default();
    let records = tables.ledger.scan(1, i64::MAX)?;
    report.epochs = tables.ledger.last_epoch();
    report.messages = records.iter().map(|record| record.messages).sum();
    step("the ledger of epochs");
    ledger(&records, &mut report);
    step("table versions against the ledger");
    let handle = tables.handle().clone();
    report.notes.extend(standing::ahead(tables));
    match standing::compare(tables, &records)? {
        found if !found.is_empty() => report.findings.extend(found),
        _ if records.is_empty() => report.proven.push("there is no complete epoch yet: nothing to add up".to_owned()),
        _ => report.proven.push("every table stands at the version and epoch that the ledger says".to_owned()),
    }
    if records.is_empty() {
        // Without an epoch no table is there to be read.
        if let Some(ends) = subject.ends {
            end_offsets(tables, &records, ends, &mut report)?;
        }
        return Ok(report);
    }
    step("rows of each epoch against the ledger");
    handle.block_on(conservation(context, subject.plan, &records, &mut report))?;
    step("uniqueness");
    handle.block_on(uniqueness(context, subject.plan, &mut report))?;
    functions::register(context, &subject.plan.catalog.references);
    for def in &subject.plan.windows {
        step(&format!("{} against a recomputation", def.table));
        handle.block_on(windows_again(context, subject.plan, def, subject.settings.chunk_rows, &mut report))?;
    }
    if !subject.plan.rows.is_empty() {
        step("tables that follow from silver row by row");
        let said = handle.block_on(said_by_epoch(context, tables, subject.plan, &mut report))?;
        rows_again(tables, subject, &said, &mut report)?;
    }
    if let Some(ends) = subject.ends {
        step("Kafka's end offsets");
        end_offsets(tables, &records, ends, &mut report)?;
    }
    Ok(report)
}

fn ledger(records: &[EpochRecord], report: &mut Verification) {
    let before = report.findings.len();
    let mut expected = 1;
    let mut next = Positions::new();
    for record in records {
        let mut find = |detail: String| {
            report.findings.push(Finding {
                check: "ledger",
                epoch: Some(record.epoch),
                table: Some("ops.epochs".into()),
                detail,
            });
        };
        if record.epoch != expected {
            find(format!("epoch {expected} should come here"));
        }
        expected = record.epoch + 1;
        if let Some(imbalance) = record.imbalance() {
            find(imbalance);
        }
        let messages: u64 = record.ranges.values().map(|range| range.messages).sum();
        if messages != record.messages {
            find(format!("its offsets hold {messages} messages, but it says {}", record.messages));
        }
        for (partition, range) in &record.ranges {
            if let Some(reached) = next.get(partition).filter(|reached| range.first < **reached) {
                find(format!("{partition} was read again from {}, though {reached} had been reached", range.first));
            }
            if range.messages > u64::try_from(range.next - range.first).unwrap_or(0) {
                find(format!(
                    "{partition} holds more messages than offsets between {} and {}",
                    range.first, range.next
                ));
            }
            next.insert(partition.clone(), range.next);
        }
    }
    if report.findings.len() == before {
        report.proven.push(format!(
            "{} epochs follow each other, each adds up, and no offset of their {} partitions was read twice",
            records.len(),
            next.len()
        ));
    }
}

async fn counts(context: &SessionContext, table: &TableName) -> Result<BTreeMap<i64, u64>, PipelineError> {
    let sql = format!("SELECT epoch, count(*) AS n FROM {table} GROUP BY epoch");
    let mut found = BTreeMap::new();
    for batch in context.sql(&sql).await?.collect().await? {
        let (epochs, counts) =
            (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_primitive::<Int64Type>());
        for row in 0..batch.num_rows() {
            found.insert(epochs.value(row), u64::try_from(counts.value(row)).unwrap_or(0));
        }
    }
    Ok(found)
}

async fn number(context: &SessionContext, sql: &str) -> Result<i64, PipelineError> {
    let batches = context.sql(sql).await?.collect().await?;
    let value = batches
        .iter()
        .find(|batch| batch.num_rows() > 0)
        .map(|batch| batch.column(0).as_primitive::<Int64Type>().value(0));
    Ok(value.unwrap_or(0))
}

async fn conservation(
    context: &SessionContext,
    plan: &Plan,
    records: &[EpochRecord],
    report: &mut Verification,
) -> Result<(), PipelineError> {
    let before = report.findings.len();
    let stream: Vec<&EpochRecord> = records.iter().filter(|record| record.kind == EpochKind::Stream).collect();
    type Count = fn(&EpochRecord) -> u64;
    let mut laws: Vec<(TableName, Count)> = vec![
        (plan.bronze.clone(), |record| record.bronze_rows),
        (plan.silver.table.clone(), |record| record.silver_rows),
    ];
    if let Some(quarantine) = &plan.silver.quarantine {
        laws.push((quarantine.clone(), |record| record.quarantined));
    }
    for def in &plan.rows {
        laws.push((def.table.clone(), |record| record.silver_rows));
    }
    for (table, wanted) in &laws {
        let found = counts(context, table).await?;
        for record in &stream {
            let (is, should) = (found.get(&record.epoch).copied().unwrap_or(0), wanted(record));
            if is != should {
                let detail = format!("{is} rows stand there, but the ledger says {should}");
                report.findings.push(Finding {
                    check: "conservation",
                    epoch: Some(record.epoch),
                    table: Some(table.to_string()),
                    detail,
                });
            }
        }
        let foreign: u64 = found
            .iter()
            .filter(|(epoch, _)| !stream.iter().any(|record| record.epoch == **epoch))
            .map(|(_, n)| n)
            .sum();
        if foreign > 0 {
            let detail = format!("{foreign} rows belong to no complete epoch");
            report.findings.push(Finding {
                check: "conservation",
                epoch: None,
                table: Some(table.to_string()),
                detail,
            });
        }
    }
    let dead = number(context, "SELECT count(*) FROM bronze.dead_letters").await?;
    let wanted: u64 = stream.iter().map(|record| record.dead_letters).sum();
    if u64::try_from(dead).unwrap_or(0) != wanted {
        let detail = format!("{dead} rows stand there, but the ledger says {wanted}");
        report.findings.push(Finding {
            check: "conservation",
            epoch: None,
            table: Some("bronze.dead_letters".into()),
            detail,
        });
    }
    if report.findings.len() == before {
        let sum = |count: Count| stream.iter().map(|record| count(record)).sum::<u64>();
        report.proven.push(format!(
            "{} messages = {} bronze rows + {wanted} dead letters",
            sum(|record| record.messages),
            sum(|record| record.bronze_rows)
        ));
        report.proven.push(format!(
            "{} bronze rows = {} silver rows + {} duplicates + {} quarantined",
            sum(|record| record.bronze_rows),
            sum(|record| record.silver_rows),
            sum(|record| record.duplicates),
            sum(|record| record.quarantined)
        ));
    }
    Ok(())
}

async fn uniqueness(context: &SessionContext, plan: &Plan, report: &mut Verification) -> Result<(), PipelineError> {
    let before = report.findings.len();
    let mut laws: Vec<(TableName, Vec<String>)> = Vec::new();
    if plan.silver.deduplicate {
        laws.push((plan.silver.table.clone(), plan.silver.key.clone()));
    }
    laws.extend(
        plan.rows
            .iter()
            .chain(&plan.windows)
            .filter(|def| !def.key.is_empty())
            .map(|def| (def.table.clone(), def.key.clone())),
    );
    for (table, key) in &laws {
        let key = key.iter().map(|column| format!("\"{column}\"")).collect::<Vec<_>>().join(", ");
        let sql = format!("SELECT count(*) FROM (SELECT {key} FROM {table} GROUP BY {key} HAVING count(*) > 1)");
        let repeated = number(context, &sql).await?;
        if repeated > 0 {
            let sql = format!("SELECT {key} FROM {table} GROUP BY {key} HAVING count(*) > 1 ORDER BY {key} LIMIT 1");
            let first = context.sql(&sql).await?.collect().await?;
            let shown = first.iter().filter(|batch| batch.num_rows() > 0).flat_map(RecordBatch::columns);
            let shown: Vec<String> = shown.map(|column| array_value_to_string(column, 0)).collect::<Result<_, _>>()?;
            let detail =
                format!("{repeated} values of ({key}) stand more than once, the first is {}", shown.join(", "));
            report.findings.push(Finding { check: "uniqueness", epoch: None, table: Some(table.to_string()), detail });
        }
    }
    let place = format!("{}, {}, {}", schema::SOURCE_TOPIC, schema::SOURCE_PARTITION, schema::SOURCE_OFFSET);
    let sql = format!(
        "SELECT count(*) FROM (SELECT {place} FROM (SELECT {place} FROM {} UNION ALL SELECT {place} FROM bronze.dead_letters) GROUP BY {place} HAVING count(*) > 1)",
        plan.bronze
    );
    let repeated = number(context, &sql).await?;
    if repeated > 0 {
        let detail = format!("{repeated} messages stand more than once in it and in bronze.dead_letters together");
        report.findings.push(Finding {
            check: "uniqueness",
            epoch: None,
            table: Some(plan.bronze.to_string()),
            detail,
        });
    }
    if report.findings.len() == before {
        let tables: Vec<String> = laws.iter().map(|(table, _)| table.to_string()).collect();
        report.proven.push(format!("every message stands once, and every key of {} once", tables.join(", ")));
    }
    Ok(())
}

fn end_offsets(
    tables: &Tables,
    records: &[EpochRecord],
    ends: &Positions,
    report: &mut Verification,
) -> Result<(), PipelineError> {
    let next = standing::published_positions(tables, records)?;
    let (bronze, last) = (tables.bronze.epoch(), tables.ledger.last_epoch());
    let waiting = if bronze > last {
        format!("; bronze has epochs up to {bronze}, the ledger up to {last}: `assay refine` publishes them")
    } else {
        String::new()
    };
    let before = report.findings.len();
    for (partition, end) in ends {
        let reached = next.get(partition).copied().unwrap_or(0);
        if reached < *end {
            let detail = format!(
                "{partition} is published up to {reached}, and Kafka has messages up to {end}: {} behind{waiting}",
                end - reached
            );
            report.findings.push(Finding { check: "end_offsets", epoch: None, table: None, detail });
        }
    }
    if report.findings.len() == before {
        report.proven.push(format!("the end offsets of {} partitions are reached", ends.len()));
    }
    Ok(())
}
