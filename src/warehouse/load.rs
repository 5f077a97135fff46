//! One run: what is to be done, and transaction by transaction the doing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use serde::Serialize;
use tokio_postgres::{Client, Transaction};

use super::checks::{self, CheckFile, Outcome, Severity};
use super::connect::connect;
use super::copy::{self, Copied};
use super::ddl::{self, quoted};
use super::definitions::Definitions;
use super::error::WarehouseError;
use super::file::{Mode, TableFile};
use super::settings::WarehouseSettings;
use super::source::{Epoch, Source, Span, Table, kept};
use super::state::{self, Run, State};
use super::{plan, security, setup};
use crate::domain::{Clock, TableName};
use crate::lake::Session;
use crate::refine::References;

/// What is asked of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Everything anew, in one transaction.
    pub full: bool,
    /// Add columns that files have and tables lack.
    pub migrate: bool,
    /// The last epoch to load; the newest one without.
    pub until: Option<i64>,
}

/// What a run needs.
pub struct Job<'a> {
    pub settings: &'a WarehouseSettings,
    pub definitions: &'a Definitions,
    pub references: &'a Arc<References>,
    /// The table that refines bronze, with all columns that it may have.
    pub silver: (TableName, SchemaRef),
    pub pipeline: &'a str,
    pub lake: &'a str,
    pub clock: &'a dyn Clock,
    /// Told what is done, and of how many rows how many.
    pub progress: &'a (dyn Fn(&str, u64, u64) + Sync),
}

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    pub warehouse: String,
    pub schema: String,
    pub run_id: String,
    /// `full`, `incremental`, or `none` where nothing was new.
    pub processing_type: &'static str,
    /// Why everything was filled anew.
    pub because: Option<String>,
    /// Rows of epochs in `(after_epoch, epoch]` came.
    pub after_epoch: i64,
    pub epoch: i64,
    pub transactions: u64,
    pub rows: u64,
    /// From the first look at the lake to the last commit.
    pub seconds: f64,
    /// Of all tables, over all that time.
    pub rows_per_s: f64,
    pub tables: Vec<TableReport>,
    /// Those that do not hold, and are only told.
    pub warnings: Vec<Outcome>,
    pub checks: u64,
    /// What people should know or do.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TableReport {
    pub table: String,
    pub rows: u64,
    /// Of reading the lake, encoding and storing.
    pub seconds: f64,
    pub rows_per_s: f64,
    /// Values that PostgreSQL cannot hold as they are: a NUL in a text became U+FFFD, an instant beyond its calendar infinity.
    pub adjusted: u64,
}

/// Brings the warehouse to an epoch of the lake.
///
/// # Errors
/// With nothing changed by the transaction that failed; those before it are kept.
pub async fn load(job: &Job<'_>, session: Session, options: &Options) -> Result<Report, WarehouseError> {
    let began = job.clock.now_us();
    let mut source = Source::new(session, job.definitions, job.references, job.silver.clone())?;
    let newest = source.epoch();
    if newest == 0 {
        return Err(WarehouseError::NoEpoch);
    }
    source.narrow(job.definitions, Span { after: 0, to: newest }).await?;
    let mut tables = Vec::with_capacity(job.definitions.tables.len());
    for file in &job.definitions.tables {
        tables.push(source.table(file).await?);
    }
    let people: Vec<Table> = job.definitions.kept.iter().map(kept).collect();
    let run = Run { id: uuid::Uuid::new_v4(), pipeline: job.pipeline.to_owned(), lake: job.lake.to_owned() };
    (job.progress)("connect", 0, 0);
    let schema = job.settings.schema.as_str();
    let (mut client, place) = connect(job.settings, &format!("assay warehouse {}", run.id)).await?;
    state::lock(&client, schema, &place).await?;
    setup::enter(&client, schema).await?;
    state::is_held(&client, schema).await?;
    let standing = ddl::standing(&client, schema).await?;
    setup::owned(&client, schema, &standing, &tables).await?;
    let mut states = if standing.contains_key(state::STATE) { state::read(&client).await? } else { BTreeMap::new() };
    // A table that somebody dropped holds no epoch.
    states.retain(|table, _| standing.contains_key(table));
    let wanted = plan::Wanted {
        schema,
        pipeline: job.pipeline,
        tables: &job.definitions.tables,
        newest,
        rows_max: job.settings.transaction_rows,
    };
    // What cannot be loaded at all is refused before anything is made or altered.
    let plan = plan::plan(&source, &states, &wanted, options).await?;
    let prepared = setup::prepare(&mut client, schema, &standing, &people, &tables, options).await?;
    let mut notes = prepared.notes;
    notes.extend(plain_text(&client).await);
    notes.extend(plan.because.is_none().then(|| older(&job.definitions.tables, &states)).into_iter().flatten());
    let report = Report {
        warehouse: place,
        schema: schema.to_owned(),
        run_id: run.id.to_string(),
        processing_type: plan.processing_type(),
        because: plan.because.clone(),
        after_epoch: plan.after,
        epoch: plan.after,
        notes,
        ..Report::default()
    };
    let mut loader = Loader { job, client: &mut client, source, tables, recreate: prepared.recreate, run, report };
    for step in &plan.steps {
        loader.step(step).await.map_err(WarehouseError::advised)?;
    }
    let mut report = loader.report;
    state::unlock(&client, schema).await;
    report.seconds = seconds(job.clock.now_us() - began);
    report.rows_per_s = rate(report.rows, report.seconds);
    for table in &mut report.tables {
        table.rows_per_s = rate(table.rows, table.seconds);
        if table.adjusted > 0 {
            report.notes.push(format!(
                "{}: PostgreSQL cannot hold {} values as they are: a NUL in a text became U+FFFD, an instant or a day beyond \
                 its calendar infinity",
                table.table, table.adjusted
            ));
        }
    }
    Ok(report)
}

