//! Traces of the process, as the settings want them.

use std::sync::Arc;

use assay::domain::Clock;
use assay::settings::Settings;
use assay::telemetry::Metrics;
use assay::telemetry::traces::{Exporter, TraceParts, Traces, TracesError};

use crate::app::usage;

/// What tells of epochs and requests, and what sends it until the process ends.
pub fn start(
    settings: &Settings,
    metrics: &Arc<Metrics>,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<(Traces, Option<Exporter>)> {
    let parts = TraceParts {
        metrics: Arc::clone(metrics),
        clock: Arc::clone(clock),
        seed: uuid::Uuid::new_v4().into_bytes(),
        resource: vec![
            ("service.instance.id", uuid::Uuid::new_v4().to_string()),
            ("assay.pipeline", settings.pipeline.clone()),
        ],
    };
    Traces::start(&settings.traces, parts).map_err(|error| match error {
        TracesError::Setting(cause) => usage(cause),
        TracesError::Start(_) => error.into(),
    })
}
