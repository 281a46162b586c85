//! The simulated store: the state seam in memory, with virtual delays from a seed, that loses what was not synced.
//!
//! Its folds are written for plainness and so also serve as the reference that the embedded store is compared with. Projections are
//! durable up to the last sync; a crash keeps a prefix of what came after it, in the order it was applied, so
//! progress never claims a lost row. Records are durable when the call returns.
//!
//! Each process has a handle of its own on the shared state. A frozen handle's calls wait and land after the thaw, as a zombie's
//! do; a cut one's never land and never return.

use domain::command::{ChannelKind, HistoryVisibility, Role};
use domain::decide::{Head, Member};
use domain::limits::ONCE_STORE_DAYS;
use domain::{ChannelId, ChannelSeq, ClientMsgId, EventKind, Ordinal, PartitionId, UserId};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use runtime::SharedEntropy;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use store::{
    Account, Accounts, ChannelSummary, Error, ErrorKind, Fingerprint, KnownId, MemberRow, MembershipRow, Memberships,
    NewAccount, Page, PageQuery, ProgressCursor, Projections, SequencerReads, SignIn, StoredEvent, TimelineRow,
    Timelines, Trail, WriteBatch,
};
use tokio::sync::watch;
use uuid::Uuid;

/// One write in so many is followed by a sync of all before it.
const WRITES_PER_SYNC: u64 = 8;

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// One process's handle on a simulated store.
#[derive(Debug)]
pub struct SimStore {
    shared: Arc<Shared>,
    gate: watch::Sender<Gate>,
    /// Writes of one process take effect in the order in which they began.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    Open,
    Frozen,
    Cut,
}

#[derive(Debug)]
struct Shared {
    entropy: SharedEntropy,
    delay_max: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    visible: Folds,
    synced: Folds,
    unsynced: Vec<Change>,
    records: Records,
}

#[derive(Clone, Debug)]
enum Change {
    Apply(Arc<WriteBatch>),
    Progress(PartitionId, ProgressCursor),
}

#[derive(Clone, Debug, Default)]
struct Folds {
    channels: BTreeMap<ChannelId, Channel>,
    channels_by_user: BTreeMap<UserId, BTreeSet<ChannelId>>,
    ids: BTreeMap<(ClientMsgId, UserId, ChannelId), (u64, KnownId)>,
    trails: BTreeMap<PartitionId, Trail>,
}

#[derive(Clone, Debug, Default)]
struct Channel {
    events: BTreeMap<ChannelSeq, TimelineRow>,
    stays: BTreeMap<(UserId, ChannelSeq), Stay>,
}

#[derive(Clone, Copy, Debug)]
struct Stay {
    role: Role,
    left: Option<ChannelSeq>,
    since: ChannelSeq,
}

#[derive(Debug, Default)]
struct Records {
    accounts: BTreeMap<UserId, NewAccount>,
    by_name: BTreeMap<String, UserId>,
    sign_ins: BTreeMap<Uuid, SignIn>,
}

/// What `ChannelCreated` says of a channel.
struct Created<'a> {
    kind: ChannelKind,
    title: &'a str,
    history: HistoryVisibility,
    open: bool,
}

impl SimStore {
    /// An empty store, and the first process's handle on it. Each call takes up to `delay_max` before and after its effect.
    pub fn new(entropy: SharedEntropy, delay_max: Duration) -> Self {
        Self::handle(Arc::new(Shared { entropy, delay_max, state: Mutex::default() }))
    }

    /// Another process's handle on the same store.
    #[must_use]
    pub fn process(&self) -> Self {
        Self::handle(Arc::clone(&self.shared))
    }

    fn handle(shared: Arc<Shared>) -> Self {
        Self { shared, gate: watch::Sender::new(Gate::Open), turn: tokio::sync::Mutex::new(()) }
    }

    /// This process's calls stand still, on their way in and on their way back.
    pub fn freeze(&self) {
        self.set_gate(Gate::Frozen);
    }

    /// They go on.
    pub fn thaw(&self) {
        self.set_gate(Gate::Open);
    }

    /// This process is dead: its calls have no effect any more and never return.
    pub fn cut(&self) {
        self.set_gate(Gate::Cut);
    }

    fn set_gate(&self, to: Gate) {
        self.gate.send_if_modified(|gate| *gate != Gate::Cut && std::mem::replace(gate, to) != to);
    }

    /// Makes all projections durable.
    pub fn sync(&self) {
        self.shared.state().sync();
    }

