use std::num::NonZero;
use std::sync::Arc;

use assay::scoring::{Explainer, ScoringPipeline};
use assay::serve::{ApiKeys, Console, ConsoleParts};
use tokio::runtime::{Builder, Runtime};

use crate::app::{App, usage};

/// The console of a process that serves HTTP, and the threads on which its questions compute; until it is dropped.
pub struct ConsoleHost {
    pub console: Console,
    /// Fewer than there are cores: the pipeline goes on beside them.
    runtime: Option<Runtime>,
}

impl ConsoleHost {
    /// `None` where the settings want none. `job` is the subcommand.
    pub fn start(app: &App, job: &'static str) -> anyhow::Result<Option<Self>> {
        let settings = &app.settings;
        if !settings.console.enabled {
            return Ok(None);
        }
        let contract = app.contract()?;
        let plan = match app.open_lake(false) {
            Ok(lake) => app.plan_of(&contract, &lake)?,
            Err(_) => app.plan_of_new(&contract)?,
        };
        let registry = app.models()?;
        // A pipeline of other tables may have nothing to score: its console shows the rest.
        let explainer = ScoringPipeline::compile(&plan, &contract).map_err(|error| error.to_string()).map(|pipeline| {
            let (registry, settings) = (registry.clone(), settings.scoring.clone());
            Arc::new(Explainer { pipeline: Arc::new(pipeline), registry, settings })
        });
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = if settings.console.threads == 0 { (cores / 2).max(1) } else { settings.console.threads };
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("assay-console")
            .thread_stack_size(assay::query::STACK_BYTES)
            .enable_all()
            .build()?;
        let console = Console::new(ConsoleParts {
            settings: settings.console.clone(),
            serve: &settings.serve,
            lake: settings.lake.clone(),
            pipeline: settings.pipeline.clone(),
            plan: &plan,
            clock: Arc::clone(&app.clock),
            registry,
            readers: ApiKeys::load(&settings.serve).map_err(usage)?,
            admins: ApiKeys::load_admins(&settings.serve).map_err(usage)?,
            explainer,
            job,
            runtime: runtime.handle().clone(),
            metrics: Arc::clone(&app.metrics),
        })?;
        Ok(Some(Self { console, runtime: Some(runtime) }))
    }
}

impl Drop for ConsoleHost {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
