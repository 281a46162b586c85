//! The state seam on SQLite: the store of a Hubbub in one process.
//!
//! Two files: `projections.db` holds folds of the log and may be dropped and rebuilt; `records.db` holds the only copy of
//! accounts and sign-ins. Both are plain SQLite (WAL) that other tools can read while Hubbub runs. Each file has one writer thread
//! that commits whatever has gathered in one transaction; reads run on a few threads of their own.
//!
//! Promises: those of `store`. A power cut loses no record whose call returned; projections may fall back to an earlier
//! transaction, rows and progress together, never one without the other. Memory is bounded, whatever the history.
//!
//! It does not: guard the directory against a second process (the binary's lock does).

mod checkpoint;
mod codec;
mod failure;
mod inspect;
mod lane;
pub mod limits;
mod pages;
mod projections;
mod readers;
mod reads;
mod records;
mod schema;

use checkpoint::Checkpoints;
use domain::decide::Head;
use domain::{ChannelId, ClientMsgId, PartitionId, UserId};
use failure::{Failure, File};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use lane::Lane;
use pages::{Pages, Turn};
use readers::Readers;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::{
    Account, Accounts, ChannelSummary, Error, ErrorKind, Fingerprint, KnownId, MemberRow, MembershipRow, Memberships,
    NewAccount, Page, PageQuery, ProgressCursor, Projections, SequencerReads, SignIn, Timelines, WriteBatch,
};
use uuid::Uuid;

/// What may be set. The defaults serve a machine of a few cores.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads that read, at least one.
    pub read_threads: usize,
    /// Page cache of the writer of projections in bytes: the ends of the channels that are written to, 4 KiB each.
    pub write_cache_bytes: usize,
    /// Page cache of each reading connection in bytes.
    pub read_cache_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { read_threads: 2, write_cache_bytes: 32 * 1024 * 1024, read_cache_bytes: 4 * 1024 * 1024 }
    }
}

/// A store in two SQLite files. Dropping it waits for the writes that were handed in.
#[derive(Debug)]
pub struct EmbeddedStore {
    dir: PathBuf,
    pages: Arc<Pages>,
    // Readers go first: the last connection of a file to close, a writing one, copies its write-ahead log back.
    readers: Readers,
    projections: Lane<projections::Work>,
    records: Lane<records::Work>,
    // And this goes last, see `Checkpoints::start`.
    _handle: Arc<std::fs::File>,
}

impl EmbeddedStore {
    /// Opens the store in a directory, creating it or bringing its files to this program's version. [`ErrorKind::Damaged`] with
    /// what to do for a damaged file, another program's, or one of a newer version. Blocks.
    pub fn open(dir: impl AsRef<Path>, options: &Options) -> Result<Self, Error> {
        let dir = dir.as_ref();
        let io = |error| Error::new(ErrorKind::Unavailable, format!("can't open {}", dir.display())).with_source(error);
        std::fs::create_dir_all(dir).map_err(io)?;
        let projections = schema::open_for_writing(File::Projections, dir, options.write_cache_bytes)?;
        let records = schema::open_for_writing(File::Records, dir, options.read_cache_bytes)?;
        std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(io)?;
        // Checkpoints are ours: SQLite would make a commit wait for them.
        let failed = |error| Failure::of_sqlite(File::Projections, error);
        projections.pragma_update(None, "wal_autocheckpoint", 0).map_err(failed)?;
        let copier = schema::open_for_writing(File::Projections, dir, options.read_cache_bytes)?;
        let handle = Arc::new(std::fs::File::open(dir.join(File::Projections.name())).map_err(io)?);
        let checkpoints = Checkpoints::start(File::Projections, copier, Arc::clone(&handle)).map_err(io)?;
        let pages = Pages::new();
        let sink = projections::Projections::new(&projections, Arc::clone(&pages), checkpoints)?;
        Ok(Self {
            dir: dir.to_owned(),
            pages,
            readers: Readers::start(dir, options.read_threads, options.read_cache_bytes)?,
            projections: Lane::start(File::Projections, projections, sink)?,
            records: Lane::start(File::Records, records, records::Records)?,
            _handle: handle,
        })
    }

    /// How many pages were read from the file: identical ones at once count once.
    pub fn reads(&self) -> u64 {
        self.pages.reads()
    }

    /// Copies both files into `to`, which holds none of them yet ([`ErrorKind::Exists`]), while the store goes on. Each is of one
    /// moment, the projections of an earlier one. Copy the log *afterwards*: projections may be older than the log, which fills
    /// the rest at the next start, but never newer. Blocks for as long as the disk takes.
    pub fn backup(&self, to: impl AsRef<Path>) -> Result<(), Error> {
        inspect::backup(&self.dir, to.as_ref())
    }

    /// Of the projections, for comparing them with those of another store (FOLD). Blocks, and reads everything.
    pub fn fingerprint(&self) -> Result<Fingerprint, Error> {
        Ok(inspect::fingerprint(&self.dir)?)
    }

