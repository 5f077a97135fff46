//! How many bytes a call would build, row by row.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, OffsetSizeTrait};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, IntervalMonthDayNanoType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::ColumnarValue;

use super::{RANGE_BYTES_MAX, VALUE_BYTES_MAX};

/// What the length of an output follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// `(text, times)`.
    Repeat,
    /// `(text, characters[, fill])`.
    Pad,
    /// `([start,] stop[, step])`.
    Range,
    /// `(element, times)`.
    RepeatElement,
    /// `(list, elements[, fill])`.
    Resize,
    /// All arguments after each other.
    Sum,
    /// `(text, from, to)`, each `from`.
    Replace,
    /// `(text, pattern, to[, flags])`, each match, and `to` may name groups.
    ReplaceMatches,
    /// `(list, from, to, …)`, each `from`.
    ReplaceElements,
    /// `(list, separator[, null])`.
    Join,
    /// `(separator, text, …)`.
    JoinTexts,
    /// `(instant, format)`.
    Format,
}

/// The most that one directive of a format, two bytes, becomes.
const DIRECTIVE_BYTES_MAX: u64 = 64;

impl Kind {
    /// By the name of a function; `None` when it makes no more than a few times of what it is given.
    pub fn of(function: &str) -> Option<Self> {
        Some(match function {
            "repeat" => Self::Repeat,
            "lpad" | "rpad" => Self::Pad,
            "range" | "generate_series" => Self::Range,
            "array_repeat" => Self::RepeatElement,
            "array_resize" => Self::Resize,
            "concat" | "overlay" | "make_array" | "array_append" | "array_prepend" | "array_concat" | "array_union"
            | "arrays_zip" | "map" | "named_struct" | "struct" => Self::Sum,
            "replace" => Self::Replace,
            "regexp_replace" => Self::ReplaceMatches,
            "array_replace" | "array_replace_n" | "array_replace_all" => Self::ReplaceElements,
            "array_to_string" => Self::Join,
            "concat_ws" => Self::JoinTexts,
            "to_char" => Self::Format,
            _ => return None,
        })
    }

    /// How long a value may be whatever the arguments are.
    pub fn free_bytes(self) -> u64 {
        if self == Self::Range { RANGE_BYTES_MAX } else { VALUE_BYTES_MAX }
    }

    /// Whether what a call builds may be far below what [`Self::upper`] says.
    pub fn is_estimate(self) -> bool {
        matches!(
            self,
            Self::Replace | Self::ReplaceMatches | Self::ReplaceElements | Self::Join | Self::JoinTexts | Self::Format
        )
    }

    /// Makes a negative length of a pad an empty text, as PostgreSQL has it: the function would panic.
    pub fn mend(self, arguments: &mut [ColumnarValue]) {
        let (Self::Pad, Some(length)) = (self, arguments.get_mut(1)) else { return };
        match length {
            ColumnarValue::Scalar(ScalarValue::Int64(Some(length))) => *length = (*length).max(0),
            ColumnarValue::Array(lengths) => {
                if let Some(numbers) = lengths.as_primitive_opt::<Int64Type>() {
                    *lengths = Arc::new(numbers.unary::<_, Int64Type>(|length| length.max(0)));
                }
            }
            ColumnarValue::Scalar(_) => {}
        }
    }

