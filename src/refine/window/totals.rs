//! Counts and sums, one for each group of a pane, in as few bytes as the greatest of them needs.

use arrow::buffer::BooleanBuffer;

use super::accumulate::GroupedRows;
use super::growth::grow_to;

#[derive(Debug)]
pub(super) enum Totals {
    Short(Vec<i32>),
    /// From the first one that left 32 bits.
    Long(Vec<i64>),
    /// From the first one that left 64 bits.
    Wide(Vec<i128>),
}

impl Totals {
    pub fn new() -> Self {
        Self::Short(Vec::new())
    }

    pub fn bytes(&self) -> usize {
        match self {
            Self::Short(totals) => totals.capacity() * size_of::<i32>(),
            Self::Long(totals) => totals.capacity() * size_of::<i64>(),
            Self::Wide(totals) => totals.capacity() * size_of::<i128>(),
        }
    }

    #[inline]
    pub fn get(&self, group: u32) -> i128 {
        match self {
            Self::Short(totals) => totals[group as usize].into(),
            Self::Long(totals) => totals[group as usize].into(),
            Self::Wide(totals) => totals[group as usize],
        }
    }

    /// Adds the value of each row that the mask lets through to the total of its group.
    pub fn add(&mut self, rows: GroupedRows<'_>, mask: Option<&BooleanBuffer>, value: impl Fn(usize) -> i64) {
        self.resize(rows.group_count);
        let mut overflown = Vec::new();
        match self {
            Self::Short(totals) => rows.each(mask, |row, group| {
                let value = value(row);
                match i32::try_from(value).ok().and_then(|value| totals[group].checked_add(value)) {
                    Some(total) => totals[group] = total,
                    None => overflown.push((group, value)),
                }
            }),
            Self::Long(totals) => rows.each(mask, |row, group| match totals[group].checked_add(value(row)) {
                Some(total) => totals[group] = total,
                None => overflown.push((group, value(row))),
            }),
            Self::Wide(totals) => {
                rows.each(mask, |row, group| totals[group] = totals[group].wrapping_add(value(row).into()));
            }
        }
        self.add_overflown(overflown);
    }

    /// As [`add`](Self::add), for values of more than 64 bits.
    pub fn add_wide(&mut self, rows: GroupedRows<'_>, mask: Option<&BooleanBuffer>, value: impl Fn(usize) -> i128) {
        self.resize(rows.group_count);
        while !matches!(self, Self::Wide(_)) {
            self.widen();
        }
        if let Self::Wide(totals) = self {
            rows.each(mask, |row, group| totals[group] = totals[group].wrapping_add(value(row)));
        }
    }

    /// Values that did not fit. Whatever was added to their groups since is in the totals already.
    fn add_overflown(&mut self, mut overflown: Vec<(usize, i64)>) {
        while !overflown.is_empty() {
            self.widen();
            match self {
                Self::Short(_) => {}
                Self::Long(totals) => overflown.retain(|(group, value)| match totals[*group].checked_add(*value) {
                    Some(total) => {
                        totals[*group] = total;
                        false
                    }
                    None => true,
                }),
                Self::Wide(totals) => overflown
                    .drain(..)
                    .for_each(|(group, value)| totals[group] = totals[group].wrapping_add(value.into())),
            }
        }
    }

    fn widen(&mut self) {
        match self {
            Self::Short(totals) => *self = Self::Long(totals.iter().map(|total| i64::from(*total)).collect()),
            Self::Long(totals) => *self = Self::Wide(totals.iter().map(|total| i128::from(*total)).collect()),
            Self::Wide(_) => {}
        }
    }

    fn resize(&mut self, len: usize) {
        match self {
            Self::Short(totals) => grow_to(totals, len, 0),
            Self::Long(totals) => grow_to(totals, len, 0),
            Self::Wide(totals) => grow_to(totals, len, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values() -> impl Strategy<Value = i64> {
        let near = |edge: i64| (edge.saturating_sub(2)..=edge.saturating_add(2)).boxed();
        prop_oneof![
            4 => -1000..1000_i64,
            1 => near(i32::MAX.into()),
            1 => near(i32::MIN.into()),
            1 => near(i64::MAX),
            1 => near(i64::MIN),
        ]
    }

    proptest! {
        #[test]
        fn totals_are_those_of_128_bits(batches in prop::collection::vec(prop::collection::vec((0..5_u32, values(), any::<bool>()), 0..20), 0..8)) {
            let mut totals = Totals::new();
            let mut expected = [0_i128; 5];
            for batch in &batches {
                let groups = batch.iter().map(|(group, ..)| *group).collect::<Vec<_>>();
                let rows = (0..batch.len() as u32).collect::<Vec<_>>();
                let mask = BooleanBuffer::from_iter(batch.iter().map(|(.., passes)| *passes));
                let grouped = GroupedRows { rows: &rows, groups: &groups, group_count: expected.len() };
                totals.add(grouped, Some(&mask), |row| batch[row].1);
                for (group, value, _) in batch.iter().filter(|(.., passes)| *passes) {
                    expected[*group as usize] += i128::from(*value);
                }
            }
            for (group, expected) in expected.iter().enumerate().filter(|_| !batches.is_empty()) {
                prop_assert_eq!(totals.get(group as u32), *expected);
            }
        }
    }

    #[test]
    fn small_totals_take_four_bytes() {
        let mut totals = Totals::new();
        let rows = GroupedRows { rows: &[0, 1, 2], groups: &[0, 1, 0], group_count: 2 };
        totals.add(rows, None, |row| 1 << (30 - row));
        assert!(matches!(totals, Totals::Short(_)));
        totals.add(rows, None, |_| i64::from(i32::MAX));
        assert!(matches!(totals, Totals::Long(_)));
        totals.add_wide(rows, None, |_| i128::from(i64::MAX));
        assert_eq!(totals.get(1), (1 << 29) + i128::from(i32::MAX) + i128::from(i64::MAX));
    }
}
