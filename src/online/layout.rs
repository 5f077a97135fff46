//! Which states there are, and under which keys.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::kernels::arity::unary;
use arrow::datatypes::{Int64Type, SchemaRef};

use crate::domain::{HistoryError, TableName};
use crate::features::{Aggregate, Feature, Features};
use crate::pipeline::Plan;
use crate::refine::{RowsTable, SqlFileError, TableDef};

/// The tables that look back, and what their states are called.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) tables: Vec<LaidOut>,
    pub(super) silver: SchemaRef,
    /// The event time of silver.
    pub(super) event_time: String,
    /// Of all that the states depend on, in hexadecimal.
    pub(super) definitions: String,
}

/// What is kept for the rows of a table.
#[derive(Debug, Clone)]
pub(super) struct LaidOut {
    pub(super) name: TableName,
    file: String,
    event_time: String,
    /// Its trailing counts as features, and its features, in the order of the header.
    declared: Vec<Feature>,
    counts: usize,
}

/// When states are written in another way, they are other ones.
const FORMAT: u32 = 1;
const DEFINITIONS_LENGTH: usize = 12;

impl Layout {
    /// # Errors
    /// When the SQL of silver or a declaration does not fit.
    pub(super) fn new(plan: &Plan) -> Result<Self, SqlFileError> {
        let silver = RowsTable::compile(&plan.silver, &plan.bronze_schema, &plan.catalog.references)?;
        let schema = Arc::clone(silver.schema());
        let looks_back = |def: &&TableDef| !(def.trailing.is_empty() && def.features.is_empty());
        let tables = plan.rows.iter().filter(looks_back).map(|def| LaidOut {
            name: def.table.clone(),
            file: def.file.clone(),
            event_time: def.event_time.clone().unwrap_or_else(|| plan.event_time().to_owned()),
            declared: def.trailing.iter().map(counted).chain(def.features.iter().cloned()).collect(),
            counts: def.trailing.len(),
        });
        let tables: Vec<LaidOut> = tables.collect();
        let mut hasher = blake3::Hasher::new_derive_key("assay the definitions of online features");
        hasher.update(format!("{FORMAT} {} {}\n", plan.event_time(), plan.silver.sql).as_bytes());
        for table in &tables {
            let declared: Vec<_> =
                table.declared.iter().map(|feature| Feature { about: String::new(), ..feature.clone() }).collect();
            hasher.update(format!("{} {} {declared:?}\n", table.name, table.event_time).as_bytes());
        }
        for field in schema.fields() {
            hasher.update(format!("{} {}\n", field.name(), field.data_type()).as_bytes());
        }
        let definitions = hasher.finalize().to_hex().get(..DEFINITIONS_LENGTH).unwrap_or_default().to_owned();
        let layout = Self { tables, silver: schema, event_time: plan.event_time().to_owned(), definitions };
        // What does not fit is told at the start.
        layout.memories([0; 16])?;
        Ok(layout)
    }

    /// A memory for each table, empty.
    ///
    /// # Errors
    /// When a declaration does not fit.
    pub(super) fn memories(&self, hash_key: [u8; 16]) -> Result<Vec<Features>, SqlFileError> {
        let memory = |table: &LaidOut| {
            let LaidOut { declared, counts, event_time, .. } = table;
            let features = Features::with_counts(declared, *counts, &self.silver, event_time, hash_key);
            features.map_err(|problem| SqlFileError::new(&table.file, 1, problem))
        };
        self.tables.iter().map(memory).collect()
    }
}

impl LaidOut {
    /// The columns that the header adds to rows.
    pub(super) fn added(&self, memory: &Features, silver: &RecordBatch) -> Result<Vec<ArrayRef>, HistoryError> {
        let mut columns = memory.lookup(silver)?;
        for count in columns.iter_mut().take(self.counts) {
            // A trailing count has the row itself, and a feature has not.
            if let Some(before) = count.as_primitive_opt::<Int64Type>() {
                *count = Arc::new(unary::<_, _, Int64Type>(before, |before| before + 1));
            }
        }
        Ok(columns)
    }
}

/// A trailing count as a feature, which leaves the row itself out.
fn counted(trailing: &crate::refine::Trailing) -> Feature {
    Feature {
        column: trailing.column.clone(),
        entity: trailing.key.clone(),
        aggregate: Aggregate::Count,
        of: None,
        filter: None,
        window_us: trailing.window_us,
        grain_us: None,
        last: None,
        label_delay: None,
        about: String::new(),
    }
}

/// The key under which identifiers of a lake are hashed here: not the lake's own, which names other things.
pub(super) fn hash_key(lake: [u64; 2]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_derive_key("assay the entities of online features");
    lake.iter().for_each(|half| _ = hasher.update(&half.to_be_bytes()));
    let mut key = [0; 16];
    hasher.finalize_xof().fill(&mut key);
    key
}

/// Which state of an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) table: usize,
    pub(super) kind: usize,
    pub(super) entity: u64,
}

/// Where the states of a lake and of some definitions are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    /// Of the lake, whatever the definitions.
    pub(super) lake: String,
    own: String,
}

impl Names {
    pub(super) fn new(prefix: &str, lake: &str, definitions: &str) -> Self {
        Self { lake: format!("{prefix}:{lake}:"), own: format!("{prefix}:{lake}:{definitions}:") }
    }

    pub(super) fn own(&self) -> &str {
        &self.own
    }

    pub(super) fn marker(&self) -> String {
        format!("{}marker", self.own)
    }

    pub(super) fn feeder(&self) -> String {
        format!("{}feeder", self.own)
    }

    pub(super) fn generations(&self) -> String {
        format!("{}generations", self.own)
    }

    pub(super) fn generation(&self, generation: u64) -> String {
        format!("{}{generation}:", self.own)
    }

    pub(super) fn state(&self, generation: u64, place: Place) -> String {
        let Place { table, kind, entity } = place;
        format!("{}{generation}:{table}.{kind}:{entity:016x}", self.own)
    }
}
