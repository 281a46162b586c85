//! The one way to read a channel for a person: rows first, membership second (VIS).
//!
//! Membership that is read after the rows is at least as new as they are: a removal that is in the store before a row of the
//! channel (design §5 "Writer") can't be missed while that row is shown.

use crate::{Error, MemberRow, Memberships, PageQuery, StoredEvent, Timelines};
use domain::command::HistoryVisibility;
use domain::{ChannelId, ChannelSeq, ClientMsgId, UserId};
use std::sync::Arc;

/// Which seqs of a channel a person may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Both ends included, ascending. The last one is open-ended for a member.
    ranges: Vec<(u64, u64)>,
}

impl Reach {
    /// Of a personal channel's own person.
    pub fn everything() -> Self {
        Self { ranges: vec![(0, u64::MAX)] }
    }

    /// Of somebody with these stays. `None`: never a member. The event that removes a person is the last one they see.
    pub fn of(stays: &[MemberRow], history: HistoryVisibility) -> Option<Self> {
        let mut ranges: Vec<(u64, u64)> =
            stays.iter().map(|stay| (stay.joined.0, stay.left.map_or(u64::MAX, |left| left.0))).collect();
        ranges.sort_unstable();
        let last = ranges.iter().map(|(_, left)| *left).max()?;
        if history == HistoryVisibility::FromStart {
            ranges = vec![(1, last)];
        }
        Some(Self { ranges })
    }

    /// Whether they may read this one.
    pub fn contains(&self, seq: ChannelSeq) -> bool {
        self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&seq.0))
    }

    /// Nothing beyond it.
    pub fn end(&self) -> ChannelSeq {
        ChannelSeq(self.ranges.iter().map(|(_, last)| *last).max().unwrap_or(0))
    }

    /// The first seq above this one that they may read; `None`: there is none.
    pub fn next_above(&self, seq: ChannelSeq) -> Option<ChannelSeq> {
        let next = |(first, last): &(u64, u64)| (*last > seq.0).then(|| ChannelSeq((*first).max(seq.0 + 1)));
        self.ranges.iter().filter_map(next).min()
    }

    /// Whether they are a member now.
    pub fn is_current(&self) -> bool {
        self.end().0 == u64::MAX
    }
}

/// A page as one person may see it.
#[derive(Clone, Debug)]
pub struct PersonalPage {
    rows: Arc<[StoredEvent]>,
    /// Which of the rows they may see.
    shown: Vec<usize>,
    reach: Reach,
    /// The page is complete for the seqs from here …
    pub first: ChannelSeq,
    /// … to here: what is not among the events there is hidden, not missing. Below `first`: for none.
    pub last: ChannelSeq,
    /// The limit cut it: the store has more of the window.
    pub more: bool,
}

impl PersonalPage {
    /// What they may see, in the order of seq.
    pub fn events(&self) -> impl Iterator<Item = &StoredEvent> {
        self.shown.iter().map(|row| &self.rows[*row])
    }

    /// What else they may.
    pub fn reach(&self) -> &Reach {
        &self.reach
    }
}

/// Reads a page for a person. `None`: never a member, or no such channel.
pub async fn page_for(
    timelines: &dyn Timelines,
    memberships: &dyn Memberships,
    user: UserId,
    query: &PageQuery,
) -> Result<Option<PersonalPage>, Error> {
    let rows = timelines.page(query).await?.events;
    let Some(reach) = reach_of(timelines, memberships, user, query.channel).await? else {
        return Ok(None);
    };
    let origins = origins_of_joining(timelines, &rows, &reach, query.channel).await?;
    let may_see = |row: &StoredEvent| {
        let seq = row.event.seq;
        reach.contains(seq) || origins.iter().any(|(joined, origin)| seq < *joined && *origin == origin_of(row))
    };
    let shown = rows.iter().enumerate().filter(|(_, row)| may_see(row)).map(|(place, _)| place).collect();
    let cut = rows.len() >= query.limit;
    let (first, last) = match (rows.first(), rows.last()) {
        (Some(oldest), Some(newest)) => {
            (if query.newest_first && cut { oldest.event.seq } else { query.first }, newest.event.seq)
        }
        _ => (query.first, ChannelSeq(query.first.0.saturating_sub(1))),
    };
    let last = last.min(reach.end());
    let more = cut && rows.last().is_some_and(|newest| newest.event.seq < reach.end());
    Ok(Some(PersonalPage { rows, shown, reach, first, last, more }))
}

