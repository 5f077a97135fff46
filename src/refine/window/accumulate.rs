//! What is kept for each group of a pane, besides distinct values: one vector for each slot.

use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::DataType;

use super::evaluate::Values;
use super::growth::grow_to;
use super::intern::{Interner, Marks};
use super::numbers::{fits_i64, fits_i128};
use super::plan::{Keeps, Slot};

#[derive(Debug)]
pub(super) enum Accumulator {
    Count(Vec<i64>),
    Sum(Vec<i64>),
    /// Sums from the first one that left 64 bits.
    WideSum(Vec<i128>),
    Least(Extremes),
    Greatest(Extremes),
    /// Whether there was a row with the mask set.
    Any(Vec<bool>),
}

/// Extremes begin at the other end; whether there is one is counted elsewhere.
#[derive(Debug)]
pub(super) enum Extremes {
    Narrow(Vec<i64>),
    Wide(Vec<i128>),
    /// By total order: NaN is greatest.
    Floats(Vec<f64>),
    /// 0 until there is one.
    Codes(Vec<u32>),
}

/// The rows of one pane in one batch, and the group of each.
#[derive(Debug, Clone, Copy)]
pub(super) struct GroupedRows<'a> {
    pub rows: &'a [u32],
    pub groups: &'a [u32],
    /// Groups in the pane by now.
    pub group_count: usize,
}

impl GroupedRows<'_> {
    #[inline]
    fn each(self, mask: Option<&BooleanBuffer>, mut visit: impl FnMut(usize, usize)) {
        let rows = self.rows.iter().zip(self.groups).map(|(row, group)| (*row as usize, *group as usize));
        match mask {
            Some(mask) => rows.filter(|(row, _)| mask.value(*row)).for_each(|(row, group)| visit(row, group)),
            None => rows.for_each(|(row, group)| visit(row, group)),
        }
    }
}

impl Accumulator {
    pub fn new(slot: &Slot) -> Self {
        let extremes = || match &slot.kind {
            kind if fits_i64(kind) => Extremes::Narrow(Vec::new()),
            kind if fits_i128(kind) => Extremes::Wide(Vec::new()),
            DataType::Float64 => Extremes::Floats(Vec::new()),
            _ => Extremes::Codes(Vec::new()),
        };
        match slot.keeps {
            Keeps::Count => Self::Count(Vec::new()),
            Keeps::Sum => Self::Sum(Vec::new()),
            Keeps::Min => Self::Least(extremes()),
            Keeps::Max => Self::Greatest(extremes()),
            Keeps::Or | Keeps::And => Self::Any(Vec::new()),
        }
    }

    pub fn bytes(&self) -> usize {
        match self {
            Self::Count(values) | Self::Sum(values) => values.capacity() * size_of::<i64>(),
            Self::WideSum(values) => values.capacity() * size_of::<i128>(),
            Self::Least(extremes) | Self::Greatest(extremes) => match extremes {
                Extremes::Narrow(values) => values.capacity() * size_of::<i64>(),
                Extremes::Wide(values) => values.capacity() * size_of::<i128>(),
                Extremes::Floats(values) => values.capacity() * size_of::<f64>(),
                Extremes::Codes(values) => values.capacity() * size_of::<u32>(),
            },
            Self::Any(values) => values.capacity(),
        }
    }

    /// Takes in rows; `interner` orders the codes of string extremes.
    pub fn add(
        &mut self,
        rows: GroupedRows<'_>,
        values: Option<&Values>,
        filter: Option<&BooleanBuffer>,
        interner: Option<&Interner>,
    ) {
        let size = rows.group_count;
        match self {
            Self::Count(counts) => {
                grow_to(counts, size, 0);
                let present = match values {
                    Some(Values::Mask(present)) => Some(present),
                    _ => None,
                };
                add_counts(counts, rows, and(present, filter).as_ref());
            }
            Self::Any(flags) => {
                grow_to(flags, size, false);
                if let Some(Values::Mask(mask)) = values {
                    rows.each(and(Some(mask), filter).as_ref(), |_, group| flags[group] = true);
                }
            }
            Self::Sum(_) | Self::WideSum(_) => self.add_sums(rows, values, filter),
            Self::Least(extremes) => extremes.add(rows, values, filter, interner, false),
            Self::Greatest(extremes) => extremes.add(rows, values, filter, interner, true),
        }
    }

