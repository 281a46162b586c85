//! The contract every adapter passes: plain functions with sentence names, run by [`crate::contract_tests!`].
//!
//! Each function makes its own store and says in its name what must hold. An adapter proves itself with
//! `store::contract_tests!(#[tokio::test] => MyFactory::new())` in a test file.

use crate::{Accounts, Memberships, Projections, SequencerReads, Timelines};
use crate::{
    ErrorKind, MemberRow, MembershipRow, NewAccount, PageQuery, ProgressCursor, SignIn, Store, StoredEvent,
    TimelineRow, WriteBatch,
};
use domain::command::{ChannelKind, HistoryVisibility, Role};
use domain::decide::Member;
use domain::limits::ONCE_WINDOW_MS;
use domain::{
    ChannelId, ChannelSeq, ClientMsgId, Epoch, Event, EventKind, LogCursor, LogTime, MessageId, Ordinal, OwnerSeq,
    PartitionId, UserId,
};
use futures_util::future::join_all;
use std::sync::Arc;
use uuid::Uuid;

/// Makes stores for the contract.
#[allow(async_fn_in_trait, reason = "used by tests on one thread")]
pub trait Factory {
    /// The adapter.
    type Store: Store;

    /// A new, empty store.
    async fn make(&self) -> Self::Store;

    /// Closes a store as a clean end of its process does, and opens it again.
    async fn reopen(&self, store: Self::Store) -> Self::Store;
}

/// Runs the whole contract as tests of the calling crate: `contract_tests!(#[tokio::test] => factory)`.
#[macro_export]
macro_rules! contract_tests {
    (#[$test:meta] => $factory:expr) => {
        $crate::contract_tests! { @each #[$test] => $factory;
            applied_rows_are_visible_when_apply_returns
            applying_the_same_batch_again_changes_nothing
            an_older_batch_changes_nothing
            batches_that_overlap_write_each_row_once
            every_kind_of_event_comes_back_as_it_was
            texts_come_back_byte_for_byte
            an_empty_batch_is_fine
            many_batches_at_once_are_all_written
            a_page_holds_the_window_and_both_its_ends
            a_page_is_cut_at_the_oldest_or_newest_end
            a_page_outside_the_timeline_is_empty
            identical_pages_at_once_are_equal_and_see_what_was_applied
            misses_are_empty_and_no_errors
            answers_keep_the_order_and_length_of_the_question
            summaries_leave_absent_channels_out
            a_head_knows_everybody_who_is_or_was_a_member
            a_late_membership_change_does_not_undo_a_newer_one
            a_channel_without_creation_is_personal
            a_head_of_thousands_of_members_is_complete
            stays_of_a_person_who_came_back_are_two
            channels_of_a_person_tell_their_last_stay
            a_membership_change_is_visible_with_any_later_row
            an_id_is_known_by_channel_sender_and_id_together
            only_the_first_event_of_a_command_answers_its_retries
            an_id_from_another_day_is_found
            progress_starts_empty_and_keeps_its_cursor_whole
            older_progress_changes_nothing
            progress_keeps_a_trail_back_past_the_once_window
            partitions_have_trails_of_their_own
            everything_is_there_after_reopening
            an_account_is_found_by_id_and_by_name
            a_taken_username_is_told_and_changes_nothing
            a_taken_id_is_told_and_changes_nothing
            one_of_many_who_want_a_username_gets_it
            many_accounts_pass_over_those_that_exist
            a_rename_changes_the_display_name_only
            renaming_nobody_is_not_found
            a_sign_in_is_remembered_and_its_revocation_stays
            accounts_are_there_after_reopening
        }
    };
    (@each #[$test:meta] => $factory:expr; $($name:ident)*) => {
        $(
            #[$test]
            async fn $name() {
                $crate::contract::$name(&$factory).await;
            }
        )*
    };
}

/// Writes a channel's timeline the way a sequencer would: dense seqs, running ordinals, rising ids. For tests of stores.
#[derive(Clone, Debug)]
pub struct Script {
    /// The channel.
    pub channel: ChannelId,
    /// T of the next row.
    pub time: LogTime,
    seq: u64,
    ordinal: u64,
    members_version: u64,
    last_id: MessageId,
    commands: u64,
}

/// The partition of every script.
pub const PARTITION: PartitionId = PartitionId(3);

/// T at the beginning of every script: 2026-01-01T12:00:00Z.
pub const START: LogTime = LogTime(1_767_268_800_000);

/// The person with this number.
pub fn person(number: u64) -> UserId {
    UserId(Uuid::from_u64_pair(0x0b0b, number))
}

/// The channel with this number.
pub fn channel(number: u64) -> ChannelId {
    ChannelId(Uuid::from_u64_pair(0xc0c0, number))
}

/// The command id with this number, of a time.
pub fn command_id(time: LogTime, number: u64) -> ClientMsgId {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&number.to_be_bytes());
    ClientMsgId(uuid::Builder::from_unix_timestamp_millis(time.0, &random).into_uuid())
}