    /// Bytes that the call builds at most, of each row.
    pub fn upper(self, arguments: &[ColumnarValue], rows: usize) -> Vec<u64> {
        let sizes: Vec<Size> = arguments.iter().map(Size::of).collect();
        let size = |argument: usize, row: usize| sizes.get(argument).map_or(0, |size| size.at(row));
        let counted = |argument: usize| arguments.get(argument).map_or(Size::Same(0), count);
        let elements_of = |argument: usize| arguments.get(argument).map_or(Size::Same(0), elements);
        let each = |of: &dyn Fn(usize) -> u64| (0..rows).map(of).collect::<Vec<u64>>();
        match self {
            Self::Repeat => {
                let times = counted(1);
                each(&|row| size(0, row).saturating_mul(times.at(row)))
            }
            Self::Pad => {
                let characters = counted(1);
                let is_ascii = [0, 2].into_iter().filter_map(|of| arguments.get(of)).all(is_ascii);
                let width = if is_ascii { 1 } else { 4 };
                each(&|row| characters.at(row).saturating_mul(width))
            }
            Self::Range => {
                let numbers = numbers_of_range(arguments);
                each(&|row| numbers.at(row).saturating_mul(8))
            }
            Self::RepeatElement => {
                let times = counted(1);
                each(&|row| size(0, row).saturating_add(4).saturating_mul(times.at(row)))
            }
            Self::Resize => {
                let wanted = counted(1);
                each(&|row| size(0, row).saturating_add(size(2, row).max(8).saturating_mul(wanted.at(row))))
            }
            Self::Sum => each(&|row| sizes.iter().fold(0, |sum, of| sum.saturating_add(of.at(row)))),
            Self::Replace => each(&|row| {
                let places = size(0, row) / size(1, row).max(1) + 1;
                size(0, row).saturating_add(places.saturating_mul(size(2, row)))
            }),
            Self::ReplaceMatches => each(&|row| {
                // Matches do not overlap, so a group that is named once brings the text once at most.
                let texts = size(2, row) / 2 + 1;
                let replacements = (size(0, row) + 1).saturating_mul(size(2, row));
                texts.saturating_mul(size(0, row)).saturating_add(replacements)
            }),
            Self::ReplaceElements => {
                let elements = elements_of(0);
                each(&|row| size(0, row).saturating_add(elements.at(row).saturating_mul(size(2, row))))
            }
            Self::Join => {
                let elements = elements_of(0);
                each(&|row| {
                    // A number of eight bytes is a text of 25 at most.
                    let between = size(1, row).max(size(2, row)).saturating_add(25);
                    size(0, row).saturating_add(elements.at(row).saturating_mul(between))
                })
            }
            Self::JoinTexts => each(&|row| {
                let between = size(0, row).saturating_mul(sizes.len() as u64);
                sizes.iter().skip(1).fold(between, |sum, of| sum.saturating_add(of.at(row)))
            }),
            Self::Format => each(&|row| size(1, row).saturating_mul(DIRECTIVE_BYTES_MAX)),
        }
    }
}

/// A figure of each row.
pub(super) enum Size {
    Same(u64),
    Each(Vec<u64>),
}

impl Size {
    /// The bytes of each value.
    pub fn of(value: &ColumnarValue) -> Self {
        match value {
            ColumnarValue::Array(array) => Self::Each(bytes(array)),
            ColumnarValue::Scalar(scalar) => one(scalar.to_array().ok().map(|array| bytes(&array))),
        }
    }

    pub fn at(&self, row: usize) -> u64 {
        match self {
            Self::Same(figure) => *figure,
            Self::Each(figures) => figures.get(row).copied().unwrap_or(0),
        }
    }
}

fn one(figures: Option<Vec<u64>>) -> Size {
    Size::Same(figures.and_then(|figures| figures.first().copied()).unwrap_or(0))
}

/// Bytes of each value.
fn bytes(array: &ArrayRef) -> Vec<u64> {
    let sized = |length: Option<usize>| length.unwrap_or(0) as u64;
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().iter().map(|text| sized(text.map(str::len))).collect(),
        DataType::LargeUtf8 => array.as_string::<i64>().iter().map(|text| sized(text.map(str::len))).collect(),
        DataType::Utf8View => array.as_string_view().iter().map(|text| sized(text.map(str::len))).collect(),
        DataType::Binary => array.as_binary::<i32>().iter().map(|value| sized(value.map(<[u8]>::len))).collect(),
        DataType::LargeBinary => array.as_binary::<i64>().iter().map(|value| sized(value.map(<[u8]>::len))).collect(),
        DataType::BinaryView => array.as_binary_view().iter().map(|value| sized(value.map(<[u8]>::len))).collect(),
        DataType::List(_) => bytes_of_lists::<i32>(array),
        DataType::LargeList(_) => bytes_of_lists::<i64>(array),
        DataType::Struct(_) => {
            let mut sums = vec![0; array.len()];
            for column in array.as_struct().columns() {
                sums.iter_mut().zip(bytes(column)).for_each(|(sum, more)| *sum += more);
            }
            sums
        }
        kind => match kind.primitive_width() {
            Some(width) => vec![width as u64; array.len()],
            None => vec![average(array); array.len()],
        },
    }
}

