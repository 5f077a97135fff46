//! What a run has to do, by what the ledger of the lake and the state of the warehouse say.

use std::collections::BTreeMap;

use super::error::WarehouseError;
use super::file::TableFile;
use super::load::Options;
use super::source::{Epoch, Source, Span};
use super::state::State;

/// One transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Filled anew; empty where all tables take the rows that are new.
    pub refresh: Vec<String>,
    /// Bounded in rows, each some whole epochs.
    pub parts: Vec<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    pub span: Span,
    pub rows: u64,
    pub last: Epoch,
}

/// What a run does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// Why all tables are filled anew.
    pub because: Option<String>,
    /// Where the warehouse stands.
    pub after: i64,
}

/// What the tables are to be.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    pub schema: &'a str,
    pub pipeline: &'a str,
    pub tables: &'a [TableFile],
    /// The epoch at which the lake is read.
    pub newest: i64,
    pub rows_max: u64,
}

impl Step {
    #[must_use]
    pub fn is_full(&self) -> bool {
        !self.refresh.is_empty()
    }

    #[must_use]
    pub fn concerns(&self, table: &str) -> bool {
        !self.is_full() || self.refresh.iter().any(|name| name == table)
    }

    #[must_use]
    pub fn rows(&self) -> u64 {
        self.parts.iter().map(|part| part.rows).sum()
    }

    #[must_use]
    pub fn span(&self) -> Span {
        let after = self.parts.first().map_or(0, |part| part.span.after);
        Span { after, to: self.parts.last().map_or(after, |part| part.span.to) }
    }
}

impl Plan {
    #[must_use]
    pub fn processing_type(&self) -> &'static str {
        match (self.steps.is_empty(), &self.because) {
            (true, _) => "none",
            (false, Some(_)) => "full",
            (false, None) => "incremental",
        }
    }
}

/// Decides.
///
/// # Errors
/// When the warehouse is of another lake, or ahead of what is asked for.
pub async fn plan(
    source: &Source,
    states: &BTreeMap<String, State>,
    wanted: &Wanted<'_>,
    options: &Options,
) -> Result<Plan, WarehouseError> {
    if let Some(state) = states.values().find(|state| state.pipeline != wanted.pipeline) {
        return Err(WarehouseError::ForeignPipeline {
            schema: wanted.schema.to_owned(),
            found: state.pipeline.clone(),
            wanted: wanted.pipeline.to_owned(),
        });
    }
    let until = options.until.unwrap_or(wanted.newest).min(wanted.newest);
    let state_of = |file: &TableFile| states.get(&file.name);
    let after = wanted.tables.iter().filter_map(state_of).map(|state| state.epoch).max();
    let Some(after) = after.filter(|_| !options.full) else {
        let because = if after.is_some() { "it was asked for" } else { "nothing is loaded yet" };
        return all(source, wanted, until, because.to_owned()).await;
    };
    let mut seen = Ledger::default();
    let from = Span { after: after - 1, to: wanted.newest };
    source.epochs(from, |epoch| seen.take(epoch, after, until, wanted.rows_max)).await?;
    let rewound = |cause: String| WarehouseError::Rewound { schema: wanted.schema.to_owned(), stored: after, cause };
    let Some(stored) = seen.stored else {
        return Err(rewound(format!("the lake ends at epoch {}", wanted.newest)));
    };
    let published = wanted.tables.iter().filter_map(state_of).filter(|state| state.epoch == after);
    if published.into_iter().any(|state| state.published_at_us != stored.published_at_us) {
        return Err(rewound(format!("epoch {after} of the lake was published at another time")));
    }
    if until < after {
        return Err(WarehouseError::Until { schema: wanted.schema.to_owned(), until, stored: after });
    }
    if let Some(rebuild) = seen.rebuild {
        if until < rebuild {
            return Err(WarehouseError::UntilRebuild { until, rebuild });
        }
        let because = format!("epoch {rebuild} is a rebuild: rows of earlier epochs may be others");
        return all(source, wanted, until, because).await;
    }
    let behind = |file: &&TableFile| state_of(file).is_none_or(|state| state.epoch != after);
    let refresh: Vec<String> = wanted.tables.iter().filter(behind).map(|file| file.name.clone()).collect();
    let mut steps = Vec::new();
    if !refresh.is_empty() {
        let parts = parts(source, Span { after: 0, to: after }, wanted.rows_max).await?;
        steps.push(Step { refresh, parts });
    }
    steps.extend(seen.parts.finish().into_iter().map(|part| Step { refresh: Vec::new(), parts: vec![part] }));
    Ok(Plan { steps, because: None, after })
}

