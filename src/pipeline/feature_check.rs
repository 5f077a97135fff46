//! Features held against their definition: a sample of what stands in the tables, recomputed from silver row by row.
//!
//! It shares no code with the operator that made them, and reads the declarations in the most literal way: for each row
//! of the sample, all rows of its entity that arrived before it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::util::display::array_value_to_string;
use datafusion::prelude::SessionContext;
use futures::StreamExt;

use super::error::PipelineError;
use super::plan::Plan;
use super::verify::{Finding, Verification};
use crate::domain::schema;
use crate::features::{Aggregate, Feature};
use crate::refine::TableDef;

/// Recomputes the features of `sample` rows of each table that declares some. `context` has the tables of one epoch.
///
/// The same `seed` gives the same rows of the same tables.
///
/// # Errors
/// When a table cannot be read; a value that differs is no error but a finding.
pub async fn verify_features(
    context: &SessionContext,
    plan: &Plan,
    sample: usize,
    seed: u64,
) -> Result<Verification, PipelineError> {
    let mut report = Verification::default();
    let tables: Vec<&TableDef> = plan.rows.iter().filter(|def| !def.features.is_empty()).collect();
    if tables.is_empty() {
        report.notes.push("no SQL file declares features".to_owned());
    }
    for def in tables {
        check(context, plan, def, sample, seed, &mut report).await?;
    }
    Ok(report)
}

async fn check(
    context: &SessionContext,
    plan: &Plan,
    def: &TableDef,
    sample: usize,
    seed: u64,
    report: &mut Verification,
) -> Result<(), PipelineError> {
    let finding =
        |detail: String| Finding { check: "features", epoch: None, table: Some(def.table.to_string()), detail };
    let Ok(table) = context.table(def.table.to_string()).await else {
        report.findings.push(finding(
            "the newest epoch has it not: set enabled = true in [features] and run `assay rebuild scores`".to_owned(),
        ));
        return Ok(());
    };
    let names: BTreeSet<String> = table.schema().fields().iter().map(|field| field.name().clone()).collect();
    let (features, unseen): (Vec<&Feature>, Vec<&Feature>) =
        def.features.iter().partition(|feature| names.contains(&feature.column));
    if !unseen.is_empty() {
        let unseen: Vec<&str> = unseen.iter().map(|feature| feature.column.as_str()).collect();
        report.notes.push(format!("{} selects not: {}", def.table, unseen.join(", ")));
    }
    let source = Source { event_time: plan.event_time(), features: &features };
    let mut samples = source.sample(context, plan, def, sample, seed).await?;
    source.tally(context, plan, &mut samples).await?;
    let before = report.findings.len();
    for (index, feature) in features.iter().enumerate() {
        let differing: Vec<(&Sample, Value)> = samples
            .iter()
            .map(|sample| (sample, sample.defined(feature, index)))
            .filter(|(sample, value)| sample.found.get(index) != Some(value))
            .collect();
        if let Some((first, value)) = differing.first() {
            report.findings.push(finding(format!(
                "{} differs in {} of {} rows, the first of {}: it is {}, and {value} by its definition",
                feature.column,
                differing.len(),
                samples.len(),
                first.key,
                first.found.get(index).map_or_else(String::new, ToString::to_string)
            )));
        }
    }
    if report.findings.len() == before {
        let (rows, values) = (samples.len(), samples.len() * features.len());
        report.proven.push(format!(
            "{} features of {rows} rows of {} equal their definition: {values} values",
            features.len(),
            def.table
        ));
    }
    Ok(())
}

/// A value, equal to the bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    Null,
    /// A whole number, a decimal in units of its last digit, or a flag as 0 or 1.
    Whole(i128),
    Real(u64),
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null => f.write_str("NULL"),
            Self::Whole(value) => write!(f, "{value}"),
            Self::Real(bits) => write!(f, "{:?}", f64::from_bits(*bits)),
        }
    }
}

impl Value {
    fn read(column: &ArrayRef, row: usize) -> Result<Self, ArrowError> {
        if column.is_null(row) {
            return Ok(Self::Null);
        }
        Ok(match column.data_type() {
            DataType::Boolean => Self::Whole(i128::from(column.as_boolean().value(row))),
            DataType::Float64 => Self::Real(column.as_primitive::<Float64Type>().value(row).to_bits()),
            DataType::Decimal128(_, _) => Self::Whole(column.as_primitive::<Decimal128Type>().value(row)),
            _ => Self::Whole(i128::from(cast(column, &DataType::Int64)?.as_primitive::<Int64Type>().value(row))),
        })
    }

