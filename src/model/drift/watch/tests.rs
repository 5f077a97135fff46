use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};

use super::*;
use crate::model::drift::{BASELINE_FORMAT, ColumnBaseline, LiveQuality};
use crate::model::random::Random;
use crate::model::table::{Cells, Encoding, FeatureColumn, FeatureKind, TableFile};

/// 2026-02-03.
const DAY: i64 = 20_487;

fn table(amounts: Vec<f64>, methods: Vec<&str>) -> Table {
    let file = TableFile { path: "t".into(), bytes: 0, blake3: String::new(), rows: 0 };
    let columns: [(&str, ArrayRef); 2] =
        [("amount", Arc::new(Float64Array::from(amounts))), ("method", Arc::new(StringArray::from(methods)))];
    Table::of_batches(file, &[RecordBatch::try_from_iter(columns).unwrap()], |_| true).unwrap()
}

/// Amounts around a thousand times `scale`; a tenth is paid in cash.
fn drawn(rows: usize, seed: u64, scale: f64) -> (Table, Vec<f64>) {
    let mut random = Random::new(seed, 0);
    let units: Vec<[f64; 3]> = (0..rows).map(|_| [random.unit(), random.unit(), random.unit()]).collect();
    let amounts = units.iter().map(|of| 1_000.0 * scale * of[0] * of[0]).collect();
    let methods = units.iter().map(|of| if of[1] < 0.1 { "cash" } else { "card" }).collect();
    (table(amounts, methods), units.iter().map(|of| of[2] * of[2]).collect())
}

fn baseline() -> Baseline {
    let (table, scores) = drawn(20_000, 1, 1.0);
    let rows: Vec<usize> = (0..table.rows()).collect();
    let columns = table.columns.iter().map(|column| ColumnBaseline {
        column: column.name.clone(),
        histogram: Histogram::of_cells(&column.cells, &rows).unwrap(),
    });
    let columns = columns.collect();
    Baseline { format: BASELINE_FORMAT, from_us: 0, to_us: 1, columns, score: Histogram::of_numbers(&scores) }
}

/// Rows spread evenly over a day.
fn times(day: i64, rows: usize) -> Vec<i64> {
    (0..rows as i64).map(|row| day * DAY_US + row * DAY_US / rows as i64).collect()
}

fn of<'a>(found: &'a [Measured], grain: Grain, feature: &str) -> Vec<&'a Measured> {
    found.iter().filter(|row| row.grain == grain && row.feature == feature).collect()
}

#[test]
fn a_shift_is_found_in_its_feature_and_day_and_nothing_else() {
    let baseline = baseline();
    let span = Span { from_us: DAY * DAY_US, to_us: (DAY + 4) * DAY_US };
    let mut watch = Watch::new(&baseline);
    // Days 0 and 2 are as before, day 1 has amounts of one and a half, day 3 has a few rows. What lies outside does not count.
    for (day, rows, scale) in
        [(-1_i64, 3_000, 9.0), (0, 3_000, 1.0), (1, 3_000, 1.5), (2, 3_000, 1.0), (3, 100, 9.0), (4, 50, 9.0)]
    {
        let (table, scores) = drawn(rows, 100 + day.unsigned_abs(), scale);
        watch.count(&table, &times(DAY + day, rows), &scores, span).unwrap();
    }
    let found = watch.measure(span, &DriftSettings::default(), &[]);
    let status = |feature: &str| of(&found, Grain::Day, feature).iter().map(|row| row.status).collect::<Vec<_>>();
    use Status::{Act, FewRows, Stable, Watch as Look};
    assert_eq!(status("method"), [Stable, Stable, Stable, FewRows]);
    assert_eq!(status(SCORE), [Stable, Stable, Stable, FewRows]);
    let amounts = status("amount");
    assert!(matches!(amounts[..], [Stable, Look | Act, Stable, FewRows]), "{amounts:?}");
    let shifted = of(&found, Grain::Day, "amount")[1];
    assert_eq!(shifted.rows, 3_000);
    assert!(shifted.largest_change.as_ref().unwrap().starts_with("above 8"), "{shifted:?}");
    // The fourth day has few rows, and is off all the same.
    assert!(of(&found, Grain::Day, "amount")[3].psi.unwrap() > 1.0);
    assert_eq!(of(&found, Grain::Hour, "amount").iter().map(|row| row.rows).sum::<u64>(), 9_100);
}

