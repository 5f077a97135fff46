use std::sync::atomic::Ordering;

use arrow::datatypes::Decimal128Type;

use super::*;
use crate::refine::testing::{MemoryHistory, Sent, bronze, bronze_schema, definition, references, shown, texts};

fn refiner(change: impl FnOnce(&mut TableDef)) -> Refiner {
    let mut def = definition("silver.transactions");
    change(&mut def);
    Refiner::new(&def, &bronze_schema(), &references(), &RefineSettings::default(), [7; 16]).unwrap()
}

fn history() -> MemoryHistory {
    MemoryHistory::new("event_at")
}

fn sent(id: &str, change: impl FnOnce(&mut Sent)) -> Sent {
    let mut sent = Sent::new(id);
    change(&mut sent);
    sent
}

/// Rows are conserved, and each is where it belongs.
#[track_caller]
fn conserved(input: usize, refined: &Refined) {
    let out = refined.silver.num_rows() + refined.quarantined.num_rows() + refined.duplicates as usize;
    assert_eq!(input, out, "{refined:?}");
}

#[test]
fn a_valid_batch_passes_without_a_copy() {
    let input = bronze(&[Sent::new("a"), Sent::new("b")]);
    let refined = refiner(|_| ()).refine(&input, &history()).unwrap();
    conserved(2, &refined);
    assert!(Arc::ptr_eq(refined.silver.column(0), input.column(0)));
    assert_eq!((refined.duplicates, refined.warned, refined.broken), (0, vec![], vec![]));
    assert_eq!(refined.quarantined.schema(), schema::quarantine(&bronze_schema()));
    assert_eq!(shown(&refined.silver, "event_at")[0], "2026-11-20T08:15:30Z");
    assert_eq!(shown(&refined.silver, "day_of_week"), ["5", "5"]);
}

#[test]
fn each_bad_row_names_all_that_it_breaks() {
    let all = [
        (sent("ok", |_| ()), ""),
        (sent("", |_| ()), "transaction_id_present"),
        (sent("zero", |s| s.amount = 0.0), "amount_positive"),
        (sent("minus zero", |s| s.amount = -0.0), "amount_positive"),
        (sent("a tenth of a cent", |s| s.amount = 0.001), "amount_positive"),
        (sent("nan", |s| s.amount = f64::NAN), "amount_positive, amount_sane"),
        (sent("infinite", |s| s.amount = f64::INFINITY), "amount_positive, amount_sane"),
        (sent("huge", |s| s.amount = 1e300), "amount_positive, amount_sane"),
        (sent("large", |s| s.amount = 1_000_000.0), "amount_sane"),
        (sent("no time", |s| s.at = "soon".into()), "event_at_parsable"),
        (sent("year 1", |s| s.at = "0001-01-01T00:00:00Z".into()), "event_at_not_ancient"),
        (sent("year 9999", |s| s.at = "9999-12-31T23:59:59Z".into()), "event_at_not_in_future"),
        (sent("6 minutes ahead", |s| s.at = "2026-11-20T09:06:00Z".into()), "event_at_not_in_future"),
        (sent("5 minutes ahead", |s| s.at = "2026-11-20T09:05:00Z".into()), ""),
        (
            sent("", |s| (s.amount, s.method) = (-1.0, "cash")),
            "transaction_id_present, amount_positive, payment_method_known",
        ),
        (sent("warned", |s| s.method = "cash"), ""),
        (sent("emoji \u{1f600} \0", |s| s.location = "\u{1f600}, \0"), ""),
    ];
    let input = bronze(&all.iter().map(|(sent, _)| sent.clone()).collect::<Vec<_>>());
    let refined = refiner(|_| ()).refine(&input, &history()).unwrap();
    conserved(all.len(), &refined);
    let broken = all.iter().filter(|(_, broken)| !broken.is_empty());
    assert_eq!(shown(&refined.quarantined, schema::BROKEN), broken.map(|(_, b)| format!("[{b}]")).collect::<Vec<_>>());
    let good = all.iter().filter(|(_, broken)| broken.is_empty()).map(|(sent, _)| Some(sent.id.clone()));
    assert_eq!(texts(&refined.silver, "transaction_id"), good.collect::<Vec<_>>());
    assert_eq!(refined.warned, [("payment_method_known".to_owned(), 1)]);
    assert!(refined.broken.contains(&("amount_positive".to_owned(), 7)), "{:?}", refined.broken);
}

