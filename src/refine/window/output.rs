//! From panes to rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;

use super::accumulate::{Accumulator, Extremes};
use super::error::WindowError;
use super::evaluate::as_type;
use super::intern::Interner;
use super::numbers;
use super::pane::{Pane, compare_keys};
use super::plan::{AggregateResult, GroupColumn, Keeps};
use super::state::TableState;
use super::tags::NONE;
use crate::domain::schema::timestamp;

/// Rows of one window: for each row its group in each pane of the window, [`NONE`] where the pane does not have it.
#[derive(Debug)]
pub(super) struct Segment {
    pub window: i64,
    pub members: Vec<u32>,
}

impl TableState {
    /// The windows in `from..until` that have rows, in order.
    pub fn windows(&self, from: i64, until: i64) -> Vec<i64> {
        let width = self.width();
        let panes = self.panes.range(from..until.saturating_add(width - 1)).filter(|(_, pane)| pane.groups.len() > 0);
        let mut windows = panes.flat_map(|(pane, _)| pane - width + 1..=*pane).collect::<Vec<_>>();
        windows.retain(|window| (from..until).contains(window));
        windows.sort_unstable();
        windows.dedup();
        windows
    }

    /// All rows of the given windows, by window and key: `take` gets each full part of them, and the rest is returned.
    pub fn rows_of(
        &mut self,
        windows: &[i64],
        interners: &[Interner],
        part_rows: usize,
        take: &mut dyn FnMut(RecordBatch),
    ) -> Result<RecordBatch, WindowError> {
        let width = self.width() as usize;
        let mut segments = Vec::new();
        let mut rows = 0;
        for window in windows {
            for pane in *window..*window + self.width() {
                if let Some(pane) = self.panes.get_mut(&pane) {
                    pane.sorted(&self.feeds, interners);
                }
            }
            let mut members = self.whole_window(*window, interners).members;
            while rows + members.len() / width >= part_rows {
                let rest = members.split_off((part_rows - rows) * width);
                segments.push(Segment { window: *window, members });
                take(self.project(self.aggregate_rows(&segments, interners)?)?);
                (segments, rows, members) = (Vec::new(), 0, rest);
            }
            rows += members.len() / width;
            segments.push(Segment { window: *window, members });
        }
        self.project(self.aggregate_rows(&segments, interners)?)
    }

    /// Merges the sorted groups of a window's panes.
    fn whole_window(&self, window: i64, interners: &[Interner]) -> Segment {
        let panes = (window..window + self.width()).map(|pane| self.panes.get(&pane)).collect::<Vec<_>>();
        if let [pane] = panes.as_slice() {
            return Segment { window, members: pane.map_or(Vec::new(), |pane| pane.order().to_vec()) };
        }
        let mut members = Vec::new();
        let mut rest = panes.iter().map(|pane| pane.map_or(&[][..], Pane::order)).collect::<Vec<_>>();
        let key = |pane: usize, group: u32| panes[pane].map_or(&[][..], |pane| pane.groups.key(group));
        loop {
            let heads = rest.iter().enumerate().filter_map(|(pane, rest)| Some(key(pane, *rest.first()?)));
            let Some(least) = heads.min_by(|left, right| compare_keys(&self.feeds, interners, left, right)) else {
                break;
            };
            for (pane, rest) in rest.iter_mut().enumerate() {
                match rest.split_first() {
                    Some((group, others)) if key(pane, *group) == least => {
                        members.push(*group);
                        *rest = others;
                    }
                    _ => members.push(NONE),
                }
            }
        }
        Segment { window, members }
    }

    /// Before and after of the windows that this epoch has restated, by window and key.
    pub fn restated_rows(&mut self, interners: &[Interner]) -> Result<(RecordBatch, RecordBatch), WindowError> {
        let schema = Arc::clone(&self.table.aggregate_schema);
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for (window, restating) in std::mem::take(&mut self.restated) {
            let keys = &restating.keys;
            let mut order = (0..keys.len() as u32).collect::<Vec<_>>();
            order.sort_unstable_by(|left, right| {
                compare_keys(&self.feeds, interners, keys.key(*left), keys.key(*right))
            });
            let now = match restating.frozen {
                Some(frozen) => frozen,
                None => self.aggregate_rows(&[self.segment_of(window, keys)], interners)?,
            };
            after.push(self.taken(&now, order.clone())?);
            // Only keys that existed have a row in `before`.
            let mut rows_before = 0;
            let places = restating.existed.iter().map(|existed| {
                rows_before += u32::from(*existed);
                existed.then(|| rows_before - 1)
            });
            let places = places.collect::<Vec<_>>();
            order.retain(|key| places[*key as usize].is_some());
            let order = order.into_iter().filter_map(|key| places[key as usize]).collect();
            let stood = concat_batches(&schema, &restating.before).map_err(|error| self.result_error(&error))?;
            before.push(self.taken(&stood, order)?);
        }
        let whole = |rows: &[RecordBatch]| concat_batches(&schema, rows).map_err(|error| self.result_error(&error));
        Ok((self.project(whole(&before)?)?, self.project(whole(&after)?)?))
    }