/// The command that an event came from.
type Origin = (UserId, ClientMsgId);

fn origin_of(row: &StoredEvent) -> Origin {
    (row.sender, row.client_msg_id)
}

/// The commands by which a person joined, as far as they matter to these rows. A person joins by a whole record: who is there when the
/// channel is made sees how it was made, as they do live.
async fn origins_of_joining(
    timelines: &dyn Timelines,
    rows: &[StoredEvent],
    reach: &Reach,
    channel: ChannelId,
) -> Result<Vec<(ChannelSeq, Origin)>, Error> {
    let mut origins = Vec::new();
    for (joined, _) in &reach.ranges {
        let joined = ChannelSeq(*joined);
        if !rows.iter().any(|row| row.event.seq < joined && !reach.contains(row.event.seq)) {
            continue;
        }
        if let Some(row) = rows.iter().find(|row| row.event.seq == joined) {
            origins.push((joined, origin_of(row)));
            continue;
        }
        let query = PageQuery { channel, first: joined, last: joined, limit: 1, newest_first: false };
        origins.extend(timelines.page(&query).await?.events.first().map(|row| (joined, origin_of(row))));
    }
    Ok(origins)
}

/// What a person may read of a channel now. `None`: never a member, or no such channel.
pub async fn reach_of(
    timelines: &dyn Timelines,
    memberships: &dyn Memberships,
    user: UserId,
    channel: ChannelId,
) -> Result<Option<Reach>, Error> {
    if channel == ChannelId::personal(user) {
        return Ok(Some(Reach::everything()));
    }
    let stays = memberships.stays(channel, user).await?;
    if stays.is_empty() {
        return Ok(None);
    }
    // A channel's visibility is fixed at its creation, so the order of these two reads does not matter.
    let summaries = timelines.summaries(&[channel]).await?;
    let history = summaries.first().map_or_else(HistoryVisibility::default, |summary| summary.history);
    Ok(Reach::of(&stays, history))
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::command::Role;

    type Case<'a> = (&'a [MemberRow], HistoryVisibility, &'a [u64], &'a [u64]);

    fn stay(joined: u64, left: Option<u64>) -> MemberRow {
        MemberRow {
            user: UserId::from_bytes([1; 16]),
            role: Role::Member,
            joined: ChannelSeq(joined),
            left: left.map(ChannelSeq),
        }
    }

    #[test]
    fn a_person_reads_between_joining_and_leaving_and_never_beyond_a_removal() {
        use HistoryVisibility::{FromJoining, FromStart};
        let once = [stay(3, Some(7))];
        let twice = [stay(3, Some(7)), stay(12, None)];
        let cases: &[Case<'_>] = &[
            (&once, FromJoining, &[3, 5, 7], &[1, 2, 8, 100]),
            (&once, FromStart, &[1, 3, 7], &[8, 100]),
            (&twice, FromJoining, &[3, 7, 12, 100], &[2, 8, 11]),
            (&twice, FromStart, &[1, 8, 11, 12, 100], &[]),
        ];
        for (stays, history, seen, hidden) in cases {
            let reach = Reach::of(stays, *history).expect("has stays");
            for seq in *seen {
                assert!(reach.contains(ChannelSeq(*seq)), "{stays:?} {history:?} {seq}");
            }
            for seq in *hidden {
                assert!(!reach.contains(ChannelSeq(*seq)), "{stays:?} {history:?} {seq}");
            }
        }
        let next =
            |stays: &[MemberRow], seq| Reach::of(stays, FromJoining).expect("has stays").next_above(ChannelSeq(seq));
        assert_eq!([1, 4, 7, 20].map(|seq| next(&twice, seq)), [3, 5, 12, 21].map(|seq| Some(ChannelSeq(seq))));
        assert_eq!(next(&once, 7), None);
        assert!(!Reach::of(&once, FromStart).expect("has stays").is_current());
        assert!(Reach::of(&twice, FromJoining).expect("has stays").is_current());
        assert_eq!(Reach::of(&[], FromStart), None);
    }
}
