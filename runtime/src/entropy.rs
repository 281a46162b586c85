//! Randomness as a handle: the operating system's, or a seed's in a simulation.

use rand::{RngCore, SeedableRng, rngs::StdRng};
use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex, PoisonError};

/// A source of random bits. Cryptographically strong when made by [`Entropy::from_os`].
pub struct Entropy(Mutex<StdRng>);

/// Entropy as roles hold it.
pub type SharedEntropy = Arc<Entropy>;

impl Entropy {
    /// Seeded by the operating system.
    pub fn from_os() -> SharedEntropy {
        Arc::new(Self(Mutex::new(StdRng::from_os_rng())))
    }

    /// The same bits for the same seed. For simulations and tests.
    pub fn from_seed(seed: u64) -> SharedEntropy {
        Arc::new(Self(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// 64 random bits.
    pub fn next_u64(&self) -> u64 {
        self.rng().next_u64()
    }

    /// 128 random bits.
    pub fn next_u128(&self) -> u128 {
        let mut rng = self.rng();
        (u128::from(rng.next_u64()) << 64) | u128::from(rng.next_u64())
    }

    /// Evenly from `0..below`; 0 if `below` is 0.
    pub fn below(&self, below: u64) -> u64 {
        // The bias of a 64-bit product is below 2^-32 for every bound used here.
        ((u128::from(self.next_u64()) * u128::from(below)) >> 64) as u64
    }

    /// A UUIDv7 of a time in ms since the Unix epoch.
    pub fn uuid_v7(&self, now_ms: u64) -> uuid::Uuid {
        let mut random = [0; 10];
        self.rng().fill_bytes(&mut random);
        uuid::Builder::from_unix_timestamp_millis(now_ms, &random).into_uuid()
    }

    fn rng(&self) -> std::sync::MutexGuard<'_, StdRng> {
        // A panic while holding the lock leaves valid generator state behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy")
    }
}
