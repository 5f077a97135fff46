//! `assay replay`: dead letters, sent to their topic once more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use assay::domain::{Layer, TableName};
use assay::lake::{EpochLedger, Lease, open_session, require_tables};
use assay::pipeline::{Replay, bronze_name, letters_of};
use assay::source::{Outgoing, Producer};
use clap::Args;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use futures::StreamExt;
use serde_json::json;

use crate::app::{App, KafkaArgs};
use crate::exit::Exit;

/// Send dead letters to their topic again; those that came back already are left out.
///
/// They come back as new messages, so whoever writes the lake goes on. What was sent is known once its epoch is complete: wait
/// for that before the next replay. Letters without a payload are not sent.
#[derive(Debug, Clone, Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// Only letters of this reason; may be given several times [default: all]
    #[arg(long, value_name = "REASON")]
    pub reason: Vec<String>,
    /// Only letters of this epoch and later ones
    #[arg(long, value_name = "EPOCH")]
    pub from_epoch: Option<i64>,
    /// Only letters of this epoch and earlier ones
    #[arg(long, value_name = "EPOCH")]
    pub to_epoch: Option<i64>,
    /// Say how many would be sent, and send none
    #[arg(long)]
    pub dry_run: bool,
}

/// Letters that do not fit are put in order on disk.
const MEMORY_BYTES_MAX: usize = 256 << 20;
/// What a broker took once it may take again: the client's own bound of a megabyte is none of the topic's.
const LETTER_BYTES_MAX: u32 = 128 << 20;
/// How long the brokers may take to acknowledge the last messages.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn run(args: &ReplayArgs, mut app: App) -> anyhow::Result<Exit> {
    args.kafka.apply(&mut app.settings);
    app.settings.check()?;
    app.stop_on_signals();
    let bronze = bronze_name(app.contract()?.name());
    let lake = app.open_lake(false)?;
    let _lease = Lease::of_replay(&lake)?;
    let replay = Replay {
        lake: lake.id(),
        reasons: args.reason.clone(),
        from_epoch: args.from_epoch,
        to_epoch: args.to_epoch,
        topics: app.settings.kafka.topics.clone(),
    };
    let mut letters = app.handle.block_on(async {
        let dead_letters = TableName::new(Layer::Bronze, "dead_letters");
        require_tables(&lake, &[EpochLedger::table_name(), bronze.clone(), dead_letters]).await?;
        let pool = Arc::new(FairSpillPool::new(MEMORY_BYTES_MAX));
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc()?;
        let session = open_session(&lake, None, app.clock.now_us() / 1000, Some(runtime)).await?;
        if session.record.is_none() {
            return Ok(None);
        }
        Ok::<_, anyhow::Error>(Some(replay.letters(&session, &bronze).await?))
    })?;
    // Nothing is connected to where nothing is sent.
    let mut producer = None;
    let mut sent: BTreeMap<String, u64> = BTreeMap::new();
    let (mut refused, mut problem) = (0_u64, None);
    while let Some(letters) = &mut letters
        && !app.stop.load(Ordering::Relaxed)
        && let Some(batch) = app.handle.block_on(letters.next())
    {
        for letter in letters_of(&batch?)? {
            if !args.dry_run {
                let producer = match &mut producer {
                    Some(producer) => producer,
                    none => none.insert(Producer::open_for(&app.settings.kafka, LETTER_BYTES_MAX)?),
                };
                let taken = producer.send(&Outgoing {
                    topic: &letter.topic,
                    partition: Some(letter.partition),
                    key: letter.key.as_deref(),
                    payload: letter.payload.as_deref(),
                    timestamp_ms: None,
                    headers: &letter.headers,
                });
                // One that is too large must not keep those behind it: it waits for the next replay.
                if let Err(error) = taken {
                    refused += 1;
                    problem.get_or_insert(error);
                    continue;
                }
            }
            *sent.entry(letter.topic).or_default() += 1;
        }
    }
    if let Some(producer) = producer
        && let Err(error) = producer.flush(PATIENCE)
    {
        problem.get_or_insert(error);
    }
    let total: u64 = sent.values().sum();
    if app.json {
        say!(
            "{}",
            json!({"job": "replay", "letters": total, "refused": refused, "topics": sent, "dry_run": args.dry_run})
        )?;
    } else if total == 0 {
        say!("no dead letter of {} waits to be sent again", app.settings.kafka.topics.join(", "))?;
    } else {
        let verb = if args.dry_run { "would be sent" } else { "sent" };
        for (topic, letters) in &sent {
            say!("{letters} {verb} to {topic}")?;
        }
    }
    match problem {
        None => Ok(Exit::Done),
        Some(problem) => Err(anyhow::Error::new(problem).context(format!(
            "not all letters were taken ({refused} were refused at once); those that do not come back wait for the next replay"
        ))),
    }
}
