//! The ids that an owner remembers: the once window (design §4 "Memory").
//!
//! Ids are kept by buckets of T, and a bucket goes as a whole: when it is older than the window *and* the writer's progress
//! has passed its last record. An id is known by a 128-bit hash of (channel, sender, id), so it takes 32 bytes and the slack
//! of a hash table.

use crate::ids::{ChannelId, ChannelSeq, ClientMsgId, LogTime, UserId};
use crate::limits::ONCE_WINDOW_MS;
use foldhash::fast::FixedState;
use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, VecDeque};
use std::hash::{Hash, Hasher};

/// What one id costs, hash table slack included. The bound in [`crate::decide::DecideLimits`] counts in it.
pub const ID_BYTES: usize = 64;

/// Width of a bucket in ms of T: few enough to probe all, fine enough to forget soon.
const BUCKET_MS: u64 = 30_000;

/// What is remembered of an accepted id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) seq: ChannelSeq,
    pub(crate) digest: u64,
}

/// Accepted ids by time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    buckets: VecDeque<Bucket>,
    ids: usize,
}

#[derive(Clone, Debug)]
struct Bucket {
    /// T divided by the width.
    number: u64,
    ids: HashMap<u128, Known, FixedState>,
    /// Records that were decided but not read back yet.
    unlanded: usize,
    /// The highest offset of a record of this bucket.
    offset: u64,
}

impl Window {
    pub(crate) fn len(&self) -> usize {
        self.ids
    }

    pub(crate) fn get(&self, channel: ChannelId, sender: UserId, id: ClientMsgId) -> Option<Known> {
        let key = key(channel, sender, id);
        self.buckets.iter().rev().find_map(|bucket| bucket.ids.get(&key)).copied()
    }

    /// Remembers an accepted id; `offset` is `None` until its record is read back.
    pub(crate) fn insert(&mut self, channel: ChannelId, sender: UserId, id: ClientMsgId, time: LogTime, known: Known, offset: Option<u64>) {
        let bucket = self.bucket(time);
        match offset {
            Some(offset) => bucket.offset = bucket.offset.max(offset),
            None => bucket.unlanded += 1,
        }
        if bucket.ids.insert(key(channel, sender, id), known).is_none() {
            self.ids += 1;
        }
    }

    /// The record of an accepted id was read back.
    pub(crate) fn landed(&mut self, time: LogTime, offset: u64) {
        let bucket = self.bucket(time);
        bucket.unlanded = bucket.unlanded.saturating_sub(1);
        bucket.offset = bucket.offset.max(offset);
    }

    /// Forgets what is older than the window and below the writer's progress.
    pub(crate) fn evict(&mut self, now: LogTime, progress: u64) {
        let before = now.minus_ms(ONCE_WINDOW_MS).0 / BUCKET_MS;
        while let Some(oldest) = self.buckets.front() {
            if oldest.number >= before || oldest.unlanded > 0 || oldest.offset >= progress {
                return;
            }
            self.ids -= oldest.ids.len();
            self.buckets.pop_front();
        }
    }

    /// T never steps back, so the bucket is the newest, or a known one of a record read back.
    fn bucket(&mut self, time: LogTime) -> &mut Bucket {
        let number = time.0 / BUCKET_MS;
        let place = self.buckets.partition_point(|bucket| bucket.number < number);
        if self.buckets.get(place).is_none_or(|bucket| bucket.number != number) {
            self.buckets.insert(place, Bucket { number, ids: HashMap::default(), unlanded: 0, offset: 0 });
        }
        &mut self.buckets[place]
    }
}

/// Two independent 64-bit hashes: a collision by chance is out of reach, and one by design takes 2^64 tries on one's own ids.
fn key(channel: ChannelId, sender: UserId, id: ClientMsgId) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, channel, sender, id).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(1) << 64 | half(2)
}