/// A connection to elsewhere that everybody on the way can read.
async fn plain_text(client: &Client) -> Option<String> {
    let sql = "SELECT host(a.client_addr)::text FROM pg_stat_activity a JOIN pg_stat_ssl s USING (pid) \
               WHERE pid = pg_backend_pid() AND NOT s.ssl AND a.client_addr IS NOT NULL \
                  AND NOT a.client_addr <<= '127.0.0.0/8' AND a.client_addr <> '::1'";
    let from: String = client.query_opt(sql, &[]).await.ok()??.get(0);
    Some(format!("the connection from {from} is not encrypted: set warehouse.sslmode to require or verify-full"))
}

/// Tables that hold rows by an older file.
fn older(files: &[TableFile], states: &BTreeMap<String, State>) -> Vec<String> {
    let of = |file: &TableFile| {
        let state = states.get(&file.name).filter(|state| state.definition != file.blake3)?;
        Some(format!(
            "{} was changed since epoch {} was loaded: rows up to there are of the file before it; --full makes them anew",
            file.file, state.epoch
        ))
    };
    files.iter().filter_map(of).collect()
}

struct Loader<'a, 'j> {
    job: &'a Job<'j>,
    client: &'a mut Client,
    source: Source,
    tables: Vec<Table>,
    recreate: BTreeSet<String>,
    run: Run,
    report: Report,
}

