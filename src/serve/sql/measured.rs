use std::sync::Arc;

use tokio::time::Instant;

use super::Shared;
use super::failure::{Failure, state};
use crate::telemetry::Metrics;
use crate::telemetry::traces::{Kind, Span, SpanContext, Traces};

/// How a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::serve) enum Protocol {
    Postgres,
    Flight,
}

impl Protocol {
    /// As metrics label it, and as its section of the settings is called.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Flight => "flight",
        }
    }
}

/// One statement, as the metrics count it and as its span tells it: once, however it ends.
pub(in crate::serve) struct Measured {
    metrics: Arc<Metrics>,
    protocol: Protocol,
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
    pub fn begin(sql: &Shared, protocol: Protocol) -> Self {
        let traces = &sql.traces;
        let told = traces.of_request(None).map(|context| Told {
            traces: traces.clone(),
            context,
            began_us: traces.now_us(),
            epoch: 0,
            error: None,
        });
        let (metrics, began) = (Arc::clone(&sql.metrics), Instant::now());
        Self { metrics, protocol, began, outcome: "abandoned", rows: 0, told }
    }

    /// The question is about this epoch.
    pub fn reads(&mut self, epoch: i64) {
        if let Some(told) = &mut self.told {
            told.epoch = epoch;
        }
    }

    pub fn rows(&mut self, rows: u64) {
        self.rows += rows;
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
        let protocol = self.protocol.as_str();
        self.metrics.sql_statement(protocol, self.outcome, self.rows, self.began.elapsed());
        if let Some(Told { traces, context, began_us, epoch, error }) = self.told.take() {
            // The text is not told: it may hold values that nobody else should see.
            let mut span = Span::new(context, "SQL", began_us, traces.now_us())
                .of_kind(Kind::Server)
                .with("assay.sql.protocol", protocol)
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