impl Script {
    /// An empty timeline.
    pub fn new(channel: ChannelId) -> Self {
        let last_id = MessageId::default();
        Self { channel, time: START, seq: 0, ordinal: 0, members_version: 0, last_id, commands: 0 }
    }

    /// The next row: a command of its own.
    pub fn row(&mut self, sender: UserId, kind: EventKind) -> TimelineRow {
        self.commands += 1;
        self.next(sender, kind, true)
    }

    /// The next row: one more event of the command before.
    pub fn same_command(&mut self, sender: UserId, kind: EventKind) -> TimelineRow {
        self.next(sender, kind, false)
    }

    /// A message.
    pub fn post(&mut self, sender: UserId, text: &str) -> TimelineRow {
        self.row(sender, EventKind::MessagePosted { text: text.into() })
    }

    /// The creation of a group with its members, the first one its owner.
    pub fn create(&mut self, members: &[UserId]) -> Vec<TimelineRow> {
        let kind = EventKind::ChannelCreated {
            kind: ChannelKind::Group,
            title: "Gruppe ☕".into(),
            history: HistoryVisibility::FromStart,
            open: true,
        };
        let mut rows = vec![self.row(members[0], kind)];
        for (i, user) in members.iter().enumerate() {
            let role = if i == 0 { Role::Owner } else { Role::Member };
            rows.push(self.same_command(members[0], EventKind::MemberJoined { user: *user, role }));
        }
        rows
    }

    fn next(&mut self, sender: UserId, kind: EventKind, first_of_command: bool) -> TimelineRow {
        self.seq += 1;
        self.ordinal += u64::from(kind.is_message());
        if kind.membership().is_some() {
            self.members_version = self.seq;
        }
        self.last_id = self.last_id.next_at(self.time, PARTITION);
        TimelineRow {
            channel: self.channel,
            sender,
            client_msg_id: command_id(self.time, self.commands),
            time: self.time,
            offset: 1_000 + self.seq,
            first_of_command,
            digest: u64::MAX - self.commands,
            event: Event {
                seq: ChannelSeq(self.seq),
                ordinal: Ordinal(self.ordinal),
                message_id: self.last_id,
                members_version: ChannelSeq(self.members_version),
                kind,
            },
        }
    }
}

/// Rows as one batch.
pub fn batch(rows: impl Into<Vec<TimelineRow>>) -> Arc<WriteBatch> {
    Arc::new(WriteBatch { partition: PARTITION, rows: rows.into() })
}

/// A row as it is read.
pub fn stored(row: &TimelineRow) -> StoredEvent {
    StoredEvent {
        channel: row.channel,
        sender: row.sender,
        client_msg_id: row.client_msg_id,
        time: row.time,
        event: row.event.clone(),
    }
}

fn window(channel: ChannelId, first: u64, last: u64, limit: usize, newest_first: bool) -> PageQuery {
    PageQuery { channel, first: ChannelSeq(first), last: ChannelSeq(last), limit, newest_first }
}

fn whole(channel: ChannelId) -> PageQuery {
    window(channel, 1, u64::MAX, usize::MAX, false)
}

async fn read(store: &impl Store, query: &PageQuery) -> Vec<StoredEvent> {
    store.page(query).await.expect("page").events.to_vec()
}

async fn seqs(store: &impl Store, query: &PageQuery) -> Vec<u64> {
    read(store, query).await.iter().map(|event| event.event.seq.0).collect()
}

async fn apply(store: &impl Store, rows: impl Into<Vec<TimelineRow>>) {
    store.apply(batch(rows)).await.expect("apply");
}

/// A group of three with ten messages.
async fn conversation(store: &impl Store) -> Vec<TimelineRow> {
    let mut script = Script::new(channel(1));
    let mut rows = script.create(&[person(1), person(2), person(3)]);
    rows.extend((0..10).map(|n| script.post(person(1 + n % 3), &format!("message {n}"))));
    apply(store, rows.clone()).await;
    rows
}

/// All that can be read of a channel.
async fn everything(store: &impl Store, channel: ChannelId) -> String {
    let page = read(store, &whole(channel)).await;
    let heads = store.heads(&[channel]).await.expect("heads");
    let summaries = store.summaries(&[channel]).await.expect("summaries");
    let members = store.members_of(channel).await.expect("members");
    format!("{page:#?} {heads:#?} {summaries:#?} {members:#?}")
}

#[allow(
    missing_docs,
    clippy::wildcard_imports,
    reason = "the names are the sentences; one page with the helpers above"
)]
mod sentences {
    use super::*;