    fn taken(&self, rows: &RecordBatch, order: Vec<u32>) -> Result<RecordBatch, WindowError> {
        take_record_batch(rows, &UInt32Array::from(order)).map_err(|error| self.result_error(&error))
    }

    fn project(&self, rows: RecordBatch) -> Result<RecordBatch, WindowError> {
        self.table.project(rows).map_err(|error| self.result_error(&error.strip_backtrace()))
    }

    fn result_error(&self, cause: &impl ToString) -> WindowError {
        WindowError::Result { table: self.table.table.to_string(), cause: cause.to_string() }
    }

    /// The rows of the aggregate: the columns of GROUP BY, then the results.
    pub fn aggregate_rows(&self, segments: &[Segment], interners: &[Interner]) -> Result<RecordBatch, WindowError> {
        let rows = Rows::new(self, segments);
        let fields = self.table.aggregate_schema.fields();
        let mut columns = Vec::with_capacity(fields.len());
        for column in &self.table.group_columns {
            columns.push(match column {
                GroupColumn::WindowStart => rows.instants(0),
                GroupColumn::WindowEnd => rows.instants(self.table.window.size_us),
                GroupColumn::Key(part) => rows.keys(*part, &interners[self.feeds.keys[*part].1]),
            });
        }
        for (result, field) in self.table.results.iter().zip(&fields[columns.len()..]) {
            columns.push(self.result(&rows, result, field.data_type(), interners)?);
        }
        let columns = columns.iter().zip(fields).map(|(column, field)| as_type(column, field.data_type()));
        let columns = columns.collect::<Result<Vec<_>, _>>().map_err(|error| self.result_error(&error))?;
        RecordBatch::try_new(Arc::clone(&self.table.aggregate_schema), columns)
            .map_err(|error| self.result_error(&error))
    }

    fn result(
        &self,
        rows: &Rows<'_>,
        result: &AggregateResult,
        kind: &DataType,
        interners: &[Interner],
    ) -> Result<ArrayRef, WindowError> {
        Ok(match *result {
            AggregateResult::Count { slot } => rows.numbers(kind, |row| Some(row.total(slot))),
            AggregateResult::CountDistinct { distinct } => {
                rows.numbers(kind, |row| Some(row.distinct(distinct).into()))
            }
            AggregateResult::Sum { slot, seen } => rows.numbers(kind, |row| row.seen(seen).map(|_| row.total(slot))),
            AggregateResult::DecimalAverage { slot, seen, extra } => {
                let mut beyond = None;
                let array = rows.numbers(kind, |row| {
                    let count = row.seen(seen)?;
                    let average = row.total(slot).checked_mul(10_i128.pow(extra)).map(|sum| sum / count);
                    let fits = average.filter(|average| fits_decimal(*average, kind));
                    if fits.is_none() {
                        beyond = Some(row.total(slot));
                    }
                    fits
                });
                if let Some(sum) = beyond {
                    return Err(
                        self.result_error(&format!("the average of values with the sum {sum} does not fit {kind}"))
                    );
                }
                array
            }
            AggregateResult::IntegerAverage { slot, seen } => {
                let average = |row: Row<'_>| Some(row.total(slot) as f64 / row.seen(seen)? as f64);
                Arc::new(rows.iter().map(average).collect::<Float64Array>())
            }
            AggregateResult::Flag { slot, seen } => {
                let all = self.table.slots[slot].keeps == Keeps::And;
                let flag = |row: Row<'_>| row.seen(seen).map(|_| row.any(slot) != all);
                Arc::new(rows.iter().map(flag).collect::<BooleanArray>())
            }
            AggregateResult::Extreme { slot, seen } => {
                let greatest = self.table.slots[slot].keeps == Keeps::Max;
                match self.table.slots[slot].kind {
                    DataType::Float64 => {
                        let extreme = |row: Row<'_>| row.seen(seen).map(|_| row.extreme_float(slot, greatest));
                        Arc::new(rows.iter().map(extreme).collect::<Float64Array>())
                    }
                    ref kind if numbers::fits_i128(kind) => {
                        rows.numbers(kind, |row| row.seen(seen).map(|_| row.extreme(slot, greatest)))
                    }
                    _ => match self.feeds.slots[slot].interner {
                        Some(interner) => {
                            let interner = &interners[interner];
                            let codes = rows.iter().map(|row| row.extreme_code(slot, greatest, interner));
                            interner.decode(&codes.collect::<Vec<_>>())
                        }
                        None => return Err(self.result_error(&"an extreme of strings has no interner")),
                    },
                }
            }
        })
    }
}

fn fits_decimal(value: i128, kind: &DataType) -> bool {
    match kind {
        DataType::Decimal128(precision, _) => {
            10_u128.checked_pow(u32::from(*precision)).is_none_or(|limit| value.unsigned_abs() < limit)
        }
        _ => true,
    }
}

/// Segments with their panes looked up.
struct Rows<'a> {
    segments: Vec<(&'a Segment, Vec<Option<&'a Pane>>)>,
    width: usize,
    slide_us: i64,
    len: usize,
}