async fn all(source: &Source, wanted: &Wanted<'_>, until: i64, because: String) -> Result<Plan, WarehouseError> {
    let parts = parts(source, Span { after: 0, to: until }, wanted.rows_max).await?;
    let refresh = wanted.tables.iter().map(|file| file.name.clone()).collect();
    let steps = if parts.is_empty() { Vec::new() } else { vec![Step { refresh, parts }] };
    Ok(Plan { steps, because: Some(because), after: 0 })
}

async fn parts(source: &Source, span: Span, rows_max: u64) -> Result<Vec<Part>, WarehouseError> {
    let mut parts = Parts::new(rows_max);
    source.epochs(span, |epoch| parts.take(epoch)).await?;
    Ok(parts.finish())
}

/// What the ledger says after the epoch that is stored.
#[derive(Debug, Default)]
struct Ledger {
    stored: Option<Epoch>,
    rebuild: Option<i64>,
    parts: Parts,
}

impl Ledger {
    fn take(&mut self, epoch: Epoch, after: i64, until: i64, rows_max: u64) {
        self.parts.rows_max = rows_max;
        if epoch.epoch <= after {
            self.stored = Some(epoch).filter(|epoch| epoch.epoch == after);
            return;
        }
        if epoch.is_rebuild {
            self.rebuild = Some(epoch.epoch);
        }
        if epoch.epoch <= until {
            self.parts.take(epoch);
        }
    }
}

/// Epochs, joined until they have enough rows.
#[derive(Debug, Default, PartialEq, Eq)]
struct Parts {
    rows_max: u64,
    done: Vec<Part>,
    open: Option<Part>,
}

impl Parts {
    fn new(rows_max: u64) -> Self {
        Self { rows_max, ..Self::default() }
    }

    fn take(&mut self, epoch: Epoch) {
        self.open = Some(match self.open.take() {
            Some(part) if part.rows + epoch.silver_rows <= self.rows_max => Part {
                span: Span { after: part.span.after, to: epoch.epoch },
                rows: part.rows + epoch.silver_rows,
                last: epoch,
            },
            before => {
                self.done.extend(before);
                let span = Span { after: epoch.epoch - 1, to: epoch.epoch };
                Part { span, rows: epoch.silver_rows, last: epoch }
            }
        });
    }

    fn finish(mut self) -> Vec<Part> {
        self.done.extend(self.open);
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(epoch: i64, silver_rows: u64) -> Epoch {
        Epoch { epoch, silver_rows, is_rebuild: false, published_at_us: epoch * 10 }
    }

    #[test]
    fn parts_are_whole_epochs_without_a_gap() {
        let mut parts = Parts::new(100);
        for (number, rows) in [(1, 40), (2, 60), (3, 1), (4, 500), (5, 0), (6, 99)] {
            parts.take(epoch(number, rows));
        }
        let found = parts.finish();
        let spans: Vec<_> = found.iter().map(|part| (part.span.after, part.span.to, part.rows)).collect();
        assert_eq!(spans, [(0, 2, 100), (2, 3, 1), (3, 4, 500), (4, 6, 99)]);
        assert!(found.iter().all(|part| part.last.epoch == part.span.to));
    }

    #[test]
    fn a_rebuild_after_the_stored_epoch_is_seen_even_beyond_what_is_asked_for() {
        let mut ledger = Ledger::default();
        for number in 4..=8 {
            let is_rebuild = number == 8;
            ledger.take(Epoch { is_rebuild, ..epoch(number, 5) }, 5, 6, 100);
        }
        assert_eq!(ledger.stored, Some(epoch(5, 5)));
        assert_eq!(ledger.rebuild, Some(8));
        assert_eq!(ledger.parts.finish().iter().map(|part| part.span).collect::<Vec<_>>(), [Span { after: 5, to: 6 }]);
    }
}