    pub async fn applied_rows_are_visible_when_apply_returns(factory: &impl Factory) {
        let store = factory.make().await;
        let rows = conversation(&store).await;
        let expected: Vec<_> = rows.iter().map(stored).collect();
        assert_eq!(read(&store, &whole(channel(1))).await, expected);
        let head = store.heads(&[channel(1)]).await.expect("heads").remove(0).expect("a head");
        let summary = store.summaries(&[channel(1)]).await.expect("summaries").remove(0);
        assert_eq!((head.seq, head.ordinal, head.members_version), (ChannelSeq(14), Ordinal(10), ChannelSeq(4)));
        assert_eq!((head.kind, head.history, head.open), (ChannelKind::Group, HistoryVisibility::FromStart, true));
        assert_eq!(
            (summary.seq, summary.ordinal, summary.members_version),
            (head.seq, head.ordinal, head.members_version)
        );
        assert_eq!((summary.title.as_str(), summary.kind, summary.history), ("Gruppe ☕", head.kind, head.history));
        assert_eq!(summary.last_time, START);
    }

    pub async fn applying_the_same_batch_again_changes_nothing(factory: &impl Factory) {
        let store = factory.make().await;
        let rows = conversation(&store).await;
        let before = everything(&store, channel(1)).await;
        apply(&store, rows.clone()).await;
        apply(&store, rows).await;
        assert_eq!(everything(&store, channel(1)).await, before);
    }

    pub async fn an_older_batch_changes_nothing(factory: &impl Factory) {
        let store = factory.make().await;
        let rows = conversation(&store).await;
        let before = everything(&store, channel(1)).await;
        for cut in 1..rows.len() {
            apply(&store, &rows[..cut]).await;
            assert_eq!(everything(&store, channel(1)).await, before, "the first {cut} rows again");
        }
    }

    pub async fn batches_that_overlap_write_each_row_once(factory: &impl Factory) {
        let store = factory.make().await;
        let mut script = Script::new(channel(1));
        let rows: Vec<_> = (0..20).map(|n| script.post(person(1), &n.to_string())).collect();
        for (from, to) in [(0, 8), (4, 12), (0, 12), (10, 20)] {
            apply(&store, &rows[from..to]).await;
        }
        assert_eq!(seqs(&store, &whole(channel(1))).await, (1..=20).collect::<Vec<_>>());
    }

    pub async fn every_kind_of_event_comes_back_as_it_was(factory: &impl Factory) {
        let store = factory.make().await;
        let mut script = Script::new(channel(1));
        let mut rows = script.create(&[person(1), person(2)]);
        rows.push(script.post(person(1), ""));
        rows.push(script.row(person(1), EventKind::RoleChanged { user: person(2), role: Role::Admin }));
        rows.push(script.row(person(2), EventKind::MemberLeft { user: person(2), removed: false }));
        rows.push(script.row(person(1), EventKind::MemberLeft { user: person(1), removed: true }));
        rows.push(script.row(person(1), EventKind::ChannelJoined { channel: channel(9), seq: ChannelSeq(77) }));
        rows.push(script.row(person(1), EventKind::ChannelLeft { channel: channel(9), seq: ChannelSeq(78) }));
        apply(&store, rows.clone()).await;
        assert_eq!(read(&store, &whole(channel(1))).await, rows.iter().map(stored).collect::<Vec<_>>());
    }

    pub async fn texts_come_back_byte_for_byte(factory: &impl Factory) {
        let store = factory.make().await;
        let mut script = Script::new(channel(1));
        let texts = ["", " ", "a\0b", "\u{feff}e\u{301}\u{202e}", "line\r\nline\n", "🏳️‍🌈", &"x".repeat(16 * 1024)];
        let rows: Vec<_> = texts.iter().map(|text| script.post(person(1), text)).collect();
        apply(&store, rows.clone()).await;
        assert_eq!(read(&store, &whole(channel(1))).await, rows.iter().map(stored).collect::<Vec<_>>());
    }

    pub async fn an_empty_batch_is_fine(factory: &impl Factory) {
        apply(&factory.make().await, []).await;
    }

    pub async fn many_batches_at_once_are_all_written(factory: &impl Factory) {
        let store = factory.make().await;
        let batches = (0..100).map(|n| {
            let mut script = Script::new(channel(n));
            let mut rows = script.create(&[person(n)]);
            rows.extend((0..5).map(|i| script.post(person(n), &i.to_string())));
            store.apply(batch(rows))
        });
        for result in join_all(batches).await {
            result.expect("apply");
        }
        for n in 0..100 {
            assert_eq!(seqs(&store, &whole(channel(n))).await, (1..=7).collect::<Vec<_>>());
        }
    }

    pub async fn a_page_holds_the_window_and_both_its_ends(factory: &impl Factory) {
        let store = factory.make().await;
        conversation(&store).await;
        assert_eq!(seqs(&store, &window(channel(1), 3, 6, 100, false)).await, [3, 4, 5, 6]);
        assert_eq!(seqs(&store, &window(channel(1), 3, 6, 100, true)).await, [3, 4, 5, 6]);
        assert_eq!(seqs(&store, &window(channel(1), 5, 5, 100, false)).await, [5]);
        assert_eq!(seqs(&store, &window(channel(1), 0, 2, 100, false)).await, [1, 2]);
        assert_eq!(seqs(&store, &window(channel(1), 13, u64::MAX, 100, true)).await, [13, 14]);
    }