#[test]
fn a_megabyte_of_text_is_a_row_like_any_other() {
    let long = "x".repeat(1 << 20);
    let refined = refiner(|_| ()).refine(&bronze(&[Sent::new(&long)]), &history()).unwrap();
    assert_eq!(texts(&refined.silver, "transaction_id"), [Some(long)]);
}

#[test]
fn duplicates_are_counted_within_a_batch_and_across() {
    let (mut refiner, history) = (refiner(|_| ()), history());
    let first = sent("a", |s| s.amount = 1.0);
    let again = sent("a", |s| s.amount = 2.0);
    let refined = refiner.refine(&bronze(&[first, again.clone(), Sent::new("b")]), &history).unwrap();
    conserved(3, &refined);
    assert_eq!(refined.duplicates, 1);
    assert_eq!(
        refined.silver.column_by_name("amount").unwrap().as_primitive::<Decimal128Type>().values(),
        &[100, 1250]
    );
    history.push(&refined.silver);
    // A bad row with a known id is quarantined, not counted as a duplicate; a duplicate is not warned of.
    let bad = sent("a", |s| s.amount = -1.0);
    let odd = sent("b", |s| s.method = "cash");
    let refined = refiner.refine(&bronze(&[again, bad, odd, Sent::new("c")]), &history).unwrap();
    conserved(4, &refined);
    assert_eq!((refined.duplicates, refined.quarantined.num_rows()), (2, 1));
    assert_eq!(refined.warned, []);
}

#[test]
fn an_expectation_that_is_set_to_fail_stops_the_batch_and_leaves_no_trace() {
    let mut refiner = refiner(|def| def.expectations[1].on_fail = OnFail::Fail);
    let input = bronze(&[Sent::new("a"), sent("b", |s| s.amount = -1.0)]);
    let error = refiner.refine(&input, &history()).unwrap_err().to_string();
    assert!(error.contains("`amount_positive`") && error.contains("transactions/3 offset 1"), "{error}");
    let refined = refiner.refine(&input.slice(0, 1), &history()).unwrap();
    assert_eq!(refined.duplicates, 0);
}

#[test]
fn a_past_that_cannot_be_read_leaves_no_trace() {
    let (mut refiner, history) = (refiner(|_| ()), history());
    let hour = |id: &str, hour: u8| sent(id, |s| s.at = format!("2026-11-20T0{hour}:00:00Z"));
    let silver = refiner.refine(&bronze(&[hour("x", 1), hour("y", 2)]), &history).unwrap().silver;
    history.push(&silver);
    refiner.forget();
    history.scans.store(0, Ordering::Relaxed);
    history.fail_after.store(1, Ordering::Relaxed);
    let input = bronze(&[hour("a", 1), hour("b", 2), hour("y", 2)]);
    assert!(matches!(refiner.refine(&input, &history), Err(RefineError::History(_))));
    history.fail_after.store(usize::MAX, Ordering::Relaxed);
    let refined = refiner.refine(&input, &history).unwrap();
    assert_eq!((refined.silver.num_rows(), refined.duplicates), (2, 1));
}

#[test]
fn a_row_that_cannot_be_computed_goes_to_quarantine() {
    let strict = |def: &mut TableDef| def.sql = def.sql.replace("money(amount)", "CAST(amount AS DECIMAL(18, 2))");
    let input = bronze(&[Sent::new("a"), sent("b", |s| s.amount = 1e300), sent("", |_| ()), Sent::new("c")]);
    let refined = refiner(strict).refine(&input, &history()).unwrap();
    conserved(4, &refined);
    assert_eq!(shown(&refined.quarantined, schema::BROKEN), ["[evaluates]", "[transaction_id_present]"]);
    assert_eq!(shown(&refined.quarantined, schema::SOURCE_OFFSET), ["1", "2"]);
    assert_eq!(refined.broken, [(EVALUATES.to_owned(), 1), ("transaction_id_present".to_owned(), 1)]);
    let without = |def: &mut TableDef| {
        strict(def);
        def.quarantine = None;
        def.expectations.clear();
    };
    let error = refiner(without).refine(&input, &history()).unwrap_err().to_string();
    assert!(error.contains("offset 1") && error.contains("sql/silver/transactions.sql"), "{error}");
}

