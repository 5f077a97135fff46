//! What is kept for each group of a pane, besides distinct values: one vector for each slot.

use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::DataType;

use super::evaluate::Values;
use super::growth::grow_to;
use super::intern::{Interner, Marks};
use super::numbers::{fits_i64, fits_i128};
use super::plan::{Keeps, Slot};
use super::totals::Totals;

#[derive(Debug)]
pub(super) enum Accumulator {
    Count(Totals),
    Sum(Totals),
    Least(Extremes),
    Greatest(Extremes),
    /// Whether there was a row with the mask set.
    Any(Vec<bool>),
}

/// Extremes begin at the other end; whether there is one is counted elsewhere.
#[derive(Debug)]
pub(super) enum Extremes {
    Short(Vec<i32>),
    /// From the first value that does not fit 32 bits.
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
    pub fn each(self, mask: Option<&BooleanBuffer>, mut visit: impl FnMut(usize, usize)) {
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
            kind if fits_i64(kind) => Extremes::Short(Vec::new()),
            kind if fits_i128(kind) => Extremes::Wide(Vec::new()),
            DataType::Float64 => Extremes::Floats(Vec::new()),
            _ => Extremes::Codes(Vec::new()),
        };
        match slot.keeps {
            Keeps::Count => Self::Count(Totals::new()),
            Keeps::Sum => Self::Sum(Totals::new()),
            Keeps::Min => Self::Least(extremes()),
            Keeps::Max => Self::Greatest(extremes()),
            Keeps::Or | Keeps::And => Self::Any(Vec::new()),
        }
    }

    pub fn bytes(&self) -> usize {
        match self {
            Self::Count(totals) | Self::Sum(totals) => totals.bytes(),
            Self::Least(extremes) | Self::Greatest(extremes) => match extremes {
                Extremes::Short(values) => values.capacity() * size_of::<i32>(),
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
            Self::Sum(sums) => match values {
                Some(Values::Narrow(values, nulls)) => {
                    sums.add(rows, and_nulls(filter, nulls.as_ref()).as_ref(), |row| values[row]);
                }
                Some(Values::Wide(values, nulls)) => {
                    sums.add_wide(rows, and_nulls(filter, nulls.as_ref()).as_ref(), |row| values[row]);
                }
                _ => {}
            },
            Self::Least(extremes) => extremes.add(rows, values, filter, interner, false),
            Self::Greatest(extremes) => extremes.add(rows, values, filter, interner, true),
        }
    }

    /// A count or a sum.
    #[inline]
    pub fn total(&self, group: u32) -> i128 {
        match self {
            Self::Count(totals) | Self::Sum(totals) => totals.get(group),
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
    /// Rows that are left out count too: what they cost is memory.
    fn make_room_for(&mut self, values: &[i64]) {
        // The ends of the range stand for groups without a value.
        let inside = i64::from(i32::MIN) + 1..i64::from(i32::MAX);
        if let Self::Short(extremes) = self
            && values.iter().any(|value| !inside.contains(value))
        {
            let widened = |extreme: &i32| match *extreme {
                i32::MIN => i64::MIN,
                i32::MAX => i64::MAX,
                value => value.into(),
            };
            *self = Self::Narrow(extremes.iter().map(widened).collect());
        }
    }

    fn add(
        &mut self,
        rows: GroupedRows<'_>,
        values: Option<&Values>,
        filter: Option<&BooleanBuffer>,
        interner: Option<&Interner>,
        greatest: bool,
    ) {
        let size = rows.group_count;
        if let Some(Values::Narrow(values, _)) = values {
            self.make_room_for(values);
        }
        match (self, values) {
            (Self::Short(extremes), Some(Values::Narrow(values, nulls))) => {
                grow_to(extremes, size, if greatest { i32::MIN } else { i32::MAX });
                rows.each(and_nulls(filter, nulls.as_ref()).as_ref(), |row, group| {
                    let (value, extreme) = (values[row] as i32, &mut extremes[group]);
                    *extreme = if greatest { value.max(*extreme) } else { value.min(*extreme) };
                });
            }
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

fn add_counts(counts: &mut Totals, rows: GroupedRows<'_>, mask: Option<&BooleanBuffer>) {
    if rows.group_count == 1 {
        let count = match mask {
            Some(mask) => rows.rows.iter().filter(|row| mask.value(**row as usize)).count(),
            None => rows.rows.len(),
        };
        counts.add(GroupedRows { rows: &[0], groups: &[0], group_count: 1 }, None, |_| count as i64);
    } else if let Some(mask) = mask {
        counts.add(rows, None, |row| i64::from(mask.value(row)));
    } else {
        counts.add(rows, None, |_| 1);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A group without a value must not keep the end of the narrow range when the others widen.
    #[test]
    fn extremes_widen_with_groups_that_have_no_value_yet() {
        for (greatest, ends) in [(false, [i64::from(i32::MAX), i64::MAX]), (true, [i64::from(i32::MIN), i64::MIN])] {
            let keeps = if greatest { Keeps::Max } else { Keeps::Min };
            let slot = Slot { keeps, argument: None, kind: DataType::Int64, filter: None };
            let mut accumulator = Accumulator::new(&slot);
            let mut add = |groups: &[u32], values: Vec<i64>| {
                let rows = (0..values.len() as u32).collect::<Vec<_>>();
                let grouped = GroupedRows { rows: &rows, groups, group_count: 3 };
                accumulator.add(grouped, Some(&Values::Narrow(values, None)), None, None);
            };
            add(&[0], vec![7]);
            add(&[1], vec![ends[0]]);
            add(&[2], vec![ends[1]]);
            let (Accumulator::Least(extremes) | Accumulator::Greatest(extremes)) = &accumulator else { panic!() };
            let Extremes::Narrow(extremes) = extremes else { panic!("{extremes:?}") };
            assert_eq!(extremes, &[7, ends[0], ends[1]]);
        }
    }
}