fn bytes_of_lists<O: OffsetSizeTrait>(array: &ArrayRef) -> Vec<u64> {
    let lists = array.as_list::<O>();
    let (Some(first), Some(last)) = (lists.value_offsets().first(), lists.value_offsets().last()) else {
        return Vec::new();
    };
    let (first, last) = (first.as_usize(), last.as_usize());
    let mut elements = bytes(&lists.values().slice(first, last - first)).into_iter();
    let list = |pair: &[O]| {
        let elements = elements.by_ref().take((pair[1] - pair[0]).as_usize());
        elements.fold(0_u64, |sum, element| sum.saturating_add(element + 4))
    };
    lists.value_offsets().windows(2).map(list).collect()
}

fn average(array: &ArrayRef) -> u64 {
    let all = array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size());
    all.checked_div(array.len()).unwrap_or(0) as u64
}

/// Numbers of an argument; what is negative or no number counts as none.
fn integers(value: &ColumnarValue) -> Option<Vec<Option<i64>>> {
    let array = match value {
        ColumnarValue::Array(array) => array.clone(),
        ColumnarValue::Scalar(scalar) => scalar.to_array().ok()?,
    };
    let array = match array.data_type() {
        DataType::Timestamp(_, zone) => cast(&array, &DataType::Timestamp(TimeUnit::Nanosecond, zone.clone())).ok()?,
        DataType::Date32 => cast(&array, &DataType::Int32).ok()?,
        _ => array,
    };
    Some(cast(&array, &DataType::Int64).ok()?.as_primitive::<Int64Type>().iter().collect())
}

fn per_row(value: &ColumnarValue, figures: Option<Vec<u64>>) -> Size {
    match value {
        ColumnarValue::Array(_) => Size::Each(figures.unwrap_or_default()),
        ColumnarValue::Scalar(_) => one(figures),
    }
}

fn count(value: &ColumnarValue) -> Size {
    let counts = integers(value)
        .map(|numbers| numbers.into_iter().map(|number| u64::try_from(number.unwrap_or(0)).unwrap_or(0)).collect());
    per_row(value, counts)
}

/// Elements of each list.
fn elements(value: &ColumnarValue) -> Size {
    let array = match value {
        ColumnarValue::Array(array) => Some(array.clone()),
        ColumnarValue::Scalar(scalar) => scalar.to_array().ok(),
    };
    let counts = array.map(|array| match array.data_type() {
        DataType::List(_) => {
            array.as_list::<i32>().value_offsets().windows(2).map(|of| (of[1] - of[0]) as u64).collect()
        }
        DataType::LargeList(_) => {
            array.as_list::<i64>().value_offsets().windows(2).map(|of| (of[1] - of[0]) as u64).collect()
        }
        DataType::FixedSizeList(_, length) => vec![u64::try_from(*length).unwrap_or(0); array.len()],
        _ => bytes(&array),
    });
    per_row(value, counts)
}

fn is_ascii(value: &ColumnarValue) -> bool {
    let array = match value {
        ColumnarValue::Array(array) => array.clone(),
        ColumnarValue::Scalar(scalar) => match scalar.to_array() {
            Ok(array) => array,
            Err(_) => return false,
        },
    };
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().is_ascii(),
        DataType::LargeUtf8 => array.as_string::<i64>().is_ascii(),
        DataType::Utf8View => array.as_string_view().iter().flatten().all(str::is_ascii),
        DataType::Null => true,
        _ => false,
    }
}

