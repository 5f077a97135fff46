//! What goes in and what comes out: columns of a batch as plain vectors.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, RecordBatch,
    TimestampMicrosecondArray,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Decimal128Type, Int8Type, Int16Type, Int32Type, Int64Type, Schema, TimestampMicrosecondType,
};

use super::Keys;
use crate::domain::schema::timestamp;

/// A whole number that each row brings: 1 or the units of a column, or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Measure {
    /// `None` brings ones.
    pub(super) units_of: Option<String>,
    /// Rows where one of these is NULL or false bring nothing; a column that is no boolean must be there.
    pub(super) only: Vec<String>,
}

/// A column by name, with the type that it must have.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) name: String,
    kind: DataType,
}

impl Source {
    pub(super) fn find(schema: &Schema, name: &str) -> Result<Self, String> {
        let field = schema.field_with_name(name).map_err(|_| format!("the column `{name}` does not exist"))?;
        Ok(Self { name: name.to_owned(), kind: field.data_type().clone() })
    }

    pub(super) fn kind(&self) -> &DataType {
        &self.kind
    }

    /// Texts of files may come as views or dictionaries.
    pub(super) fn of(&self, batch: &RecordBatch) -> Result<ArrayRef, String> {
        let column =
            batch.column_by_name(&self.name).ok_or_else(|| format!("the column `{}` is missing", self.name))?;
        if *column.data_type() == self.kind {
            return Ok(Arc::clone(column));
        }
        cast(column, &self.kind).map_err(|error| format!("the column `{}` cannot be read: {error}", self.name))
    }
}

/// The columns that a set of features reads.
#[derive(Debug, Clone)]
pub(super) struct Sources {
    pub(super) event_time: Source,
    /// Columns whose values are told apart, entities among them.
    pub(super) values: Vec<Source>,
    pub(super) measures: Vec<Measure>,
    /// The columns of the measures.
    pub(super) numbers: Vec<Source>,
}

/// A batch, ready to be looked at row by row.
pub(super) struct Inputs {
    pub(super) times: TimestampMicrosecondArray,
    /// For each column of [`Sources::values`].
    pub(super) values: Vec<Hashed>,
    /// For each of [`Sources::measures`], one number a row.
    pub(super) measures: Vec<Vec<i64>>,
}

/// The values of a column as evenly spread numbers.
pub(super) struct Hashed {
    hashes: Vec<u64>,
    nulls: Option<NullBuffer>,
}

impl Hashed {
    #[inline]
    pub(super) fn get(&self, row: usize) -> Option<u64> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return None;
        }
        self.hashes.get(row).copied()
    }
}

impl Inputs {
    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    #[inline]
    pub(super) fn is_timed(&self, row: usize) -> bool {
        self.times.is_valid(row)
    }

    /// The event times of rows that have one, with their rows.
    pub(super) fn timed(&self) -> impl Iterator<Item = (usize, i64)> {
        self.times.iter().enumerate().filter_map(|(row, at_us)| Some((row, at_us?)))
    }
}

impl Sources {
    /// The names of all columns, the event time first.
    pub(super) fn names(&self) -> Vec<&str> {
        let mut names = vec![self.event_time.name.as_str()];
        for source in self.values.iter().chain(&self.numbers) {
            if !names.contains(&source.name.as_str()) {
                names.push(&source.name);
            }
        }
        names
    }

    pub(super) fn read(&self, batch: &RecordBatch, keys: &Keys) -> Result<Inputs, String> {
        let times = self.event_time.of(batch)?;
        let times = times.as_primitive_opt::<TimestampMicrosecondType>().cloned();
        let times = times.ok_or("the event time is not a timestamp")?;
        let hashed = |source: &Source| {
            let column = source.of(batch)?;
            Ok(Hashed { hashes: keys.of(&column), nulls: column.nulls().cloned() })
        };
        let values = self.values.iter().map(hashed).collect::<Result<_, String>>()?;
        let measures = self.measures.iter().map(|measure| self.measure(measure, batch)).collect::<Result<_, _>>()?;
        Ok(Inputs { times, values, measures })
    }

    fn measure(&self, measure: &Measure, batch: &RecordBatch) -> Result<Vec<i64>, String> {
        let column = |name: &String| {
            let source = self.numbers.iter().find(|source| source.name == *name);
            source.ok_or_else(|| format!("the column `{name}` is missing"))?.of(batch)
        };
        let mut numbers = match &measure.units_of {
            None => vec![1; batch.num_rows()],
            Some(name) => units(&column(name)?)?,
        };
        for name in measure.only.iter().chain(&measure.units_of) {
            let column = column(name)?;
            let flags = column.as_boolean_opt();
            if flags.is_none() && column.null_count() == 0 {
                continue;
            }
            for (row, number) in numbers.iter_mut().enumerate() {
                if column.is_null(row) || flags.is_some_and(|flags| !flags.value(row)) {
                    *number = 0;
                }
            }
        }
        Ok(numbers)
    }
}

