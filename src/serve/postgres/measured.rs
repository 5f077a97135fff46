use std::sync::Arc;

use tokio::time::Instant;

use super::Shared;
use super::failure::{Failure, state};
use crate::telemetry::Metrics;
use crate::telemetry::traces::{Kind, Span, SpanContext, Traces};

/// One statement, as the metrics count it and as its span tells it: once, however it ends.
pub(super) struct Measured {
    metrics: Arc<Metrics>,
    began: Instant,
    outcome: &'static str,
    rows: u64,
    /// Absent where the statement is not told.
    told: Option<Told>,
}

struct Told {
    traces: Traces,
    context: SpanContext,
    began_us: i64,
    epoch: i64,
    error: Option<String>,
}

impl Measured {
    pub fn begin(shared: &Shared) -> Self {
        let traces = &shared.traces;
        let told = traces.of_request(None).map(|context| Told {
            traces: traces.clone(),
            context,
            began_us: traces.now_us(),
            epoch: 0,
            error: None,
        });
        Self { metrics: Arc::clone(&shared.metrics), began: Instant::now(), outcome: "abandoned", rows: 0, told }
    }

    /// The question is about this epoch.
    pub fn reads(&mut self, epoch: i64) {
        if let Some(told) = &mut self.told {
            told.epoch = epoch;
        }
    }

    pub fn row(&mut self) {
        self.rows += 1;
    }

    pub fn done(&mut self) {
        self.outcome = "ok";
    }

    pub fn failed(&mut self, failure: &Failure) {
        self.outcome = if failure.code() == state::CANCELED { "cancelled" } else { "error" };
        if let Some(told) = &mut self.told {
            told.error = Some(failure.code().to_owned());
        }
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        self.metrics.sql_statement(self.outcome, self.rows, self.began.elapsed());
        if let Some(Told { traces, context, began_us, epoch, error }) = self.told.take() {
            // The text is not told: it may hold values that nobody else should see.
            let mut span = Span::new(context, "SQL", began_us, traces.now_us())
                .of_kind(Kind::Server)
                .with("db.system.name", "postgresql")
                .with("db.response.returned_rows", self.rows)
                .with("assay.sql.outcome", self.outcome);
            if let Some(code) = &error {
                span = span.with("db.response.status_code", code.clone());
            }
            span.links.extend(traces.of_epoch(epoch));
            traces.send(vec![span.failed(error)]);
        }
    }
}
