use arrow::array::{AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, Int64Type, Schema, TimestampMicrosecondType};
use proptest::prelude::*;

use super::*;
use crate::domain::schema::timestamp;
use crate::refine::testing::{MINUTE_US, Sent, bronze, definition, references, shown};
use crate::refine::{References, RowsTable, functions};

fn session(references: &Arc<References>) -> SessionContext {
    let session = SessionContext::new();
    functions::register(&session, references);
    session
}

/// `(window start, window end, row)` for each row of the view, sorted.
async fn windows_of(times: &[Option<i64>], window: WindowSpec) -> Vec<(i64, i64, i64)> {
    let fields = vec![Field::new("at", timestamp(), true), Field::new("row", DataType::Int64, false)];
    let at = TimestampMicrosecondArray::from(times.to_vec()).with_timezone("UTC");
    let rows = (0..times.len() as i64).collect::<Int64Array>();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![Arc::new(at), Arc::new(rows)]).unwrap();
    let source = SessionContext::new().read_batch(batch).unwrap();
    let view = window_view(source, "at", window).unwrap();
    let view = view.select_columns(&[WINDOW_START, WINDOW_END, "row"]).unwrap();
    let mut found = Vec::new();
    for batch in view.collect().await.unwrap() {
        assert_eq!(*batch.schema().field(0).data_type(), timestamp());
        let [start, end] = [0, 1].map(|column| batch.column(column).as_primitive::<TimestampMicrosecondType>().clone());
        let row = batch.column(2).as_primitive::<Int64Type>();
        found.extend((0..batch.num_rows()).map(|i| (start.value(i), end.value(i), row.value(i))));
    }
    found.sort_unstable();
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn a_row_falls_into_exactly_the_windows_that_hold_it(
        times in prop::collection::vec(prop::option::weighted(0.9, -40_i64..40), 0..20),
        (slide, panes) in (1_i64..5, 1_i64..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let window = WindowSpec { size_us: slide * panes, slide_us: slide };
        let mut expected = Vec::new();
        for (row, at) in times.iter().enumerate() {
            let Some(at) = at else { continue };
            for start in (-100..100).filter(|start| start % slide == 0) {
                if (start..start + window.size_us).contains(at) {
                    expected.push((start, start + window.size_us, row as i64));
                }
            }
        }
        expected.sort_unstable();
        prop_assert_eq!(runtime.block_on(windows_of(&times, window)), expected);
    }
}

#[tokio::test]
async fn the_end_of_time_is_no_obstacle() {
    let last = 253_402_300_799_999_999;
    let size_us = 15 * MINUTE_US;
    let found =
        windows_of(&[Some(last), Some(-62_135_596_800_000_000)], WindowSpec { size_us, slide_us: size_us }).await;
    assert_eq!(
        found,
        [(-62_135_596_800_000_000, -62_135_596_800_000_000 + size_us, 1), (last + 1 - size_us, last + 1, 0)]
    );
}

#[tokio::test]
async fn a_rows_table_in_batch_equals_the_incremental_one() {
    let (def, references) = (definition("silver.transactions"), references());
    let input = bronze(&["a", "b", "c"].map(Sent::new));
    let incremental = RowsTable::compile(&def, &input.schema(), &references).unwrap().evaluate(&input).unwrap();
    let session = session(&references);
    let batches = run_batch(&session, &def, session.read_batch(input).unwrap()).await.unwrap().collect().await.unwrap();
    let batch = concat_batches(&batches[0].schema(), &batches).unwrap();
    for field in incremental.schema().fields() {
        assert_eq!(shown(&batch, field.name()), shown(&incremental, field.name()), "{}", field.name());
    }
    assert!(session.table("bronze.transactions").await.is_err(), "the caller's session stays as it was");
}
