//! `assay online`: the features of a lake in a Redis that servers share.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use assay::domain::Reaction;
use assay::online::{Fed, FedLake, Feeder, OnlineError, Status};
use assay::serve::Readiness;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::app::{App, nap, usage};
use crate::exit::Exit;
use crate::run::Server;
use crate::ui::thousands;

/// Feed a Redis with what the lake knows of users, merchants and devices, for servers that share it.
///
/// `assay serve` answers from it where online.redis is set.
#[derive(Debug, Clone, Args)]
pub struct OnlineArgs {
    /// redis://user@host:port/database or rediss://…, without a password (ASSAY_ONLINE_PASSWORD) [default: that of the settings]
    #[arg(long, global = true, value_name = "URL")]
    pub redis: Option<String>,
    #[command(subcommand)]
    pub job: OnlineJob,
}

#[derive(Debug, Clone, Subcommand)]
pub enum OnlineJob {
    /// Follow the lake: after each complete epoch, write what is known of every entity that got rows. One at a time does;
    /// another one waits for its turn
    Feed {
        /// Bring Redis to the newest epoch, and end
        #[arg(long, conflicts_with = "http")]
        once: bool,
        /// Serve /metrics, /health and /ready here
        #[arg(long, value_name = "HOST:PORT")]
        http: Option<String>,
    },
    /// Write everything anew, and remove all else that Redis has of this lake. Requests are answered from what was there until
    /// it is done; a feeder at work goes on with the result
    Rebuild {
        /// Remove everything first, where Redis has no room for both: until it is done the rules decide
        #[arg(long)]
        wipe: bool,
    },
    /// Say up to which epoch Redis knows the lake, and what it holds
    Status,
}

/// The lake is looked at this often: a look reads its log.
const EVERY: Duration = Duration::from_secs(1);

pub fn run(args: OnlineArgs, mut app: App) -> anyhow::Result<Exit> {
    if let Some(redis) = &args.redis {
        app.settings.online.redis.clone_from(redis);
    }
    app.settings.check()?;
    match args.job {
        OnlineJob::Feed { once: true, .. } => {
            let mut feeder = feeder(&app)?;
            let fed = feeder.step();
            feeder.release();
            told(&app, &fed?)?;
        }
        OnlineJob::Feed { http, .. } => {
            if let Some(address) = &http {
                app.settings.serve.address.clone_from(address);
                // It is that of the servers, which score.
                app.settings.serve.socket.clear();
                app.settings.check()?;
            }
            feed(&app, http.is_some())?;
        }
        OnlineJob::Rebuild { wipe } => {
            let mut feeder = feeder(&app)?;
            let steps = app.screen.steps("online rebuild");
            steps.at("read the lake and write", 0, 1);
            let rebuilt = feeder.rebuild(wipe);
            feeder.release();
            drop(steps);
            let (fed, removed) = rebuilt?;
            if app.json {
                say!("{}", json!({ "fed": fed, "removed": removed.keys }))?;
            } else {
                told(&app, &fed)?;
                say!("{} keys of before are removed", thousands(removed.keys))?;
            }
        }
        OnlineJob::Status => status(&app, &feeder(&app)?.status()?)?,
    }
    Ok(Exit::Done)
}

/// Until it is stopped. What may pass is waited for.
fn feed(app: &App, is_served: bool) -> anyhow::Result<()> {
    app.stop_on_signals();
    let mut feeder = feeder(app)?;
    let readiness = Readiness::awaiting(["online"]);
    let _server = is_served.then(|| Server::start(app, readiness.clone(), None, None)).transpose()?;
    // What the user has to correct ends the job; a lake or a Redis that is not there yet does not.
    let (mut told_of, mut epoch) = (None, 0);
    while !app.stop.load(Ordering::Relaxed) {
        match feeder.step() {
            Ok(fed) => {
                told_of = None;
                readiness.set("online", Ok(()));
                if fed.epoch != epoch {
                    tracing::info!(epoch = fed.epoch, states = fed.states, anew = fed.anew, "fed");
                    if epoch == 0 && !app.json {
                        eprintln!("Redis knows the lake up to epoch {}; Ctrl-C ends it", fed.epoch);
                    }
                    epoch = fed.epoch;
                }
            }
            Err(error) if error.reaction() == Reaction::Retry || is_no_lake(&error) => {
                let text = error.to_string();
                readiness.set("online", Err(text.clone()));
                // A lease that runs out says another number each time.
                let kind = std::mem::discriminant(&error);
                if told_of != Some(kind) {
                    tracing::warn!(error = text, "this is tried again");
                }
                told_of = Some(kind);
            }
            Err(error) => {
                feeder.release();
                return Err(error.into());
            }
        }
        let mut waited = Duration::ZERO;
        while waited < EVERY && !app.stop.load(Ordering::Relaxed) {
            nap(Duration::from_millis(50));
            waited += Duration::from_millis(50);
        }
    }
    feeder.release();
    Ok(())
}

fn is_no_lake(error: &OnlineError) -> bool {
    use assay::lake::LakeError;
    matches!(error, OnlineError::Lake(LakeError::NoLake { .. } | LakeError::Missing { .. }))
}

fn feeder(app: &App) -> anyhow::Result<Feeder> {
    let settings = &app.settings;
    let contract = app.contract()?;
    let plan = match app.open_lake(false) {
        Ok(lake) => app.plan_of(&contract, &lake)?,
        Err(_) => app.plan(&contract)?,
    };
    let fed = FedLake {
        place: &settings.lake,
        pipeline: &settings.pipeline,
        plan: &plan,
        evolved: &contract.evolved_columns(),
        horizon_s: settings.scoring.horizon_s,
    };
    let parts = (app.handle.clone(), Arc::clone(&app.clock), Arc::clone(&app.metrics));
    let id = format!("process {} ({})", std::process::id(), uuid::Uuid::new_v4().simple());
    Feeder::new(fed, &settings.online, parts, id).map_err(|error| match error {
        OnlineError::Sql(error) => usage(error),
        error => error.into(),
    })
}

fn told(app: &App, fed: &Fed) -> anyhow::Result<()> {
    if app.json {
        say!("{}", serde_json::to_string(fed)?)?;
        return Ok(());
    }
    let Fed { epoch, generation, states, anew } = fed;
    match (states, anew) {
        (_, true) => say!("epoch {epoch}: {} states, all anew as generation {generation}", thousands(*states))?,
        (0, false) => say!("epoch {epoch}: nothing is new")?,
        (_, false) => say!("epoch {epoch}: {} states", thousands(*states))?,
    }
    Ok(())
}

fn status(app: &App, status: &Status) -> anyhow::Result<()> {
    if app.json {
        say!("{}", serde_json::to_string(status)?)?;
        return Ok(());
    }
    let Status { redis, lake, definitions, epoch, newest_epoch, behind, states, others, .. } = status;
    say!("{redis} for {lake}, definitions {definitions}")?;
    match status.generation {
        None => say!("epoch       none of {newest_epoch}: run `assay online feed`")?,
        Some(generation) => {
            say!("epoch       {epoch} of {newest_epoch}, {behind} behind")?;
            say!("generation  {generation}")?;
        }
    }
    say!("states      {}", thousands(*states))?;
    say!("others      {} keys of other generations or definitions", thousands(*others))?;
    say!("feeder      {}", status.feeder.as_deref().unwrap_or("none"))?;
    Ok(())
}