const DAY_NS: i128 = 86_400_000_000_000;

/// How many numbers, days or instants a range has, at most.
fn numbers_of_range(arguments: &[ColumnarValue]) -> Size {
    let unit = match arguments.first().map(ColumnarValue::data_type) {
        Some(DataType::Date32) => DAY_NS,
        _ => 1,
    };
    let (start, stop, step) = match arguments {
        [stop] => (None, stop, None),
        [start, stop] => (Some(start), stop, None),
        [start, stop, step, ..] => (Some(start), stop, Some(step)),
        [] => return Size::Same(0),
    };
    let rows = arguments.iter().map(|of| if let ColumnarValue::Array(array) = of { array.len() } else { 1 }).max();
    let (start, stop) = (start.and_then(integers), integers(stop));
    let step = step.and_then(steps);
    let at = |numbers: &Option<Vec<Option<i64>>>, row: usize| {
        let numbers = numbers.as_ref()?;
        numbers.get(if numbers.len() == 1 { 0 } else { row }).copied().flatten()
    };
    let number = |row: usize| {
        let (from, to) = (at(&start, row).unwrap_or(0), at(&stop, row)?);
        let span = (i128::from(to) - i128::from(from)) * unit;
        let step = match &step {
            Some(steps) => steps.get(if steps.len() == 1 { 0 } else { row }).copied().flatten()?,
            None => 1,
        };
        // One that goes the other way is empty; the function refuses a step of nothing itself.
        if step == 0 || (span < 0) != (step < 0) {
            return Some(1);
        }
        Some(u64::try_from(span / step + 1).unwrap_or(u64::MAX))
    };
    Size::Each((0..rows.unwrap_or(0)).map(|row| number(row).unwrap_or(0)).collect())
}

/// Steps of numbers, or nanoseconds of an interval. One whose parts have different signs counts as a nanosecond.
fn steps(value: &ColumnarValue) -> Option<Vec<Option<i128>>> {
    let array = match value {
        ColumnarValue::Array(array) => array.clone(),
        ColumnarValue::Scalar(scalar) => scalar.to_array().ok()?,
    };
    let Some(intervals) = array.as_primitive_opt::<IntervalMonthDayNanoType>() else {
        return Some(integers(value)?.into_iter().map(|number| number.map(i128::from)).collect());
    };
    let interval = intervals.iter().map(|interval| {
        let interval = interval?;
        let parts = [
            i128::from(interval.months) * 28 * DAY_NS,
            i128::from(interval.days) * DAY_NS,
            i128::from(interval.nanoseconds),
        ];
        let (some, other) = (parts.iter().any(|part| *part > 0), parts.iter().any(|part| *part < 0));
        Some(if some && other { 1 } else { parts.iter().sum() })
    });
    Some(interval.collect())
}

/// What a text takes at least where it is an element of a list of fixed length.
const VIEW_BYTES: u64 = 16;

/// Bytes that a value of a type takes whatever it is; 0 for one that takes what it needs.
pub(super) fn fixed_width(kind: &DataType) -> u64 {
    match kind {
        DataType::FixedSizeBinary(width) => u64::try_from(*width).unwrap_or(0),
        DataType::FixedSizeList(field, length) => {
            u64::try_from(*length).unwrap_or(0).saturating_mul(fixed_width(field.data_type()).max(VIEW_BYTES))
        }
        DataType::Struct(fields) => {
            fields.iter().fold(0_u64, |sum, field| sum.saturating_add(fixed_width(field.data_type())))
        }
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::Map(field, _) => fixed_width(field.data_type()),
        DataType::Dictionary(_, values) => fixed_width(values),
        DataType::RunEndEncoded(_, values) => fixed_width(values.data_type()),
        DataType::Union(fields, _) => {
            fields.iter().fold(0_u64, |sum, (_, field)| sum.saturating_add(fixed_width(field.data_type())))
        }
        kind => kind.primitive_width().unwrap_or(0) as u64,
    }
}
