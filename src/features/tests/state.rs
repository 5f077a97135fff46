//! States of entities, taken out of one memory and put into another.

use super::*;

/// What another memory says that only knows the states of the entities asked about.
fn shipped(features: &Features, input: &RecordBatch) -> Vec<ArrayRef> {
    let mut other = Features::new(&declared(), &columns(), "at", [7; 16]).unwrap();
    for (kind, keys) in features.keys(input).unwrap().into_iter().enumerate() {
        for key in keys.into_iter().flatten() {
            let (mut state, mut again) = (Vec::new(), Vec::new());
            features.state(kind, key, &mut state);
            other.restore(kind, key, &state).unwrap();
            other.state(kind, key, &mut again);
            assert_eq!(again, state);
        }
    }
    other.lookup(input).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_state_that_was_shipped_gives_the_values_of_the_memory(rows in stream(), asked in stream(), turn in prop::sample::select(vec![1_usize, 40, 1 << 20])) {
        let mut features = Features::new(&declared(), &columns(), "at", [7; 16]).unwrap().bounded(turn, 30 * DAY_US);
        let mut past = Past::default();
        for part in rows.chunks(17) {
            features.compute(&batch(part), &past).unwrap();
            past.batches.push(batch(part));
        }
        let input = batch(&asked);
        for ((feature, told), shipped) in declared().iter().zip(features.lookup(&input).unwrap()).zip(shipped(&features, &input)) {
            for (row, asked) in asked.iter().enumerate() {
                prop_assert_eq!(shown(&told, row), shown(&shipped, row), "{} of {:?}", &feature.column, asked);
            }
        }
    }

    #[test]
    fn bytes_that_are_no_state_are_refused_and_leave_a_stranger(rows in stream(), cut in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in any::<u8>(), any in prop::collection::vec(any::<u8>(), 0..64)) {
        let mut features = Features::new(&declared(), &columns(), "at", [7; 16]).unwrap();
        let input = batch(&rows);
        features.compute(&input, &Past::default()).unwrap();
        let keys = features.known_keys();
        for (kind, key) in keys.iter().enumerate().filter_map(|(kind, keys)| Some((kind, *keys.first()?))) {
            let mut state = Vec::new();
            features.state(kind, key, &mut state);
            let mut other = Features::new(&declared(), &columns(), "at", [7; 16]).unwrap();
            prop_assert!(other.restore(kind, key, &state[..cut.index(state.len())]).is_err());
            let mut nothing = Vec::new();
            let mut empty = Vec::new();
            other.state(kind, key, &mut nothing);
            features.state(kind, key ^ 1, &mut empty);
            prop_assert_eq!(nothing, empty);
            let mut longer = state.clone();
            longer.push(byte);
            prop_assert!(other.restore(kind, key, &longer).is_err());
            // Whatever is taken can be looked up.
            let place = at.index(state.len());
            state[place] = byte;
            for bytes in [&state, &any, &[&[1], any.as_slice()].concat()] {
                let _ = other.restore(kind, key, bytes);
                other.lookup(&input).unwrap();
            }
        }
    }
}

#[test]
fn what_is_held_is_known_however_late_it_is_asked_about() {
    let fresh = || Features::new(&declared(), &columns(), "at", [7; 16]).unwrap().bounded(1, DAY_US);
    let (mut features, mut past) = (fresh(), Past::default());
    let rows: Vec<Row> = (0..3_000).map(|n| row(n % 3, i64::from(n) * MINUTE_US)).collect();
    for part in rows.chunks(100) {
        let newest_us = part.last().unwrap().at_us.unwrap();
        features.hold(newest_us - 12 * HOUR_US, &past).unwrap();
        features.compute(&batch(part), &past).unwrap();
        past.batches.push(batch(part));
    }
    let late = batch(&[row(1, (3_000 - 700) * MINUTE_US)]);
    let mut all = fresh();
    all.hold(-100 * DAY_US, &past).unwrap();
    for (feature, (found, expected)) in
        declared().iter().zip(features.lookup(&late).unwrap().iter().zip(all.lookup(&late).unwrap()))
    {
        assert_eq!(shown(found, 0), shown(&expected, 0), "{}", feature.column);
    }
}