    /// The power fails: of the projections, what was synced remains, and a prefix of the rest by the seed. Returns how many
    /// changes are lost. The processes are the caller's to cut.
    pub fn crash(&self) -> usize {
        let mut state = self.shared.state();
        let kept = self.shared.entropy.below(state.unsynced.len() as u64 + 1) as usize;
        let lost = state.unsynced.split_off(kept).len();
        state.sync();
        state.visible = state.synced.clone();
        lost
    }

    /// Drops all projections, for a rebuild from the log.
    pub fn drop_projections(&self) {
        let mut state = self.shared.state();
        (state.visible, state.synced) = (Folds::default(), Folds::default());
        state.unsynced.clear();
    }

    /// Of the projections, comparable with any other store's.
    pub fn fingerprint(&self) -> Fingerprint {
        self.shared.state().visible.fingerprint()
    }

    async fn write(&self, change: Change) -> Result<(), Error> {
        {
            let _turn = self.turn.lock().await;
            self.pass().await;
            let mut state = self.shared.state();
            state.visible.change(&change);
            state.unsynced.push(change);
            if self.shared.entropy.below(WRITES_PER_SYNC) == 0 {
                state.sync();
            }
        }
        self.pass().await;
        Ok(())
    }

    async fn access<T>(&self, access: impl FnOnce(&mut State) -> T) -> T {
        self.pass().await;
        let accessed = access(&mut self.shared.state());
        self.pass().await;
        accessed
    }

    /// Takes a while, and does not get through a closed gate.
    async fn pass(&self) {
        let delay_us = self.shared.delay_max.as_micros() as u64;
        if delay_us > 0 {
            tokio::time::sleep(Duration::from_micros(self.shared.entropy.below(delay_us))).await;
        }
        // The sender is `self`: it lives as long as this call.
        let _ = self.gate.subscribe().wait_for(|gate| *gate == Gate::Open).await;
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A failed assertion elsewhere leaves whole changes behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            self.synced.change(&change);
        }
    }
}

impl Folds {
    fn change(&mut self, change: &Change) {
        match change {
            Change::Apply(batch) => batch.rows.iter().for_each(|row| self.apply(row)),
            Change::Progress(partition, cursor) => {
                self.trails.entry(*partition).or_default().record(cursor.clone());
            }
        }
    }

    fn apply(&mut self, row: &TimelineRow) {
        let (seq, channel) = (row.event.seq, self.channels.entry(row.channel).or_default());
        channel.events.entry(seq).or_insert_with(|| row.clone());
        if let Some((user, role)) = row.event.kind.membership() {
            if let (EventKind::MemberJoined { .. }, Some(role)) = (&row.event.kind, role) {
                channel.stays.entry((user, seq)).or_insert(Stay { role, left: None, since: seq });
                self.channels_by_user.entry(user).or_default().insert(row.channel);
            } else if let Some((_, stay)) = channel.stays.range_mut((user, ChannelSeq(0))..(user, seq)).next_back()
                && stay.since < seq
            {
                stay.since = seq;
                match role {
                    Some(role) => stay.role = role,
                    None => stay.left = Some(seq),
                }
            }
        }
        if row.first_of_command {
            let known = KnownId { seq, digest: row.digest };
            self.ids.entry((row.client_msg_id, row.sender, row.channel)).or_insert((row.time.0 / DAY_MS, known));
        }
    }

    fn fingerprint(&self) -> Fingerprint {
        let mut print = Fingerprint::default();
        for (id, channel) in &self.channels {
            let Some(summary) = channel.summary(*id) else { continue };
            let created = channel.created();
            print.channels += 1;
            print.add(&(
                id,
                created.kind,
                created.title,
                created.history,
                created.open,
                summary.seq.0,
                summary.ordinal.0,
                summary.members_version.0,
                summary.last_time.0,
            ));
            for stay in channel.stays(None) {
                print.stays += 1;
                print.add(&stay);
            }
            for row in channel.events.values() {
                print.events += 1;
                print.add(&store::contract::stored(row));
            }
        }
        let newest = self.ids.values().map(|(day, _)| *day).max().unwrap_or(0);
        for ((id, sender, channel), (day, known)) in &self.ids {
            if day + ONCE_STORE_DAYS >= newest {
                print.ids += 1;
                print.add(&((id.as_bytes(), sender.as_bytes(), channel.as_bytes()), known));
            }
        }
        print
    }
}

