use anyhow::Context as _;
use assay::contract::{Contract, Registry};
use clap::Args;
use serde::Serialize;

use crate::app::{App, usage};
use crate::exit::Exit;

/// Register the versions of the contract with the schema registry, each checked by it against those before.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Subjects are <topic>-value. A version that is registered already keeps its id. Exit code 2, with \
                        the registry's reasons, when it finds a version incompatible."
)]
pub struct RegisterArgs {
    /// A Confluent-compatible schema registry [default: registry.url]
    #[arg(long, value_name = "URL")]
    pub registry: Option<String>,
    /// The topic of the subject; may be given several times [default: kafka.topics]
    #[arg(long, value_name = "TOPIC")]
    pub topic: Vec<String>,
    /// The folder of contracts [default: contract.folder, or the built-in contract]
    #[arg(long, value_name = "FOLDER")]
    pub contracts: Option<std::path::PathBuf>,
    /// Only ask whether the newest version is compatible with what is registered; change nothing
    #[arg(long)]
    pub check: bool,
}

/// What one version of the contract is called in the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Registered {
    pub subject: String,
    /// Of the contract, not of the subject.
    pub version: usize,
    /// None when it was only checked.
    pub id: Option<i32>,
}

pub fn run(args: RegisterArgs, mut app: App) -> anyhow::Result<Exit> {
    if args.registry.is_some() {
        app.settings.registry.url.clone_from(&args.registry);
    }
    if !args.topic.is_empty() {
        app.settings.kafka.topics.clone_from(&args.topic);
    }
    if let Some(folder) = &args.contracts {
        app.settings.contract.folder.clone_from(folder);
    }
    app.settings.check()?;
    if app.settings.registry.url.is_none() {
        return Err(usage("there is no registry: give --registry URL, or set registry.url"));
    }
    let contract = app.contract()?;
    let mut registered = Vec::new();
    for topic in &app.settings.kafka.topics {
        if args.check {
            registered.push(check(&app, &contract, topic)?);
        } else {
            registered.extend(register(&app, &contract, topic)?);
        }
    }
    if app.json {
        say!("{}", serde_json::json!({"job": "register", "checked": args.check, "schemas": registered}))?;
        return Ok(Exit::Done);
    }
    for Registered { subject, version, id } in &registered {
        let name = contract.name();
        match id {
            Some(id) => say!("{subject}: {name}.v{version} has the id {id}")?,
            None => say!("{subject}: {name}.v{version} is compatible")?,
        }
    }
    Ok(Exit::Done)
}

/// Registers every version of a contract for a topic, the oldest first.
pub fn register(app: &App, contract: &Contract, topic: &str) -> anyhow::Result<Vec<Registered>> {
    let mut registry = Registry::new(&app.settings.registry, std::sync::Arc::clone(&app.clock))?;
    let subject = format!("{topic}-value");
    let versions = (1..=contract.versions()).filter_map(|version| Some((version, contract.version(version)?)));
    let one = |(version, schema): (usize, &str)| {
        let id = registry.register(&subject, schema).with_context(|| format!("{}.v{version}", contract.name()))?;
        Ok(Registered { subject: subject.clone(), version, id: Some(id) })
    };
    versions.map(one).collect()
}

fn check(app: &App, contract: &Contract, topic: &str) -> anyhow::Result<Registered> {
    let mut registry = Registry::new(&app.settings.registry, std::sync::Arc::clone(&app.clock))?;
    let (subject, version) = (format!("{topic}-value"), contract.versions());
    let schema = contract.version(version).unwrap_or_default();
    registry.check(&subject, schema).with_context(|| format!("{}.v{version}", contract.name()))?;
    Ok(Registered { subject, version, id: None })
}
