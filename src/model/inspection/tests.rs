use super::*;

fn samples(rows: usize, columns: &[(&str, &dyn Fn(usize) -> f32)], label: impl Fn(usize) -> bool) -> Samples {
    let columns = columns.iter().map(|(name, value)| ((*name).to_owned(), (0..rows).map(value).collect())).collect();
    Samples::from_columns(columns, (0..rows).map(label).collect(), vec![0; rows]).unwrap()
}

fn fraud(row: usize) -> bool {
    row.is_multiple_of(10)
}

#[test]
fn constant_and_leaking_features_are_named() {
    let columns: [(&str, &dyn Fn(usize) -> f32); 4] = [
        ("fair", &|row| (row % 7) as f32),
        ("constant", &|_| 3.0),
        ("leaks", &|row| if fraud(row) { 100.0 + row as f32 } else { row as f32 / 100.0 }),
        ("leaks_downwards", &|row| if fraud(row) { -1.0 } else { row as f32 }),
    ];
    let samples = samples(2_000, &columns, fraud);
    let found = inspect(&samples, &InspectionSettings::default());
    let names: Vec<&str> = found.suspicions.iter().map(|suspicion| suspicion.feature.as_str()).collect();
    assert_eq!(names, ["leaks", "leaks_downwards"]);
    assert!((found.suspicions[0].auc - 1.0).abs() < 1e-12 && found.suspicions[1].auc.abs() < 1e-12);
    assert_eq!(found.refusals.len(), 3);
    assert_eq!(found.refusals[0], Refusal::Constant { feature: "constant".to_owned() });
    let lenient = InspectionSettings { refuse_suspicious: false, ..InspectionSettings::default() };
    let reported = inspect(&samples, &lenient);
    assert_eq!((reported.refusals.len(), reported.suspicions.len()), (1, 2));
}

#[test]
fn too_few_rows_of_either_class_are_refused() {
    let column: [(&str, &dyn Fn(usize) -> f32); 1] = [("x", &|row| row as f32)];
    let refused =
        |label: fn(usize) -> bool| inspect(&samples(500, &column, label), &InspectionSettings::default()).refusals;
    assert_eq!(refused(fraud), [Refusal::TooFewLabels { label: true, found: 50, min: 100 }]);
    assert_eq!(refused(|row| !fraud(row)), [Refusal::TooFewLabels { label: false, found: 50, min: 100 }]);
    assert_eq!(refused(|_| false), [Refusal::TooFewLabels { label: true, found: 0, min: 100 }]);
    assert_eq!(refused(|row| row % 2 == 0), []);
}
