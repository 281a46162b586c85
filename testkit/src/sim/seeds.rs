//! Which seeds are run: `SEED=n` replays one with its trace, `SIM_SEEDS=n` says how many (in CI 1,000).

use crate::client::BrokenRule;
use crate::sim::world::{System, Verdict, simulate};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Seeds of a run without `SIM_SEEDS`.
pub const SEEDS_DEFAULT: u64 = 200;

/// How many seeds the environment asks for.
pub fn seeds_wanted() -> u64 {
    std::env::var("SIM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS_DEFAULT)
}

/// Runs seeds `0..seeds` on all cores, each on a thread of its own runtime; the unclean verdict with the lowest seed, if any.
pub fn first_failure<S: System>(seeds: u64, bug: Option<S::Bug>, broken: Option<BrokenRule>) -> Option<Verdict>
where
    S::Bug: Send + Sync,
{
    let (next, found) = (AtomicU64::new(0), Mutex::new(None::<Verdict>));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let lowest = AtomicU64::new(u64::MAX);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    // A lower failure than the one found may still be running elsewhere; a higher one is of no interest.
                    if seed >= seeds || seed > lowest.load(Ordering::Relaxed) {
                        return;
                    }
                    let verdict = simulate::<S>(seed, bug, broken);
                    if !verdict.is_clean() {
                        lowest.fetch_min(seed, Ordering::Relaxed);
                        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                        if found.as_ref().is_none_or(|other| seed < other.seed) {
                            *found = Some(verdict);
                        }
                    }
                }
            });
        }
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Runs what the environment asks for and panics with the first failure.
#[track_caller]
pub fn check_seeds<S: System>()
where
    S::Bug: Send + Sync,
{
    if let Some(seed) = std::env::var("SEED").ok().and_then(|text| text.parse().ok()) {
        let verdict = simulate::<S>(seed, None, None);
        assert!(verdict.is_clean(), "{}\n{verdict}", verdict.trace);
        return;
    }
    if let Some(verdict) = first_failure::<S>(seeds_wanted(), None, None) {
        panic!("{verdict}");
    }
}