    async fn read_page(&self, query: &PageQuery) -> Result<Page, Error> {
        loop {
            let page = match self.pages.turn(query) {
                Turn::Ready(page) => return Ok(page),
                Turn::Wait(page) => page,
                Turn::Lead(lead, page) => {
                    self.readers
                        .submit(Box::new(move |connections| {
                            let Some(query) = lead.query() else { return };
                            let read = reads::page(&mut connections.projections, query);
                            lead.done(read);
                        }))
                        .await?;
                    page
                }
            };
            // The sender is dropped only if its reader gave up before it began: then it is somebody else's turn.
            if let Ok(read) = page.await {
                return Ok(read?);
            }
        }
    }
}

impl Projections for EmbeddedStore {
    fn apply(&self, batch: Arc<WriteBatch>) -> BoxFuture<'_, Result<(), Error>> {
        async move { self.projections.write(projections::Work::Apply(batch)).await.map(drop) }.boxed()
    }

    fn record_progress<'a>(
        &'a self,
        partition: PartitionId,
        cursor: &'a ProgressCursor,
    ) -> BoxFuture<'a, Result<(), Error>> {
        let work = projections::Work::Progress(partition, cursor.clone());
        async move { self.projections.write(work).await.map(drop) }.boxed()
    }

    fn progress(&self, partition: PartitionId) -> BoxFuture<'_, Result<Vec<ProgressCursor>, Error>> {
        self.readers.read(File::Projections, move |connection| reads::progress(connection, partition)).boxed()
    }
}

impl SequencerReads for EmbeddedStore {
    fn heads<'a>(&'a self, channels: &'a [ChannelId]) -> BoxFuture<'a, Result<Vec<Option<Head>>, Error>> {
        let channels = channels.to_vec();
        self.readers.read(File::Projections, move |connection| reads::heads(connection, &channels)).boxed()
    }

    fn find_ids<'a>(
        &'a self,
        ids: &'a [(ChannelId, UserId, ClientMsgId)],
    ) -> BoxFuture<'a, Result<Vec<Option<KnownId>>, Error>> {
        let ids = ids.to_vec();
        self.readers.read(File::Projections, move |connection| reads::find_ids(connection, &ids)).boxed()
    }
}

impl Timelines for EmbeddedStore {
    fn page<'a>(&'a self, query: &'a PageQuery) -> BoxFuture<'a, Result<Page, Error>> {
        self.read_page(query).boxed()
    }

    fn summaries<'a>(&'a self, channels: &'a [ChannelId]) -> BoxFuture<'a, Result<Vec<ChannelSummary>, Error>> {
        let channels = channels.to_vec();
        self.readers.read(File::Projections, move |connection| reads::summaries(connection, &channels)).boxed()
    }
}

impl Memberships for EmbeddedStore {
    fn members_of(&self, channel: ChannelId) -> BoxFuture<'_, Result<Vec<MemberRow>, Error>> {
        self.readers.read(File::Projections, move |connection| reads::stays(connection, channel, None)).boxed()
    }

    fn stays(&self, channel: ChannelId, user: UserId) -> BoxFuture<'_, Result<Vec<MemberRow>, Error>> {
        self.readers.read(File::Projections, move |connection| reads::stays(connection, channel, Some(user))).boxed()
    }

    fn channels_of(&self, user: UserId) -> BoxFuture<'_, Result<Vec<MembershipRow>, Error>> {
        self.readers.read(File::Projections, move |connection| reads::channels_of(connection, user)).boxed()
    }
}

impl Accounts for EmbeddedStore {
    fn create_account<'a>(&'a self, account: &'a NewAccount) -> BoxFuture<'a, Result<(), Error>> {
        async move { self.records.write(records::Work::Create(account.clone())).await.map(drop) }.boxed()
    }

    fn create_accounts<'a>(&'a self, accounts: &'a [NewAccount]) -> BoxFuture<'a, Result<usize, Error>> {
        async move { self.records.write(records::Work::CreateMany(accounts.to_vec())).await }.boxed()
    }

    fn account(&self, user: UserId) -> BoxFuture<'_, Result<Option<Account>, Error>> {
        self.readers.read(File::Records, move |connection| records::account(connection, user)).boxed()
    }

    fn account_by_name<'a>(&'a self, username: &'a str) -> BoxFuture<'a, Result<Option<Account>, Error>> {
        let username = username.to_owned();
        self.readers.read(File::Records, move |connection| records::account_by_name(connection, &username)).boxed()
    }

    fn password_hash(&self, user: UserId) -> BoxFuture<'_, Result<Option<String>, Error>> {
        self.readers.read(File::Records, move |connection| records::password_hash(connection, user)).boxed()
    }

    fn rename<'a>(&'a self, user: UserId, display_name: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        async move { self.records.write(records::Work::Rename(user, display_name.to_owned())).await.map(drop) }.boxed()
    }

    fn record_sign_in<'a>(&'a self, sign_in: &'a SignIn) -> BoxFuture<'a, Result<(), Error>> {
        async move { self.records.write(records::Work::SignIn(sign_in.clone())).await.map(drop) }.boxed()
    }

    fn sign_in(&self, id: Uuid) -> BoxFuture<'_, Result<Option<SignIn>, Error>> {
        self.readers.read(File::Records, move |connection| records::sign_in(connection, id)).boxed()
    }
}
