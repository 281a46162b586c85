//! The state seam: what the log's folds and the records of people look like at rest, split by who uses it.
//!
//! Promises (every adapter passes [`contract`]):
//!
//! - **Projections** ([`Projections`], read by [`SequencerReads`], [`Timelines`], [`Memberships`]) are folds of the log. Applying
//!   the same or an older batch again changes nothing. What a batch wrote is visible to reads once `apply` returned, and a
//!   membership change is visible before any later row of that channel. Progress never claims a row that a crash could lose.
//! - **Records** ([`Accounts`]) are the only copy: durable when the call returns.
//! - A miss is `None` or empty, never an error; an error never means a miss.
//!
//! It does not: read the log, judge validity, or decide anything.

pub mod contract;
mod error;
pub mod fault;
mod fingerprint;
pub mod reading;
mod rows;
mod trail;

pub use error::{Error, ErrorKind};
pub use fingerprint::Fingerprint;
pub use rows::{
    Account, ChannelSummary, KnownId, MemberRow, MembershipRow, NewAccount, Page, PageQuery, ProgressCursor, SignIn,
    StoredEvent, TimelineRow, WriteBatch,
};
pub use trail::{TRAIL_STEP_MS, Trail};

use domain::{ChannelId, ClientMsgId, PartitionId, UserId, decide::Head};
use futures_util::future::BoxFuture;
use std::fmt::Debug;
use std::sync::Arc;

/// The whole store, as the binary binds it; roles take the part they need.
pub trait Store: Projections + SequencerReads + Timelines + Memberships + Accounts {}

impl<T: Projections + SequencerReads + Timelines + Memberships + Accounts> Store for T {}

/// The shared handle of a store.
pub type SharedStore = Arc<dyn Store>;

/// The writer's side: rows and progress.
pub trait Projections: Send + Sync + Debug + 'static {
    /// Writes the rows of valid events of one partition, in log order, and everything that follows from them: messages,
    /// heads, members, channels by person, ids by client. Idempotent by (channel, seq). All rows are durable, or progress
    /// recorded later does not claim them. Calls are applied in the order in which they are first polled. A dropped or
    /// failed one may or may not be applied: the same batch again is right in any case. Shared, so that a retry and an adapter's thread cost no copy.
    fn apply(&self, batch: Arc<WriteBatch>) -> BoxFuture<'_, Result<(), Error>>;

    /// Records that all below `cursor.cursor.offset` is applied. Keeps a trail: the newest cursor, and one per 10 s of T back past
    /// the once window (design §4 "Recovery", [`Trail`]). A cursor that is not above the newest changes nothing.
    fn record_progress<'a>(
        &'a self,
        partition: PartitionId,
        cursor: &'a ProgressCursor,
    ) -> BoxFuture<'a, Result<(), Error>>;

    /// The trail of a partition, oldest first. Empty: nothing was ever written.
    fn progress(&self, partition: PartitionId) -> BoxFuture<'_, Result<Vec<ProgressCursor>, Error>>;
}

/// What an owner of a partition reads.
pub trait SequencerReads: Send + Sync + Debug + 'static {
    /// The heads of channels with all who are or were members; `None` for a channel that has no event.
    /// Same order and length as asked.
    fn heads<'a>(&'a self, channels: &'a [ChannelId]) -> BoxFuture<'a, Result<Vec<Option<Head>>, Error>>;

    /// What is known of `(channel, sender, id)`. Same order and length as asked.
    fn find_ids<'a>(
        &'a self,
        ids: &'a [(ChannelId, UserId, ClientMsgId)],
    ) -> BoxFuture<'a, Result<Vec<Option<KnownId>>, Error>>;
}

/// Channels' timelines, for history and catch-up. Callers check membership after the rows (design §6).
pub trait Timelines: Send + Sync + Debug + 'static {
    /// A page of events in the order of seq. Empty for a channel without events, a window without events, a window that
    /// ends before it starts, or a limit of 0. The caller bounds the limit: an event is up to 16 KiB.
    fn page<'a>(&'a self, query: &'a PageQuery) -> BoxFuture<'a, Result<Page, Error>>;

    /// The last seq and ordinal of channels, in the order asked; absent ones are left out.
    fn summaries<'a>(&'a self, channels: &'a [ChannelId]) -> BoxFuture<'a, Result<Vec<ChannelSummary>, Error>>;
}

/// Who is where.
pub trait Memberships: Send + Sync + Debug + 'static {
    /// Everybody who is or was a member, with the seqs between which they were (a person who came back has a row for each time), in the order of person and joining.
    fn members_of(&self, channel: ChannelId) -> BoxFuture<'_, Result<Vec<MemberRow>, Error>>;

    /// All stays of one person in one channel, oldest first. Empty: never a member.
    fn stays(&self, channel: ChannelId, user: UserId) -> BoxFuture<'_, Result<Vec<MemberRow>, Error>>;

    /// The channels a person is or was a member of, by their last stay there, in the order of channel id; the personal one
    /// not included.
    fn channels_of(&self, user: UserId) -> BoxFuture<'_, Result<Vec<MembershipRow>, Error>>;
}

/// People's accounts: records, the only copy.
pub trait Accounts: Send + Sync + Debug + 'static {
    /// Creates an account. [`ErrorKind::Exists`] if the username or the id is taken, and then nothing has changed.
    fn create_account<'a>(&'a self, account: &'a NewAccount) -> BoxFuture<'a, Result<(), Error>>;

    /// Creates many accounts in one durable step, passing over usernames and ids that exist; returns how many are new. For tools.
    fn create_accounts<'a>(&'a self, accounts: &'a [NewAccount]) -> BoxFuture<'a, Result<usize, Error>>;

    /// By id.
    fn account(&self, user: UserId) -> BoxFuture<'_, Result<Option<Account>, Error>>;

    /// By exact username.
    fn account_by_name<'a>(&'a self, username: &'a str) -> BoxFuture<'a, Result<Option<Account>, Error>>;

    /// The password hash of an account, PHC string.
    fn password_hash(&self, user: UserId) -> BoxFuture<'_, Result<Option<String>, Error>>;

    /// Changes the display name. [`ErrorKind::NotFound`] without an account.
    fn rename<'a>(&'a self, user: UserId, display_name: &'a str) -> BoxFuture<'a, Result<(), Error>>;

    /// Remembers a sign-in (an authenticated device, the subject of refresh and revocation). Again with the same id: only
    /// `revoked_ms` is taken over, and the first revocation stays.
    fn record_sign_in<'a>(&'a self, sign_in: &'a SignIn) -> BoxFuture<'a, Result<(), Error>>;

    /// A sign-in by its id.
    fn sign_in(&self, id: uuid::Uuid) -> BoxFuture<'_, Result<Option<SignIn>, Error>>;
}