    #[allow(clippy::cast_precision_loss, reason = "the one rounding that the definition has")]
    fn ratio(over: i128, by: i128) -> Self {
        if by == 0 { Self::Null } else { Self::Real((over as f64 / by as f64).to_bits()) }
    }
}

/// Where a row stands in the order of arrival.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    epoch: i64,
    ingested_at_us: i64,
    topic: String,
    partition: i32,
    offset: i64,
}

/// A row whose features are recomputed.
struct Sample {
    key: String,
    place: Place,
    at_us: Option<i64>,
    /// What the row itself has in the columns of the source, as text.
    own: BTreeMap<String, Option<String>>,
    found: Vec<Value>,
    /// For each feature, what came before.
    tallies: Vec<Tally>,
}

/// What is kept of the rows that a feature looks at.
#[derive(Default)]
struct Tally {
    rows: i128,
    trues: i128,
    values: i128,
    sum: i128,
    /// Digits after the point of what is summed up.
    scale: u32,
    different: BTreeSet<String>,
    events: Vec<(i64, Option<String>)>,
}

impl Sample {
    /// From when to when a row counts for a feature, the end not included.
    fn span(feature: &Feature, at_us: i64) -> (i64, i64) {
        let window_us = feature.window_us;
        match (feature.grain_us, feature.label_delay) {
            // Of the last events, those after the row are known too.
            _ if feature.aggregate.is_of_last() => (at_us - window_us + 1, i64::MAX),
            (None, _) => (at_us - window_us + 1, at_us + 1),
            (Some(grain_us), None) => {
                let end_us = (at_us.div_euclid(grain_us) + 1) * grain_us;
                (end_us - window_us, end_us)
            }
            (Some(grain_us), Some(delay)) => {
                let end_us = (at_us - delay.us()).div_euclid(grain_us) * grain_us;
                (end_us - window_us, end_us)
            }
        }
    }

    fn defined(&self, feature: &Feature, index: usize) -> Value {
        let own = |name: &String| self.own.get(name).cloned().flatten();
        let (Some(at_us), Some(_), Some(tally)) = (self.at_us, own(&feature.entity), self.tallies.get(index)) else {
            return Value::Null;
        };
        let unit = 10_i128.pow(tally.scale);
        match feature.aggregate {
            Aggregate::Count => Value::Whole(tally.rows),
            Aggregate::Sum => Value::Whole(tally.sum),
            Aggregate::Average => Value::ratio(tally.sum, tally.values * unit),
            Aggregate::Distinct => Value::Whole(tally.different.len() as i128),
            Aggregate::Rate => Value::ratio(tally.trues, tally.rows),
            Aggregate::SecondsSincePrevious | Aggregate::Seen | Aggregate::MismatchRate => {
                let events = newest(&tally.events, feature.last.unwrap_or(0));
                let mine = feature.of.as_ref().and_then(own);
                let same = events.iter().filter(|(_, value)| *value == mine).count() as i128;
                match feature.aggregate {
                    Aggregate::Seen => Value::Whole(i128::from(same > 0)),
                    Aggregate::MismatchRate => Value::ratio(events.len() as i128 - same, events.len() as i128),
                    _ => {
                        let previous = events.iter().map(|(time, _)| *time).filter(|time| *time <= at_us).max();
                        previous.map_or(Value::Null, |time| Value::ratio(i128::from(at_us - time), 1_000_000))
                    }
                }
            }
        }
    }
}

/// The newest events, as many as `last`; of those that share a time all or none.
fn newest(events: &[(i64, Option<String>)], last: usize) -> Vec<&(i64, Option<String>)> {
    let as_new = |time: i64| events.iter().filter(|(other, _)| *other >= time).count();
    let mut sorted: Vec<_> = events.iter().collect();
    sorted.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
    sorted.into_iter().take(last).filter(|(time, _)| as_new(*time) <= last).collect()
}

/// What is asked about one kind of entity.
#[derive(Default)]
struct Asked {
    /// The samples of each entity.
    samples: HashMap<String, Vec<usize>>,
    features: Vec<usize>,
}

/// Silver, as far as features look at it.
struct Source<'a> {
    event_time: &'a str,
    features: &'a [&'a Feature],
}

