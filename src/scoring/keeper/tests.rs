use super::*;
use crate::domain::ManualClock;
use crate::scoring::testing::{Kept, transaction};

struct Place {
    _kept: Kept,
    scorer: Arc<Scorer>,
    _folder: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    settings: LakeSettings,
    metrics: Arc<Metrics>,
}

impl Place {
    fn new() -> Self {
        let (kept, scorer) = Kept::champion();
        let folder = tempfile::TempDir::new().unwrap();
        let location = folder.path().join("lake").display().to_string();
        Self {
            _kept: kept,
            scorer: Arc::new(scorer),
            _folder: folder,
            runtime: tokio::runtime::Runtime::new().unwrap(),
            settings: LakeSettings { location, ..LakeSettings::default() },
            metrics: Arc::new(Metrics::new("1", Arc::new(ManualClock::at(0))).unwrap()),
        }
    }

    fn keeper(&self) -> Keeper {
        let (lake, pipeline) = (self.settings.clone(), "p".to_owned());
        let place = ReceiptPlace { lake, pipeline, every: Duration::from_millis(5) };
        Keeper::start(place, &self.scorer, Arc::clone(&self.metrics), self.runtime.handle().clone()).unwrap()
    }

    fn outcomes(&self) -> [u64; 3] {
        ["kept", "shed", "lost"].map(|outcome| self.metrics.receipts_so_far(outcome))
    }

    fn offer(&self, keeper: &Keeper, count: i32) {
        for user in 0..count {
            let text = transaction(&user.to_string(), user, 5.0).to_string();
            let scores = self.scorer.score_json([text.as_bytes()].into_iter()).unwrap();
            keeper.receipts().offer(&Arc::new(scores));
        }
    }
}

#[test]
fn what_the_lake_does_not_take_is_tried_again() {
    let place = Place::new();
    let keeper = place.keeper();
    place.offer(&keeper, 5);
    // There is no lake yet: time for some attempts.
    let _ = crossbeam_channel::after(Duration::from_millis(400)).recv();
    assert_eq!(place.outcomes(), [0, 0, 0]);
    place.runtime.block_on(crate::lake::Lake::open(&place.settings, "p", true)).unwrap();
    // Before the end, which tries once more anyway.
    for _ in 0..500 {
        if place.outcomes() == [5, 0, 0] {
            break;
        }
        let _ = crossbeam_channel::after(Duration::from_millis(20)).recv();
    }
    assert_eq!(place.outcomes(), [5, 0, 0]);
    place.offer(&keeper, 3);
    drop(keeper);
    assert_eq!(place.outcomes(), [8, 0, 0]);
}

#[test]
fn what_the_lake_never_takes_is_counted_as_lost() {
    let place = Place::new();
    let keeper = place.keeper();
    place.offer(&keeper, 4);
    drop(keeper);
    assert_eq!(place.outcomes(), [0, 0, 4]);
}
