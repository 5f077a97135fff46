//! Any cut of the stream, any late rows, any eviction, any restart: the same gold.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::{Phase, TableChanges, WindowEngine, WindowSettings, WindowTable, late_rows};
use super::gold::{Gold, Rows, lines, reference};
use super::sources::{Event, MINUTE, MemoryHistory, all_defs, batch, source_schema};
use crate::domain::TableName;
use crate::refine::TableDef;
use arrow::array::AsArray;
use arrow::compute::concat_batches;
use arrow::datatypes::TimestampMicrosecondType;
use arrow::record_batch::RecordBatch;
use datafusion::prelude::SessionContext;

/// Rows of a window are handed out in parts, of which tests have a few.
const PART_ROWS: usize = 3;
const DELAY: i64 = 2 * MINUTE;

/// What follows a batch.
#[derive(Debug, Clone, Copy)]
pub enum Then {
    Nothing,
    Finish,
    Restart { warm_up: bool },
}

pub fn compile(defs: &[TableDef]) -> Vec<WindowTable> {
    let ctx = SessionContext::new();
    defs.iter().map(|def| WindowTable::compile(def, &source_schema(), &ctx).unwrap()).collect()
}

/// A stream with the gold that the lake would have.
pub struct Stream {
    pub defs: Vec<TableDef>,
    pub settings: WindowSettings,
    pub engine: WindowEngine,
    pub history: MemoryHistory,
    pub gold: Vec<Gold>,
    pub watermark: Option<i64>,
    newest: i64,
    pending_late: u64,
}

impl Stream {
    pub fn new(defs: Vec<TableDef>, closed_bytes_max: usize, vague: bool) -> Self {
        let settings = WindowSettings { closed_bytes_max, ..WindowSettings::default() };
        let engine = WindowEngine::new(compile(&defs), settings.clone()).unwrap();
        let gold = vec![Gold::default(); defs.len()];
        let history = MemoryHistory { vague, ..MemoryHistory::default() };
        Self { defs, settings, engine, history, gold, watermark: None, newest: i64::MIN, pending_late: 0 }
    }

    pub fn update(&mut self, rows: &RecordBatch) {
        let times =
            rows.column_by_name("event_at").unwrap().as_primitive::<TimestampMicrosecondType>().values().clone();
        self.newest = times.iter().copied().fold(self.newest, i64::max);
        self.pending_late += late_rows(&times, self.watermark);
        self.engine.update(rows, &self.history, self.watermark).unwrap();
        self.history.push(rows.clone());
    }

    pub fn finish(&mut self) {
        let before = self.watermark;
        let after = if self.newest == i64::MIN { None } else { before.max(Some(self.newest - DELAY)) };
        let changes = self.finish_in_parts(after);
        assert_eq!(changes.len(), self.defs.len());
        for ((gold, changes), table) in self.gold.iter_mut().zip(&changes).zip(self.engine.tables()) {
            assert_eq!(changes.table, *table.table());
            gold.apply(changes);
            let restated = changes.restated.iter().flat_map(|restated| [&restated.before, &restated.after]);
            let batches = [&changes.closed].into_iter().chain(&changes.open).chain(restated);
            for rows in batches {
                assert_eq!(rows.schema(), *table.schema());
            }
            if let Some(restated) = &changes.restated {
                assert!(restated.late_rows <= self.pending_late, "{}", changes.table);
            }
            check_ends(&changes.closed, |end| before.is_none_or(|before| end > before) && Some(end) <= after);
            if let Some(open) = &changes.open {
                check_ends(open, |end| Some(end) > after);
                check_order(open);
            }
            check_order(&changes.closed);
        }
        self.watermark = after;
        self.pending_late = 0;
    }

    fn finish_in_parts(&mut self, after: Option<i64>) -> Vec<TableChanges> {
        let mut parts: BTreeMap<(TableName, Phase), Vec<RecordBatch>> = BTreeMap::new();
        let take = &mut |table: &TableName, phase, rows: RecordBatch| {
            assert_eq!(rows.num_rows(), PART_ROWS);
            parts.entry((table.clone(), phase)).or_default().push(rows);
        };
        let mut changes = self.engine.finish_in_parts(after, true, PART_ROWS, take).unwrap();
        for changes in &mut changes {
            let mut whole = |phase, rest: &RecordBatch| {
                assert!(rest.num_rows() < PART_ROWS);
                let mut batches = parts.remove(&(changes.table.clone(), phase)).unwrap_or_default();
                batches.push(rest.clone());
                concat_batches(&rest.schema(), &batches).unwrap()
            };
            changes.open = changes.open.as_ref().map(|rest| whole(Phase::Open, rest));
            changes.closed = whole(Phase::Closed, &changes.closed);
        }
        assert!(parts.is_empty());
        changes
    }

