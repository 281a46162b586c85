//! The ids that an owner remembers: the once window (design §4 "Memory").
//!
//! Ids are accepted in the order of T and of the log, so they stand in a queue: what may be forgotten is always at its front.
//! A hash table of places finds them. An id is known by 96 bits of a hash of (channel, sender, id): 40 bytes in the queue, at
//! most 12 in the table.

use crate::ids::{ChannelId, ChannelSeq, ClientMsgId, LogTime, UserId};
use crate::limits::ONCE_WINDOW_MS;
use hashbrown::HashTable;
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

/// What one id is counted as: its place in the queue and in the table, the slack of both included.
pub const ID_BYTES: usize = 64;

/// Entries that are allocated together: the slack of the queue is below two chunks.
const CHUNK: usize = 128;

/// Stands for the offset of a record that was decided and not read back yet. No progress ever passes it.
const NOT_LANDED: u64 = u64::MAX;

/// What is remembered of an accepted id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) seq: ChannelSeq,
    pub(crate) digest: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: Key,
    /// T in whole seconds, rounded up: forgotten a second late at most, never early.
    second: u32,
    seq: u64,
    digest: u64,
    offset: u64,
}

const _: () = assert!(size_of::<Entry>() == 40, "an entry, and 12 bytes of table at its emptiest, stay below ID_BYTES");

/// Accepted ids in the order they were accepted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    /// Full chunks, but for the last.
    chunks: VecDeque<Vec<Entry>>,
    /// The place of the first entry of the first chunk. Places count on for ever, and wrap in the table, which holds far fewer.
    base: u64,
    /// Entries of the first chunk that are forgotten.
    gone: usize,
    places: HashTable<u32>,
}

impl Window {
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Bytes allocated.
    pub(crate) fn bytes(&self) -> usize {
        self.chunks.len() * CHUNK * size_of::<Entry>() + self.places.allocation_size()
    }

    pub(crate) fn get(&self, channel: ChannelId, sender: UserId, id: ClientMsgId) -> Option<Known> {
        let entry = self.entry(self.find(Key::new(channel, sender, id))?);
        Some(Known { seq: ChannelSeq(entry.seq), digest: entry.digest })
    }

    /// Remembers an accepted id; `offset` is `None` until its record is read back. A known one only learns its offset.
    pub(crate) fn insert(
        &mut self,
        (channel, sender, id): (ChannelId, UserId, ClientMsgId),
        time: LogTime,
        known: Known,
        offset: Option<u64>,
    ) {
        let key = Key::new(channel, sender, id);
        let offset = offset.unwrap_or(NOT_LANDED);
        if let Some(place) = self.find(key) {
            self.entry_mut(place).offset = offset;
            return;
        }
        let (seq, digest) = (known.seq.0, known.digest);
        let entry = Entry { key, second: time.0.div_ceil(1_000) as u32, seq, digest, offset };
        match self.chunks.back_mut() {
            Some(last) if last.len() < CHUNK => last.push(entry),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(entry);
                self.chunks.push_back(chunk);
            }
        }
        let place = self.end() - 1;
        let Self { chunks, base, places, .. } = self;
        places.insert_unique(key.hash(), place as u32, |place| at(chunks, *base, *place).key.hash());
    }

    /// The record of an accepted id was read back.
    pub(crate) fn landed(&mut self, channel: ChannelId, sender: UserId, id: ClientMsgId, offset: u64) {
        if let Some(place) = self.find(Key::new(channel, sender, id)) {
            self.entry_mut(place).offset = offset;
        }
    }

    /// Forgets what is older than the window and below the writer's progress.
    pub(crate) fn evict(&mut self, now: LogTime, progress: u64) {
        let before = now.minus_ms(ONCE_WINDOW_MS).0 / 1_000;
        while let Some(first) = self.chunks.front() {
            let Some(entry) = first.get(self.gone) else { break };
            if u64::from(entry.second) >= before || entry.offset >= progress {
                break;
            }
            let (hash, place) = (entry.key.hash(), (self.base + self.gone as u64) as u32);
            if let Ok(found) = self.places.find_entry(hash, |other| *other == place) {
                found.remove();
            }
            self.gone += 1;
            if self.gone == first.len() {
                self.base += self.gone as u64;
                self.gone = 0;
                self.chunks.pop_front();
            }
        }
        // After a peak the table would stay as large as it ever was.
        if self.places.capacity() > 4 * self.places.len() + CHUNK {
            let Self { chunks, base, places, .. } = self;
            places.shrink_to(2 * places.len(), |place| at(chunks, *base, *place).key.hash());
        }
    }

    /// The place behind the last entry.
    fn end(&self) -> u64 {
        let full = self.chunks.len().saturating_sub(1) * CHUNK;
        self.base + (full + self.chunks.back().map_or(0, Vec::len)) as u64
    }

    fn find(&self, key: Key) -> Option<u32> {
        self.places.find(key.hash(), |place| self.entry(*place).key == key).copied()
    }

    fn entry(&self, place: u32) -> &Entry {
        at(&self.chunks, self.base, place)
    }

    fn entry_mut(&mut self, place: u32) -> &mut Entry {
        let index = place.wrapping_sub(self.base as u32) as usize;
        &mut self.chunks[index / CHUNK][index % CHUNK]
    }
}

