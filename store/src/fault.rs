//! The fault wrapper: a store that refuses, is slow, or does what it was asked and then says it failed.

use crate::{
    Account, Accounts, ChannelSummary, Error, ErrorKind, KnownId, MemberRow, MembershipRow, Memberships, NewAccount,
    Page, PageQuery, ProgressCursor, Projections, SequencerReads, SignIn, Timelines, WriteBatch,
};
use domain::decide::Head;
use domain::{ChannelId, ClientMsgId, PartitionId, UserId};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::fmt::{self, Debug};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use uuid::Uuid;

/// What happens to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// It fails and has done nothing.
    Refused(ErrorKind),
    /// It is done, and yet it fails: the answer got lost.
    DoneButFailed(ErrorKind),
    /// It begins later.
    Late(Duration),
}

/// One call, as a plan sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The method's name.
    pub method: &'static str,
    /// Which call of this store it is, from 0.
    pub number: u64,
}

/// Decides what happens to each call.
pub trait Plan: Send + Sync + 'static {
    /// To this one.
    fn fault(&self, call: Call) -> Fault;
}

impl<F: Fn(Call) -> Fault + Send + Sync + 'static> Plan for F {
    fn fault(&self, call: Call) -> Fault {
        self(call)
    }
}

/// A plan from a seed: this many of 1,000 calls meet a fault, an equal share each refused, done but failed, or late by up to `late_max`.
pub fn seeded(seed: u64, per_mille: u64, late_max: Duration) -> impl Plan {
    move |call: Call| {
        let draw = mix(seed ^ mix(call.number));
        if draw % 1_000 >= per_mille {
            return Fault::None;
        }
        match mix(draw) % 3 {
            0 => Fault::Refused(ErrorKind::Unavailable),
            1 => Fault::DoneButFailed(ErrorKind::Unavailable),
            _ => Fault::Late(late_max.mul_f64((mix(draw ^ 1) % 1_000) as f64 / 1_000.0)),
        }
    }
}

/// SplitMix64's output function.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A store with faults by plan.
pub struct Faulty<S> {
    inner: S,
    plan: Box<dyn Plan>,
    calls: AtomicU64,
}

impl<S> Faulty<S> {
    /// Wraps a store.
    pub fn new(inner: S, plan: impl Plan) -> Self {
        Self { inner, plan: Box::new(plan), calls: AtomicU64::new(0) }
    }

    /// The store without faults.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    async fn call<T>(&self, method: &'static str, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let call = Call { method, number: self.calls.fetch_add(1, Ordering::Relaxed) };
        match self.plan.fault(call) {
            Fault::None => work.await,
            Fault::Refused(kind) => Err(Error::new(kind, format!("{method} was refused by plan"))),
            Fault::DoneButFailed(kind) => {
                work.await?;
                Err(Error::new(kind, format!("{method} was done, its answer lost by plan")))
            }
            Fault::Late(by) => {
                tokio::time::sleep(by).await;
                work.await
            }
        }
    }
}

impl<S: Debug> Debug for Faulty<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty").field("inner", &self.inner).field("calls", &self.calls).finish_non_exhaustive()
    }
}

impl<S: Projections> Projections for Faulty<S> {
    fn apply(&self, batch: Arc<WriteBatch>) -> BoxFuture<'_, Result<(), Error>> {
        self.call("apply", self.inner.apply(batch)).boxed()
    }

    fn record_progress<'a>(
        &'a self,
        partition: PartitionId,
        cursor: &'a ProgressCursor,
    ) -> BoxFuture<'a, Result<(), Error>> {
        self.call("record_progress", self.inner.record_progress(partition, cursor)).boxed()
    }

    fn progress(&self, partition: PartitionId) -> BoxFuture<'_, Result<Vec<ProgressCursor>, Error>> {
        self.call("progress", self.inner.progress(partition)).boxed()
    }
}

impl<S: SequencerReads> SequencerReads for Faulty<S> {
    fn heads<'a>(&'a self, channels: &'a [ChannelId]) -> BoxFuture<'a, Result<Vec<Option<Head>>, Error>> {
        self.call("heads", self.inner.heads(channels)).boxed()
    }

    fn find_ids<'a>(
        &'a self,
        ids: &'a [(ChannelId, UserId, ClientMsgId)],
    ) -> BoxFuture<'a, Result<Vec<Option<KnownId>>, Error>> {
        self.call("find_ids", self.inner.find_ids(ids)).boxed()
    }
}

impl<S: Timelines> Timelines for Faulty<S> {
    fn page<'a>(&'a self, query: &'a PageQuery) -> BoxFuture<'a, Result<Page, Error>> {
        self.call("page", self.inner.page(query)).boxed()
    }

    fn summaries<'a>(&'a self, channels: &'a [ChannelId]) -> BoxFuture<'a, Result<Vec<ChannelSummary>, Error>> {
        self.call("summaries", self.inner.summaries(channels)).boxed()
    }
}

impl<S: Memberships> Memberships for Faulty<S> {
    fn members_of(&self, channel: ChannelId) -> BoxFuture<'_, Result<Vec<MemberRow>, Error>> {
        self.call("members_of", self.inner.members_of(channel)).boxed()
    }

    fn stays(&self, channel: ChannelId, user: UserId) -> BoxFuture<'_, Result<Vec<MemberRow>, Error>> {
        self.call("stays", self.inner.stays(channel, user)).boxed()
    }

    fn channels_of(&self, user: UserId) -> BoxFuture<'_, Result<Vec<MembershipRow>, Error>> {
        self.call("channels_of", self.inner.channels_of(user)).boxed()
    }
}

impl<S: Accounts> Accounts for Faulty<S> {
    fn create_account<'a>(&'a self, account: &'a NewAccount) -> BoxFuture<'a, Result<(), Error>> {
        self.call("create_account", self.inner.create_account(account)).boxed()
    }

    fn create_accounts<'a>(&'a self, accounts: &'a [NewAccount]) -> BoxFuture<'a, Result<usize, Error>> {
        self.call("create_accounts", self.inner.create_accounts(accounts)).boxed()
    }

    fn account(&self, user: UserId) -> BoxFuture<'_, Result<Option<Account>, Error>> {
        self.call("account", self.inner.account(user)).boxed()
    }

    fn account_by_name<'a>(&'a self, username: &'a str) -> BoxFuture<'a, Result<Option<Account>, Error>> {
        self.call("account_by_name", self.inner.account_by_name(username)).boxed()
    }

    fn password_hash(&self, user: UserId) -> BoxFuture<'_, Result<Option<String>, Error>> {
        self.call("password_hash", self.inner.password_hash(user)).boxed()
    }

    fn rename<'a>(&'a self, user: UserId, display_name: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        self.call("rename", self.inner.rename(user, display_name)).boxed()
    }

    fn record_sign_in<'a>(&'a self, sign_in: &'a SignIn) -> BoxFuture<'a, Result<(), Error>> {
        self.call("record_sign_in", self.inner.record_sign_in(sign_in)).boxed()
    }

    fn sign_in(&self, id: Uuid) -> BoxFuture<'_, Result<Option<SignIn>, Error>> {
        self.call("sign_in", self.inner.sign_in(id)).boxed()
    }
}
