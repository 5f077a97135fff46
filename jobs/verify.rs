use assay::lake::open_session;
use assay::pipeline::{Subject, verify};
use assay::source::end_offsets;
use clap::Args;

use crate::app::{App, KafkaArgs, Opened};
use crate::exit::{Exit, Refused};
use crate::run::BROKER_PATIENCE;

/// Prove conservation, uniqueness and gold from the tables alone; exits 3 when something does not hold.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    pub kafka: KafkaArgs,
}

pub fn run(args: VerifyArgs, mut app: App) -> anyhow::Result<Exit> {
    args.kafka.apply(&mut app.settings);
    app.settings.check()?;
    let Opened { plan, lake, lease: _lease, tables, .. } = app.open(false)?;
    let ends = match args.kafka.brokers {
        Some(_) => Some(end_offsets(&app.settings.kafka, BROKER_PATIENCE)?),
        None => None,
    };
    let session = app.handle.block_on(open_session(&lake, None, app.clock.now_us() / 1000, None))?;
    let settings = app.stage_settings();
    let subject = Subject { plan: &plan, settings: &settings, hash_key: lake.hash_key(), ends: ends.as_ref() };
    let quiet = app.json;
    let report = verify(&tables, &session.context, &subject, |step| {
        if !quiet {
            eprintln!("checking {step}");
        }
    })?;
    if app.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        for line in &report.proven {
            println!("ok    {line}");
        }
        for finding in &report.findings {
            let epoch = finding.epoch.map_or_else(String::new, |epoch| format!(" epoch {epoch}"));
            let table = finding.table.as_deref().map_or_else(String::new, |table| format!(" {table}"));
            println!("FAIL  {}{epoch}{table}: {}", finding.check, finding.detail);
        }
    }
    match report.findings.len() {
        0 => Ok(Exit::Done),
        count => Err(Refused(format!("{count} checks of the lake at {} do not hold", lake.location())).into()),
    }
}
