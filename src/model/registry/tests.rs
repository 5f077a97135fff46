use tempfile::TempDir;

use super::*;
use crate::model::table::{Encoding, FeatureColumn, FeatureKind, Order, Roles};
use crate::model::{Samples, TrainData, TrainJobSettings, TrainReport, Trained, train};

const NOON_US: i64 = 1_795_262_700_000_000;

/// A model of one feature, good or (with labels that follow nothing) refused by the gate.
fn trained(good: bool) -> Trained {
    let rows = 3_000_u32;
    // A full period of a generator: spread evenly, and the same for ever.
    let values: Vec<f32> = (0..rows).map(|row| (row * 1_103 % 2_999) as f32 / 2_999.0).collect();
    let labels: Vec<bool> = values
        .iter()
        .enumerate()
        .map(|(row, value)| if good { (*value > 0.8) != (row % 29 == 0) } else { row % 5 == 0 })
        .collect();
    let samples =
        Samples::from_columns(vec![("amount".into(), values)], labels, (0..i64::from(rows)).collect()).unwrap();
    let settings = TrainJobSettings {
        families: vec![crate::model::FamilyName::Logistic],
        label_delay_hours: 0,
        folds: 2,
        ..TrainJobSettings::default()
    };
    let data = TrainData { samples: &samples, cards: None, segments: &[] };
    train(&settings.train_settings(), &data, &|_| {}).unwrap()
}

fn manifest(report: &TrainReport) -> Manifest {
    let kind = FeatureKind::Number { missing: 0.1 };
    let encoding = Encoding { columns: vec![FeatureColumn { column: "amount".into(), kind, tells_missing: false }] };
    Manifest {
        format: FORMAT,
        name: ModelName::parse("fraud").unwrap(),
        version: Version::at(NOON_US),
        code_version: "0.0.0".into(),
        passed: report.verdict.passed(),
        refusals: if report.verdict.passed() { Vec::new() } else { vec!["the gate".into()] },
        recorded: Recorded::of(report),
        features: encoding.features(),
        features_blake3: encoding.hash(),
        encoding,
        data: DataSource {
            files: Vec::new(),
            roles: Roles { label: "fraud".into(), ..Roles::default() },
            order: Order::Rows,
            ignored: Vec::new(),
            left_out: Vec::new(),
            lake: None,
            imported: None,
        },
        files: BTreeMap::new(),
    }
}

struct Kept {
    _folder: TempDir,
    registry: Registry,
    name: ModelName,
}

impl Kept {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let registry = Registry::new(folder.path().join("models"));
        Self { _folder: folder, registry, name: ModelName::parse("fraud").unwrap() }
    }

    fn record(&self, trained: &Trained, at_us: i64) -> Version {
        let files = BTreeMap::from([
            (MODEL_FILE.to_owned(), serde_json::to_vec(trained.model.as_ref().unwrap()).unwrap()),
            ("report.json".to_owned(), trained.report.to_json().unwrap().into_bytes()),
        ]);
        self.registry.record(&Version::at(at_us), manifest(&trained.report), &files).unwrap().version
    }
}

#[test]
fn what_is_recorded_is_loaded_to_the_bit_and_never_overwritten() {
    let (kept, good) = (Kept::new(), trained(true));
    assert!(good.report.verdict.passed(), "{:?}", good.report.verdict);
    let first = kept.record(&good, NOON_US);
    assert_eq!(first.as_str(), Version::at(NOON_US).as_str());
    let second = kept.record(&good, NOON_US + 999_999);
    assert_eq!(second.micros() - first.micros(), 1_000_000, "the next free second");
    assert_eq!(kept.registry.versions(&kept.name).unwrap(), [second, first.clone()]);
    let stored = kept.registry.load(&kept.name, &first).unwrap();
    assert_eq!(stored.model, good.model);
    let hidden = std::fs::read_dir(kept.registry.folder().join("fraud")).unwrap();
    assert_eq!(hidden.count(), 2, "nothing is left beside the versions");
}

#[test]
fn every_changed_byte_of_every_file_is_refused() {
    let (kept, good) = (Kept::new(), trained(true));
    let version = kept.record(&good, NOON_US);
    let folder = kept.registry.path(&kept.name, &version);
    for file in [MODEL_FILE, "report.json", MANIFEST_FILE] {
        let path = folder.join(file);
        let whole = std::fs::read(&path).unwrap();
        let step = (whole.len() / 40).max(1);
        for place in (0..whole.len()).step_by(step) {
            let mut changed = whole.clone();
            changed[place] ^= 1;
            std::fs::write(&path, &changed).unwrap();
            let loaded = kept.registry.load(&kept.name, &version);
            assert!(matches!(loaded, Err(RegistryError::Damaged { .. })), "{file}, byte {place}: {loaded:?}");
        }
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(matches!(kept.registry.load(&kept.name, &version), Err(RegistryError::Damaged { .. })), "{file} cut");
        std::fs::remove_file(&path).unwrap();
        let missing = kept.registry.load(&kept.name, &version).unwrap_err().to_string();
        assert!(missing.contains("it is missing"), "{missing}");
        std::fs::write(&path, &whole).unwrap();
    }
    kept.registry.load(&kept.name, &version).unwrap();
}

