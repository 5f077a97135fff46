use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, StringArray};
use arrow::datatypes::{Field, Float64Type, Int64Type, Schema};
use tempfile::TempDir;

use super::super::{LakeSettings, Lease, open_session};
use super::*;

async fn lake(folder: &TempDir) -> Lake {
    let settings =
        LakeSettings { location: folder.path().join("lake").display().to_string(), ..LakeSettings::default() };
    Lake::open(&settings, "test", true).await.unwrap()
}

fn rows(of: &[(i64, &str, Option<f64>)]) -> RecordBatch {
    let columns: [ArrayRef; 3] = [
        Arc::new(of.iter().map(|row| row.0).collect::<Int64Array>()),
        Arc::new(of.iter().map(|row| Some(row.1)).collect::<StringArray>()),
        Arc::new(of.iter().map(|row| row.2).collect::<Float64Array>()),
    ];
    let fields = [("day", false), ("feature", false), ("psi", true)];
    let fields = fields.iter().zip(&columns);
    let fields: Vec<Field> =
        fields.map(|((name, nullable), column)| Field::new(*name, column.data_type().clone(), *nullable)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.to_vec()).unwrap()
}

fn spec() -> RecordSpec {
    RecordSpec {
        name: TableName::new(Layer::Ml, "drift"),
        schema: rows(&[]).schema(),
        key: vec!["day".into(), "feature".into()],
        about: "A test.".into(),
    }
}

/// The same table, for those who append.
fn growing() -> TableSpec {
    let RecordSpec { name, schema, about, .. } = spec();
    TableSpec { name, schema, about, later: Vec::new(), partition_by: Vec::new(), encoding: Encoding::default() }
}

/// What SQL sees, in order.
async fn seen(lake: &Lake) -> Vec<(i64, String, Option<f64>)> {
    let session = open_session(lake, None, 0, None).await.unwrap();
    let query = "SELECT day, CAST(feature AS VARCHAR) AS feature, psi FROM ml.drift ORDER BY day, feature";
    let found = session.context.sql(query).await.unwrap().collect().await.unwrap();
    let mut rows = Vec::new();
    for batch in &found {
        let texts = arrow::compute::cast(batch.column(1), &arrow::datatypes::DataType::Utf8).unwrap();
        let days = batch.column(0).as_primitive::<Int64Type>().iter().flatten();
        let values = batch.column(2).as_primitive::<Float64Type>().iter();
        let texts = texts.as_string::<i32>().iter().flatten().map(str::to_owned);
        rows.extend(days.zip(texts).zip(values).map(|((day, text), value)| (day, text, value)));
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_rows_change_nothing_and_others_take_their_place() {
    let folder = TempDir::new().unwrap();
    let lake = lake(&folder).await;
    let first = rows(&[(1, "amount", Some(0.1)), (1, "score", None), (2, "amount", Some(0.2))]);
    assert_eq!(put_records(&lake, &spec(), first.clone(), 0).await.unwrap(), Put::Written { version: 1 });
    assert_eq!(put_records(&lake, &spec(), first, 0).await.unwrap(), Put::Unchanged);
    let again = rows(&[(2, "amount", Some(0.3)), (3, "amount", Some(0.4))]);
    assert_eq!(put_records(&lake, &spec(), again.clone(), 0).await.unwrap(), Put::Written { version: 2 });
    assert_eq!(put_records(&lake, &spec(), again, 0).await.unwrap(), Put::Unchanged);
    let row = |day, feature: &str, psi| (day, feature.to_owned(), psi);
    let expected =
        [row(1, "amount", Some(0.1)), row(1, "score", None), row(2, "amount", Some(0.3)), row(3, "amount", Some(0.4))];
    assert_eq!(seen(&lake).await, expected);
}

/// The lock of the lake is held all the while, as by `assay run`.
#[tokio::test(flavor = "multi_thread")]
async fn writers_at_once_lose_no_row_and_need_no_lock() {
    let folder = TempDir::new().unwrap();
    let lake = lake(&folder).await;
    let _writer = Lease::acquire(&lake).unwrap();
    let put = |writer: i64| {
        let lake = lake.clone();
        tokio::spawn(async move {
            for day in 0..3 {
                // Each has rows of its own, and one that all of them write.
                let own = format!("f{writer}");
                let rows = rows(&[(day, &own, Some(writer as f64)), (day, "shared", Some(writer as f64))]);
                let _ = put_records(&lake, &spec(), rows, 0).await.unwrap();
            }
        })
    };
    for writer in (0..4).map(put).collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let found = seen(&lake).await;
    assert_eq!(found.len(), 3 * 5);
    for day in 0..3 {
        for writer in 0..4 {
            let own = (day, format!("f{writer}"), Some(writer as f64));
            assert_eq!(found.iter().filter(|row| **row == own).count(), 1, "{own:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_stay_few() {
    let folder = TempDir::new().unwrap();
    let lake = lake(&folder).await;
    for day in 0..FILES_MAX as i64 + 8 {
        assert_ne!(put_records(&lake, &spec(), rows(&[(day, "amount", Some(0.5))]), 0).await.unwrap(), Put::Unchanged);
    }
    assert_eq!(seen(&lake).await.len(), FILES_MAX + 8);
    let table = Table::open_as(&lake, growing(), "test/records", 0).await.unwrap();
    assert!(table.files().count() <= FILES_MAX, "{}", table.files().count());
    assert_eq!((table.epoch(), table.rows()), (FILES_MAX as i64 + 8, FILES_MAX as i64 + 8));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_appends_sees_what_others_did_in_between() {
    let folder = TempDir::new().unwrap();
    let lake = lake(&folder).await;
    let mut appenders = [(); 2].map(|()| RecordAppender::new(lake.clone(), growing()));
    let mut expected = Vec::new();
    for day in 0..2 * FILES_MAX as i64 + 8 {
        // Each several times, then the other.
        let appender = &mut appenders[usize::from(day % 5 < 2)];
        let _ = appender.append(&[rows(&[(day, "amount", Some(0.5))])], &Encoding::default(), 0).await.unwrap();
        expected.push((day, "amount".to_owned(), Some(0.5)));
    }
    assert_eq!(seen(&lake).await, expected);
    // Nor is a table carried on that is not there any more.
    std::fs::remove_dir_all(folder.path().join("lake/ml/drift")).unwrap();
    for appender in &mut appenders {
        let _ = appender.append(&[rows(&[(1, "amount", None)])], &Encoding::default(), 0).await.unwrap();
    }
    assert_eq!(seen(&lake).await, [(1, "amount".to_owned(), None), (1, "amount".to_owned(), None)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_table_that_grows_does_not() {
    let folder = TempDir::new().unwrap();
    let location = folder.path().join("lake").display().to_string();
    let settings = LakeSettings { location, history_s: 0, ..LakeSettings::default() };
    let lake = Lake::open(&settings, "test", true).await.unwrap();
    let mut appender = RecordAppender::new(lake.clone(), growing());
    let log = folder.path().join("lake/ml/drift/_delta_log");
    let mut most = 0;
    for day in 0..4 * FILES_MAX as i64 {
        let _ = appender.append(&[rows(&[(day, "amount", Some(0.5))])], &Encoding::default(), 0).await.unwrap();
        most = most.max(std::fs::read_dir(&log).unwrap().count());
    }
    assert!(most < 2 * FILES_MAX, "{most} entries");
    assert_eq!(seen(&lake).await.len(), 4 * FILES_MAX);
}
