//! From declarations to the tables that are kept for each entity.

use arrow::datatypes::{DataType, Schema};

use super::columns::{Column, Inputs, Kind, Measure, Source, Sources, is_instant, summable};
use super::distinct::Distinct;
use super::log::{Log, LogWindow};
use super::panes::{PaneWindow, Panes};
use super::recent::{Recent, RecentOutput, RecentTake, VALUES_MAX};
use super::{Aggregate, Feature, Keys};

/// A kind of memory about entities, which are numbered. Functions of the set of rows that were added.
pub(super) trait Table: std::fmt::Debug + Send + Sync {
    /// Sets the values of a row; an entity of an unknown number has no past.
    fn read(&self, entity: u32, row: usize, inputs: &Inputs, out: &mut [Column]);

    fn add(&mut self, entity: u32, row: usize, inputs: &Inputs);

    /// Reads a little of what is known of an entity, at both ends.
    fn touch(&self, entity: u32) -> u64;

    /// Makes room for so many entities.
    fn grow(&mut self, entities: usize);

    /// Forgets what lies before an instant at which one of its panes begins.
    fn trim(&mut self, floor_us: i64);

    /// Whether nothing is known of an entity.
    fn is_empty(&self, entity: u32) -> bool;

    fn clear(&mut self);

    /// Memory held, in bytes.
    fn bytes(&self) -> usize;

    /// Appends what is known of an entity, as records of [`stride`](Self::stride) words.
    fn state(&self, entity: u32, words: &mut Vec<u64>);

    /// Knows this of an entity and nothing else, where it is a [`state`](Self::state) that there can be.
    fn restore(&mut self, entity: u32, words: &[u64]) -> bool;

    /// Words of a record.
    fn stride(&self) -> usize;

    /// [`read`](Self::read) and [`add`](Self::add) for each row that has an entity, one after the other. Of rows that look
    /// further back than what is held, nothing is read.
    fn pass(&mut self, rows: &Rows<'_>, out: &mut [Column]) {
        for (block, entities) in rows.entities.chunks(BLOCK).enumerate() {
            self.fetch(entities);
            for (row, entity) in (block * BLOCK..).zip(entities) {
                match rows.kind(row, *entity) {
                    RowKind::Near => {
                        self.read(*entity, row, rows.inputs, out);
                        self.add(*entity, row, rows.inputs);
                    }
                    RowKind::Far => self.add(*entity, row, rows.inputs),
                    RowKind::Nothing => {}
                }
            }
        }
    }

    /// [`add`](Self::add) for each row within a span of event time.
    fn add_all(&mut self, entities: &[u32], inputs: &Inputs, span: &std::ops::Range<i64>) {
        for (block, entities) in entities.chunks(BLOCK).enumerate() {
            self.fetch(entities);
            for (row, entity) in (block * BLOCK..).zip(entities) {
                if *entity != NOBODY && span.contains(&inputs.times.value(row)) {
                    self.add(*entity, row, inputs);
                }
            }
        }
    }

    /// Brings what is known of some entities into the processor's cache, all at once: one after the other, each row would
    /// wait for memory.
    fn fetch(&self, entities: &[u32]) {
        let touched = entities.iter().fold(0, |all, entity| all ^ self.touch(*entity));
        std::hint::black_box(touched);
    }
}

/// Rows whose entities are fetched together.
pub(super) const BLOCK: usize = 32;

/// A batch, as a table sees it.
pub(super) struct Rows<'a> {
    pub(super) inputs: &'a Inputs,
    /// The number of each row's entity.
    pub(super) entities: &'a [u32],
    /// Rows before this instant look further back than what is held.
    pub(super) near_from_us: i64,
    /// What is held begins here.
    pub(super) floor_us: i64,
}

/// What a row is to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowKind {
    Near,
    /// It is held, and its values come from elsewhere.
    Far,
    Nothing,
}

impl Rows<'_> {
    #[inline]
    pub(super) fn kind(&self, row: usize, entity: u32) -> RowKind {
        if entity == NOBODY {
            return RowKind::Nothing;
        }
        let at_us = self.inputs.times.value(row);
        if at_us >= self.near_from_us {
            RowKind::Near
        } else if at_us >= self.floor_us {
            RowKind::Far
        } else {
            RowKind::Nothing
        }
    }
}

/// The number of no entity: the row has none, or no event time.
pub(super) const NOBODY: u32 = u32::MAX;
/// The number of an entity that was never seen.
pub(super) const STRANGER: u32 = u32::MAX - 1;