/// Whole numbers, and decimals in units of their last digit.
fn units(column: &ArrayRef) -> Result<Vec<i64>, String> {
    Ok(match column.data_type() {
        DataType::Int8 => column.as_primitive::<Int8Type>().values().iter().map(|v| i64::from(*v)).collect(),
        DataType::Int16 => column.as_primitive::<Int16Type>().values().iter().map(|v| i64::from(*v)).collect(),
        DataType::Int32 => column.as_primitive::<Int32Type>().values().iter().map(|v| i64::from(*v)).collect(),
        DataType::Int64 => column.as_primitive::<Int64Type>().values().to_vec(),
        DataType::Decimal128(_, _) => {
            let values = column.as_primitive::<Decimal128Type>().values();
            // `summable` lets no decimal in that does not fit; what stands under a NULL is not looked at.
            values.iter().map(|value| i64::try_from(*value).unwrap_or(0)).collect()
        }
        other => return Err(format!("a {other} cannot be summed up exactly")),
    })
}

/// Whether sums of this type are exact in 64 bits, and the digits after the point.
pub(super) fn summable(kind: &DataType) -> Option<u8> {
    match kind {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Some(0),
        DataType::Decimal128(precision, scale) if *precision <= 18 => u8::try_from(*scale).ok(),
        _ => None,
    }
}

/// What a feature's column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Whole,
    /// Units with so many digits after the point.
    Decimal(u8),
    Real,
    Flag,
}

impl Kind {
    pub(super) fn data_type(self) -> DataType {
        match self {
            Self::Whole => DataType::Int64,
            Self::Decimal(scale) => DataType::Decimal128(SUM_DIGITS, i8::try_from(scale).unwrap_or(0)),
            Self::Real => DataType::Float64,
            Self::Flag => DataType::Boolean,
        }
    }
}

/// As many as a sum of decimal(18,2) has in SQL.
const SUM_DIGITS: u8 = 28;

/// A feature's column under construction: NULL where nothing is set.
#[derive(Debug)]
pub(super) struct Column {
    kind: Kind,
    whole: Vec<i64>,
    real: Vec<f64>,
    valid: Vec<bool>,
}

impl Column {
    pub(super) fn new(kind: Kind, rows: usize) -> Self {
        let (whole, real) = if kind == Kind::Real { (0, rows) } else { (rows, 0) };
        Self { kind, whole: vec![0; whole], real: vec![0.0; real], valid: vec![false; rows] }
    }

    #[inline]
    pub(super) fn set(&mut self, row: usize, value: i64) {
        if let (Some(slot), Some(valid)) = (self.whole.get_mut(row), self.valid.get_mut(row)) {
            (*slot, *valid) = (value, true);
        }
    }

    #[inline]
    pub(super) fn set_real(&mut self, row: usize, value: f64) {
        if let (Some(slot), Some(valid)) = (self.real.get_mut(row), self.valid.get_mut(row)) {
            (*slot, *valid) = (value, true);
        }
    }

    /// Takes over the value of a row.
    pub(super) fn take(&mut self, row: usize, from: &Self) {
        if let (Some(slot), Some(value)) = (self.whole.get_mut(row), from.whole.get(row)) {
            *slot = *value;
        }
        if let (Some(slot), Some(value)) = (self.real.get_mut(row), from.real.get(row)) {
            *slot = *value;
        }
        if let (Some(slot), Some(value)) = (self.valid.get_mut(row), from.valid.get(row)) {
            *slot = *value;
        }
    }

    pub(super) fn finish(self) -> ArrayRef {
        let nulls = self.valid.contains(&false).then(|| NullBuffer::from(self.valid));
        match self.kind {
            Kind::Whole => Arc::new(Int64Array::new(self.whole.into(), nulls)),
            Kind::Real => Arc::new(Float64Array::new(self.real.into(), nulls)),
            Kind::Flag => {
                let flags = self.whole.iter().map(|value| *value != 0).collect::<Vec<_>>();
                Arc::new(BooleanArray::new(flags.into(), nulls))
            }
            Kind::Decimal(_) => {
                let values = self.whole.iter().map(|value| i128::from(*value)).collect::<Vec<_>>();
                Arc::new(Decimal128Array::new(values.into(), nulls).with_data_type(self.kind.data_type()))
            }
        }
    }
}

/// Whether a column may be the event time.
pub(super) fn is_instant(kind: &DataType) -> bool {
    *kind == timestamp()
}