impl Loader<'_, '_> {
    /// One transaction.
    async fn step(&mut self, step: &plan::Step) -> Result<(), WarehouseError> {
        let processing_type = if step.is_full() { "full" } else { "incremental" };
        let tx = self.client.transaction().await.map_err(WarehouseError::of("to begin"))?;
        state::is_held(&tx, &self.job.settings.schema).await?;
        let mut at = Progress { say: self.job.progress, done: 0, of: step.rows() };
        let schema = self.job.settings.schema.as_str();
        let tables: Vec<&Table> = self.tables.iter().filter(|table| step.concerns(&table.file.name)).collect();
        // Tables without their indexes, and whether without their key.
        let mut bare: BTreeMap<&str, bool> = BTreeMap::new();
        if step.is_full() {
            for table in &tables {
                clear(&tx, table, self.recreate.contains(&table.file.name)).await?;
            }
            if !self.recreate.is_empty() {
                let files = tables.iter().map(|table| &table.file);
                let notes = security::apply(&tx, schema, files).await?;
                self.report.notes.extend(notes);
                self.report.notes.sort_unstable();
                self.report.notes.dedup();
            }
        }
        for table in &tables {
            if !step.is_full() && (table.file.mode != Mode::Rows || !is_growing(&tx, table, step.rows()).await?) {
                continue;
            }
            bare.insert(&table.file.name, strip(&tx, table).await?);
        }
        let id = self.run.id.into_bytes();
        let constants: [&[u8]; 2] = [&id, processing_type.as_bytes()];
        let mut copied: BTreeMap<String, (Copied, i64)> = BTreeMap::new();
        for part in &step.parts {
            self.source.narrow(self.job.definitions, part.span).await?;
            for table in &tables {
                let began = self.job.clock.now_us();
                let is_fact = table.file.mode == Mode::Rows;
                at.say(&table.file.name, 0);
                let freeze = step.is_full() && is_fact;
                let rows = copy::load(&tx, &self.source, table, &constants, freeze, |rows| {
                    at.say(&table.file.name, if is_fact { rows } else { 0 });
                });
                let rows = rows.await?;
                let (sum, took) = copied.entry(table.file.name.clone()).or_default();
                sum.rows += rows.rows;
                sum.adjusted += rows.adjusted;
                *took += self.job.clock.now_us() - began;
            }
        }
        for table in &tables {
            let Some(lacks_key) = bare.get(table.file.name.as_str()) else { continue };
            let began = self.job.clock.now_us();
            at.say(&format!("indexes of {}", table.file.name), 0);
            complete(&tx, table, *lacks_key).await?;
            copied.entry(table.file.name.clone()).or_default().1 += self.job.clock.now_us() - began;
        }
        at.say("checks", 0);
        let span = step.span();
        let outcomes = check(&tx, self.job.definitions, &tables, span, step.is_full()).await?;
        self.report.checks += outcomes.len() as u64;
        let failing = outcomes.into_iter().filter(|outcome| outcome.failing > 0);
        let (broken, warned): (Vec<_>, Vec<_>) = failing.partition(|outcome| outcome.severity == Severity::Error);
        if !broken.is_empty() {
            let told = checks::in_words(&broken);
            return Err(WarehouseError::Checks { count: broken.len(), from: span.after + 1, to: span.to, told });
        }
        let last = step.last();
        for table in &tables {
            let from = (!step.is_full()).then_some(span.after);
            state::advance(&tx, &table.file, from, &last, &self.run, schema).await?;
        }
        let rows = copied.iter().map(|(name, (copied, _))| (name.clone(), copied.rows)).collect();
        state::note(&tx, &self.run, span, processing_type, &rows).await?;
        tx.commit().await.map_err(WarehouseError::of("to commit"))?;
        self.report.took(&tables, &copied, last.epoch, warned);
        Ok(())
    }
}

impl Report {
    fn took(&mut self, tables: &[&Table], copied: &BTreeMap<String, (Copied, i64)>, epoch: i64, warned: Vec<Outcome>) {
        self.transactions += 1;
        self.epoch = self.epoch.max(epoch);
        for table in tables {
            let Some((copied, took)) = copied.get(&table.file.name) else { continue };
            self.rows += copied.rows;
            let place = match self.tables.iter().position(|known| known.table == table.file.name) {
                Some(place) => place,
                None => {
                    self.tables.push(TableReport { table: table.file.name.clone(), ..TableReport::default() });
                    self.tables.len() - 1
                }
            };
            if let Some(known) = self.tables.get_mut(place) {
                known.rows += copied.rows;
                known.adjusted += copied.adjusted;
                known.seconds += seconds(*took);
            }
        }
        for outcome in warned {
            match self.warnings.iter_mut().find(|known| known.check == outcome.check) {
                Some(known) => known.failing += outcome.failing,
                None => self.warnings.push(outcome),
            }
        }
    }
}

struct Progress<'a> {
    say: &'a (dyn Fn(&str, u64, u64) + Sync),
    done: u64,
    of: u64,
}

impl Progress<'_> {
    fn say(&mut self, what: &str, rows: u64) {
        self.done += rows;
        (self.say)(what, self.done, self.of);
    }
}

/// Empties a table for a complete refresh.
async fn clear(tx: &Transaction<'_>, table: &Table, recreate: bool) -> Result<(), WarehouseError> {
    let name = &table.file.name;
    let failed = || WarehouseError::of(format!("to empty {name}"));
    if recreate {
        tx.batch_execute(&format!("DROP TABLE {}", quoted(name))).await.map_err(failed())?;
        setup::create(tx, table).await?;
    }
    tx.batch_execute(&format!("TRUNCATE {}", quoted(name))).await.map_err(failed())
}

/// Rows from which indexes are worth to be made anew: whoever reads waits meanwhile.
const STRIP_ROWS_MIN: u64 = 100_000;
/// A row costs its indexes seven times as much when it is put into them as when they are built over it.
const STRIP_SHARE: f64 = 5.0;