/// A table with what it needs of the past.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) table: Box<dyn Table>,
    /// A row at `t` needs the rows from `t - reach_us` on.
    pub(super) reach_us: i64,
    /// What is forgotten ends where a pane ends.
    pub(super) grain_us: i64,
}

/// What is kept of one kind of entity.
#[derive(Debug)]
pub(super) struct PlannedEntity {
    /// Its column among [`Sources::values`].
    pub(super) value: usize,
    pub(super) tables: Vec<Planned>,
}

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) sources: Sources,
    pub(super) kinds: Vec<Kind>,
    /// Whether the column can be NULL.
    pub(super) nullable: Vec<bool>,
    pub(super) entities: Vec<PlannedEntity>,
}

/// What a feature takes of the sums of its window; indexes are those of the table's measures.
#[derive(Debug, Clone, Copy)]
pub(super) enum Take {
    Count,
    Sum(usize),
    /// One division in double precision. Without `by` it is by the number of rows; that number is times `unit`.
    Ratio {
        over: usize,
        by: Option<usize>,
        unit: i64,
    },
}

/// A feature's column, and what it takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    pub(super) column: usize,
    pub(super) take: Take,
}

impl Output {
    /// Both sides of the division are exact in a double below 2^53: 90 trillion at two decimal places.
    #[inline]
    #[allow(clippy::cast_precision_loss, reason = "the one rounding that the definition has")]
    pub(super) fn put(self, row: usize, count: i64, sums: &[i64], out: &mut [Column]) {
        let Some(column) = out.get_mut(self.column) else { return };
        let sum = |index: usize| sums.get(index).copied().unwrap_or(0);
        match self.take {
            Take::Count => column.set(row, count),
            Take::Sum(index) => column.set(row, sum(index)),
            Take::Ratio { over, by, unit } => {
                let by = by.map_or(count, sum);
                if by != 0 {
                    column.set_real(row, sum(over) as f64 / by.wrapping_mul(unit) as f64);
                }
            }
        }
    }
}

/// A pane looks through its sums in an array of this length.
pub(super) const SUMS_MAX: usize = 8;

impl Plan {
    /// The first `counts` of the features may be exact over any time.
    ///
    /// # Errors
    /// In words, when a declaration does not fit the columns.
    pub(super) fn new(features: &[Feature], counts: usize, schema: &Schema, event_time: &str) -> Result<Self, String> {
        let event_time = Source::find(schema, event_time)?;
        if !is_instant(event_time.kind()) {
            return Err(format!("the column `{}` is not a timestamp", event_time.name));
        }
        let sources = Sources { event_time, values: Vec::new(), measures: Vec::new(), numbers: Vec::new() };
        let mut planner = Planner { schema, sources, entities: Vec::new() };
        let mut kinds = Vec::new();
        for (column, feature) in features.iter().enumerate() {
            if schema.column_with_name(&feature.column).is_some() {
                return Err(format!("the source has a column `{}` already", feature.column));
            }
            let checked = if column < counts { Ok(()) } else { feature.check() };
            let kind = checked
                .and_then(|()| planner.place(column, feature))
                .map_err(|problem| format!("the feature `{}` cannot be kept: {problem}", feature.column))?;
            kinds.push(kind);
        }
        let can_be_null = |name: &str| schema.field_with_name(name).map_or(true, arrow::datatypes::Field::is_nullable);
        let time_is_null = can_be_null(&planner.sources.event_time.name);
        let nullable = features
            .iter()
            .zip(&kinds)
            .map(|(feature, kind)| *kind == Kind::Real || time_is_null || can_be_null(&feature.entity));
        let nullable = nullable.collect();
        let entities = planner.entities.into_iter().map(Draft::finish).collect::<Result<_, _>>()?;
        Ok(Self { sources: planner.sources, kinds, nullable, entities })
    }
}

struct Planner<'a> {
    schema: &'a Schema,
    sources: Sources,
    entities: Vec<Draft>,
}

/// The tables of an entity as they come together.
struct Draft {
    value: usize,
    log: Sums<LogWindow>,
    panes: Vec<(i64, Sums<PaneWindow>)>,
    recent: Vec<Recents>,
    distinct: Vec<Planned>,
}

/// Windows that share measures.
struct Sums<W> {
    /// Indexes of [`Sources::measures`].
    measures: Vec<usize>,
    windows: Vec<W>,
}

struct Recents {
    last: usize,
    values: Vec<usize>,
    window_us: i64,
    outputs: Vec<RecentOutput>,
}