    pub async fn a_page_is_cut_at_the_oldest_or_newest_end(factory: &impl Factory) {
        let store = factory.make().await;
        conversation(&store).await;
        assert_eq!(seqs(&store, &window(channel(1), 3, 10, 3, false)).await, [3, 4, 5]);
        assert_eq!(seqs(&store, &window(channel(1), 3, 10, 3, true)).await, [8, 9, 10]);
        assert_eq!(seqs(&store, &window(channel(1), 1, u64::MAX, 2, true)).await, [13, 14]);
        assert_eq!(seqs(&store, &window(channel(1), 1, u64::MAX, 0, true)).await, [0; 0]);
    }

    pub async fn a_page_outside_the_timeline_is_empty(factory: &impl Factory) {
        let store = factory.make().await;
        conversation(&store).await;
        for query in [
            window(channel(1), 15, 20, 9, false),
            window(channel(1), u64::MAX, u64::MAX, 9, true),
            window(channel(1), 6, 5, 9, false),
            window(channel(1), 0, 0, 9, false),
            window(channel(2), 1, 9, 9, false),
        ] {
            assert_eq!(seqs(&store, &query).await, [0; 0], "{query:?}");
        }
    }

    pub async fn identical_pages_at_once_are_equal_and_see_what_was_applied(factory: &impl Factory) {
        let store = factory.make().await;
        let mut script = Script::new(channel(1));
        let query = window(channel(1), 1, u64::MAX, 1_000, false);
        for n in 1..=20 {
            apply(&store, [script.post(person(1), "x")]).await;
            for page in join_all((0..50).map(|_| store.page(&query))).await {
                assert_eq!(page.expect("page").events.len(), n);
            }
        }
    }

    pub async fn misses_are_empty_and_no_errors(factory: &impl Factory) {
        let store = factory.make().await;
        let id = command_id(START, 1);
        assert_eq!(store.heads(&[channel(1)]).await.expect("heads"), [None]);
        assert_eq!(store.find_ids(&[(channel(1), person(1), id)]).await.expect("ids"), [None]);
        assert_eq!(store.summaries(&[channel(1)]).await.expect("summaries"), []);
        assert_eq!(store.members_of(channel(1)).await.expect("members"), []);
        assert_eq!(store.stays(channel(1), person(1)).await.expect("stays"), []);
        assert_eq!(store.channels_of(person(1)).await.expect("channels"), []);
        assert_eq!(store.progress(PARTITION).await.expect("progress"), []);
        assert_eq!(store.account(person(1)).await.expect("account"), None);
        assert_eq!(store.account_by_name("nobody").await.expect("account"), None);
        assert_eq!(store.password_hash(person(1)).await.expect("hash"), None);
        assert_eq!(store.sign_in(Uuid::from_u128(1)).await.expect("sign-in"), None);
    }

