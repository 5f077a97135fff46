//! What is kept between the calls of clients: bounded in number and age, each thing for the user who made it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::Clock;

/// By which a client names what is kept for it; nobody can guess one.
pub(super) type Handle = [u8; 16];

pub(super) struct Kept<T> {
    most: usize,
    age_us: i64,
    clock: Arc<dyn Clock>,
    held: Mutex<HashMap<Handle, Held<T>>>,
}

struct Held<T> {
    user: String,
    used_us: i64,
    value: T,
}

impl<T> Kept<T> {
    /// Keeps so many at most, and none that was not used for so long.
    pub fn new(most: usize, age_s: u64, clock: Arc<dyn Clock>) -> Self {
        let age_us = i64::try_from(age_s).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        Self { most: most.max(1), age_us, clock, held: Mutex::default() }
    }

    /// Where there is no place, the user who has the most loses what was not used for the longest time.
    pub fn keep(&self, user: &str, value: T) -> Handle {
        let handle = uuid::Uuid::new_v4().into_bytes();
        let now_us = self.clock.now_us();
        let gone = {
            let mut held = self.held();
            let mut gone = self.old(&mut held, now_us);
            while held.len() >= self.most
                && let Some(victim) = victim(&held)
            {
                gone.extend(held.remove(&victim));
            }
            held.insert(handle, Held { user: user.to_owned(), used_us: now_us, value });
            gone
        };
        // What they hold may be large: it is let go without the lock.
        drop(gone);
        handle
    }

    /// Uses what is kept; `None` where nothing of this user is.
    pub fn with<R>(&self, handle: &[u8], user: &str, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        let now_us = self.clock.now_us();
        let mut held = self.held();
        let found = held.get_mut(&Handle::try_from(handle).ok()?)?;
        if found.user != user || now_us.saturating_sub(found.used_us) > self.age_us {
            return None;
        }
        found.used_us = now_us;
        Some(f(&mut found.value))
    }

    /// Takes out what is kept.
    pub fn take(&self, handle: &[u8], user: &str) -> Option<T> {
        self.with(handle, user, |_| ())?;
        self.held().remove(&Handle::try_from(handle).ok()?).map(|held| held.value)
    }

    /// Forgets what is too old, and tells of each other thing for how many microseconds it was not used.
    pub fn sweep(&self, mut each: impl FnMut(&mut T, i64)) {
        let now_us = self.clock.now_us();
        let gone = {
            let mut held = self.held();
            let gone = self.old(&mut held, now_us);
            held.values_mut().for_each(|held| each(&mut held.value, now_us.saturating_sub(held.used_us)));
            gone
        };
        drop(gone);
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Handle, Held<T>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn old(&self, held: &mut HashMap<Handle, Held<T>>, now_us: i64) -> Vec<Held<T>> {
        let is_old = |_: &Handle, held: &mut Held<T>| now_us.saturating_sub(held.used_us) > self.age_us;
        held.extract_if(is_old).map(|(_, held)| held).collect()
    }
}

fn victim<T>(held: &HashMap<Handle, Held<T>>) -> Option<Handle> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for held in held.values() {
        *counts.entry(held.user.as_str()).or_default() += 1;
    }
    let user = counts.into_iter().max_by_key(|(_, count)| *count)?.0;
    let own = held.iter().filter(|(_, held)| held.user == user);
    own.min_by_key(|(_, held)| held.used_us).map(|(handle, _)| *handle)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    #[derive(Default)]
    struct Set(AtomicI64);

    impl Clock for Set {
        fn now_us(&self) -> i64 {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn kept(most: usize) -> (Arc<Set>, Kept<&'static str>) {
        let clock = Arc::new(Set::default());
        (Arc::clone(&clock), Kept::new(most, 60, clock))
    }

    #[test]
    fn a_thing_is_of_its_user_and_forgotten_when_it_is_not_used() {
        let (clock, kept) = kept(8);
        let handle = kept.keep("ana", "a");
        let seen = |user: &str| kept.with(&handle, user, |value| *value);
        assert_eq!((seen("ana"), seen("bob"), kept.take(&handle, "bob")), (Some("a"), None, None));
        assert_eq!(kept.with(b"short", "ana", |value| *value), None);
        clock.0.store(60_000_000, Ordering::Relaxed);
        assert_eq!(seen("ana"), Some("a"), "a use is a new beginning");
        clock.0.store(120_000_000, Ordering::Relaxed);
        assert_eq!(seen("ana"), Some("a"));
        clock.0.store(180_000_001, Ordering::Relaxed);
        assert_eq!(seen("ana"), None);
        kept.sweep(|_, _| panic!("it is still there"));
        let handle = kept.keep("ana", "b");
        assert_eq!((kept.take(&handle, "ana"), kept.take(&handle, "ana")), (Some("b"), None));
    }

    #[test]
    fn who_has_the_most_loses_the_oldest() {
        let (clock, kept) = kept(4);
        let bobs = kept.keep("bob", "b");
        let handles: Vec<Handle> = (1..6)
            .map(|at| {
                clock.0.store(at, Ordering::Relaxed);
                kept.keep("ana", "a")
            })
            .collect();
        let there: Vec<bool> = handles.iter().map(|handle| kept.take(handle, "ana").is_some()).collect();
        assert_eq!(there, [false, false, true, true, true]);
        assert!(kept.take(&bobs, "bob").is_some(), "another user's crowd takes nothing from bob");
    }
}