impl Channel {
    fn created(&self) -> Created<'_> {
        let created = self.events.values().find_map(|row| match &row.event.kind {
            EventKind::ChannelCreated { kind, title, history, open } => {
                Some(Created { kind: *kind, title, history: *history, open: *open })
            }
            _ => None,
        });
        let personal =
            Created { kind: ChannelKind::Personal, title: "", history: HistoryVisibility::default(), open: false };
        created.unwrap_or(personal)
    }

    fn summary(&self, channel: ChannelId) -> Option<ChannelSummary> {
        let (seq, last) = self.events.last_key_value()?;
        let created = self.created();
        Some(ChannelSummary {
            channel,
            seq: *seq,
            ordinal: last.event.ordinal,
            members_version: last.event.members_version,
            kind: created.kind,
            title: created.title.into(),
            history: created.history,
            last_time: last.time,
        })
    }

    fn head(&self) -> Option<Head> {
        let (seq, last) = self.events.last_key_value()?;
        let created = self.created();
        // Of several stays of a person the last one counts, and it comes last.
        let member = |(key, stay): (&(UserId, ChannelSeq), &Stay)| {
            (key.0, Member { role: stay.left.is_none().then_some(stay.role), since: stay.since })
        };
        let ordinal: Ordinal = last.event.ordinal;
        Some(Head {
            seq: *seq,
            ordinal,
            members_version: last.event.members_version,
            kind: created.kind,
            history: created.history,
            open: created.open,
            members: self.stays.iter().map(member).collect(),
        })
    }

    fn stays(&self, of: Option<UserId>) -> Vec<MemberRow> {
        let row = |((user, joined), stay): (&(UserId, ChannelSeq), &Stay)| MemberRow {
            user: *user,
            role: stay.role,
            joined: *joined,
            left: stay.left,
        };
        self.stays.iter().map(row).filter(|row| of.is_none_or(|user| user == row.user)).collect()
    }

    fn page(&self, query: &PageQuery) -> Vec<StoredEvent> {
        if query.first > query.last {
            return Vec::new();
        }
        let window = self.events.range(query.first..=query.last).map(|(_, row)| store::contract::stored(row));
        if query.newest_first {
            let mut page: Vec<_> = window.rev().take(query.limit).collect();
            page.reverse();
            page
        } else {
            window.take(query.limit).collect()
        }
    }
}

impl Records {
    fn create(&mut self, account: &NewAccount) -> bool {
        if self.by_name.contains_key(&account.username) || self.accounts.contains_key(&account.user) {
            return false;
        }
        self.by_name.insert(account.username.clone(), account.user);
        self.accounts.insert(account.user, account.clone());
        true
    }

    fn account(&self, user: UserId) -> Option<Account> {
        self.accounts.get(&user).map(|account| Account {
            user,
            username: account.username.clone(),
            display_name: account.display_name.clone(),
            created_ms: account.created_ms,
        })
    }
}

impl Projections for SimStore {
    fn apply(&self, batch: Arc<WriteBatch>) -> BoxFuture<'_, Result<(), Error>> {
        self.write(Change::Apply(batch)).boxed()
    }

    fn record_progress<'a>(
        &'a self,
        partition: PartitionId,
        cursor: &'a ProgressCursor,
    ) -> BoxFuture<'a, Result<(), Error>> {
        self.write(Change::Progress(partition, cursor.clone())).boxed()
    }

    fn progress(&self, partition: PartitionId) -> BoxFuture<'_, Result<Vec<ProgressCursor>, Error>> {
        let trail = move |state: &mut State| {
            state.visible.trails.get(&partition).map(|trail| trail.cursors().to_vec()).unwrap_or_default()
        };
        self.access(trail).map(Ok).boxed()
    }
}

impl SequencerReads for SimStore {
    fn heads<'a>(&'a self, channels: &'a [ChannelId]) -> BoxFuture<'a, Result<Vec<Option<Head>>, Error>> {
        let heads = |state: &mut State| {
            let head = |channel| state.visible.channels.get(channel).and_then(Channel::head);
            channels.iter().map(head).collect()
        };
        self.access(heads).map(Ok).boxed()
    }

    fn find_ids<'a>(
        &'a self,
        ids: &'a [(ChannelId, UserId, ClientMsgId)],
    ) -> BoxFuture<'a, Result<Vec<Option<KnownId>>, Error>> {
        let found = |state: &mut State| {
            let find = |(channel, sender, id): &(ChannelId, UserId, ClientMsgId)| {
                state.visible.ids.get(&(*id, *sender, *channel)).map(|(_, known)| *known)
            };
            ids.iter().map(find).collect()
        };
        self.access(found).map(Ok).boxed()
    }
}