/// One row: its group in each pane of its window.
#[derive(Clone, Copy)]
struct Row<'a> {
    panes: &'a [Option<&'a Pane>],
    members: &'a [u32],
}

impl<'a> Rows<'a> {
    fn new(state: &'a TableState, segments: &'a [Segment]) -> Self {
        let width = state.width() as usize;
        let panes = |segment: &Segment| {
            (segment.window..segment.window + width as i64).map(|pane| state.panes.get(&pane)).collect()
        };
        let len = segments.iter().map(|segment| segment.members.len() / width).sum();
        let segments = segments.iter().map(|segment| (segment, panes(segment))).collect();
        Self { segments, width, slide_us: state.slide_us(), len }
    }

    fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        self.segments
            .iter()
            .flat_map(|(segment, panes)| segment.members.chunks_exact(self.width).map(|members| Row { panes, members }))
    }

    fn instants(&self, offset_us: i64) -> ArrayRef {
        let instants = self.segments.iter().flat_map(|(segment, _)| {
            let instant = Some(i128::from(segment.window * self.slide_us + offset_us));
            std::iter::repeat_n(instant, segment.members.len() / self.width)
        });
        numbers::array(&timestamp(), Sized { inner: instants, len: self.len })
    }

    fn keys(&self, part: usize, interner: &Interner) -> ArrayRef {
        let codes = self.iter().map(|row| row.first().map_or(0, |(pane, group)| pane.groups.key(group)[part]));
        interner.decode(&codes.collect::<Vec<_>>())
    }

    fn numbers(&self, kind: &DataType, value: impl FnMut(Row<'_>) -> Option<i128>) -> ArrayRef {
        numbers::array(kind, Sized { inner: self.iter().map(value), len: self.len })
    }
}

impl<'a> Row<'a> {
    #[inline]
    fn parts(self) -> impl Iterator<Item = (usize, &'a Pane, u32)> {
        let pairs = self.panes.iter().zip(self.members).enumerate();
        pairs.filter_map(|(at, (pane, group))| pane.filter(|_| *group != NONE).map(|pane| (at, pane, *group)))
    }

    fn first(self) -> Option<(&'a Pane, u32)> {
        self.parts().next().map(|(_, pane, group)| (pane, group))
    }

    #[inline]
    fn total(self, slot: usize) -> i128 {
        self.parts().fold(0, |total: i128, (_, pane, group)| total.wrapping_add(pane.accumulators[slot].total(group)))
    }

    /// The number of values, if there are any.
    fn seen(self, slot: usize) -> Option<i128> {
        Some(self.total(slot)).filter(|count| *count > 0)
    }

    fn distinct(self, distinct: usize) -> u64 {
        let width = self.panes.len();
        let charge =
            |(at, pane, group): (usize, &Pane, u32)| pane.distincts[distinct].charges[group as usize * width + at];
        self.parts().map(|part| u64::from(charge(part))).sum()
    }

    fn any(self, slot: usize) -> bool {
        self.parts().any(|(_, pane, group)| pane.accumulators[slot].any(group))
    }

    fn extremes(self, slot: usize) -> impl Iterator<Item = (&'a Extremes, usize)> {
        self.parts().filter_map(move |(_, pane, group)| match &pane.accumulators[slot] {
            Accumulator::Least(extremes) | Accumulator::Greatest(extremes) => Some((extremes, group as usize)),
            _ => None,
        })
    }

    fn extreme(self, slot: usize, greatest: bool) -> i128 {
        // An empty narrow slot holds the end of 64 bits, which no value can pass.
        let values = self.extremes(slot).map(|(extremes, group)| match extremes {
            Extremes::Short(values) => i128::from(values[group]),
            Extremes::Narrow(values) => i128::from(values[group]),
            Extremes::Wide(values) => values[group],
            _ => 0,
        });
        if greatest { values.max().unwrap_or(0) } else { values.min().unwrap_or(0) }
    }

    fn extreme_float(self, slot: usize, greatest: bool) -> f64 {
        let values = self.extremes(slot).map(|(extremes, group)| match extremes {
            Extremes::Floats(values) => values[group],
            _ => 0.0,
        });
        let extreme = if greatest { values.max_by(f64::total_cmp) } else { values.min_by(f64::total_cmp) };
        extreme.unwrap_or(0.0)
    }

    fn extreme_code(self, slot: usize, greatest: bool, interner: &Interner) -> u32 {
        let codes = self.extremes(slot).map(|(extremes, group)| match extremes {
            Extremes::Codes(codes) => codes[group],
            _ => 0,
        });
        let codes = codes.filter(|code| *code != 0);
        let compare = |left: &u32, right: &u32| interner.compare(*left, *right);
        let extreme = if greatest { codes.max_by(compare) } else { codes.min_by(compare) };
        extreme.unwrap_or(0)
    }
}

/// An iterator of known length.
struct Sized<I> {
    inner: I,
    len: usize,
}

impl<I: Iterator> Iterator for Sized<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        let next = self.inner.next();
        self.len -= usize::from(next.is_some());
        next
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len, Some(self.len))
    }
}

impl<I: Iterator> ExactSizeIterator for Sized<I> {}