impl Planner<'_> {
    fn place(&mut self, column: usize, feature: &Feature) -> Result<Kind, String> {
        let value = self.value(&feature.entity)?;
        let at = match self.entities.iter().position(|draft| draft.value == value) {
            Some(at) => at,
            None => {
                self.entities.push(Draft {
                    value,
                    log: Sums { measures: Vec::new(), windows: Vec::new() },
                    panes: Vec::new(),
                    recent: Vec::new(),
                    distinct: Vec::new(),
                });
                self.entities.len() - 1
            }
        };
        match feature.aggregate {
            Aggregate::SecondsSincePrevious | Aggregate::Seen | Aggregate::MismatchRate => {
                self.place_recent(at, column, feature)
            }
            Aggregate::Distinct => {
                let of = self.value(feature.of.as_deref().unwrap_or_default())?;
                let grain_us = feature.grain_us.unwrap_or(1);
                let table = Distinct::new(of, grain_us, feature.window_us / grain_us, column);
                let planned = Planned { table: Box::new(table), reach_us: feature.window_us, grain_us };
                self.entities.get_mut(at).ok_or("no entity")?.distinct.push(planned);
                Ok(Kind::Whole)
            }
            _ => self.place_sums(at, column, feature),
        }
    }

    fn place_recent(&mut self, at: usize, column: usize, feature: &Feature) -> Result<Kind, String> {
        let of = feature.of.as_deref().map(|of| self.value(of)).transpose()?;
        let drafts = &mut self.entities.get_mut(at).ok_or("no entity")?.recent;
        let last = feature.last.unwrap_or(1);
        if !drafts.iter().any(|recents| recents.last == last) {
            drafts.push(Recents { last, values: Vec::new(), window_us: 0, outputs: Vec::new() });
        }
        let recents = drafts.iter_mut().find(|recents| recents.last == last).ok_or("no entity")?;
        recents.window_us = recents.window_us.max(feature.window_us);
        let slot = of.map(|of| slot_of(&mut recents.values, of));
        let (take, kind) = match (feature.aggregate, slot) {
            (Aggregate::Seen, Some(slot)) => (RecentTake::Seen(slot), Kind::Flag),
            (Aggregate::MismatchRate, Some(slot)) => (RecentTake::MismatchRate(slot), Kind::Real),
            _ => (RecentTake::SecondsSincePrevious, Kind::Real),
        };
        recents.outputs.push(RecentOutput { column, window_us: feature.window_us, take });
        Ok(kind)
    }

    fn place_sums(&mut self, at: usize, column: usize, feature: &Feature) -> Result<Kind, String> {
        let of = feature.of.clone();
        let filter: Vec<String> = feature.filter.iter().cloned().collect();
        let ones = |only: Vec<String>| Measure { units_of: None, only };
        let (mut over, mut by, mut kind, mut unit) = (None, None, Kind::Whole, 1);
        match (feature.aggregate, of) {
            (Aggregate::Rate, Some(of)) => {
                over = Some(self.measure(ones(vec![of.clone()]))?);
                kind = Kind::Real;
                if *Source::find(self.schema, &of)?.kind() != DataType::Boolean {
                    return Err(format!("`{of}` is not a boolean"));
                }
            }
            (aggregate, Some(of)) => {
                let source = Source::find(self.schema, &of)?;
                let scale = summable(source.kind()).ok_or_else(|| {
                    format!(
                        "`{of}` is a {}; exact sums are of whole numbers and decimals of up to 18 digits",
                        source.kind()
                    )
                })?;
                let nullable = self.schema.field_with_name(&of).map_or(true, arrow::datatypes::Field::is_nullable);
                over = Some(self.measure(Measure { units_of: Some(of.clone()), only: filter.clone() })?);
                kind = if scale == 0 { Kind::Whole } else { Kind::Decimal(scale) };
                if aggregate == Aggregate::Average {
                    (kind, unit) = (Kind::Real, 10_i64.pow(u32::from(scale)));
                    let mut only = filter;
                    only.extend(nullable.then_some(of));
                    by = if only.is_empty() { None } else { Some(self.measure(ones(only))?) };
                }
            }
            (_, None) if !filter.is_empty() => over = Some(self.measure(ones(filter))?),
            (_, None) => {}
        }
        let draft = self.entities.get_mut(at).ok_or("no entity")?;
        let delay_us = feature.label_delay.map(super::LabelDelay::us);
        match feature.grain_us {
            None => {
                let sums = &mut draft.log;
                let take = take(&mut sums.measures, over, by, unit, kind);
                let output = Output { column, take };
                match sums.windows.iter_mut().find(|window| window.window_us == feature.window_us) {
                    Some(window) => window.outputs.push(output),
                    None => sums.windows.push(LogWindow { window_us: feature.window_us, outputs: vec![output] }),
                }
            }
            Some(grain_us) => {
                if !draft.panes.iter().any(|(grain, _)| *grain == grain_us) {
                    draft.panes.push((grain_us, Sums { measures: Vec::new(), windows: Vec::new() }));
                }
                let found = draft.panes.iter_mut().find(|(grain, _)| *grain == grain_us);
                let (_, sums) = found.ok_or("no entity")?;
                let take = take(&mut sums.measures, over, by, unit, kind);
                let output = Output { column, take };
                let panes = feature.window_us / grain_us;
                let same = |window: &&mut PaneWindow| window.panes == panes && window.delay_us == delay_us;
                match sums.windows.iter_mut().find(same) {
                    Some(window) => window.outputs.push(output),
                    None => sums.windows.push(PaneWindow { panes, delay_us, outputs: vec![output] }),
                }
            }
        }
        Ok(kind)
    }

    fn value(&mut self, name: &str) -> Result<usize, String> {
        if let Some(at) = self.sources.values.iter().position(|source| source.name == name) {
            return Ok(at);
        }
        let source = Source::find(self.schema, name)?;
        if !Keys::can_be(source.kind()) {
            return Err(format!("`{name}` is a {}; values are told apart of texts and whole numbers", source.kind()));
        }
        self.sources.values.push(source);
        Ok(self.sources.values.len() - 1)
    }

    fn measure(&mut self, measure: Measure) -> Result<usize, String> {
        for name in measure.only.iter().chain(&measure.units_of) {
            let source = Source::find(self.schema, name)?;
            let is_filter = measure.units_of.as_ref() != Some(name);
            if is_filter && *source.kind() != DataType::Boolean && summable(source.kind()).is_none() {
                return Err(format!("`{name}` is a {}, not a boolean", source.kind()));
            }
            if !self.sources.numbers.iter().any(|known| known.name == *name) {
                self.sources.numbers.push(source);
            }
        }
        let known = self.sources.measures.iter().position(|known| *known == measure);
        Ok(known.unwrap_or_else(|| {
            self.sources.measures.push(measure);
            self.sources.measures.len() - 1
        }))
    }
}