impl Timelines for SimStore {
    fn page<'a>(&'a self, query: &'a PageQuery) -> BoxFuture<'a, Result<Page, Error>> {
        let page = |state: &mut State| {
            let channel = state.visible.channels.get(&query.channel);
            Page { events: channel.map(|channel| channel.page(query)).unwrap_or_default().into() }
        };
        self.access(page).map(Ok).boxed()
    }

    fn summaries<'a>(&'a self, channels: &'a [ChannelId]) -> BoxFuture<'a, Result<Vec<ChannelSummary>, Error>> {
        let summaries = |state: &mut State| {
            let summary = |channel: &ChannelId| state.visible.channels.get(channel)?.summary(*channel);
            channels.iter().filter_map(summary).collect()
        };
        self.access(summaries).map(Ok).boxed()
    }
}

impl Memberships for SimStore {
    fn members_of(&self, channel: ChannelId) -> BoxFuture<'_, Result<Vec<MemberRow>, Error>> {
        let members = move |state: &mut State| {
            state.visible.channels.get(&channel).map(|channel| channel.stays(None)).unwrap_or_default()
        };
        self.access(members).map(Ok).boxed()
    }

    fn stays(&self, channel: ChannelId, user: UserId) -> BoxFuture<'_, Result<Vec<MemberRow>, Error>> {
        let stays = move |state: &mut State| {
            state.visible.channels.get(&channel).map(|channel| channel.stays(Some(user))).unwrap_or_default()
        };
        self.access(stays).map(Ok).boxed()
    }

    fn channels_of(&self, user: UserId) -> BoxFuture<'_, Result<Vec<MembershipRow>, Error>> {
        let channels = move |state: &mut State| {
            let folds = &state.visible;
            let last_stay = |channel: &ChannelId| {
                let stay = *folds.channels.get(channel)?.stays(Some(user)).last()?;
                Some(MembershipRow { channel: *channel, joined: stay.joined, left: stay.left })
            };
            folds.channels_by_user.get(&user).into_iter().flatten().filter_map(last_stay).collect()
        };
        self.access(channels).map(Ok).boxed()
    }
}

impl Accounts for SimStore {
    fn create_account<'a>(&'a self, account: &'a NewAccount) -> BoxFuture<'a, Result<(), Error>> {
        let create = |state: &mut State| {
            if state.records.create(account) {
                Ok(())
            } else {
                Err(Error::new(ErrorKind::Exists, format!("the username {:?} or the id is taken", account.username)))
            }
        };
        self.access(create).boxed()
    }

    fn create_accounts<'a>(&'a self, accounts: &'a [NewAccount]) -> BoxFuture<'a, Result<usize, Error>> {
        let create = |state: &mut State| accounts.iter().filter(|account| state.records.create(account)).count();
        self.access(create).map(Ok).boxed()
    }

    fn account(&self, user: UserId) -> BoxFuture<'_, Result<Option<Account>, Error>> {
        self.access(move |state| state.records.account(user)).map(Ok).boxed()
    }

    fn account_by_name<'a>(&'a self, username: &'a str) -> BoxFuture<'a, Result<Option<Account>, Error>> {
        let find = |state: &mut State| state.records.account(*state.records.by_name.get(username)?);
        self.access(find).map(Ok).boxed()
    }

    fn password_hash(&self, user: UserId) -> BoxFuture<'_, Result<Option<String>, Error>> {
        let hash = move |state: &mut State| state.records.accounts.get(&user)?.password_hash.clone();
        self.access(hash).map(Ok).boxed()
    }

    fn rename<'a>(&'a self, user: UserId, display_name: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        let rename = move |state: &mut State| {
            let Some(account) = state.records.accounts.get_mut(&user) else {
                return Err(Error::new(ErrorKind::NotFound, format!("there is no account {user}")));
            };
            display_name.clone_into(&mut account.display_name);
            Ok(())
        };
        self.access(rename).boxed()
    }

    fn record_sign_in<'a>(&'a self, sign_in: &'a SignIn) -> BoxFuture<'a, Result<(), Error>> {
        let record = |state: &mut State| {
            let kept = state.records.sign_ins.entry(sign_in.id).or_insert_with(|| sign_in.clone());
            kept.revoked_ms = kept.revoked_ms.or(sign_in.revoked_ms);
        };
        self.access(record).map(Ok).boxed()
    }

    fn sign_in(&self, id: Uuid) -> BoxFuture<'_, Result<Option<SignIn>, Error>> {
        self.access(move |state| state.records.sign_ins.get(&id).cloned()).map(Ok).boxed()
    }
}
