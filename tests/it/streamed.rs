//! What a model says of rows of the stream: where it stands, when it is sent, and what becomes of it when something dies.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, RecordBatch, StringArray};
use arrow::datatypes::Int32Type;
use assay::pipeline::{PipelineError, Reach, RowScorer, Target};

use crate::kit::{Cut, Lab, Msg, dirty, generated};

/// A model that says how many points the rules gave; a client of the topic that notes what it got.
#[derive(Clone, Default)]
struct Points {
    version: String,
    sent: Arc<Mutex<Vec<String>>>,
    /// Refused when the epoch of this number is settled.
    fails_at: Option<usize>,
    settled: usize,
}

impl Points {
    fn named(version: &str) -> Self {
        Self { version: version.to_owned(), ..Self::default() }
    }
}

impl RowScorer for Points {
    fn begin(&mut self) {}

    fn score(&mut self, silver: &RecordBatch, following: &[RecordBatch]) -> Result<Vec<ArrayRef>, PipelineError> {
        let points = following.iter().find_map(|rows| rows.column_by_name("score")).expect("the table of rules");
        let ids = silver.column_by_name("transaction_id").expect("a key").as_string::<i32>();
        self.sent.lock().unwrap().extend(ids.iter().flatten().map(str::to_owned));
        let points: Vec<f64> =
            points.as_primitive::<Int32Type>().values().iter().map(|n| f64::from(*n) / 155.0).collect();
        let decisions: BooleanArray = points.iter().map(|said| Some(*said >= 0.3)).collect();
        let versions = StringArray::from(vec![self.version.as_str(); points.len()]);
        Ok(vec![Arc::new(Float64Array::from(points)), Arc::new(decisions), Arc::new(versions)])
    }

    fn settle(&mut self) -> Result<(), PipelineError> {
        self.settled += 1;
        if self.fails_at == Some(self.settled) {
            return Err(PipelineError::State("the topic is gone".to_owned()));
        }
        Ok(())
    }
}

/// `assay run` with a model.
fn run(lab: &Lab, messages: &[Msg], scorer: &Points) -> Result<(), PipelineError> {
    let mut ready = lab.ready()?;
    ready.stages.ask(Box::new(scorer.clone()));
    ready.stages.warm_up()?;
    lab.stream_in(ready, messages, &Cut::every(40), Reach::Gold, || {})
}

fn said(lab: &Lab) -> Vec<String> {
    lab.sql("SELECT model_version, count(*), count(fraud_probability), sum(CAST(is_predicted_fraud AS INT)) = sum(CASE WHEN score >= 46.5 THEN 1 ELSE 0 END) FROM gold.fraud_scores GROUP BY 1 ORDER BY 1")
}

#[test]
fn what_the_model_says_stands_beside_the_rules_and_is_proven_again() {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::at(folder.path().to_str().unwrap());
    let (messages, _) = generated(dirty(5, 400));
    // Nobody was asked at first.
    lab.run(&messages[..100], &Cut::every(40)).unwrap();
    run(&lab, &messages[..250], &Points::named("one")).unwrap();
    run(&lab, &messages, &Points::named("two")).unwrap();
    let silver = lab.sql("SELECT count(*) FROM silver.transactions");
    assert_eq!(lab.sql("SELECT count(*) FROM gold.fraud_scores"), silver);
    let versions = lab.sql("SELECT DISTINCT model_version FROM gold.fraud_scores ORDER BY 1");
    assert_eq!(versions.len(), 3, "{versions:?}");
    lab.assert_verified();
    let recall = |versions: &BTreeMap<i64, String>| {
        let by_epoch = versions.iter().map(|(epoch, version)| (*epoch, Points::named(version))).collect();
        Ok::<Box<dyn RowScorer>, String>(Box::new(ByEpoch(by_epoch)))
    };
    assert_eq!(lab.verify_with(None, Some(&recall)).findings, []);
    let wrong = |versions: &BTreeMap<i64, String>| {
        let by_epoch = versions.keys().map(|epoch| (*epoch, Points::named("two"))).collect();
        Ok::<Box<dyn RowScorer>, String>(Box::new(ByEpoch(by_epoch)))
    };
    let found = lab.verify_with(None, Some(&wrong)).findings;
    assert!(matches!(found.as_slice(), [one] if one.check == "recomputation"), "{found:?}");
    let gone = |_: &BTreeMap<i64, String>| Err("it is gone".to_owned());
    let found = lab.verify_with(None, Some(&gone));
    assert!(found.findings.is_empty() && found.notes.iter().any(|note| note.contains("it is gone")), "{found:?}");
    // A rebuild asks the model of now.
    lab.rebuild_asking(Target::Scores, Some(Box::new(Points::named("three")))).unwrap();
    assert_eq!(said(&lab).len(), 1);
    assert!(said(&lab)[0].starts_with("three"), "{:?}", said(&lab));
    lab.assert_verified();
}

/// The version of each epoch; an epoch that is not here was asked by none.
struct ByEpoch(BTreeMap<i64, Points>);

impl RowScorer for ByEpoch {
    fn begin(&mut self) {}

    fn score(&mut self, silver: &RecordBatch, following: &[RecordBatch]) -> Result<Vec<ArrayRef>, PipelineError> {
        let epochs = silver.column_by_name("epoch").unwrap().as_primitive::<arrow::datatypes::Int64Type>().clone();
        let mut parts: Vec<Vec<ArrayRef>> = Vec::new();
        for row in 0..silver.num_rows() {
            let following: Vec<RecordBatch> = following.iter().map(|rows| rows.slice(row, 1)).collect();
            parts.push(match self.0.get_mut(&epochs.value(row)) {
                Some(points) => points.score(&silver.slice(row, 1), &following)?,
                None => assay::domain::schema::model_columns()
                    .iter()
                    .map(|field| arrow::array::new_null_array(field.data_type(), 1))
                    .collect(),
            });
        }
        let column = |index: usize| {
            let parts: Vec<&dyn Array> = parts.iter().map(|part| part[index].as_ref()).collect();
            arrow::compute::concat(&parts).unwrap()
        };
        Ok((0..3).map(column).collect())
    }

    fn settle(&mut self) -> Result<(), PipelineError> {
        Ok(())
    }
}

#[test]
fn an_epoch_is_written_once_what_is_said_of_it_has_arrived() {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::at(folder.path().to_str().unwrap());
    let (messages, _) = generated(dirty(9, 300));
    let refused = Points { fails_at: Some(3), ..Points::named("one") };
    let error = run(&lab, &messages, &refused).unwrap_err();
    assert!(error.to_string().contains("the topic is gone"), "{error}");
    assert_eq!(lab.records().len(), 2);
    assert_eq!(lab.sql("SELECT max(epoch) FROM bronze.transactions"), ["2"]);
    // The next start reads the messages again, and says it again.
    let again = Points::named("one");
    run(&lab, &messages, &again).unwrap();
    lab.assert_verified();
    let sent: Vec<String> = [&refused, &again].iter().flat_map(|one| one.sent.lock().unwrap().clone()).collect();
    for id in lab.sql("SELECT transaction_id FROM silver.transactions") {
        assert!(sent.contains(&id), "{id} was never sent");
    }
}
