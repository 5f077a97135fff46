//! A model for the bench: learned from generated transactions, kept in a registry of its own.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::concat_batches;
use assay::model::registry::{DataSource, LakeColumn, LakeSource, ModelName, Registry, Version};
use assay::model::table::{Roles, Table, TableFile, prepare};
use assay::model::{BoostSettings, Classifier, Family, FamilyName, Samples, TrainData, TrainJobSettings, train};
use assay::scoring::ScoringPipeline;

use super::super::machine::Cpu;
use super::Past;
use crate::app::App;

/// The table and the column of each feature, and the label.
const COLUMNS: [(&str, &str); 7] = [
    ("silver.transactions", "is_fraud"),
    ("silver.transactions", "amount"),
    ("silver.transactions", "payment_method"),
    ("silver.transactions", "country"),
    ("silver.transactions", "hour"),
    ("gold.fraud_scores", "user_transactions_30m"),
    ("gold.fraud_scores", "high_risk_country_points"),
];

/// What the aims speak of: 100 trees of depth 6.
fn family() -> Family {
    Family::Boost(BoostSettings { rounds_max: 100, depth_max: 6, validation_share: 0.0, ..BoostSettings::default() })
}

/// Takes the transactions in, learns from them, and keeps the model whatever its quality. It has the trees of [`family`]; its
/// threshold and card are those of the run, which searched for others: what it takes to ask it does not depend on them.
pub fn learn(
    app: &App,
    registry: &Registry,
    name: &ModelName,
    pipeline: &ScoringPipeline,
    past: &Past,
    payloads: &[Vec<u8>],
) -> anyhow::Result<Version> {
    let mut batches = Vec::new();
    for part in payloads.chunks(assay::scoring::CHUNK_ROWS) {
        let decoded = pipeline.decode(part.iter().map(Vec::as_slice));
        let silver = pipeline.refine(&decoded.rows, app.clock.now_us())?.rows;
        past.record(&silver)?;
        let followed = pipeline.follow(&silver, past)?;
        let tables: Vec<String> = pipeline.tables().map(|(table, _)| table.to_string()).collect();
        let column = |(table, column): (&str, &str)| -> Option<(String, ArrayRef)> {
            let batch = match tables.iter().position(|known| known == table) {
                Some(number) => &followed.get(number)?.rows,
                None => &silver,
            };
            Some((column.to_owned(), ArrayRef::clone(batch.column_by_name(column)?)))
        };
        let columns = COLUMNS.into_iter().filter_map(column).map(|(name, column)| (name, column, true));
        batches.push(RecordBatch::try_from_iter_with_nullable(columns)?);
    }
    let schema = batches.first().map(RecordBatch::schema).ok_or_else(|| anyhow::anyhow!("nothing was generated"))?;
    let rows = concat_batches(&schema, &batches)?;
    let file = TableFile { path: "generated".to_owned(), bytes: 0, blake3: String::new(), rows: 0 };
    let table = Table::of_batches(file, &[rows], |_| true)?;
    let roles = Roles { label: "is_fraud".to_owned(), ..Roles::default() };
    let settings = TrainJobSettings {
        families: vec![FamilyName::Boost],
        folds: 2,
        label_delay_hours: 0,
        precision_min: 0.0,
        recall_min: 0.0,
        f1_min: 0.0,
        ..TrainJobSettings::default()
    };
    let settings = settings.train_settings();
    let prepared = prepare(&table, &roles, 0, settings.test_share)?;
    let data = TrainData { samples: &prepared.samples, cards: None, segments: &[] };
    let mut trained = train(&settings, &data, &|_| {})?;
    if let Some(model) = &mut trained.model {
        model.calibrated.model = family().fit(&prepared.samples)?;
    }
    let columns = COLUMNS.iter().filter(|(_, column)| *column != roles.label).map(|(table, column)| LakeColumn {
        column: (*column).to_owned(),
        table: (*table).to_owned(),
        of: (*column).to_owned(),
    });
    let source = DataSource {
        files: table.files.clone(),
        order: prepared.order,
        ignored: Vec::new(),
        left_out: prepared.left_out.clone(),
        lake: Some(LakeSource {
            location: "generated".to_owned(),
            pipeline: app.settings.pipeline.clone(),
            epoch: 1,
            set: "bench".to_owned(),
            unlabelled: 0,
            columns: columns.collect(),
        }),
        imported: None,
        roles,
    };
    Ok(crate::train::keep(registry, name, app.clock.now_us(), &trained, &prepared, source)?.version)
}

pub struct Alone {
    pub trees: usize,
    /// Of one core.
    pub batch_ns: f64,
    pub single_ns: f64,
}

/// [`family`] on 30 features.
pub fn evaluate(seed: u64) -> anyhow::Result<Alone> {
    const ROWS: usize = 20_000;
    const WIDTH: usize = 30;
    // A generator of full period: spread evenly, and the same for ever.
    let mut state = seed | 1;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    let columns: Vec<(String, Vec<f32>)> =
        (0..WIDTH).map(|feature| (format!("f{feature}"), (0..ROWS).map(|_| draw()).collect())).collect();
    let labels =
        (0..ROWS).map(|row| columns.iter().take(6).map(|(_, values)| values[row]).sum::<f32>() > 3.6).collect();
    let samples = Samples::from_columns(columns, labels, (0..ROWS as i64).collect())?;
    let model = family().fit(&samples)?;
    let trees = if let assay::model::Model::Boost(boost) = &model { boost.rounds() } else { 0 };
    let rows: Vec<Vec<f32>> = samples.records().outer_iter().map(|row| row.to_vec()).collect();
    let one_core = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    let batch_ns = one_core.install(|| {
        let before = Cpu::Thread.ns();
        std::hint::black_box(model.probabilities(samples.records()));
        (Cpu::Thread.ns() - before) as f64 / ROWS as f64
    });
    let before = Cpu::Thread.ns();
    rows.iter().for_each(|row| {
        std::hint::black_box(model.probability(row));
    });
    let single_ns = (Cpu::Thread.ns() - before) as f64 / ROWS as f64;
    Ok(Alone { trees, batch_ns, single_ns })
}
