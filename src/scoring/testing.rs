//! What tests of scoring and serving share: a small model in a registry, and a scorer that asks it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use tempfile::TempDir;

use super::{Models, NoPast, ReceiptRows, Scorer, Scores, ScoringPipeline, ScoringSettings, Served, SharedFeatures};
use crate::contract::Contract;
use crate::domain::{Layer, ManualClock, TableName};
use crate::model::registry::{
    CHALLENGER, CHAMPION, DataSource, FORMAT, LakeColumn, LakeSource, MODEL_FILE, Manifest, ModelName, Recorded,
    Registry, Version,
};
use crate::model::table::{Encoding, FeatureColumn, FeatureKind, Order, Roles};
use crate::model::{FamilyName, Samples, TrainData, TrainJobSettings, train};
use crate::pipeline::{Plan, bronze_schema};
use crate::refine::Catalog;

/// 2026-11-20T12:00:00Z
pub const NOON_US: i64 = 1_795_176_000_000_000;

pub fn contract() -> Contract {
    Contract::embedded().unwrap()
}

pub fn plan() -> Plan {
    plan_with(None)
}

/// With SQL files of a folder over the built-in ones.
pub fn plan_with(folder: Option<&std::path::Path>) -> Plan {
    let bronze = TableName::new(Layer::Bronze, "transactions");
    let catalog = Catalog::load(folder, std::slice::from_ref(&bronze)).unwrap();
    Plan::new(catalog, bronze, bronze_schema(&contract())).unwrap()
}

/// The receipts of what was scored.
pub fn receipts(scorer: &Scorer, all: &[Arc<Scores>]) -> RecordBatch {
    let mut rows = ReceiptRows::default();
    rows.extend(scorer, all).unwrap();
    rows.finish(&scorer.pipeline).unwrap()
}

/// A transaction of the contract; `amount` decides what the model says of it.
pub fn transaction(id: &str, user: i32, amount: f64) -> serde_json::Value {
    serde_json::json!({
        "transaction_id": id, "user_id": user, "amount": amount, "merchant": "Acme",
        "timestamp": "2026-11-20T11:59:00Z", "payment_method": "paypal", "location": "Paris, France",
        "device_id": "d1", "merchant_id": null,
    })
}

pub struct Kept {
    _folder: TempDir,
    pub registry: Registry,
    pub name: ModelName,
}

impl Kept {
    pub fn empty() -> Self {
        let folder = TempDir::new().unwrap();
        let registry = Registry::new(folder.path().join("models"));
        Self { _folder: folder, registry, name: ModelName::parse("fraud").unwrap() }
    }

    /// The folder of a version.
    pub fn path(&self, version: &Version) -> std::path::PathBuf {
        self.registry.location_of(&self.name, version).into()
    }

    /// Trains and keeps a model for which large amounts are fraud, from `cut` on; its columns are those of tables.
    pub fn record(&self, at_us: i64, cut: f32) -> Version {
        let columns = [
            ("amount", "silver.transactions", "amount"),
            ("recent", "gold.fraud_scores", "user_transactions_30m"),
            ("method", "silver.transactions", "payment_method"),
        ];
        self.record_with(at_us, cut, &columns)
    }