    fn add_sums(&mut self, rows: GroupedRows<'_>, values: Option<&Values>, filter: Option<&BooleanBuffer>) {
        match values {
            Some(Values::Narrow(values, nulls)) => {
                let mask = and_nulls(filter, nulls.as_ref());
                let mut overflown = Vec::new();
                match self {
                    Self::Sum(sums) => {
                        grow_to(sums, rows.group_count, 0);
                        rows.each(mask.as_ref(), |row, group| match sums[group].checked_add(values[row]) {
                            Some(sum) => sums[group] = sum,
                            None => overflown.push((group, values[row])),
                        });
                    }
                    Self::WideSum(sums) => {
                        grow_to(sums, rows.group_count, 0);
                        rows.each(mask.as_ref(), |row, group| {
                            sums[group] = sums[group].wrapping_add(values[row].into())
                        });
                    }
                    _ => {}
                }
                if !overflown.is_empty() {
                    self.widen(rows.group_count, |sums| {
                        overflown
                            .iter()
                            .for_each(|(group, value)| sums[*group] = sums[*group].wrapping_add((*value).into()));
                    });
                }
            }
            Some(Values::Wide(values, nulls)) => {
                let mask = and_nulls(filter, nulls.as_ref());
                self.widen(rows.group_count, |sums| {
                    rows.each(mask.as_ref(), |row, group| sums[group] = sums[group].wrapping_add(values[row]));
                });
            }
            _ => {}
        }
    }

    fn widen(&mut self, size: usize, add: impl FnOnce(&mut [i128])) {
        if let Self::Sum(sums) = self {
            *self = Self::WideSum(sums.iter().map(|sum| i128::from(*sum)).collect());
        }
        if let Self::WideSum(sums) = self {
            grow_to(sums, size, 0);
            add(sums);
        }
    }

    /// A count or a sum.
    #[inline]
    pub fn total(&self, group: u32) -> i128 {
        match self {
            Self::Count(values) | Self::Sum(values) => values[group as usize].into(),
            Self::WideSum(values) => values[group as usize],
            _ => 0,
        }
    }

    pub fn any(&self, group: u32) -> bool {
        matches!(self, Self::Any(flags) if flags[group as usize])
    }

    /// Marks the codes of string extremes.
    pub fn mark(&self, marks: &mut Marks) {
        if let Self::Least(Extremes::Codes(codes)) | Self::Greatest(Extremes::Codes(codes)) = self {
            codes.iter().for_each(|code| marks.set(*code));
        }
    }
}

impl Extremes {
    fn add(
        &mut self,
        rows: GroupedRows<'_>,
        values: Option<&Values>,
        filter: Option<&BooleanBuffer>,
        interner: Option<&Interner>,
        greatest: bool,
    ) {
        let size = rows.group_count;
        match (self, values) {
            (Self::Narrow(extremes), Some(Values::Narrow(values, nulls))) => {
                grow_to(extremes, size, if greatest { i64::MIN } else { i64::MAX });
                rows.each(and_nulls(filter, nulls.as_ref()).as_ref(), |row, group| {
                    let extreme = &mut extremes[group];
                    *extreme = if greatest { values[row].max(*extreme) } else { values[row].min(*extreme) };
                });
            }
            (Self::Wide(extremes), Some(Values::Wide(values, nulls))) => {
                grow_to(extremes, size, if greatest { i128::MIN } else { i128::MAX });
                rows.each(and_nulls(filter, nulls.as_ref()).as_ref(), |row, group| {
                    let extreme = &mut extremes[group];
                    *extreme = if greatest { values[row].max(*extreme) } else { values[row].min(*extreme) };
                });
            }
            (Self::Floats(extremes), Some(Values::Floats(values, nulls))) => {
                // The ends of the total order.
                let end = f64::from_bits(if greatest { u64::MAX } else { u64::MAX >> 1 });
                grow_to(extremes, size, end);
                rows.each(and_nulls(filter, nulls.as_ref()).as_ref(), |row, group| {
                    if values[row].total_cmp(&extremes[group]).is_gt() == greatest {
                        extremes[group] = values[row];
                    }
                });
            }
            (Self::Codes(extremes), Some(Values::Codes(codes))) => {
                grow_to(extremes, size, 0);
                let Some(interner) = interner else { return };
                rows.each(filter, |row, group| {
                    let (code, extreme) = (codes[row], &mut extremes[group]);
                    if code != 0 && (*extreme == 0 || interner.compare(code, *extreme).is_gt() == greatest) {
                        *extreme = code;
                    }
                });
            }
            _ => {}
        }
    }
}

fn add_counts(counts: &mut [i64], rows: GroupedRows<'_>, mask: Option<&BooleanBuffer>) {
    if let [count] = counts {
        *count += match mask {
            Some(mask) => rows.rows.iter().map(|row| i64::from(mask.value(*row as usize))).sum(),
            None => rows.rows.len() as i64,
        };
        return;
    }
    match mask {
        Some(mask) => {
            for (row, group) in rows.rows.iter().zip(rows.groups) {
                counts[*group as usize] += i64::from(mask.value(*row as usize));
            }
        }
        None => rows.groups.iter().for_each(|group| counts[*group as usize] += 1),
    }
}

/// Rows in both masks; an absent one holds all rows.
fn and(left: Option<&BooleanBuffer>, right: Option<&BooleanBuffer>) -> Option<BooleanBuffer> {
    match (left, right) {
        (Some(left), Some(right)) => Some(left & right),
        (one, other) => one.or(other).cloned(),
    }
}

fn and_nulls(filter: Option<&BooleanBuffer>, nulls: Option<&NullBuffer>) -> Option<BooleanBuffer> {
    and(filter, nulls.map(NullBuffer::inner))
}
