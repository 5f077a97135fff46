use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, AtomicU64};

use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, PutMode, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};

use super::super::tests::{Files, Kept, NOON_US, manifest, on, trained};
use super::super::*;
use super::*;
use crate::model::Trained;

/// A store in memory on which things go wrong.
#[derive(Debug, Default)]
struct Weather {
    inner: InMemory,
    /// The operation at which it begins to fail; negative: never.
    fails_at: AtomicI64,
    /// How many fail from there on.
    failures: i64,
    /// Whether a put that fails has landed all the same.
    lands: bool,
    /// Whether it takes a put whatever its condition says.
    is_careless: bool,
    operations: AtomicI64,
    unmodified: AtomicU64,
}

impl Weather {
    fn fails(&self) -> bool {
        let (at, from) = (self.operations.fetch_add(1, Ordering::SeqCst), self.fails_at.load(Ordering::SeqCst));
        (from..from.saturating_add(self.failures)).contains(&at) && from >= 0
    }

    fn checked(&self) -> Result<()> {
        if self.fails() { Err(away()) } else { Ok(()) }
    }
}

fn away() -> Error {
    Error::Generic { store: "weather", source: "the store is away".into() }
}

impl std::fmt::Display for Weather {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("weather")
    }
}

#[async_trait]
impl ObjectStore for Weather {
    async fn put_opts(&self, path: &Path, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        let fails = self.fails();
        if fails && !self.lands {
            return Err(away());
        }
        if self.is_careless {
            options.mode = PutMode::Overwrite;
        }
        let put = self.inner.put_opts(path, payload, options).await?;
        if fails { Err(away()) } else { Ok(put) }
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.checked()?;
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.checked()?;
        let got = self.inner.get_opts(path, options).await;
        if matches!(got, Err(Error::NotModified { .. })) {
            self.unmodified.fetch_add(1, Ordering::SeqCst);
        }
        got
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.checked() {
            Ok(()) => self.inner.list(prefix),
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.checked()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// A registry with two versions, the first of them champion, on a store that fails later.
fn two_versions(weather: Weather, good: &Trained) -> (Arc<Weather>, Registry, Kept, [Version; 2]) {
    let weather = Arc::new(Weather { fails_at: AtomicI64::new(-1), ..weather });
    let registry = on(weather.clone());
    let kept = Kept { registry: registry.clone(), ..Kept::in_memory() };
    let [one, two] = [0, 1].map(|second| kept.record(good, NOON_US + second * 1_000_000));
    registry.promote(&kept.name, &one, CHAMPION, 1).unwrap();
    (weather, registry, kept, [one, two])
}

#[test]
fn promotions_at_once_lose_none_of_the_history() {
    let kept = Kept::in_memory();
    let Files::Memory(store) = &kept.files else { panic!("in memory") };
    let good = trained(true);
    let (hands, each) = (6, 6);
    let versions: Vec<Version> = (0..hands * each).map(|n| kept.record(&good, NOON_US + n * 1_000_000)).collect();
    std::thread::scope(|scope| {
        for of_hand in versions.chunks(usize::try_from(each).unwrap()) {
            // Each as another process would: with a registry of its own.
            let registry = on(store.clone());
            let name = kept.name.clone();
            scope.spawn(move || {
                for (at, version) in of_hand.iter().enumerate() {
                    registry.promote(&name, version, CHAMPION, i64::try_from(at).unwrap()).unwrap();
                }
            });
        }
    });
    let aliases = kept.registry.aliases(&kept.name).unwrap();
    let champions: Vec<Version> = aliases.champions().iter().map(|promotion| promotion.version.clone()).collect();
    assert_eq!(champions.len(), versions.len());
    assert_eq!(champions.iter().collect::<BTreeSet<_>>(), versions.iter().collect::<BTreeSet<_>>());
}

#[test]
fn of_two_runs_at_once_only_the_better_becomes_the_champion() {
    let kept = Kept::in_memory();
    let Files::Memory(store) = &kept.files else { panic!("in memory") };
    let good = trained(true);
    let versions: Vec<Version> = (0..4).map(|n| kept.record(&good, NOON_US + n * 1_000_000)).collect();
    let won = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for version in &versions {
            let (registry, name, won) = (on(store.clone()), kept.name.clone(), &won);
            scope.spawn(move || {
                if registry.promote_if(&name, version, 1, |champion| champion.is_none()).unwrap() {
                    won.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(won.into_inner(), 1);
    assert_eq!(kept.registry.aliases(&kept.name).unwrap().champions().len(), 1);
}

#[test]
fn runs_of_one_second_never_share_a_version() {
    let kept = Kept::in_memory();
    let Files::Memory(store) = &kept.files else { panic!("in memory") };
    let good = trained(true);
    let model = serde_json::to_vec(good.model.as_ref().unwrap()).unwrap();
    let runs: Vec<(Version, String)> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..6)
            .map(|run| {
                let (registry, model, good) = (on(store.clone()), model.clone(), &good);
                scope.spawn(move || {
                    let told = format!("run {run}");
                    let files =
                        BTreeMap::from([(MODEL_FILE.into(), model), ("card.md".into(), told.clone().into_bytes())]);
                    let recorded = registry.record(&Version::at(NOON_US), manifest(&good.report), &files);
                    (recorded.unwrap().version, told)
                })
            })
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    assert_eq!(kept.registry.versions(&kept.name).unwrap().len(), 6);
    for (version, told) in runs {
        kept.registry.load(&kept.name, &version).unwrap();
        assert_eq!(kept.files.read(&kept.file(&version, "card.md")), told.into_bytes());
    }
}

#[test]
fn a_change_that_fails_leaves_the_old_or_the_new() {
    let good = trained(true);
    for lands in [false, true] {
        // One failure, which is got over; or a store that stays away.
        for failures in [1, i64::MAX] {
            let (mut first_free, mut is_over) = (0, false);
            while !is_over {
                let (weather, registry, kept, [one, two]) =
                    two_versions(Weather { failures, lands, ..Weather::default() }, &good);
                let from = weather.operations.load(Ordering::SeqCst);
                weather.fails_at.store(from + first_free, Ordering::SeqCst);
                let promoted = registry.promote(&kept.name, &two, CHAMPION, 2);
                is_over = weather.operations.load(Ordering::SeqCst) <= from + first_free;
                weather.fails_at.store(-1, Ordering::SeqCst);
                let aliases = on(weather.clone()).aliases(&kept.name).unwrap();
                let champions: Vec<&Version> = aliases.champions().iter().map(|of| &of.version).collect();
                match promoted {
                    Ok(_) => assert_eq!(champions, [&one, &two]),
                    Err(error) => {
                        assert!(matches!(error, RegistryError::Io { .. }), "{error}");
                        assert!(champions == [&one] || champions == [&one, &two], "{champions:?}");
                    }
                }
                // Whoever tries again gets what was wanted, once.
                registry.promote(&kept.name, &two, CHAMPION, 3).unwrap();
                assert_eq!(registry.aliases(&kept.name).unwrap().champions().len(), 2);
                assert_eq!(registry.rollback(&kept.name, 4).unwrap(), (two, one));
                first_free += 1;
            }
            assert!(first_free > 4, "{first_free} operations");
        }
    }
}

#[test]
fn a_version_that_fails_half_way_is_none() {
    let good = trained(true);
    for lands in [false, true] {
        let (mut first_free, mut is_over) = (0, false);
        while !is_over {
            let weather = Weather { failures: i64::MAX, lands, ..Weather::default() };
            let (weather, registry, kept, [one, two]) = two_versions(weather, &good);
            let from = weather.operations.load(Ordering::SeqCst);
            weather.fails_at.store(from + first_free, Ordering::SeqCst);
            let files = BTreeMap::from([
                (MODEL_FILE.to_owned(), serde_json::to_vec(good.model.as_ref().unwrap()).unwrap()),
                ("card.md".to_owned(), b"card".to_vec()),
            ]);
            let recorded = registry.record(&Version::at(NOON_US), manifest(&good.report), &files);
            is_over = weather.operations.load(Ordering::SeqCst) <= from + first_free;
            weather.fails_at.store(-1, Ordering::SeqCst);
            let versions = registry.versions(&kept.name).unwrap();
            for version in &versions {
                registry.load(&kept.name, version).unwrap();
            }
            match recorded {
                Ok(manifest) => assert!(versions.contains(&manifest.version)),
                Err(error) => assert!(matches!(error, RegistryError::Io { .. }), "{error}"),
            }
            // The next run takes a second that nobody began.
            let next = kept.record(&good, NOON_US);
            assert!(![&one, &two].contains(&&next));
            registry.load(&kept.name, &next).unwrap();
            first_free += 1;
        }
        assert!(first_free > 5, "{first_free} operations");
    }
}

#[test]
fn a_store_that_ignores_conditions_is_refused() {
    let weather = Arc::new(Weather { is_careless: true, ..Weather::default() });
    let registry = on(weather.clone());
    let good = trained(true);
    let error = registry.record(&Version::at(NOON_US), manifest(&good.report), &BTreeMap::new()).unwrap_err();
    assert!(matches!(error, RegistryError::Careless { .. }), "{error}");
    assert_eq!(error.reaction(), crate::domain::Reaction::Correct);
    assert_eq!(registry.versions(&ModelName::parse("fraud").unwrap()).unwrap(), []);
    assert!(registry.names().unwrap().is_empty(), "the probe is no model");
}

#[test]
fn aliases_that_did_not_change_are_not_sent_again() {
    let (weather, registry, kept, [one, two]) = two_versions(Weather::default(), &trained(true));
    let champion = || registry.aliases(&kept.name).unwrap().get(CHAMPION).cloned();
    assert_eq!(champion(), Some(one.clone()));
    let before = weather.unmodified.load(Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(champion(), Some(one.clone()));
    }
    assert_eq!(weather.unmodified.load(Ordering::SeqCst), before + 3);
    // By another hand.
    on(weather.clone()).promote(&kept.name, &two, CHAMPION, 5).unwrap();
    assert_eq!(champion(), Some(two));
}

#[test]
fn a_large_file_goes_and_comes_in_parts() {
    let kept = Kept::in_memory();
    let good = trained(true);
    let large: Vec<u8> = (0..(20 << 20) + 7_u32).map(|place| (place % 251) as u8).collect();
    let files = BTreeMap::from([
        (MODEL_FILE.to_owned(), serde_json::to_vec(good.model.as_ref().unwrap()).unwrap()),
        ("source.onnx".to_owned(), large),
    ]);
    let version = kept.registry.record(&Version::at(NOON_US), manifest(&good.report), &files).unwrap().version;
    kept.registry.load(&kept.name, &version).unwrap();
    let name = kept.file(&version, "source.onnx");
    let mut damaged = kept.files.read(&name);
    damaged[17 << 20] ^= 1;
    kept.files.write(&name, &damaged);
    let error = kept.registry.load(&kept.name, &version).unwrap_err().to_string();
    assert!(error.contains("memory://models/fraud/") && error.contains("its checksum differs"), "{error}");
}

#[test]
fn a_thread_of_a_runtime_may_ask_too() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let kept = Kept::in_memory();
    let version = kept.record(&trained(true), NOON_US);
    runtime.block_on(async move {
        kept.registry.promote(&kept.name, &version, CHAMPION, 1).unwrap();
        assert_eq!(kept.registry.aliases(&kept.name).unwrap().get(CHAMPION), Some(&version));
        drop(kept);
    });
}

#[test]
fn a_location_is_a_folder_or_a_store() {
    let open = |location: &str| Registry::open(location, &BTreeMap::new());
    for (location, expected) in [("models", "models"), ("file:///var/models", "/var/models")] {
        let registry = open(location).unwrap();
        assert_eq!((registry.location().as_str(), registry.is_remote()), (expected, false));
    }
    let error = open("gs://bucket/models").unwrap_err();
    assert!(error.to_string().contains("there is no store for gs://"), "{error}");
    assert_eq!(error.reaction(), crate::domain::Reaction::Correct);
    assert!(open("s3://").is_err());
    #[cfg(feature = "s3")]
    {
        let options = BTreeMap::from([("aws_region".to_owned(), "eu-central-1".to_owned())]);
        let registry = Registry::open("s3://bucket/some/models/", &options).unwrap();
        let (name, version) = (ModelName::parse("fraud").unwrap(), Version::at(NOON_US));
        let location = registry.location_of(&name, &version);
        assert_eq!(location, format!("s3://bucket/some/models/fraud/{version}"));
        assert!(registry.is_remote());
    }
}
