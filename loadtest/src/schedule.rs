//! When open-loop messages are meant to be sent, and a thread that says so on time.

use crate::limits::ARRIVALS_WAITING_MAX;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// One message of the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// µs after the start.
    pub(crate) at_us: u64,
    /// Which person sends it.
    pub(crate) who: usize,
}

/// Arrivals as independent people make them (a Poisson process): the same for the same seed, so that a bare loop can have the same.
pub(crate) fn arrivals(seed: u64, per_second: f64, people: usize, length: Duration) -> Vec<Arrival> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut arrivals = Vec::with_capacity((per_second * length.as_secs_f64() * 1.05) as usize);
    let mut at = 0.0;
    loop {
        at -= (1.0 - random.random::<f64>()).ln() / per_second;
        if at >= length.as_secs_f64() {
            return arrivals;
        }
        arrivals.push(Arrival { at_us: (at * 1e6) as u64, who: random.random_range(0..people) });
    }
}

/// Sends each arrival when it is due. Sleeps by the kernel's timer, which is finer than an event loop's milliseconds.
pub(crate) fn pace(start: Instant, arrivals: Vec<Arrival>) -> mpsc::Receiver<Arrival> {
    let (sender, receiver) = mpsc::channel(ARRIVALS_WAITING_MAX);
    std::thread::spawn(move || {
        for arrival in arrivals {
            let due = start + Duration::from_micros(arrival.at_us);
            let wait = due.saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                std::thread::sleep(wait);
            }
            if sender.blocking_send(arrival).is_err() {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_schedule_at_the_rate_asked_for() {
        let schedule = arrivals(7, 1_736.0, 1_000, Duration::from_secs(20));
        assert_eq!(schedule, arrivals(7, 1_736.0, 1_000, Duration::from_secs(20)));
        assert_ne!(schedule, arrivals(8, 1_736.0, 1_000, Duration::from_secs(20)));
        assert!(schedule.is_sorted_by_key(|arrival| arrival.at_us));
        let rate = schedule.len() as f64 / 20.0;
        assert!((1_650.0..1_820.0).contains(&rate), "{rate}/s");
    }
}
