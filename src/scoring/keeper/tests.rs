use super::*;
use crate::domain::ManualClock;
use crate::scoring::testing::{Kept, transaction};

struct Place {
    _folder: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    settings: LakeSettings,
    metrics: Arc<Metrics>,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::TempDir::new().unwrap();
        let location = folder.path().join("lake").display().to_string();
        Self {
            _folder: folder,
            runtime: tokio::runtime::Runtime::new().unwrap(),
            settings: LakeSettings { location, ..LakeSettings::default() },
            metrics: Arc::new(Metrics::new("1", Arc::new(ManualClock::at(0))).unwrap()),
        }
    }

    fn keeper(&self, scorer: &Arc<Scorer>) -> Keeper {
        let (lake, pipeline) = (self.settings.clone(), "p".to_owned());
        let place = ReceiptPlace { lake, pipeline, every: Duration::from_millis(5) };
        Keeper::start(place, scorer, Arc::clone(&self.metrics), self.runtime.handle().clone()).unwrap()
    }

    fn outcomes(&self) -> [u64; 3] {
        ["kept", "shed", "lost"].map(|outcome| self.metrics.receipts_so_far(outcome))
    }
}

fn offer(keeper: &Keeper, scorer: &Scorer, count: i32) {
    for user in 0..count {
        let text = transaction(&user.to_string(), user, 5.0).to_string();
        keeper.receipts().offer(&Arc::new(scorer.score_json([text.as_bytes()].into_iter()).unwrap()));
    }
}

#[test]
fn what_the_lake_does_not_take_is_tried_again() {
    let (_kept, scorer) = Kept::champion();
    let (place, scorer) = (Place::new(), Arc::new(scorer));
    let keeper = place.keeper(&scorer);
    offer(&keeper, &scorer, 5);
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
    offer(&keeper, &scorer, 3);
    drop(keeper);
    assert_eq!(place.outcomes(), [8, 0, 0]);
}

#[test]
fn what_the_lake_never_takes_is_counted_as_lost() {
    let (_kept, scorer) = Kept::champion();
    let (place, scorer) = (Place::new(), Arc::new(scorer));
    let keeper = place.keeper(&scorer);
    offer(&keeper, &scorer, 4);
    drop(keeper);
    assert_eq!(place.outcomes(), [0, 0, 4]);
}