/// What a feature takes of a table, which gets the measures that it lacks.
fn take(measures: &mut Vec<usize>, over: Option<usize>, by: Option<usize>, unit: i64, kind: Kind) -> Take {
    let over = over.map(|over| slot_of(measures, over));
    let by = by.map(|by| slot_of(measures, by));
    match (over, kind) {
        (None, _) => Take::Count,
        (Some(over), Kind::Real) => Take::Ratio { over, by, unit },
        (Some(over), _) => Take::Sum(over),
    }
}

fn slot_of(slots: &mut Vec<usize>, wanted: usize) -> usize {
    slots.iter().position(|slot| *slot == wanted).unwrap_or_else(|| {
        slots.push(wanted);
        slots.len() - 1
    })
}

impl Draft {
    fn finish(self) -> Result<PlannedEntity, String> {
        let mut tables = self.distinct;
        let sums = std::iter::once(&self.log.measures).chain(self.panes.iter().map(|(_, sums)| &sums.measures));
        if sums.into_iter().any(|measures| measures.len() > SUMS_MAX) {
            return Err(format!("one entity has more than {SUMS_MAX} different sums of one grain"));
        }
        if self.recent.iter().any(|recents| recents.values.len() > VALUES_MAX) {
            return Err(format!("the last events of one entity have more than {VALUES_MAX} different columns"));
        }
        if !self.log.windows.is_empty() {
            let reach_us = self.log.windows.iter().map(|window| window.window_us).max().unwrap_or(0);
            let table = Log::new(self.log.measures, self.log.windows);
            tables.push(Planned { table: Box::new(table), reach_us, grain_us: 1 });
        }
        for (grain_us, sums) in self.panes {
            let reach = |window: &PaneWindow| window.panes * grain_us + window.delay_us.unwrap_or(0);
            let reach_us = sums.windows.iter().map(reach).max().unwrap_or(0);
            let table = Panes::new(grain_us, sums.measures, sums.windows);
            tables.push(Planned { table: Box::new(table), reach_us: reach_us + grain_us, grain_us });
        }
        for recents in self.recent {
            let reach_us = recents.window_us;
            let table = Recent::new(recents.last, recents.values, recents.outputs);
            tables.push(Planned { table: Box::new(table), reach_us, grain_us: 1 });
        }
        Ok(PlannedEntity { value: self.value, tables })
    }
}