    pub fn record_with(&self, at_us: i64, cut: f32, columns: &[(&str, &str, &str); 3]) -> Version {
        let rows = 3_000_u32;
        let amounts: Vec<f32> = (0..rows).map(|row| (row * 1_103 % 2_999) as f32).collect();
        let labels: Vec<bool> = amounts.iter().enumerate().map(|(row, v)| (*v > cut) != (row % 29 == 0)).collect();
        let recent: Vec<f32> = (0..rows).map(|row| (row % 7) as f32).collect();
        let paypal: Vec<f32> = (0..rows).map(|row| f32::from(u8::from(row % 3 == 0))).collect();
        let kinds = [
            FeatureKind::Number { missing: 0.0 },
            FeatureKind::Number { missing: 1.0 },
            FeatureKind::Category { values: vec!["paypal".into()] },
        ];
        let encoding = Encoding {
            columns: columns
                .iter()
                .zip(kinds)
                .map(|((column, ..), kind)| FeatureColumn { column: (*column).into(), kind, tells_missing: false })
                .collect(),
        };
        let values = encoding.features().into_iter().zip([amounts, recent, paypal]).collect();
        let samples = Samples::from_columns(values, labels, (0..i64::from(rows)).collect()).unwrap();
        let settings = TrainJobSettings {
            families: vec![FamilyName::Logistic],
            label_delay_hours: 0,
            folds: 2,
            ..TrainJobSettings::default()
        };
        let data = TrainData { samples: &samples, cards: None, segments: &[] };
        let trained = train(&settings.train_settings(), &data, &|_| {}).unwrap();
        let lake = LakeSource {
            location: "lake".into(),
            pipeline: "transactions".into(),
            epoch: 7,
            set: "fraud".into(),
            unlabelled: 0,
            columns: columns
                .iter()
                .map(|(column, table, of)| LakeColumn {
                    column: (*column).into(),
                    table: (*table).into(),
                    of: (*of).into(),
                })
                .collect(),
        };
        let manifest = Manifest {
            format: FORMAT,
            name: self.name.clone(),
            version: Version::at(at_us),
            code_version: "0.0.0".into(),
            passed: trained.report.verdict.passed(),
            refusals: Vec::new(),
            recorded: Recorded::of(&trained.report),
            features: encoding.features(),
            features_blake3: encoding.hash(),
            encoding,
            data: DataSource {
                files: Vec::new(),
                roles: Roles { label: "is_fraud".into(), ..Roles::default() },
                order: Order::Time,
                ignored: Vec::new(),
                left_out: Vec::new(),
                lake: Some(lake),
                imported: None,
            },
            files: BTreeMap::new(),
        };
        let files =
            BTreeMap::from([(MODEL_FILE.to_owned(), serde_json::to_vec(trained.model.as_ref().unwrap()).unwrap())]);
        self.registry.record(&Version::at(at_us), manifest, &files).unwrap().version
    }

    /// Another version, loaded, which no alias stands for.
    pub fn served(&self, seconds: i64, cut: f32, scorer: &Scorer) -> Arc<Served> {
        let version = self.record(NOON_US + seconds * 1_000_000, cut);
        Arc::new(Served::load(&self.registry, &self.name, &version, &scorer.pipeline).unwrap())
    }

    pub fn scorer(&self, features: SharedFeatures) -> Scorer {
        self.scorer_of(&plan(), features)
    }

    pub fn scorer_of(&self, plan: &Plan, features: SharedFeatures) -> Scorer {
        self.scorer_with(plan, features, ScoringSettings::default())
    }

    pub fn scorer_with(&self, plan: &Plan, features: SharedFeatures, settings: ScoringSettings) -> Scorer {
        let pipeline = Arc::new(ScoringPipeline::compile(plan, &contract()).unwrap());
        let models = Models::new(self.registry.clone(), self.name.clone()).with_challenger(settings.trial());
        models.follow(&pipeline);
        Scorer::new(pipeline, features, Arc::new(models), settings, Arc::new(ManualClock::at(NOON_US)))
    }

    /// With a champion and a challenger, for which fraud begins at a smaller amount, and users without a past.
    pub fn challenged(settings: ScoringSettings) -> (Self, Scorer) {
        let kept = Self::empty();
        let champion = kept.record(NOON_US, 2_400.0);
        let challenger = kept.record(NOON_US + 1_000_000, 1_000.0);
        for (alias, version) in [(CHAMPION, &champion), (CHALLENGER, &challenger)] {
            kept.registry.promote(&kept.name, version, alias, NOON_US).unwrap();
        }
        let scorer = kept.scorer_with(&plan(), Arc::new(NoPast { counts: 1 }), settings);
        (kept, scorer)
    }

    /// With a champion, and users without a past.
    pub fn champion() -> (Self, Scorer) {
        let kept = Self::empty();
        let version = kept.record(NOON_US, 2_400.0);
        kept.registry.promote(&kept.name, &version, CHAMPION, NOON_US).unwrap();
        let scorer = kept.scorer(Arc::new(NoPast { counts: 1 }));
        (kept, scorer)
    }
}
