//! What the jobs say when they are done.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::display::array_value_to_string;
use assay::domain::Clock;
use assay::lake::{EpochLedger, Lake, Session, open_session, require_tables};
use assay::pipeline::{Progress, Tables};
use assay::refine::{References, functions};
use async_trait::async_trait;
use datafusion::prelude::SessionContext;

use crate::app::{App, table_lines};
use crate::exit::{Exit, Refused};
use crate::sql::{Format, QueryContext, SqlArgs};
use crate::ui::{Flow, Ledger, Look, Risk};

/// Prints a ledger as text or JSON. `balanced` says that the job goes all the way, so that its rows must add up.
pub fn print(app: &App, ledger: &Ledger, balanced: bool) -> anyhow::Result<()> {
    if app.json {
        say!("{}", serde_json::to_string(ledger)?)?;
    } else {
        crate::ui::print(format_args!("{}", ledger.render(Look::of_stdout())))?;
    }
    if balanced && !ledger.flow.is_balanced() {
        return Err(Refused("the rows do not add up; `assay verify` says where".into()).into());
    }
    Ok(())
}

/// What a job has done, and what stands in the lake now.
pub fn ledger(job: &str, tables: &Tables, progress: &Progress, elapsed_s: f64) -> Ledger {
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
    Ledger {
        job: job.to_owned(),
        epoch: tables.ledger.last_epoch(),
        elapsed_s,
        flow: Flow {
            messages: load(&progress.messages),
            bronze_rows: load(&progress.bronze_rows),
            dead_letters: load(&progress.dead_letters),
            silver_rows: load(&progress.silver_rows),
            duplicates: load(&progress.duplicates),
            quarantined: load(&progress.quarantined),
        },
        tables: table_lines(tables),
        riskiest: Vec::new(),
        try_next: Vec::new(),
    }
}

/// The transactions with the highest scores.
pub async fn riskiest(context: &SessionContext, limit: usize) -> anyhow::Result<Vec<Risk>> {
    let sql = format!(
        "SELECT f.transaction_id, f.score, f.class, f.amount, s.merchant, s.country, f.reasons \
         FROM gold.fraud_scores f JOIN silver.transactions s ON s.transaction_id = f.transaction_id \
         ORDER BY f.score DESC, f.amount DESC, f.transaction_id LIMIT {limit}"
    );
    let mut risks = Vec::new();
    for batch in context.sql(&sql).await?.collect().await? {
        for row in 0..batch.num_rows() {
            risks.push(risk(&batch, row)?);
        }
    }
    Ok(risks)
}

fn risk(batch: &RecordBatch, row: usize) -> anyhow::Result<Risk> {
    let text = |column: usize| array_value_to_string(batch.column(column), row);
    let reasons = text(6)?;
    Ok(Risk {
        transaction_id: text(0)?,
        score: text(1)?.parse()?,
        class: text(2)?,
        amount: text(3)?,
        merchant: text(4)?,
        country: text(5)?,
        reasons: reasons.split("; ").filter(|reason| !reason.is_empty()).map(str::to_owned).collect(),
    })
}

/// The lake as SQL sees it.
pub struct LakeContext {
    lake: Lake,
    references: Arc<References>,
    clock: Arc<dyn Clock>,
    latest: i64,
}

impl LakeContext {
    pub async fn open(lake: Lake, references: Arc<References>, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let session = open_session(&lake, None, clock.now_us() / 1000, None).await?;
        let latest = session.record.map_or(0, |record| record.epoch);
        Ok(Self { lake, references, clock, latest })
    }
}

#[async_trait]
impl QueryContext for LakeContext {
    async fn session(&self, epoch: Option<i64>) -> anyhow::Result<SessionContext> {
        let Session { context, .. } = open_session(&self.lake, epoch, self.clock.now_us() / 1000, None).await?;
        functions::register(&context, &self.references);
        Ok(context)
    }

    fn latest_epoch(&self) -> i64 {
        self.latest
    }
}

/// `assay sql`.
pub fn sql(mut args: SqlArgs, app: &App) -> anyhow::Result<Exit> {
    if app.json && args.output.is_none() {
        args.format.get_or_insert(Format::Json);
    }
    let contract = app.contract()?;
    let plan = app.plan(&contract)?;
    let lake = app.open_lake(false)?;
    let references = Arc::clone(&plan.catalog.references);
    let clock = Arc::clone(&app.clock);
    app.handle.block_on(async move {
        require_tables(&lake, &[EpochLedger::table_name()]).await?;
        let context = LakeContext::open(lake, references, clock).await?;
        crate::sql::run(args, &context).await
    })?;
    Ok(Exit::Done)
}