impl Source<'_> {
    fn columns(&self) -> Vec<&str> {
        let fixed = [
            self.event_time,
            schema::EPOCH,
            schema::INGESTED_AT,
            schema::SOURCE_TOPIC,
            schema::SOURCE_PARTITION,
            schema::SOURCE_OFFSET,
        ];
        let read = self.features.iter().flat_map(|feature| feature.columns()).map(String::as_str);
        let all: BTreeSet<&str> = fixed.into_iter().chain(read).collect();
        all.into_iter().collect()
    }

    async fn sample(
        &self,
        context: &SessionContext,
        plan: &Plan,
        def: &TableDef,
        sample: usize,
        seed: u64,
    ) -> Result<Vec<Sample>, PipelineError> {
        let quoted = |names: &[&str], prefix: &str| {
            names.iter().map(|name| format!("{prefix}\"{name}\"")).collect::<Vec<_>>().join(", ")
        };
        let keys: Vec<&str> = def.key.iter().map(String::as_str).collect();
        let columns: Vec<&str> = self.features.iter().map(|feature| feature.column.as_str()).collect();
        let read = self.columns();
        let texts = keys.iter().map(|key| format!("CAST(\"{key}\" AS VARCHAR)")).collect::<Vec<_>>().join(", ");
        let on = keys.iter().map(|key| format!("f.\"{key}\" = s.\"{key}\"")).collect::<Vec<_>>().join(" AND ");
        let sql = format!(
            "SELECT {}, {}, {} FROM (SELECT * FROM {} ORDER BY md5(concat_ws('/', '{seed}', {texts})) LIMIT {sample}) f \
             JOIN {} s ON {on}",
            quoted(&keys, "f."),
            quoted(&columns, "f."),
            // Under names of their own: the table may have columns of silver too.
            read.iter().map(|name| format!("s.\"{name}\" AS \"silver {name}\"")).collect::<Vec<_>>().join(", "),
            def.table,
            plan.silver.table,
        );
        let mut samples = Vec::new();
        for batch in context.sql(&sql).await?.collect().await? {
            let silver = batch.project(&(keys.len() + columns.len()..batch.num_columns()).collect::<Vec<_>>())?;
            let rows = Rows::new(&silver, self, "silver ")?;
            for row in 0..batch.num_rows() {
                let key = keys
                    .iter()
                    .enumerate()
                    .map(|(index, name)| Ok(format!("{name} {}", array_value_to_string(batch.column(index), row)?)));
                let found = (keys.len()..keys.len() + columns.len()).map(|at| Value::read(batch.column(at), row));
                samples.push(Sample {
                    key: key.collect::<Result<Vec<_>, ArrowError>>()?.join(", "),
                    place: rows.place(row)?,
                    at_us: rows.at_us(row),
                    own: rows.own(row)?,
                    found: found.collect::<Result<_, _>>()?,
                    tallies: self.features.iter().map(|_| Tally::default()).collect(),
                });
            }
        }
        Ok(samples)
    }

    /// Goes over silver once, and notes each row for the samples that it came before.
    async fn tally(&self, context: &SessionContext, plan: &Plan, samples: &mut [Sample]) -> Result<(), PipelineError> {
        let mut entities: BTreeMap<&str, Asked> = BTreeMap::new();
        for (index, feature) in self.features.iter().enumerate() {
            let entry = entities.entry(&feature.entity).or_default();
            entry.features.push(index);
            if entry.features.len() == 1 {
                for (at, sample) in samples.iter().enumerate() {
                    if let Some(Some(name)) = sample.own.get(&feature.entity) {
                        entry.samples.entry(name.clone()).or_default().push(at);
                    }
                }
            }
        }
        let columns = self.columns();
        let silver = context.table(plan.silver.table.to_string()).await?.select_columns(&columns)?;
        let mut batches = silver.execute_stream().await?;
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            let rows = Rows::new(&batch, self, "")?;
            for row in 0..batch.num_rows() {
                let Some(at_us) = rows.at_us(row) else { continue };
                let place = rows.place(row)?;
                for (entity, Asked { samples: samples_of, features }) in &entities {
                    let Some(name) = rows.text(entity, row)? else { continue };
                    for at in samples_of.get(&name).into_iter().flatten() {
                        let Some(sample) = samples.get_mut(*at).filter(|sample| place < sample.place) else { continue };
                        for index in features {
                            if let Some(feature) = self.features.get(*index) {
                                note(sample, *index, feature, at_us, &rows, row)?;
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

fn note(
    sample: &mut Sample,
    index: usize,
    feature: &Feature,
    at_us: i64,
    rows: &Rows,
    row: usize,
) -> Result<(), PipelineError> {
    let Some(sample_at_us) = sample.at_us else { return Ok(()) };
    let (from_us, to_us) = Sample::span(feature, sample_at_us);
    let Some(tally) = sample.tallies.get_mut(index).filter(|_| at_us >= from_us && at_us < to_us) else {
        return Ok(());
    };
    if let Some(filter) = &feature.filter
        && rows.value(filter, row)? != Value::Whole(1)
    {
        return Ok(());
    }
    tally.rows += 1;
    let Some(of) = &feature.of else {
        if feature.aggregate.is_of_last() {
            tally.events.push((at_us, None));
        }
        return Ok(());
    };
    match feature.aggregate {
        Aggregate::Sum | Aggregate::Average | Aggregate::Rate => {
            if let Value::Whole(value) = rows.value(of, row)? {
                tally.values += 1;
                tally.sum += value;
                tally.trues += value;
            }
            tally.scale = rows.scale(of);
        }
        Aggregate::Distinct => tally.different.extend(rows.text(of, row)?),
        _ => tally.events.push((at_us, rows.text(of, row)?)),
    }
    Ok(())
}

/// A batch of silver by the names of its columns.
struct Rows {
    columns: HashMap<String, ArrayRef>,
    times: ArrayRef,
    epochs: ArrayRef,
    ingested: ArrayRef,
    topics: ArrayRef,
    partitions: ArrayRef,
    offsets: ArrayRef,
}

impl Rows {
    /// The columns begin with `prefix`, which is taken off.
    fn new(batch: &RecordBatch, source: &Source<'_>, prefix: &str) -> Result<Self, PipelineError> {
        let found = batch.schema();
        let plain = |name: &String| name.strip_prefix(prefix).unwrap_or(name).to_owned();
        let names = found.fields().iter().map(|field| plain(field.name()));
        let columns: HashMap<String, ArrayRef> = names.zip(batch.columns().iter().cloned()).collect();
        let column = |name: &str, kind: &DataType| {
            let found =
                columns.get(name).ok_or_else(|| PipelineError::State(format!("silver has no column {name}")))?;
            Ok::<_, PipelineError>(cast(found, kind)?)
        };
        Ok(Self {
            times: column(source.event_time, &schema::timestamp())?,
            epochs: column(schema::EPOCH, &DataType::Int64)?,
            ingested: column(schema::INGESTED_AT, &schema::timestamp())?,
            topics: column(schema::SOURCE_TOPIC, &DataType::Utf8)?,
            partitions: column(schema::SOURCE_PARTITION, &DataType::Int32)?,
            offsets: column(schema::SOURCE_OFFSET, &DataType::Int64)?,
            columns,
        })
    }

    fn at_us(&self, row: usize) -> Option<i64> {
        let times = self.times.as_primitive::<TimestampMicrosecondType>();
        times.is_valid(row).then(|| times.value(row))
    }

    fn place(&self, row: usize) -> Result<Place, PipelineError> {
        Ok(Place {
            epoch: self.epochs.as_primitive::<Int64Type>().value(row),
            ingested_at_us: self.ingested.as_primitive::<TimestampMicrosecondType>().value(row),
            topic: self.topics.as_string::<i32>().value(row).to_owned(),
            partition: self.partitions.as_primitive::<Int32Type>().value(row),
            offset: self.offsets.as_primitive::<Int64Type>().value(row),
        })
    }

    fn column(&self, name: &str) -> Result<&ArrayRef, PipelineError> {
        self.columns.get(name).ok_or_else(|| PipelineError::State(format!("silver has no column {name}")))
    }

    fn text(&self, name: &str, row: usize) -> Result<Option<String>, PipelineError> {
        let column = self.column(name)?;
        Ok(if column.is_null(row) { None } else { Some(array_value_to_string(column, row)?) })
    }

    fn value(&self, name: &str, row: usize) -> Result<Value, PipelineError> {
        Ok(Value::read(self.column(name)?, row)?)
    }

    fn scale(&self, name: &str) -> u32 {
        match self.columns.get(name).map(|column| column.data_type().clone()) {
            Some(DataType::Decimal128(_, scale)) => u32::try_from(scale).unwrap_or(0),
            _ => 0,
        }
    }

    fn own(&self, row: usize) -> Result<BTreeMap<String, Option<String>>, PipelineError> {
        self.columns.keys().map(|name| Ok((name.clone(), self.text(name, row)?))).collect()
    }
}