#[test]
fn what_is_off_by_chance_stays_far_below_the_threshold() {
    let baseline = baseline();
    let span = Span { from_us: DAY * DAY_US, to_us: (DAY + 100) * DAY_US };
    let mut watch = Watch::new(&baseline);
    for day in 0..100 {
        let (table, scores) = drawn(500, 7_000 + day as u64, 1.0);
        watch.count(&table, &times(DAY + day, 500), &scores, span).unwrap();
    }
    let settings = DriftSettings { rows_min: 500, ..DriftSettings::default() };
    let found = watch.measure(span, &settings, &[]);
    let days: Vec<&Measured> = found.iter().filter(|row| row.grain == Grain::Day).collect();
    assert_eq!(days.len(), 300);
    assert!(days.iter().all(|row| row.status == Status::Stable));
    // And is, on average, what `psi_by_chance` says.
    for feature in ["amount", "method", SCORE] {
        let of = of(&found, Grain::Day, feature);
        let mean = |value: fn(&Measured) -> Option<f64>| of.iter().filter_map(|row| value(row)).sum::<f64>() / 100.0;
        let (found, expected) = (mean(|row| row.psi), mean(|row| row.psi_by_chance));
        assert!((found / expected - 1.0).abs() < 0.45, "{feature}: {found}, expected {expected}");
    }
}

#[test]
fn days_without_rows_are_told_and_the_calendar_is_not_judged() {
    let baseline = baseline();
    let span = Span { from_us: DAY * DAY_US, to_us: (DAY + 2) * DAY_US };
    let mut watch = Watch::new(&baseline);
    let (table, scores) = drawn(2_000, 5, 9.0);
    watch.count(&table, &times(DAY + 1, 2_000), &scores, span).unwrap();
    let found = watch.measure(span, &DriftSettings::default(), &["amount".to_owned()]);
    let amounts = of(&found, Grain::Day, "amount");
    assert_eq!((amounts[0].rows, amounts[0].psi, amounts[0].largest_change.clone()), (0, None, None));
    assert_eq!(amounts[1].status, Status::Calendar);
    assert!(amounts[1].psi.unwrap() > 0.25);
    // The score of a model that reads the calendar is of the calendar.
    assert_eq!(of(&found, Grain::Day, SCORE)[1].status, Status::Calendar);
    assert!(of(&found, Grain::Week, SCORE).is_empty());
    assert_eq!(
        of(&found, Grain::Day, "method").iter().map(|row| row.status).collect::<Vec<_>>(),
        [Status::FewRows, Status::Stable]
    );
}

/// Nine days: three windows of seven. What no day can be judged by, a week can.
#[test]
fn the_calendar_is_judged_by_weeks() {
    let mut baseline = baseline();
    let span = Span { from_us: DAY * DAY_US, to_us: (DAY + 9) * DAY_US };
    let (whole, _) = drawn(20_000, 1, 1.0);
    let Cells::Numbers(amounts) = &whole.columns[0].cells else { panic!("no numbers") };
    baseline.score = Histogram::of_numbers(&amounts.iter().map(|amount| amount / 1_000.0).collect::<Vec<_>>());
    let mut watch = Watch::new(&baseline);
    for day in 0..9 {
        // Each day has amounts of its own; seven of them together are as those before.
        let mut random = Random::new(40 + day as u64, 0);
        let units = (0..400).map(|_| (random.unit() + (day % 7) as f64) / 7.0);
        let amounts: Vec<f64> = units.map(|unit| 1_000.0 * unit * unit).collect();
        let scores: Vec<f64> = amounts.iter().map(|amount| amount / 1_000.0).collect();
        watch.count(&table(amounts, vec!["card"; 400]), &times(DAY + day, 400), &scores, span).unwrap();
    }
    let settings = DriftSettings { rows_min: 300, ..DriftSettings::default() };
    let found = watch.measure(span, &settings, &["amount".to_owned()]);
    for feature in ["amount", SCORE] {
        let days = of(&found, Grain::Day, feature);
        assert!(days.iter().all(|row| row.status == Status::Calendar && row.psi > Some(0.25)));
        let weeks = of(&found, Grain::Week, feature);
        let told: Vec<_> = weeks.iter().map(|row| (row.window.from_us / DAY_US - DAY, row.rows, row.status)).collect();
        assert_eq!(told, [0, 1, 2].map(|day| (day, 2_800, Status::Stable)));
    }
    assert!(of(&found, Grain::Day, "method").iter().all(|row| row.status != Status::Calendar));
}