#[test]
fn a_row_without_an_event_time_never_passes() {
    let lax = |def: &mut TableDef| def.expectations.retain(|e| e.name != "event_at_parsable");
    let input = bronze(&[sent("a", |s| s.at = "soon".into()), Sent::new("b")]);
    let refined = refiner(lax).refine(&input, &history()).unwrap();
    assert_eq!(shown(&refined.quarantined, schema::BROKEN), [format!("[{EVENT_TIME_PRESENT}]")]);
    let without = |def: &mut TableDef| {
        def.quarantine = None;
        def.expectations.clear();
    };
    let error = refiner(without).refine(&input, &history()).unwrap_err().to_string();
    assert!(error.contains(EVENT_TIME_PRESENT) && error.contains("offset 0"), "{error}");
}

#[test]
fn a_check_may_use_what_is_computed_as_something_else() {
    let mut refiner = refiner(|def| def.expectations[1].check = "coalesce(nullif(amount, 1), 2) > 1".into());
    let input = bronze(&[Sent::new("a"), sent("b", |s| s.amount = 1.0), sent("c", |s| s.amount = 0.5)]);
    let refined = refiner.refine(&input, &history()).unwrap();
    assert_eq!(texts(&refined.silver, "transaction_id"), [Some("a".to_owned()), Some("b".to_owned())]);
}

#[test]
fn a_check_means_what_is_written() {
    // A simplifier takes the casts away, leaves out the division, and has the logarithm and the power cancel each other.
    for check in [
        "CAST(amount AS BIGINT) = 5",
        "CAST(amount AS DECIMAL(18, 0)) = 5",
        "100 / (source_offset - 1) IS NOT NULL",
        "log(10.0, power(10.0, CAST(amount AS DOUBLE) * 51.5)) < 400",
    ] {
        let mut refiner = refiner(|def: &mut TableDef| def.expectations[1].check = check.to_owned());
        let input = bronze(&[sent("a", |s| s.amount = 5.49), sent("b", |s| s.amount = 6.0)]);
        let refined = refiner.refine(&input, &history()).unwrap();
        assert_eq!(texts(&refined.silver, "transaction_id"), [Some("a".to_owned())], "{check}");
    }
}

#[test]
fn a_check_that_cannot_be_computed_does_not_hold() {
    let dividing = |def: &mut TableDef| def.expectations[1].check = "100 / (user_id - 2) < 1000".to_owned();
    let input = bronze(&[sent("a", |s| s.user = 1), sent("b", |s| s.user = 2), sent("c", |s| s.user = 3)]);
    let refined = refiner(dividing).refine(&input, &history()).unwrap();
    assert_eq!(texts(&refined.silver, "transaction_id"), [Some("a".to_owned()), Some("c".to_owned())]);
}

#[test]
fn a_bad_check_is_refused_with_its_line() {
    let mut def = definition("silver.transactions");
    for (check, words) in
        [("nope > 0", "nope"), ("amount + 1", "not true or false"), ("now() > event_at", "another time")]
    {
        def.expectations[1].check = check.to_owned();
        let error =
            Refiner::new(&def, &bronze_schema(), &references(), &RefineSettings::default(), [7; 16]).unwrap_err();
        assert!(error.problem.contains(words) && error.problem.contains("amount_positive"), "{error}");
        assert_eq!(error.line, def.expectations[1].line);
    }
}

#[test]
fn scores_count_the_transactions_of_the_last_half_hour() {
    let (mut silver, history) = (refiner(|_| ()), history());
    let def = definition("gold.fraud_scores");
    let mut scores = Refiner::new(&def, silver.schema(), &references(), &RefineSettings::default(), [7; 16]).unwrap();
    let at = |id: &str, minute: u8| sent(id, |s| s.at = format!("2026-11-20T08:{minute:02}:00Z"));
    let first = silver.refine(&bronze(&["a", "b", "c", "d"].map(|id| at(id, 10))), &history).unwrap().silver;
    let scored = scores.refine(&first, &history).unwrap();
    assert_eq!(shown(&scored.silver, "user_transactions_30m"), ["1", "2", "3", "4"]);
    history.push(&first);
    let second = silver.refine(&bronze(&[at("e", 39), at("f", 40), at("g", 39)]), &history).unwrap().silver;
    let scored = scores.refine(&second, &history).unwrap().silver;
    assert_eq!(shown(&scored, "user_transactions_30m"), ["5", "2", "6"]);
    assert_eq!(shown(&scored, "velocity_points"), ["0", "0", "25"]);
    assert_eq!(shown(&scored, "class"), ["MINIMAL", "MINIMAL", "MEDIUM"]);
    assert_eq!(shown(&scored, "reasons"), ["", "", "more than 5 transactions in 30 minutes"]);
}
