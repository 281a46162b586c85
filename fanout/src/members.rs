//! Who is a member at the seq that is being routed: the store's rows plus the changes that the writer has not covered yet.

use crate::limits::MEMBERS_CACHED_MAX;
use domain::{ChannelId, ChannelSeq, Event, UserId};
use foldhash::fast::FixedState;
use lru::LruCache;
use std::collections::BTreeMap;
use store::MemberRow;

/// The members of the channels that one partition routes, each as of the last routed event.
#[derive(Debug)]
pub(crate) struct Members {
    cached: LruCache<ChannelId, Vec<UserId>, FixedState>,
    total: usize,
    recent: BTreeMap<ChannelId, Vec<Change>>,
}

/// A membership change in the log.
#[derive(Clone, Copy, Debug)]
struct Change {
    offset: u64,
    seq: ChannelSeq,
    user: UserId,
    inside: bool,
}

impl Members {
    pub(crate) fn new() -> Self {
        Self { cached: LruCache::unbounded_with_hasher(FixedState::default()), total: 0, recent: BTreeMap::new() }
    }

    /// Whether routing needs a read of the store first.
    pub(crate) fn knows(&self, channel: ChannelId) -> bool {
        self.cached.contains(&channel)
    }

    /// The members as of `seq`, from all the rows the store has and what it does not have yet.
    pub(crate) fn insert(&mut self, channel: ChannelId, rows: &[MemberRow], seq: ChannelSeq) {
        let mut last: BTreeMap<UserId, (ChannelSeq, bool)> = BTreeMap::new();
        let mut see = |user: UserId, at: ChannelSeq, inside: bool| {
            let entry = last.entry(user).or_insert((at, inside));
            if at <= seq && at >= entry.0 {
                *entry = (at, inside);
            }
        };
        for row in rows.iter().filter(|row| row.joined <= seq) {
            see(row.user, row.joined, true);
            if let Some(left) = row.left.filter(|left| *left <= seq) {
                see(row.user, left, false);
            }
        }
        for change in self.recent.get(&channel).into_iter().flatten().filter(|change| change.seq <= seq) {
            see(change.user, change.seq, change.inside);
        }
        let members: Vec<UserId> = last.into_iter().filter(|(_, (_, inside))| *inside).map(|(user, _)| user).collect();
        self.total += members.len() + 1;
        if let Some(old) = self.cached.put(channel, members) {
            self.total -= old.len() + 1;
        }
    }

    /// Forgets the channels used longest ago while there are more members than the limit. Between batches only: within
    /// one, what was loaded must stay.
    pub(crate) fn shrink(&mut self) {
        while self.total > MEMBERS_CACHED_MAX
            && let Some((_, gone)) = self.cached.pop_lru()
        {
            self.total -= gone.len() + 1;
        }
    }

    /// Everybody who sees a record: the members before it and whoever it lets in. Those whom it removes see it as their last.
    /// Moves the cached members past the record.
    pub(crate) fn audience(&mut self, channel: ChannelId, events: &[Event], audience: &mut Vec<UserId>) {
        audience.clear();
        let Some(members) = self.cached.get_mut(&channel) else { return };
        audience.extend_from_slice(members);
        for event in events {
            let Some((user, role)) = event.kind.membership() else { continue };
            match (members.binary_search(&user), role) {
                (Err(place), Some(_)) => {
                    members.insert(place, user);
                    self.total += 1;
                    audience.push(user);
                }
                (Ok(place), None) => {
                    members.remove(place);
                    self.total -= 1;
                }
                (Ok(_), Some(_)) | (Err(_), None) => {}
            }
        }
    }

    /// Whether a person is a member now, as far as known.
    pub(crate) fn members(&mut self, channel: ChannelId) -> Option<&[UserId]> {
        self.cached.get(&channel).map(Vec::as_slice)
    }

    /// Keeps the membership changes of a record until the writer has passed it.
    pub(crate) fn remember(&mut self, channel: ChannelId, offset: u64, events: &[Event]) {
        for event in events {
            if let Some((user, role)) = event.kind.membership() {
                let change = Change { offset, seq: event.seq, user, inside: role.is_some() };
                self.recent.entry(channel).or_default().push(change);
            }
        }
    }

    /// The writer has applied everything below this offset.
    pub(crate) fn covered_below(&mut self, offset: u64) {
        self.recent.retain(|_, changes| {
            changes.retain(|change| change.offset >= offset);
            !changes.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::command::Role;
    use domain::{EventKind, MessageId, Ordinal};
    use proptest::prelude::*;
    use uuid::Uuid;

    const CHANNEL: ChannelId = ChannelId(Uuid::from_u128(1));

    fn user(n: u8) -> UserId {
        UserId(Uuid::from_u128(u128::from(n) + 100))
    }

    fn event(seq: u64, who: u8, inside: bool) -> Event {
        let user = user(who);
        let kind = if inside {
            EventKind::MemberJoined { user, role: Role::Member }
        } else {
            EventKind::MemberLeft { user, removed: true }
        };
        Event {
            seq: ChannelSeq(seq),
            ordinal: Ordinal(0),
            message_id: MessageId(seq),
            members_version: ChannelSeq(seq),
            kind,
        }
    }

    /// What the store has after the first `count` changes.
    fn rows(changes: &[(u8, bool)], count: usize) -> Vec<MemberRow> {
        let mut rows: Vec<MemberRow> = Vec::new();
        for (i, (who, inside)) in changes[..count].iter().enumerate() {
            let seq = ChannelSeq(i as u64 + 1);
            let open = rows.iter_mut().find(|row| row.user == user(*who) && row.left.is_none());
            match (open, inside) {
                (None, true) => rows.push(MemberRow { user: user(*who), role: Role::Member, joined: seq, left: None }),
                (Some(row), false) => row.left = Some(seq),
                _ => {}
            }
        }
        rows
    }

    fn sorted(mut users: Vec<UserId>) -> Vec<UserId> {
        users.sort();
        users.dedup();
        users
    }

    #[test]
    fn a_removed_member_sees_the_removal_and_nothing_after_it() {
        let mut members = Members::new();
        members.insert(CHANNEL, &rows(&[(1, true), (2, true)], 2), ChannelSeq(2));
        let mut audience = Vec::new();
        members.audience(CHANNEL, &[event(3, 2, false)], &mut audience);
        assert_eq!(sorted(audience.clone()), vec![user(1), user(2)]);
        members.audience(CHANNEL, &[], &mut audience);
        assert_eq!(audience, vec![user(1)]);
    }

    proptest! {
        #[test]
        fn members_at_a_seq_are_the_same_whatever_the_store_has_already(
            changes in prop::collection::vec((0_u8..5, any::<bool>()), 1..30), stored in 0_usize..30, covered in 0_usize..30, at in 0_usize..30,
        ) {
            let (stored, at) = (stored.min(changes.len()), at.min(changes.len()));
            let covered = covered.min(stored);
            let mut members = Members::new();
            for (i, (who, inside)) in changes.iter().enumerate().take(at) {
                members.remember(CHANNEL, i as u64, &[event(i as u64 + 1, *who, *inside)]);
            }
            members.covered_below(covered as u64);
            members.insert(CHANNEL, &rows(&changes, stored), ChannelSeq(at as u64));
            let mut truth = std::collections::BTreeSet::new();
            for (who, inside) in &changes[..at] {
                if *inside { truth.insert(user(*who)); } else { truth.remove(&user(*who)); }
            }
            prop_assert_eq!(members.members(CHANNEL).expect("inserted").to_vec(), truth.into_iter().collect::<Vec<_>>());
        }
    }
}