    pub fn restart(&mut self, warm_up: bool) {
        self.finish();
        self.engine = WindowEngine::new(compile(&self.defs), self.settings.clone()).unwrap();
        if warm_up {
            self.engine.warm_up(&self.history, self.watermark).unwrap();
        }
    }

    pub fn check(&self) {
        let source = self.history.batches.lock().unwrap();
        for ((gold, def), table) in self.gold.iter().zip(&self.defs).zip(self.engine.tables()) {
            let expected = if source.is_empty() { Rows::new() } else { reference(def, &source, table.schema()) };
            assert_eq!(gold.all(), expected, "{}", def.table);
        }
    }
}

fn check_ends(rows: &RecordBatch, holds: impl Fn(i64) -> bool) {
    if let Some(ends) = rows.column_by_name("window_end") {
        let ends = ends.as_primitive::<TimestampMicrosecondType>();
        assert!(ends.values().iter().all(|end| holds(*end)), "a row is on the wrong side of the watermark");
    }
}

fn check_order(rows: &RecordBatch) {
    if let Some(starts) = rows.column_by_name("window_start") {
        assert!(starts.as_primitive::<TimestampMicrosecondType>().values().is_sorted(), "windows are out of order");
    }
}

fn event() -> impl Strategy<Value = (i64, Event)> {
    let lateness = prop_oneof![6 => 0..90_i64, 2 => 0..1_200_i64, 1 => 0..12_000_i64];
    // What is kept in 32 bits has to widen, at and around their ends.
    let end = i64::from(i32::MAX);
    let cents =
        prop_oneof![30 => -300..4_000_i64, 1 => end - 2..end + 3, 1 => -end - 4..-end + 2, 1 => Just(1_i64 << 50)];
    (lateness, 0..6_i32, 0..5_u8, cents, 0..1_000_u32).prop_map(|(lateness, user, merchant, cents, traits)| {
        (lateness, Event { second: 0, user, merchant, cents, traits })
    })
}

fn then() -> impl Strategy<Value = Then> {
    prop_oneof![
        3 => Just(Then::Nothing),
        4 => Just(Then::Finish),
        1 => any::<bool>().prop_map(|warm_up| Then::Restart { warm_up }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn gold_is_the_sql_over_all_rows_however_the_stream_is_cut(
        batches in prop::collection::vec((prop::collection::vec(event(), 0..25), 0..900_i64, then()), 1..14),
        evict in any::<bool>(),
        vague in any::<bool>(),
    ) {
        let mut stream = Stream::new(all_defs(), if evict { 0 } else { usize::MAX }, vague);
        let mut now = 0;
        for (events, gap, then) in batches {
            let events = events.iter().enumerate().map(|(at, (lateness, event))| {
                Event { second: now + at as i64 * 3 - lateness, ..*event }
            });
            stream.update(&batch(&events.collect::<Vec<_>>()));
            now += gap;
            match then {
                Then::Nothing => {}
                Then::Finish => stream.finish(),
                Then::Restart { warm_up } => stream.restart(warm_up),
            }
        }
        stream.finish();
        stream.check();
    }

    /// Two engines, two cuts: the same rows in the same order.
    #[test]
    fn the_cut_does_not_show_in_the_output(
        events in prop::collection::vec((0..9_000_i64, event()), 1..120),
        cut in 1..40_usize,
    ) {
        let events = events.iter().map(|(second, (_, event))| Event { second: *second, ..*event }).collect::<Vec<_>>();
        let mut whole = Stream::new(all_defs(), usize::MAX, false);
        let mut parts = Stream::new(all_defs(), 0, true);
        whole.update(&batch(&events));
        for part in events.chunks(cut) {
            parts.update(&batch(part));
        }
        let end = Some(i64::MAX / 8);
        for (left, right) in whole.engine.finish(end).unwrap().iter().zip(parts.engine.finish(end).unwrap()) {
            prop_assert_eq!(lines(&left.closed), lines(&right.closed));
        }
    }
}