#[test]
fn rows_in_another_order_or_in_other_batches_count_the_same() {
    let baseline = baseline();
    let span = Span { from_us: DAY * DAY_US, to_us: (DAY + 1) * DAY_US };
    let at = times(DAY, 999);
    let rows: Vec<(f64, i64, f64)> = (0..999).map(|row| (f64::from(row * 7 % 1_000), at[row as usize], 0.1)).collect();
    let counted = |parts: Vec<Vec<(f64, i64, f64)>>| {
        let mut watch = Watch::new(&baseline);
        for part in parts {
            let amounts: Vec<f64> = part.iter().map(|row| row.0).collect();
            let table = table(amounts, vec!["card"; part.len()]);
            let (times, scores): (Vec<i64>, Vec<f64>) = part.iter().map(|row| (row.1, row.2)).unzip();
            watch.count(&table, &times, &scores, span).unwrap();
        }
        watch.measure(span, &DriftSettings::default(), &[])
    };
    let whole = counted(vec![rows.clone()]);
    let backwards = counted(rows.rchunks(100).map(|part| part.iter().rev().copied().collect()).collect());
    assert_eq!(whole, backwards);
}

#[test]
fn a_baseline_survives_its_file_and_is_of_its_model() {
    let baseline = baseline();
    let column = |column: &str, kind| FeatureColumn { column: column.into(), kind, tells_missing: false };
    let category = || FeatureKind::Category { values: vec!["card".into(), "cash".into()] };
    let encoding = Encoding {
        columns: vec![column("amount", FeatureKind::Number { missing: 0.0 }), column("method", category())],
    };
    let bytes = baseline.to_json().unwrap();
    assert_eq!(Baseline::read(&bytes, &encoding).unwrap(), baseline);
    let other = Encoding { columns: vec![column("amount", category()), column("method", category())] };
    assert!(Baseline::read(&bytes, &other).unwrap_err().contains("not those of the model"));
    let newer = String::from_utf8(bytes).unwrap().replacen("\"format\":1", "\"format\":2", 1);
    assert!(Baseline::read(newer.as_bytes(), &encoding).unwrap_err().contains("format 2"));
}

#[test]
fn live_quality_is_counted_by_day_and_has_no_rate_of_nothing() {
    let mut quality = LiveQuality::default();
    // Day 0: three of four called, two of them rightly, one missed. Day 1: nothing happened. Day 2: no rows.
    for (probability, label) in [(0.9, true), (0.8, true), (0.7, false), (0.2, true), (0.1, false)] {
        quality.add(DAY * DAY_US, probability, label);
    }
    quality.add((DAY + 1) * DAY_US, 0.1, false);
    let days = quality.measure(Span { from_us: DAY * DAY_US, to_us: (DAY + 3) * DAY_US }, 0.5).unwrap();
    assert_eq!(days[0].rates(), [Some(2.0 / 3.0), Some(2.0 / 3.0), Some(2.0 / 3.0)]);
    // Five of six pairs of a fraud and an honest row are in order.
    assert_eq!(days[0].metrics.as_ref().unwrap().roc_auc, Some(5.0 / 6.0));
    assert_eq!((days[1].rates(), days[1].metrics.as_ref().unwrap().rows), ([None; 3], 1));
    assert_eq!((days[2].rates(), days[2].metrics.is_none()), ([None; 3], true));
}
