//! The sets and interners under the engine, held against the standard library's.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Int32Array, StringArray};
use arrow::datatypes::DataType;
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::super::groups::Groups;
use super::super::intern::{Interner, Marks};
use super::super::packed::PackedSet;
use super::super::pairs::{Counts, PairSet};

/// Inserts pairs as a pane does, checks each answer, and puts the set to rest now and then; returns it and its members.
fn fill(
    pairs: &[(u32, u32)],
    mut domain: impl FnMut(usize) -> usize,
    stride: usize,
    rest_every: usize,
) -> (PairSet, HashSet<(u32, u32)>) {
    let mut set = PairSet::new(domain(0));
    let mut known = HashSet::new();
    let mut counts: Vec<u32> = Vec::new();
    for (number, block) in pairs.chunks(1000).enumerate() {
        let mut new = Vec::new();
        set.insert(block, |at| new.push(block[at]));
        let expected = block.iter().copied().filter(|pair| pair.1 != 0 && known.insert(*pair)).collect::<Vec<_>>();
        assert_eq!(new, expected);
        for (group, _) in new {
            let at = group as usize * stride;
            counts.resize(counts.len().max(at + stride), 0);
            counts[at] += 1;
        }
        if set.needs_review() {
            set.review(Counts { counts: &counts, stride }, domain(number));
            assert!(!set.needs_review());
        }
        if number % rest_every == rest_every - 1 {
            set.rest(Counts { counts: &counts, stride }, domain(number));
        }
    }
    (set, known)
}

fn check(set: &PairSet, known: &HashSet<(u32, u32)>, pairs: &[(u32, u32)]) {
    let mut members = Vec::new();
    set.for_each(|group, value| members.push((group, value)));
    assert_eq!(members.len(), known.len());
    assert_eq!(members.into_iter().collect::<HashSet<_>>(), *known);
    let asked = pairs.iter().flat_map(|(group, value)| [(*group, *value), (*group, value ^ 1), (group ^ 1, *value)]);
    let asked = asked.collect::<Vec<_>>();
    let mut found = BTreeSet::new();
    set.find(&asked, |at| {
        found.insert(at);
    });
    let expected = (0..asked.len()).filter(|at| known.contains(&asked[*at])).collect::<BTreeSet<_>>();
    assert_eq!(found, expected);
}

#[test]
fn pairs_are_exact_at_every_size_and_skew() {
    let mut random = SmallRng::seed_from_u64(5);
    // Groups, values, and how strongly low numbers are preferred.
    for (groups, values, skew) in [(1, 50_000, 1), (40_000, 6, 1), (300, 20_000, 6), (60_000, 60_000, 1), (7, 7, 1)] {
        let mut pick = |count: u32| {
            let fraction: f64 = random.random();
            (fraction.powi(skew) * f64::from(count)) as u32
        };
        let pairs = (0..60_000).map(|_| (pick(groups), pick(values))).collect::<Vec<_>>();
        for rest_every in [usize::MAX, 7] {
            let (set, known) = fill(&pairs, |_| values as usize, 3, rest_every);
            check(&set, &known, &pairs);
        }
    }
}

#[test]
fn pairs_follow_a_domain_that_grows() {
    let mut random = SmallRng::seed_from_u64(7);
    // Codes grow from a few to millions, through the tiny bitmaps, the wide set and the narrow one.
    let pairs = (0..80_000_u32).map(|at| (random.random_range(0..at / 4 + 1), random.random_range(0..at * 40 + 2)));
    let pairs = pairs.collect::<Vec<_>>();
    for rest_every in [usize::MAX, 11] {
        let (set, known) = fill(&pairs, |block| block * 40_000 + 2, 1, rest_every);
        check(&set, &known, &pairs);
        assert!(set.bytes() < known.len() * 16, "{} bytes for {} pairs", set.bytes(), known.len());
    }
}

