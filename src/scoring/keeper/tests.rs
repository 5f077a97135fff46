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

#[test]
fn no_more_rows_are_made_than_the_lake_can_wait_for() {
    let place = Place::new();
    let (queue, taken) = unbounded();
    let (rows, made) = unbounded();
    let (done, unstored) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(UNSTORED_BYTES_MAX)));
    let maker = Maker {
        scorer: Arc::clone(&place.scorer),
        taken,
        bytes: Arc::default(),
        metrics: Arc::clone(&place.metrics),
        done: Arc::clone(&done),
        made: ReceiptRows::default(),
        rows,
        unstored: Arc::clone(&unstored),
        told_us: None,
    };
    let maker = std::thread::spawn(move || maker.run());
    let text = transaction("t", 1, 5.0).to_string();
    queue.send(Arc::new(place.scorer.score_json([text.as_bytes()].into_iter()).unwrap())).unwrap();
    assert!(made.recv_timeout(Duration::from_millis(200)).is_err());
    unstored.store(0, Ordering::Relaxed);
    assert_eq!(made.recv_timeout(Duration::from_secs(20)).unwrap().num_rows(), 1);
    // Whatever waits when all ends is handed over.
    unstored.store(UNSTORED_BYTES_MAX, Ordering::Relaxed);
    let _ = crossbeam_channel::after(Duration::from_millis(100)).recv();
    queue.send(Arc::new(place.scorer.score_json([text.as_bytes()].into_iter()).unwrap())).unwrap();
    done.store(true, Ordering::Relaxed);
    maker.join().unwrap();
    assert_eq!(made.try_iter().map(|rows| rows.num_rows()).sum::<usize>(), 1);
    assert_eq!(place.outcomes(), [0, 0, 0]);
}