#[test]
fn a_foreign_version_is_refused() {
    let (kept, good) = (Kept::new(), trained(true));
    let version = kept.record(&good, NOON_US);
    let moved = Version::at(NOON_US + 60_000_000);
    std::fs::rename(kept.registry.path(&kept.name, &version), kept.registry.path(&kept.name, &moved)).unwrap();
    let error = kept.registry.load(&kept.name, &moved).unwrap_err().to_string();
    assert!(error.contains("moved or copied"), "{error}");

    // Whole, with right checksums, but the manifest tells of another model.
    let mut other = manifest(&good.report);
    other.features = vec!["count".into()];
    let files = BTreeMap::from([(MODEL_FILE.to_owned(), serde_json::to_vec(good.model.as_ref().unwrap()).unwrap())]);
    let version = kept.registry.record(&Version::at(NOON_US), other, &files).unwrap().version;
    let error = kept.registry.load(&kept.name, &version).unwrap_err().to_string();
    assert!(error.contains("its features are not those of the manifest"), "{error}");

    let mut later = manifest(&good.report);
    later.format = FORMAT + 1;
    let version = kept.registry.record(&Version::at(NOON_US + 5_000_000), later, &files).unwrap().version;
    let error = kept.registry.load(&kept.name, &version).unwrap_err().to_string();
    assert!(error.contains("it has format 2"), "{error}");
}

#[test]
fn a_rollback_returns_to_the_champion_before() {
    let (kept, good) = (Kept::new(), trained(true));
    let (registry, name) = (&kept.registry, &kept.name);
    let [one, two, three] = [0, 10, 20].map(|second| kept.record(&good, NOON_US + second * 1_000_000));
    assert_eq!(registry.promote(name, &one, CHAMPION, 1).unwrap(), None);
    assert!(matches!(registry.rollback(name, 2), Err(RegistryError::NothingBefore { .. })));
    assert_eq!(registry.promote(name, &two, CHAMPION, 3).unwrap(), Some(one.clone()));
    registry.promote(name, &two, CHAMPION, 4).unwrap();
    registry.promote(name, &three, CHAMPION, 5).unwrap();
    registry.promote(name, &one, "challenger", 6).unwrap();
    assert_eq!(registry.rollback(name, 7).unwrap(), (three.clone(), two.clone()));
    assert_eq!(registry.rollback(name, 8).unwrap(), (two.clone(), one.clone()));
    assert!(matches!(registry.rollback(name, 9), Err(RegistryError::NothingBefore { .. })));
    let aliases = registry.aliases(name).unwrap();
    assert_eq!(aliases.iter().collect::<Vec<_>>(), [("challenger", &one), (CHAMPION, &one)]);
    // A champion that no longer loads is not returned to.
    registry.promote(name, &two, CHAMPION, 10).unwrap();
    std::fs::write(registry.path(name, &one).join(MODEL_FILE), b"{}").unwrap();
    assert!(matches!(registry.rollback(name, 11), Err(RegistryError::Damaged { .. })));
    assert_eq!(registry.aliases(name).unwrap().get(CHAMPION), Some(&two));
}

#[test]
fn what_the_gate_refused_is_no_champion() {
    let kept = Kept::new();
    let (registry, name) = (&kept.registry, &kept.name);
    let good = kept.record(&trained(true), NOON_US);
    let bad = kept.record(&trained(false), NOON_US + 1_000_000);
    assert!(registry.promote_if(name, &good, 1, |champion| champion.is_none()).unwrap());
    let error = registry.promote(name, &bad, CHAMPION, 2).unwrap_err();
    assert!(matches!(error, RegistryError::NotPassed { .. }), "{error}");
    registry.promote(name, &bad, "challenger", 3).unwrap();
    assert!(!registry.promote_if(name, &good, 4, |champion| champion.is_none()).unwrap());
    assert_eq!(registry.aliases(name).unwrap().get(CHAMPION), Some(&good));
}

#[test]
fn references_are_checked_and_unknown_ones_told() {
    let (kept, good) = (Kept::new(), trained(true));
    let version = kept.record(&good, NOON_US);
    let resolve = |text: &str| kept.registry.resolve(&Reference::parse(text, CHAMPION)?);
    assert_eq!(resolve(&format!("fraud@{version}")).unwrap(), version);
    for (text, expected) in [
        ("fraud", "has no alias `champion` (aliases: none)"),
        ("frauds", "there is no model `frauds` in"),
        ("fraud@20200101T000000Z", "has no version 20200101T000000Z"),
        ("../fraud", "`../fraud` is no name of a model"),
        ("fraud@../x", "`../x` is no version or alias"),
        ("", "`` is no name of a model"),
    ] {
        let error = resolve(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn damaged_aliases_are_refused() {
    let (kept, good) = (Kept::new(), trained(true));
    let version = kept.record(&good, NOON_US);
    kept.registry.promote(&kept.name, &version, CHAMPION, 1).unwrap();
    let path = kept.registry.folder().join("fraud").join(ALIASES_FILE);
    let text = std::fs::read_to_string(&path).unwrap();
    for bad in
        [&text[..text.len() / 2], &text.replace("champions", "winners"), &text.replacen(version.as_str(), "../..", 1)]
    {
        std::fs::write(&path, bad).unwrap();
        assert!(matches!(kept.registry.aliases(&kept.name), Err(RegistryError::Damaged { .. })), "{bad}");
    }
}
