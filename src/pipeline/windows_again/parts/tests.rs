use datafusion::arrow::array::{Int64Array, RecordBatch};
use datafusion::prelude::{SessionContext, col};
use proptest::prelude::*;

use super::*;

const ROWS_MAX: u64 = 1600;
const GROUPS_MAX: u64 = 25;
const CHUNK_ROWS: usize = 100;

/// Windows of the line, some of which the weights know.
fn weights() -> impl Strategy<Value = Weights> {
    let weight = (0..9 * ROWS_MAX, 0..9 * GROUPS_MAX).prop_map(|(rows, groups)| Weight { rows, groups });
    let small = (0..ROWS_MAX / 8, 0..GROUPS_MAX / 8).prop_map(|(rows, groups)| Weight { rows, groups });
    prop::collection::btree_map(-50_i64..50, prop_oneof![small, weight], 0..40)
}

fn within(part: &Part, start: i64) -> bool {
    part.from_us.is_none_or(|from| from <= start) && part.to_us.is_none_or(|to| start < to)
}

proptest! {
    #[test]
    fn every_window_falls_into_one_part_with_all_its_shares(weights in weights(), has_keys: bool) {
        let parts = parts(&weights, has_keys, Bounds::of_chunks(CHUNK_ROWS));
        for start in -60..60 {
            let hold: Vec<&Part> = parts.iter().filter(|part| within(part, start)).collect();
            prop_assert!(!hold.is_empty());
            let shares: Vec<u64> = hold.iter().map(|part| part.share).collect();
            prop_assert_eq!(shares, (0..hold[0].shares).collect::<Vec<_>>());
            prop_assert!(has_keys || hold.len() == 1);
        }
    }

    #[test]
    fn a_part_of_several_windows_is_within_the_bounds_and_of_one_window_its_share(weights in weights()) {
        for part in parts(&weights, true, Bounds::of_chunks(CHUNK_ROWS)) {
            let held: Vec<&Weight> = weights.iter().filter(|(start, _)| within(&part, **start)).map(|(_, w)| w).collect();
            let (rows, groups) = held.iter().fold((0, 0), |(r, g), w| (r + w.rows, g + w.groups));
            prop_assert!(rows <= ROWS_MAX * part.shares && groups <= GROUPS_MAX * part.shares);
            prop_assert!(part.shares == 1 || held.len() == 1);
        }
    }
}

#[tokio::test]
async fn each_key_has_one_share_be_it_null_and_whatever_its_type() {
    let context = SessionContext::new();
    let numbers: Int64Array = (0..100).map(|n| (n % 10 != 0).then_some(n)).collect();
    let texts: StringArray = numbers.iter().map(|n| n.map(|n| n.to_string())).collect();
    let batch =
        RecordBatch::try_from_iter([("number", Arc::new(numbers) as ArrayRef), ("text", Arc::new(texts) as ArrayRef)])
            .unwrap();
    let rows = context.read_batch(batch).unwrap();
    let shares = rows
        .select(vec![share(4).call(vec![col("number")]), share(4).call(vec![col("text")])])
        .unwrap()
        .collect()
        .await
        .unwrap();
    let column = |at: usize| shares[0].column(at).as_primitive::<arrow::datatypes::UInt64Type>().clone();
    assert_eq!(column(0), column(1));
    assert_eq!(arrow::array::Array::null_count(&column(0)), 0);
    let mut seen: Vec<u64> = column(0).values().to_vec();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, [0, 1, 2, 3]);
}
