use std::sync::Arc;

use futures::FutureExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tempfile::TempDir;

use super::*;
use crate::model::table::{Encoding, FeatureColumn, FeatureKind, Order, Roles};
use crate::model::{Samples, TrainData, TrainJobSettings, TrainReport, Trained, train};

pub(super) const NOON_US: i64 = 1_795_262_700_000_000;

/// A model of one feature, good or (with labels that follow nothing) refused by the gate.
pub(super) fn trained(good: bool) -> Trained {
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

pub(super) fn manifest(report: &TrainReport) -> Manifest {
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

/// Where the files of a registry are, to be looked at and damaged.
pub(super) enum Files {
    Folder(TempDir),
    Memory(Arc<InMemory>),
}

impl Files {
    pub fn read(&self, name: &str) -> Vec<u8> {
        match self {
            Self::Folder(folder) => std::fs::read(folder.path().join(name)).unwrap(),
            Self::Memory(store) => {
                let read = async { store.get(&Path::from(name)).await.unwrap().bytes().await.unwrap() };
                read.now_or_never().unwrap().to_vec()
            }
        }
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        match self {
            Self::Folder(folder) => std::fs::write(folder.path().join(name), bytes).unwrap(),
            Self::Memory(store) => {
                store.put(&Path::from(name), bytes.to_vec().into()).now_or_never().unwrap().unwrap();
            }
        }
    }

    fn remove(&self, name: &str) {
        match self {
            Self::Folder(folder) => std::fs::remove_file(folder.path().join(name)).unwrap(),
            Self::Memory(store) => store.delete(&Path::from(name)).now_or_never().unwrap().unwrap(),
        }
    }

    /// Renames the folder of a version.
    fn shift(&self, from: &str, to: &str) {
        match self {
            Self::Folder(folder) => std::fs::rename(folder.path().join(from), folder.path().join(to)).unwrap(),
            Self::Memory(store) => {
                let found = store.list_with_delimiter(Some(&Path::from(from))).now_or_never().unwrap().unwrap();
                for object in found.objects {
                    let to = Path::from(format!("{to}/{}", object.location.filename().unwrap()));
                    store.rename(&object.location, &to).now_or_never().unwrap().unwrap();
                }
            }
        }
    }
}

pub(super) struct Kept {
    pub files: Files,
    pub registry: Registry,
    pub name: ModelName,
}

impl Kept {
    /// The same suite holds for a folder and for an object store.
    fn each() -> [Self; 2] {
        [Self::in_folder(), Self::in_memory()]
    }

    fn in_folder() -> Self {
        let folder = TempDir::new().unwrap();
        let registry = Registry::new(folder.path());
        Self { files: Files::Folder(folder), registry, name: ModelName::parse("fraud").unwrap() }
    }

    pub fn in_memory() -> Self {
        let store = Arc::new(InMemory::new());
        let registry = on(store.clone());
        Self { files: Files::Memory(store), registry, name: ModelName::parse("fraud").unwrap() }
    }

    pub fn record(&self, trained: &Trained, at_us: i64) -> Version {
        let files = BTreeMap::from([
            (MODEL_FILE.to_owned(), serde_json::to_vec(trained.model.as_ref().unwrap()).unwrap()),
            ("report.json".to_owned(), trained.report.to_json().unwrap().into_bytes()),
        ]);
        self.registry.record(&Version::at(at_us), manifest(&trained.report), &files).unwrap().version
    }

    /// The name of a file of a version.
    pub fn file(&self, version: &Version, file: &str) -> String {
        file_of(&self.name, version, file)
    }
}

/// A registry on an object store that has no address.
pub(super) fn on(store: Arc<dyn ObjectStore>) -> Registry {
    Registry { store: Arc::new(objects::Objects::new("memory://models/", store.clone(), store).unwrap()) }
}

#[test]
fn what_is_recorded_is_loaded_to_the_bit_and_never_overwritten() {
    let good = trained(true);
    for kept in Kept::each() {
        assert!(good.report.verdict.passed(), "{:?}", good.report.verdict);
        let first = kept.record(&good, NOON_US);
        assert_eq!(first.as_str(), Version::at(NOON_US).as_str());
        let second = kept.record(&good, NOON_US + 999_999);
        assert_eq!(second.micros() - first.micros(), 1_000_000, "the next free second");
        assert_eq!(kept.registry.versions(&kept.name).unwrap(), [second, first.clone()]);
        let stored = kept.registry.load(&kept.name, &first).unwrap();
        assert_eq!(stored.model, good.model);
        if let Files::Folder(folder) = &kept.files {
            let hidden = std::fs::read_dir(folder.path().join("fraud")).unwrap();
            assert_eq!(hidden.count(), 2, "nothing is left beside the versions");
        }
    }
}

#[test]
fn every_changed_byte_of_every_file_is_refused() {
    let good = trained(true);
    for kept in Kept::each() {
        let version = kept.record(&good, NOON_US);
        for file in [MODEL_FILE, "report.json", MANIFEST_FILE] {
            let path = kept.file(&version, file);
            let whole = kept.files.read(&path);
            let step = (whole.len() / 40).max(1);
            for place in (0..whole.len()).step_by(step) {
                let mut changed = whole.clone();
                changed[place] ^= 1;
                kept.files.write(&path, &changed);
                let loaded = kept.registry.load(&kept.name, &version);
                assert!(matches!(loaded, Err(RegistryError::Damaged { .. })), "{file}, byte {place}: {loaded:?}");
            }
            kept.files.write(&path, &whole[..whole.len() / 2]);
            assert!(
                matches!(kept.registry.load(&kept.name, &version), Err(RegistryError::Damaged { .. })),
                "{file} cut"
            );
            kept.files.remove(&path);
            let missing = kept.registry.load(&kept.name, &version).unwrap_err().to_string();
            assert!(missing.contains("it is missing"), "{missing}");
            kept.files.write(&path, &whole);
        }
        kept.registry.load(&kept.name, &version).unwrap();
    }
}

#[test]
fn a_foreign_version_is_refused() {
    let good = trained(true);
    for kept in Kept::each() {
        let version = kept.record(&good, NOON_US);
        let moved = Version::at(NOON_US + 60_000_000);
        kept.files.shift(&format!("fraud/{version}"), &format!("fraud/{moved}"));
        let error = kept.registry.load(&kept.name, &moved).unwrap_err().to_string();
        assert!(error.contains("moved or copied"), "{error}");

        // Whole, with right checksums, but the manifest tells of another model.
        let mut other = manifest(&good.report);
        other.features = vec!["count".into()];
        let files =
            BTreeMap::from([(MODEL_FILE.to_owned(), serde_json::to_vec(good.model.as_ref().unwrap()).unwrap())]);
        let version = kept.registry.record(&Version::at(NOON_US), other, &files).unwrap().version;
        let error = kept.registry.load(&kept.name, &version).unwrap_err().to_string();
        assert!(error.contains("its features are not those of the manifest"), "{error}");

        let mut later = manifest(&good.report);
        later.format = FORMAT + 1;
        let version = kept.registry.record(&Version::at(NOON_US + 5_000_000), later, &files).unwrap().version;
        let error = kept.registry.load(&kept.name, &version).unwrap_err().to_string();
        assert!(error.contains("it has format 2"), "{error}");
    }
}

#[test]
fn a_rollback_returns_to_the_champion_before() {
    let good = trained(true);
    for kept in Kept::each() {
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
        kept.files.write(&kept.file(&one, MODEL_FILE), b"{}");
        assert!(matches!(registry.rollback(name, 11), Err(RegistryError::Damaged { .. })));
        assert_eq!(registry.aliases(name).unwrap().get(CHAMPION), Some(&two));
    }
}

#[test]
fn what_the_gate_refused_is_no_champion() {
    for kept in Kept::each() {
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
}

#[test]
fn references_are_checked_and_unknown_ones_told() {
    let good = trained(true);
    for kept in Kept::each() {
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
}

#[test]
fn damaged_aliases_are_refused() {
    let good = trained(true);
    for kept in Kept::each() {
        let version = kept.record(&good, NOON_US);
        kept.registry.promote(&kept.name, &version, CHAMPION, 1).unwrap();
        let path = "fraud/aliases.json";
        let text = String::from_utf8(kept.files.read(path)).unwrap();
        for bad in [
            &text[..text.len() / 2],
            &text.replace("champions", "winners"),
            &text.replacen(version.as_str(), "../..", 1),
        ] {
            kept.files.write(path, bad.as_bytes());
            assert!(matches!(kept.registry.aliases(&kept.name), Err(RegistryError::Damaged { .. })), "{bad}");
        }
    }
}