/// Whether so many rows come to a table that its indexes are made anew sooner than kept. Not where keys of others refer to it.
async fn is_growing(tx: &Transaction<'_>, table: &Table, rows: u64) -> Result<bool, WarehouseError> {
    if rows < STRIP_ROWS_MIN {
        return Ok(false);
    }
    const SQL: &str = "SELECT reltuples::float8, EXISTS (SELECT 1 FROM pg_constraint f WHERE f.confrelid = c.oid) \
         FROM pg_class c WHERE c.oid = to_regclass($1::text)";
    let name = quoted(&table.file.name);
    let row = tx.query_one(SQL, &[&name]).await.map_err(WarehouseError::of(format!("to look at {name}")))?;
    let (there, is_referred): (f64, bool) = (row.get(0), row.get(1));
    // Below 0 nobody has counted.
    Ok(!is_referred && there >= 0.0 && rows as f64 * STRIP_SHARE >= there)
}

/// Takes the indexes from a fact that many rows come to: to make them anew over all rows is far quicker than to keep them.
/// Gives whether its key went too: views that group by it and keys that refer to it need it, and keep it.
async fn strip(tx: &Transaction<'_>, table: &Table) -> Result<bool, WarehouseError> {
    let failed = || WarehouseError::of(format!("to index {}", table.file.name));
    let is_fact = table.file.mode == Mode::Rows;
    let mut sql = "SET LOCAL maintenance_work_mem = '256MB'".to_owned();
    let lacks_key = is_fact && !is_needed(tx, table).await?;
    for statement in table.drop_indexes().into_iter().filter(|_| is_fact) {
        sql.push(';');
        sql.push_str(&statement);
    }
    if lacks_key {
        sql.push(';');
        sql.push_str(&table.drop_primary_key());
    }
    tx.batch_execute(&sql).await.map_err(failed())?;
    Ok(lacks_key)
}

/// Whether something of others depends on the key of a table.
async fn is_needed(tx: &Transaction<'_>, table: &Table) -> Result<bool, WarehouseError> {
    const SQL: &str = "SELECT EXISTS (SELECT 1 FROM pg_constraint p JOIN pg_depend d ON d.deptype = 'n' AND \
            ((d.refclassid = 'pg_constraint'::regclass AND d.refobjid = p.oid) OR \
             (d.refclassid = 'pg_class'::regclass AND d.refobjid = p.conindid)) \
         WHERE p.conrelid = to_regclass($1::text) AND p.contype = 'p')";
    let name = quoted(&table.file.name);
    let row = tx.query_one(SQL, &[&name]).await.map_err(WarehouseError::of(format!("to look at {name}")))?;
    Ok(row.get(0))
}

async fn complete(tx: &Transaction<'_>, table: &Table, lacks_key: bool) -> Result<(), WarehouseError> {
    let failed = || WarehouseError::of(format!("to index {}", table.file.name));
    if lacks_key {
        tx.batch_execute(&table.primary_key()).await.map_err(failed())?;
    }
    if table.file.mode == Mode::Rows {
        setup::indexes(tx, table).await?;
    }
    tx.batch_execute(&format!("ANALYZE {}", quoted(&table.file.name))).await.map_err(failed())
}

async fn check(
    tx: &Transaction<'_>,
    definitions: &Definitions,
    tables: &[&Table],
    span: Span,
    is_full: bool,
) -> Result<Vec<Outcome>, WarehouseError> {
    checks::announce(tx, span.after, span.to).await?;
    let mut outcomes = Vec::new();
    let of = |check: &CheckFile| tables.iter().find(|table| table.file.name == check.table);
    for (check, table) in definitions.checks.iter().filter_map(|check| Some((check, of(check)?))) {
        outcomes.extend(check.run(tx, &table.file, is_full).await?);
    }
    Ok(outcomes)
}

fn rate(rows: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { (rows as f64 / seconds).round() } else { 0.0 }
}

fn seconds(micros: i64) -> f64 {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0)).as_secs_f64()
}

/// The last epoch of a step.
impl plan::Step {
    fn last(&self) -> Epoch {
        self.parts
            .last()
            .map_or(Epoch { epoch: 0, silver_rows: 0, is_rebuild: false, published_at_us: 0 }, |part| part.last)
    }
}