    pub async fn answers_keep_the_order_and_length_of_the_question(factory: &impl Factory) {
        let store = factory.make().await;
        let rows = conversation(&store).await;
        let asked = [channel(7), channel(1), channel(8), channel(1)];
        let heads = store.heads(&asked).await.expect("heads");
        assert_eq!(heads.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, false, true]);
        let row = &rows[6];
        let known = (row.channel, row.sender, row.client_msg_id);
        let unknown = (row.channel, row.sender, command_id(START, 999));
        let found = store.find_ids(&[unknown, known, unknown, known]).await.expect("ids");
        assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, false, true]);
        assert_eq!(store.heads(&[]).await.expect("heads"), []);
        assert_eq!(store.find_ids(&[]).await.expect("ids"), []);
    }

    pub async fn summaries_leave_absent_channels_out(factory: &impl Factory) {
        let store = factory.make().await;
        conversation(&store).await;
        apply(&store, [Script::new(channel(2)).post(person(1), "x")]).await;
        let summaries = store.summaries(&[channel(9), channel(2), channel(8), channel(1)]).await.expect("summaries");
        assert_eq!(summaries.iter().map(|summary| summary.channel).collect::<Vec<_>>(), [channel(2), channel(1)]);
    }

    pub async fn a_head_knows_everybody_who_is_or_was_a_member(factory: &impl Factory) {
        let store = factory.make().await;
        let mut script = Script::new(channel(1));
        let mut rows = script.create(&[person(1), person(2), person(3)]); // seqs 1 to 4
        rows.push(script.row(person(1), EventKind::RoleChanged { user: person(2), role: Role::Admin })); // 5
        rows.push(script.row(person(3), EventKind::MemberLeft { user: person(3), removed: false })); // 6
        rows.push(script.post(person(1), "x")); // 7
        apply(&store, rows).await;
        let head = store.heads(&[channel(1)]).await.expect("heads").remove(0).expect("a head");
        let members = [
            (person(1), Member { role: Some(Role::Owner), since: ChannelSeq(2) }),
            (person(2), Member { role: Some(Role::Admin), since: ChannelSeq(5) }),
            (person(3), Member { role: None, since: ChannelSeq(6) }),
        ];
        assert_eq!(head.members, members.into());
        assert_eq!(head.members_version, ChannelSeq(6));
        apply(&store, [script.row(person(3), EventKind::MemberJoined { user: person(3), role: Role::Member })]).await;
        let head = store.heads(&[channel(1)]).await.expect("heads").remove(0).expect("a head");
        assert_eq!(head.members[&person(3)], Member { role: Some(Role::Member), since: ChannelSeq(8) });
    }

    pub async fn a_late_membership_change_does_not_undo_a_newer_one(factory: &impl Factory) {
        let store = factory.make().await;
        let mut script = Script::new(channel(1));
        let mut rows = script.create(&[person(1), person(2)]);
        for _ in 0..2 {
            rows.push(script.row(person(1), EventKind::RoleChanged { user: person(2), role: Role::Admin }));
            rows.push(script.row(person(1), EventKind::RoleChanged { user: person(2), role: Role::Member }));
            rows.push(script.row(person(2), EventKind::MemberLeft { user: person(2), removed: false }));
            rows.push(script.row(person(2), EventKind::MemberJoined { user: person(2), role: Role::Member }));
        }
        apply(&store, rows.clone()).await;
        let before = everything(&store, channel(1)).await;
        let channels = store.channels_of(person(2)).await.expect("channels");
        for row in &rows {
            apply(&store, [row.clone()]).await;
            assert_eq!(everything(&store, channel(1)).await, before, "{:?} again", row.event.kind);
            assert_eq!(store.channels_of(person(2)).await.expect("channels"), channels);
        }
    }

    pub async fn a_channel_without_creation_is_personal(factory: &impl Factory) {
        let store = factory.make().await;
        let personal = ChannelId::personal(person(1));
        let kind = EventKind::ChannelJoined { channel: channel(1), seq: ChannelSeq(2) };
        apply(&store, [Script::new(personal).row(person(1), kind)]).await;
        let head = store.heads(&[personal]).await.expect("heads").remove(0).expect("a head");
        assert_eq!((head.seq, head.kind, head.open), (ChannelSeq(1), ChannelKind::Personal, false));
        assert!(head.members.is_empty());
        assert_eq!(store.channels_of(person(1)).await.expect("channels"), []);
    }

    pub async fn a_head_of_thousands_of_members_is_complete(factory: &impl Factory) {
        let store = factory.make().await;
        let people: Vec<_> = (0..3_000).map(person).collect();
        apply(&store, Script::new(channel(1)).create(&people)).await;
        let head = store.heads(&[channel(1)]).await.expect("heads").remove(0).expect("a head");
        assert_eq!(head.members.keys().copied().collect::<Vec<_>>(), people);
        assert_eq!(store.members_of(channel(1)).await.expect("members").len(), people.len());
    }

    pub async fn stays_of_a_person_who_came_back_are_two(factory: &impl Factory) {
        let store = factory.make().await;
        let mut script = Script::new(channel(1));
        let mut rows = script.create(&[person(1), person(2)]); // seqs 1 to 3
        rows.push(script.row(person(1), EventKind::RoleChanged { user: person(2), role: Role::Admin })); // 4
        rows.push(script.row(person(2), EventKind::MemberLeft { user: person(2), removed: true })); // 5
        rows.push(script.row(person(1), EventKind::MemberJoined { user: person(2), role: Role::Member })); // 6
        apply(&store, rows).await;
        let row = |number, role, joined, left: Option<u64>| MemberRow {
            user: person(number),
            role,
            joined: ChannelSeq(joined),
            left: left.map(ChannelSeq),
        };
        let first = row(2, Role::Admin, 3, Some(5));
        let second = row(2, Role::Member, 6, None);
        assert_eq!(store.stays(channel(1), person(2)).await.expect("stays"), [first, second]);
        let all = store.members_of(channel(1)).await.expect("members");
        assert_eq!(all, [row(1, Role::Owner, 2, None), first, second]);
    }

    pub async fn channels_of_a_person_tell_their_last_stay(factory: &impl Factory) {
        let store = factory.make().await;
        let mut left = Script::new(channel(1));
        let mut rows = left.create(&[person(1), person(2)]);
        rows.push(left.row(person(2), EventKind::MemberLeft { user: person(2), removed: false })); // 4
        let mut back = Script::new(channel(2));
        rows.extend(back.create(&[person(1), person(2)]));
        rows.push(back.row(person(2), EventKind::MemberLeft { user: person(2), removed: false })); // 4
        rows.push(back.row(person(2), EventKind::MemberJoined { user: person(2), role: Role::Member })); // 5
        rows.extend(Script::new(channel(3)).create(&[person(1)]));
        apply(&store, rows).await;
        let row = |number, joined, left: Option<u64>| MembershipRow {
            channel: channel(number),
            joined: ChannelSeq(joined),
            left: left.map(ChannelSeq),
        };
        let expected = [row(1, 3, Some(4)), row(2, 5, None)];
        assert_eq!(store.channels_of(person(2)).await.expect("channels"), expected);
    }

    pub async fn a_membership_change_is_visible_with_any_later_row(factory: &impl Factory) {
        let store = factory.make().await;
        let mut script = Script::new(channel(1));
        apply(&store, script.create(&[person(1), person(2)])).await;
        let writes = async {
            for _ in 0..50 {
                let left = script.row(person(2), EventKind::MemberLeft { user: person(2), removed: false });
                let secret = script.post(person(1), "without you");
                let joined = script.row(person(2), EventKind::MemberJoined { user: person(2), role: Role::Member });
                apply(&store, [left, secret]).await;
                apply(&store, [joined]).await;
            }
        };
        // Rows first, membership second, as every reader does.
        let reads = async {
            for _ in 0..50 {
                let page = read(&store, &window(channel(1), 1, u64::MAX, 20, true)).await;
                let stays = store.stays(channel(1), person(2)).await.expect("stays");
                for event in page {
                    let seq = event.event.seq;
                    let member =
                        stays.iter().any(|stay| stay.joined <= seq && stay.left.is_none_or(|left| seq <= left));
                    let secret = event.event.kind == EventKind::MessagePosted { text: "without you".into() };
                    assert!(!(secret && member), "seq {seq} is a member's by {stays:?}");
                }
            }
        };
        futures_util::future::join(writes, reads).await;
    }

    pub async fn an_id_is_known_by_channel_sender_and_id_together(factory: &impl Factory) {
        let store = factory.make().await;
        let row = Script::new(channel(1)).post(person(1), "x");
        let mut same_id = Script::new(channel(2)).post(person(1), "y");
        same_id.digest = 5;
        assert_eq!(row.client_msg_id, same_id.client_msg_id);
        apply(&store, [row.clone(), same_id]).await;
        let id = row.client_msg_id;
        let asked = [
            (channel(1), person(1), id),
            (channel(2), person(1), id),
            (channel(1), person(2), id),
            (channel(3), person(1), id),
            (channel(1), person(1), command_id(START, 77)),
        ];
        let found = store.find_ids(&asked).await.expect("ids");
        let known: Vec<_> = found.iter().map(|known| known.map(|known| (known.seq.0, known.digest))).collect();
        assert_eq!(known, [Some((1, row.digest)), Some((1, 5)), None, None, None]);
    }

    pub async fn only_the_first_event_of_a_command_answers_its_retries(factory: &impl Factory) {
        let store = factory.make().await;
        let mut script = Script::new(channel(1));
        let mut rows = script.create(&[person(1), person(2)]);
        let invite = script.row(person(1), EventKind::MemberJoined { user: person(3), role: Role::Member }); // 4
        rows.push(invite.clone());
        rows.push(script.same_command(person(1), EventKind::MemberJoined { user: person(4), role: Role::Member }));
        apply(&store, rows).await;
        let found = store.find_ids(&[(channel(1), person(1), invite.client_msg_id)]).await.expect("ids");
        assert_eq!(found[0].map(|known| (known.seq.0, known.digest)), Some((4, invite.digest)));
    }

    pub async fn an_id_from_another_day_is_found(factory: &impl Factory) {
        const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
        let store = factory.make().await;
        let mut script = Script::new(channel(1));
        let mut rows = Vec::new();
        // Days in an outbox before they were sent, up to a moment ahead of T over midnight, and no UUIDv7 at all.
        for (n, days_before) in [0, 1, 9, 29].into_iter().enumerate() {
            let mut row = script.post(person(1), "x");
            row.client_msg_id = command_id(START.minus_ms(days_before * DAY_MS), 100 + n as u64);
            rows.push(row);
        }
        script.time = LogTime(START.0.div_ceil(DAY_MS) * DAY_MS - 1);
        let mut ahead = script.post(person(1), "x");
        ahead.client_msg_id = command_id(script.time.plus_ms(20_000), 200);
        let mut foreign = script.post(person(1), "x");
        foreign.client_msg_id = ClientMsgId(Uuid::from_u128(42));
        rows.extend([ahead, foreign]);
        // And days have passed since.
        script.time = script.time.plus_ms(7 * DAY_MS);
        rows.push(script.post(person(1), "x"));
        apply(&store, rows.clone()).await;
        for row in rows {
            let found = store.find_ids(&[(channel(1), person(1), row.client_msg_id)]).await.expect("ids");
            assert_eq!(found[0].map(|known| known.seq), Some(row.event.seq), "{}", row.client_msg_id);
        }
    }

    fn progress_at(offset: u64, time: LogTime) -> ProgressCursor {
        let mut cursor = LogCursor { offset, time, epoch: Epoch(4), n: OwnerSeq(offset / 2), ..LogCursor::default() };
        cursor.last_id = MessageId(offset << 20);
        cursor.low.incarnation = 2;
        cursor.low.offset = offset * 3;
        cursor.decided_above = [offset * 3 + 2, offset * 3 + 5].into();
        ProgressCursor { cursor }
    }

    pub async fn progress_starts_empty_and_keeps_its_cursor_whole(factory: &impl Factory) {
        let store = factory.make().await;
        assert_eq!(store.progress(PARTITION).await.expect("progress"), []);
        let cursor = progress_at(10, START);
        store.record_progress(PARTITION, &cursor).await.expect("progress");
        assert_eq!(store.progress(PARTITION).await.expect("progress"), [cursor]);
    }

    pub async fn older_progress_changes_nothing(factory: &impl Factory) {
        let store = factory.make().await;
        let newest = progress_at(10, START);
        store.record_progress(PARTITION, &newest).await.expect("progress");
        for offset in [10, 9, 0] {
            let older = progress_at(offset, START.plus_ms(60_000));
            store.record_progress(PARTITION, &older).await.expect("progress");
        }
        assert_eq!(store.progress(PARTITION).await.expect("progress"), [newest]);
    }

    pub async fn progress_keeps_a_trail_back_past_the_once_window(factory: &impl Factory) {
        let store = factory.make().await;
        let mut trail = crate::Trail::default();
        for n in 1..=300 {
            let cursor = progress_at(n, START.plus_ms(n * 1_000));
            store.record_progress(PARTITION, &cursor).await.expect("progress");
            trail.record(cursor);
        }
        let kept = store.progress(PARTITION).await.expect("progress");
        assert_eq!(kept, trail.cursors());
        let newest = kept.last().expect("a cursor").cursor.time;
        assert_eq!(newest, START.plus_ms(300_000));
        assert!(kept[0].cursor.time <= newest.minus_ms(ONCE_WINDOW_MS));
    }

    pub async fn partitions_have_trails_of_their_own(factory: &impl Factory) {
        let store = factory.make().await;
        for n in 0..20 {
            store.record_progress(PartitionId(n), &progress_at(u64::from(n) + 1, START)).await.expect("progress");
        }
        for n in 0..20 {
            let trail = store.progress(PartitionId(n)).await.expect("progress");
            assert_eq!(trail, [progress_at(u64::from(n) + 1, START)]);
        }
    }

    pub async fn everything_is_there_after_reopening(factory: &impl Factory) {
        let store = factory.make().await;
        let rows = conversation(&store).await;
        let cursor = progress_at(10, START);
        store.record_progress(PARTITION, &cursor).await.expect("progress");
        let before = everything(&store, channel(1)).await;
        let store = factory.reopen(store).await;
        assert_eq!(everything(&store, channel(1)).await, before);
        assert_eq!(store.progress(PARTITION).await.expect("progress"), [cursor]);
        apply(&store, rows).await;
        assert_eq!(everything(&store, channel(1)).await, before);
    }

    fn account(number: u64, username: &str) -> NewAccount {
        NewAccount {
            user: person(number),
            username: username.into(),
            display_name: format!("Person {number} ☕"),
            password_hash: Some(format!("$argon2id${number}")),
            created_ms: START.0,
        }
    }

    pub async fn an_account_is_found_by_id_and_by_name(factory: &impl Factory) {
        let store = factory.make().await;
        store.create_account(&account(1, "ada")).await.expect("create");
        store.create_account(&NewAccount { password_hash: None, ..account(2, "bob") }).await.expect("create");
        let ada = store.account(person(1)).await.expect("account").expect("ada");
        assert_eq!((ada.user, ada.username.as_str(), ada.created_ms), (person(1), "ada", START.0));
        assert_eq!(ada.display_name, "Person 1 ☕");
        assert_eq!(store.account_by_name("ada").await.expect("account"), Some(ada));
        assert_eq!(store.account_by_name("Ada").await.expect("account"), None, "names are exact");
        assert_eq!(store.password_hash(person(1)).await.expect("hash").as_deref(), Some("$argon2id$1"));
        assert_eq!(store.password_hash(person(2)).await.expect("hash"), None);
    }

    pub async fn a_taken_username_is_told_and_changes_nothing(factory: &impl Factory) {
        let store = factory.make().await;
        store.create_account(&account(1, "ada")).await.expect("create");
        let error = store.create_account(&account(2, "ada")).await.expect_err("taken");
        assert_eq!(error.kind(), ErrorKind::Exists);
        assert_eq!(store.account(person(2)).await.expect("account"), None);
        assert_eq!(store.password_hash(person(2)).await.expect("hash"), None);
        assert_eq!(store.account_by_name("ada").await.expect("account").map(|ada| ada.user), Some(person(1)));
    }

    pub async fn a_taken_id_is_told_and_changes_nothing(factory: &impl Factory) {
        let store = factory.make().await;
        store.create_account(&account(1, "ada")).await.expect("create");
        let error = store.create_account(&account(1, "eve")).await.expect_err("taken");
        assert_eq!(error.kind(), ErrorKind::Exists);
        assert_eq!(store.account_by_name("eve").await.expect("account"), None);
        assert_eq!(store.account(person(1)).await.expect("account").map(|ada| ada.username), Some("ada".into()));
    }

    pub async fn one_of_many_who_want_a_username_gets_it(factory: &impl Factory) {
        let store = factory.make().await;
        let accounts: Vec<_> = (0..100).map(|number| account(number, "ada")).collect();
        let results = join_all(accounts.iter().map(|account| store.create_account(account))).await;
        let winners: Vec<_> = (0..100).filter(|n| results[*n].is_ok()).collect();
        assert_eq!(winners.len(), 1, "{winners:?}");
        let errors = results.into_iter().filter_map(Result::err);
        assert!(errors.into_iter().all(|error| error.kind() == ErrorKind::Exists));
        let winner = person(winners[0] as u64);
        assert_eq!(store.account_by_name("ada").await.expect("account").map(|ada| ada.user), Some(winner));
        for number in (0..100).map(person).filter(|user| *user != winner) {
            assert_eq!(store.account(number).await.expect("account"), None);
        }
    }

    pub async fn many_accounts_pass_over_those_that_exist(factory: &impl Factory) {
        let store = factory.make().await;
        store.create_account(&account(1, "ada")).await.expect("create");
        let many = [account(2, "bob"), account(3, "ada"), account(4, "bob"), account(1, "eve"), account(5, "eve")];
        assert_eq!(store.create_accounts(&many).await.expect("create"), 2);
        assert_eq!(store.create_accounts(&many).await.expect("create"), 0);
        assert_eq!(store.create_accounts(&[]).await.expect("create"), 0);
        for (name, number) in [("ada", 1), ("bob", 2), ("eve", 5)] {
            assert_eq!(
                store.account_by_name(name).await.expect("account").map(|found| found.user),
                Some(person(number))
            );
        }
        assert_eq!(store.account(person(3)).await.expect("account"), None);
    }

    pub async fn a_rename_changes_the_display_name_only(factory: &impl Factory) {
        let store = factory.make().await;
        store.create_account(&account(1, "ada")).await.expect("create");
        let before = store.account(person(1)).await.expect("account").expect("ada");
        store.rename(person(1), "Countess").await.expect("rename");
        let after = store.account(person(1)).await.expect("account").expect("ada");
        assert_eq!(after, crate::Account { display_name: "Countess".into(), ..before });
    }

    pub async fn renaming_nobody_is_not_found(factory: &impl Factory) {
        let store = factory.make().await;
        let error = store.rename(person(1), "x").await.expect_err("nobody");
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }

    pub async fn a_sign_in_is_remembered_and_its_revocation_stays(factory: &impl Factory) {
        let store = factory.make().await;
        let id = Uuid::from_u128(7);
        let fresh = SignIn { id, user: person(1), created_ms: 5, revoked_ms: None };
        store.record_sign_in(&fresh).await.expect("sign-in");
        assert_eq!(store.sign_in(id).await.expect("sign-in"), Some(fresh.clone()));
        let revoked = SignIn { revoked_ms: Some(9), ..fresh.clone() };
        store.record_sign_in(&revoked).await.expect("sign-in");
        store.record_sign_in(&fresh).await.expect("sign-in");
        store.record_sign_in(&SignIn { revoked_ms: Some(11), ..fresh }).await.expect("sign-in");
        assert_eq!(store.sign_in(id).await.expect("sign-in"), Some(revoked));
    }

    pub async fn accounts_are_there_after_reopening(factory: &impl Factory) {
        let store = factory.make().await;
        store.create_account(&account(1, "ada")).await.expect("create");
        let sign_in = SignIn { id: Uuid::from_u128(7), user: person(1), created_ms: 5, revoked_ms: None };
        store.record_sign_in(&sign_in).await.expect("sign-in");
        let store = factory.reopen(store).await;
        assert_eq!(store.account_by_name("ada").await.expect("account").map(|ada| ada.user), Some(person(1)));
        assert_eq!(store.password_hash(person(1)).await.expect("hash").as_deref(), Some("$argon2id$1"));
        assert_eq!(store.sign_in(sign_in.id).await.expect("sign-in"), Some(sign_in));
        let error = store.create_account(&account(2, "ada")).await.expect_err("taken");
        assert_eq!(error.kind(), ErrorKind::Exists);
    }
}

pub use sentences::*;
