use std::collections::HashSet;

use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;

fn id(random: &mut SmallRng) -> KeyId {
    random.random()
}

/// The positions of known ids, which are also held against a `HashSet`.
fn insert_and_check(ids: &mut Ids, known: &mut HashSet<KeyId>, block: &[KeyId]) {
    let mut found = Vec::new();
    ids.insert(block, |at| found.push(at));
    let expected = (0..block.len()).filter(|at| !known.insert(block[*at])).collect::<Vec<_>>();
    assert_eq!(found, expected);
    assert_eq!(ids.len(), known.len());
}

#[test]
fn ids_are_found_while_they_grow_when_they_are_packed_and_when_they_grow_again() {
    let mut random = SmallRng::seed_from_u64(3);
    for expected in [0, 200_000] {
        let (mut ids, mut known, mut all) = (Ids::expecting(expected), HashSet::new(), Vec::new());
        let mut states = Vec::new();
        for round in 0..60 {
            let new = (0..5_000).map(|_| id(&mut random)).collect::<Vec<_>>();
            all.extend_from_slice(&new);
            let old = (0..500).map(|_| all[random.random_range(0..all.len())]);
            let block = new.iter().copied().chain(old).collect::<Vec<_>>();
            insert_and_check(&mut ids, &mut known, &block);
            if round % 20 == 19 {
                ids.pack();
                states.push(matches!(ids.state, State::Packed(_)));
                insert_and_check(&mut ids, &mut known, &all);
            }
            states.push(matches!(ids.state, State::Packed(_)));
        }
        states.dedup();
        assert_eq!(states, [false, true, false, true, false, true], "late ids first fit, then make it grow");
    }
}

#[test]
fn an_id_takes_few_bytes_at_any_size() {
    let mut random = SmallRng::seed_from_u64(5);
    let (mut ids, mut most, mut sum, mut looks) = (Ids::expecting(0), 0.0_f64, 0.0, 0.0);
    while ids.len() < 400_000 {
        let block = (0..10_000).map(|_| id(&mut random)).collect::<Vec<_>>();
        ids.insert(&block, |_| panic!("a random id was there already"));
        if ids.len() >= 200_000 {
            let each = ids.bytes() as f64 / ids.len() as f64;
            (most, sum, looks) = (most.max(each), sum + each, looks + 1.0);
        }
    }
    assert!(most < 12.5 && sum / looks < 11.5, "{most} bytes an id at most, {} on average", sum / looks);
    let growing = ids.bytes();
    ids.pack();
    let each = ids.bytes() as f64 / ids.len() as f64;
    // A hundred ids in a shard, half a line of eight spare in each; in a span of millions that does not count.
    assert!(each < 9.2 && ids.bytes() < growing, "{each} bytes an id when packed");
}

#[test]
fn room_for_the_expected_ids_is_enough_for_them() {
    let mut random = SmallRng::seed_from_u64(7);
    let mut ids = Ids::expecting(300_000);
    ids.insert(&[id(&mut random)], |_| {});
    assert!(ids.bytes() < 1_000, "nothing is taken for a quiet span");
    let mut taken = None;
    while ids.len() < 300_000 {
        let block = (0..10_000).map(|_| id(&mut random)).collect::<Vec<_>>();
        ids.insert(&block, |_| {});
        if matches!(ids.state, State::Growing(_)) {
            taken.get_or_insert(ids.bytes());
        }
    }
    // Of shards with some seventy ids, some get a quarter more than the others.
    let (taken, bytes) = (taken.unwrap(), ids.bytes());
    assert!(bytes < taken + taken / 12 && bytes < 3_600_000, "{taken} bytes have become {bytes}");
}

#[test]
fn a_few_ids_stay_small() {
    let mut random = SmallRng::seed_from_u64(9);
    let mut ids = Ids::expecting(3_000_000);
    assert_eq!(ids.bytes(), 0);
    let block = (0..10).map(|_| id(&mut random)).collect::<Vec<_>>();
    ids.insert(&block, |_| {});
    ids.pack();
    assert!(ids.bytes() <= 300, "{} bytes", ids.bytes());
}

#[test]
fn sizes_are_those_of_allocators() {
    let classes = (1..70).map(size_class).collect::<std::collections::BTreeSet<_>>();
    let expected = [1, 2, 3, 4, 5, 6, 7, 9, 11, 13, 15, 19, 23, 27, 31, 39, 47, 55, 63, 79];
    assert_eq!(classes.into_iter().collect::<Vec<_>>(), expected);
    assert!((1..5_000).all(|lines| size_class(lines) >= lines && size_class(size_class(lines)) == size_class(lines)));
}

proptest! {
    /// Ids that crowd into a few shards, and into a few lines of those.
    #[test]
    fn shards_are_sets(
        numbers in prop::collection::vec((0_usize..3, 0_u64..400, any::<bool>()), 0..1_500),
        expected in prop::sample::select(vec![0_usize, 100_000]),
        packed_at in 0_usize..1_500,
    ) {
        let parts = numbers.into_iter().map(|(shard, number, crowded)| {
            let rest = if crowded { u64::MAX - number } else { number.wrapping_mul(0x9e37_79b9_7f4a_7c15).max(1) };
            Part { shard: shard * (SHARDS - 1) / 2, rest }
        });
        let parts = parts.collect::<Vec<_>>();
        let (early, late) = parts.split_at(packed_at.min(parts.len()));
        let mut known = HashSet::new();
        let mut growing = Growing::of(std::iter::empty(), expected);
        for part in early {
            prop_assert_eq!(growing.insert(*part), known.insert((part.shard, part.rest)));
        }
        prop_assert_eq!(growing.lines, growing.shards.iter().map(|shard| shard.lines.len()).sum::<usize>());
        let mut ids = Ids { expected, state: State::Growing(growing) };
        ids.pack();
        prop_assert_eq!(ids.len(), known.len());
        for part in late {
            prop_assert_eq!(ids.insert_late(*part), known.insert((part.shard, part.rest)));
        }
        for (shard, rest) in &known {
            let new = ids.insert_late(Part { shard: *shard, rest: *rest });
            prop_assert!(!new);
        }
        prop_assert_eq!(ids.len(), known.len());
    }
}