fn at(chunks: &VecDeque<Vec<Entry>>, base: u64, place: u32) -> &Entry {
    let index = place.wrapping_sub(base as u32) as usize;
    &chunks[index / CHUNK][index % CHUNK]
}

/// 96 bits of two hashes: among a million ids a collision by chance has odds of 1 in 2^57, and one by design hits only the
/// ids of the person who made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key([u32; 3]);

impl Key {
    fn new(channel: ChannelId, sender: UserId, id: ClientMsgId) -> Self {
        let half = |salt: u8| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u8(salt);
            (channel.as_bytes(), sender.as_bytes(), id.as_bytes()).hash(&mut hasher);
            hasher.finish()
        };
        let first = half(1);
        Self([(first >> 32) as u32, first as u32, half(2) as u32])
    }

    fn hash(self) -> u64 {
        (u64::from(self.0[0]) << 32) | u64::from(self.0[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use uuid::Uuid;

    const START: u64 = 1_790_000_000_000;

    fn names(n: u64) -> (ChannelId, UserId, ClientMsgId) {
        let uuid = |salt: u64| Uuid::from_u64_pair(salt, n);
        (ChannelId(uuid(1)), UserId(uuid(2)), ClientMsgId(uuid(3)))
    }

    fn get(window: &Window, n: u64) -> Option<u64> {
        let (channel, sender, id) = names(n);
        window.get(channel, sender, id).map(|known| known.seq.0)
    }

    fn insert(window: &mut Window, n: u64, time: u64, offset: Option<u64>) {
        window.insert(names(n), LogTime(time), Known { seq: ChannelSeq(n), digest: n }, offset);
    }

    #[test]
    fn an_id_takes_at_most_what_it_is_counted_as() {
        let mut window = Window::default();
        for n in 0..200_000 {
            insert(&mut window, n, START + n, Some(n));
            if n > 2_000 {
                assert!(window.bytes() <= window.len() * ID_BYTES, "{} bytes for {} ids", window.bytes(), window.len());
            }
        }
        // A peak leaves nothing behind.
        window.evict(LogTime(START + 199_000 + ONCE_WINDOW_MS), u64::MAX - 1);
        assert!((1_000..3_000).contains(&window.len()));
        assert!(window.bytes() <= 4 * window.len() * ID_BYTES, "{} bytes for {} ids", window.bytes(), window.len());
    }

    #[test]
    fn what_has_not_landed_is_never_forgotten() {
        let mut window = Window::default();
        insert(&mut window, 1, START, None);
        window.evict(LogTime(START + 10 * ONCE_WINDOW_MS), u64::MAX);
        assert_eq!(get(&window, 1), Some(1));
        let (channel, sender, id) = names(1);
        window.landed(channel, sender, id, 5);
        window.evict(LogTime(START + 10 * ONCE_WINDOW_MS), 5);
        assert_eq!(get(&window, 1), Some(1), "offset 5 is not below a progress of 5");
        window.evict(LogTime(START + 10 * ONCE_WINDOW_MS), 6);
        assert_eq!(window.len(), 0);
    }

    proptest! {
        #[test]
        fn it_knows_what_a_plain_map_knows(steps in prop::collection::vec((0_u8..8, 0_u64..400, 0_u64..3_000), 1..2_000)) {
            let mut window = Window { base: u64::from(u32::MAX) - 300, ..Window::default() };
            let mut plain: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
            let (mut now, mut offset) = (START, 0_u64);
            for (what, n, ms) in steps {
                now += ms;
                match what {
                    0 => {
                        let progress = offset.saturating_sub(n / 8);
                        window.evict(LogTime(now), progress);
                        let before = (now - ONCE_WINDOW_MS) / 1_000;
                        plain.retain(|_, (time, at)| time.div_ceil(1_000) >= before || *at >= progress);
                    }
                    _ if plain.contains_key(&n) => insert(&mut window, n, now, Some(plain[&n].1)),
                    _ => {
                        insert(&mut window, n, now, Some(offset));
                        plain.insert(n, (now, offset));
                        offset += 1;
                    }
                }
                prop_assert_eq!(window.len(), plain.len());
                prop_assert_eq!(get(&window, n), plain.contains_key(&n).then_some(n));
            }
            for n in 0..400 {
                prop_assert_eq!(get(&window, n), plain.contains_key(&n).then_some(n));
            }
        }
    }
}