#[test]
fn a_million_pairs_cost_less_than_four_bytes_each_and_two_at_rest() {
    let mut random = SmallRng::seed_from_u64(11);
    let pairs =
        (0..1_000_000).map(|_| (random.random_range(0..200_000), random.random_range(0..2_000))).collect::<Vec<_>>();
    let (mut set, known) = fill(&pairs, |_| 2_000, 1, usize::MAX);
    assert!(set.bytes() < known.len() * 4, "{} bytes for {} pairs", set.bytes(), known.len());
    set.rest(Counts { counts: &[0; 200_000], stride: 1 }, 2_000);
    assert!(set.bytes() < known.len() * 2, "{} bytes for {} pairs", set.bytes(), known.len());
}

/// Device ids, from the `from`th on.
fn device_ids(from: u64, count: u64) -> ArrayRef {
    let id = |number: u64| format!("dev-{:010x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24);
    Arc::new((from..from + count).map(|number| Some(id(number))).collect::<StringArray>())
}

#[test]
fn a_text_costs_about_twenty_bytes_beside_itself() {
    let mut interner = Interner::new(&DataType::Utf8).unwrap();
    let text_bytes = 14.0;
    let (mut most, mut sum) = (0.0_f64, 0.0);
    for round in 0..80 {
        interner.encode(&device_ids(round * 5_000, 5_000));
        assert_eq!(interner.domain(), (round as usize + 1) * 5_000 + 1, "each is another");
        let each = interner.bytes() as f64 / interner.domain() as f64 - text_bytes;
        if round >= 40 {
            (most, sum) = (most.max(each), sum + each);
        }
    }
    assert!(most < 30.0 && sum / 40.0 < 26.0, "{most} bytes at most, {} on average", sum / 40.0);
}

#[test]
fn texts_that_change_for_ever_take_no_more_memory() {
    let mut interner = Interner::new(&DataType::Utf8).unwrap();
    let mut sizes = Vec::new();
    for round in 0..30 {
        let codes = interner.encode(&device_ids(round * 5_000, 10_000));
        let mut marks = Marks::default();
        codes.iter().for_each(|code| marks.set(*code));
        assert_eq!(interner.sweep(&marks), 10_000);
        assert!(interner.domain() <= 15_001, "the least codes are given out again first");
        sizes.push(interner.bytes());
        if round == 29 {
            assert_eq!(&interner.decode(&codes), &device_ids(round * 5_000, 10_000));
        }
    }
    let bound = 10_000 * (14 + 13) + 15_000 * (8 + 4) + 60_000;
    assert!(sizes.iter().all(|bytes| *bytes < bound), "{sizes:?} are more than {bound}");
    interner.sweep(&Marks::default());
    assert!(interner.bytes() < 70_000, "{} bytes for nothing", interner.bytes());
}

proptest! {
    #[test]
    fn packed_sets_are_sets(values in prop::collection::vec(0_u64..5_000, 0..2_000), bits in 13_u32..=63, entries in 0_usize..100_000) {
        let mut set = PackedSet::new(bits, entries);
        let mut known = BTreeSet::new();
        // Spread over all bits, still one to one.
        let spread = |value: u64| value << (bits - 13);
        for value in &values {
            prop_assert_eq!(set.contains_mixed(set.mix(spread(*value))), known.contains(value));
            prop_assert_eq!(set.insert_mixed(set.mix(spread(*value))), known.insert(*value));
        }
        prop_assert_eq!(set.len(), known.len());
        set.retain(|value| (value >> (bits - 13)) % 3 != 0);
        let mut members = BTreeSet::new();
        set.for_each(|value| { members.insert(value >> (bits - 13)); });
        prop_assert_eq!(&members, &known.into_iter().filter(|value| value % 3 != 0).collect());
        let mut drained = BTreeSet::new();
        set.drain(|value| { drained.insert(value >> (bits - 13)); });
        prop_assert_eq!(drained, members);
    }

    #[test]
    fn groups_are_dense_and_found_again(keys in prop::collection::vec((0_u32..2_000, 0_u32..3), 0..3_000), parts in 0_usize..3) {
        let first = keys.iter().map(|key| key.0).collect::<Vec<_>>();
        let second = keys.iter().map(|key| key.1).collect::<Vec<_>>();
        let columns = [first.as_slice(), second.as_slice()];
        let rows = (0..keys.len() as u32).collect::<Vec<_>>();
        let mut groups = Groups::new(parts);
        let mut assigned = Vec::new();
        let mut known = BTreeMap::new();
        for rows in rows.chunks(700) {
            groups.assign(&columns[..parts], rows, &mut assigned);
            for (row, group) in rows.iter().zip(&assigned) {
                let key = columns[..parts].iter().map(|codes| codes[*row as usize]).collect::<Vec<_>>();
                prop_assert_eq!(groups.key(*group), key.as_slice());
                prop_assert_eq!(groups.find(&key), *group);
                prop_assert_eq!(*known.entry(key).or_insert(*group), *group);
            }
        }
        prop_assert_eq!(groups.len(), known.len());
        prop_assert_eq!(groups.find(&vec![5_000; parts]) == u32::MAX, parts > 0 || keys.is_empty());
    }

    #[test]
    fn codes_keep_their_values_through_sweeps(
        texts in prop::collection::vec(prop::option::of("[a-c]{0,3}|[a-z]{15,40}"), 1..400),
        keep in 1_usize..5,
    ) {
        let mut interner = Interner::new(&DataType::Utf8).unwrap();
        let array: ArrayRef = Arc::new(StringArray::from(texts.clone()));
        let codes = interner.encode(&array);
        prop_assert_eq!(&interner.decode(&codes), &array);
        for (left, right) in codes.iter().zip(codes.iter().rev()) {
            let text = |code: &u32| texts[codes.iter().position(|known| known == code).unwrap()].clone();
            prop_assert_eq!(interner.compare(*left, *right), text(left).cmp(&text(right)));
            if interner.prefix(*left) != interner.prefix(*right) {
                prop_assert_eq!(interner.prefix(*left).cmp(&interner.prefix(*right)), text(left).cmp(&text(right)));
            }
        }
        let mut marks = Marks::default();
        codes.iter().step_by(keep).for_each(|code| marks.set(*code));
        let domain = interner.domain();
        let live = interner.sweep(&marks);
        prop_assert_eq!(live, codes.iter().step_by(keep).filter(|code| **code != 0).collect::<HashSet<_>>().len());
        let again = interner.encode(&array);
        for (before, now) in codes.iter().zip(&again).step_by(keep) {
            prop_assert_eq!(before, now);
        }
        prop_assert_eq!(&interner.decode(&again), &array);
        prop_assert!(interner.domain() <= domain, "freed codes are given out again");
    }

    #[test]
    fn numbers_are_interned_by_value(values in prop::collection::vec(prop::option::of(prop_oneof![-3_i32..3, any::<i32>()]), 1..400)) {
        let small: ArrayRef = Arc::new(Int32Array::from(values.clone()));
        let mut interner = Interner::new(&DataType::Int32).unwrap();
        let codes = interner.encode(&small);
        prop_assert_eq!(&interner.decode(&codes), &small);
        let wide = values.iter().map(|value| value.map(|value| i128::from(value) << 70));
        let wide: ArrayRef = Arc::new(wide.collect::<Decimal128Array>().with_precision_and_scale(38, 4).unwrap());
        let mut interner = Interner::new(wide.data_type()).unwrap();
        let codes = interner.encode(&wide);
        prop_assert_eq!(&interner.decode(&codes), &wide);
        for (left, right) in codes.iter().zip(&codes[1..]) {
            let value = |code: &u32| values[codes.iter().position(|known| known == code).unwrap()];
            prop_assert_eq!(interner.compare(*left, *right), value(left).cmp(&value(right)));
        }
    }
}
