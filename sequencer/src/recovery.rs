//! From an assignment to ownership: the trail, the replay, the claim.

use crate::limits::{LANDED_WITHIN, LOAD_BATCH_MAX};
use crate::{Error, Shared};
use domain::limits::ONCE_WINDOW_MS;
use domain::{ChannelId, CommandPosition, LogCursor, PartitionId, PartitionState, TimelineRecord, Verdict};
use eventlog::{LogOffset, Record, Topic, TopicPartition};
use schemas::records::{DecodeError, encode_timeline};
use std::collections::BTreeSet;
use store::{ProgressCursor, SequencerReads};
use timeline::{Read, TimelineReader, What};
use tokio::time::timeout;

/// An owned partition, nothing decided yet.
#[derive(Debug)]
pub(crate) struct Owned {
    pub(crate) state: PartitionState,
    /// The valid log up to and including the own claim: epoch, low, and what is decided above it.
    pub(crate) cursor: LogCursor,
    /// Behind the own claim.
    pub(crate) tail: LogOffset,
    /// Of the commands log.
    pub(crate) incarnation: u64,
    /// The first command to take.
    pub(crate) next: u64,
    /// The writer's newest progress.
    pub(crate) progress: u64,
}

/// Why there is no ownership.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotOwned {
    #[error("the log does not answer: {0}")]
    Log(#[from] eventlog::Error),
    #[error("the store does not answer: {0}")]
    Store(#[from] store::Error),
    #[error("the record at offset {offset} counts but can't be read by this version: {source}")]
    Unreadable { offset: u64, source: DecodeError },
    #[error("somebody else claimed first: epoch {0}")]
    Outclaimed(u64),
    #[error("the own claim did not come back within {LANDED_WITHIN:?}")]
    ClaimLate,
    #[error(transparent)]
    Fatal(#[from] Error),
}

/// Recovers what an owner must know, and claims.
pub(crate) async fn take(partition: PartitionId, shared: &Shared) -> Result<Owned, NotOwned> {
    let deps = &shared.deps;
    let messages = Topic::new(schemas::topics::MESSAGES).partition(u32::from(partition.0));
    let trail = deps.projections.progress(partition).await?;
    let progress = trail.last().map_or(0, |newest| newest.cursor.offset);
    let mut reader = TimelineReader::open(&deps.log, partition, start_of(&trail)).await?;
    let mut state = PartitionState::new(partition, shared.config.decide);

    // Most of the way without a claim: an owner that still lives goes on meanwhile.
    let end = deps.log.bounds(&messages).await?.end;
    while reader.cursor().offset < end.0 {
        let reads = reader.next().await?;
        replay(&mut state, &*deps.reads, reads).await?;
    }

    let commands = Topic::new(schemas::topics::COMMANDS);
    let description = deps.log.describe(&commands).await?.ok_or(Error::NoTopic(commands.clone()))?;
    let start = commands_start(shared, &commands.partition(u32::from(partition.0)), description.incarnation).await?;
    let nonce = deps.entropy.next_u128();
    let epoch = reader.cursor().epoch.next();
    let claim =
        TimelineRecord::Claim { epoch, nonce, owner: shared.config.owner.clone(), commands_start: start.position() };
    let record = Record::new(shared.config.owner.as_bytes().to_vec(), encode_timeline(&claim));
    let claimed = async {
        deps.log.append(&messages, vec![record]).map_err(|refused| refused.error)?.await?;
        loop {
            let reads = reader.next().await?;
            let own = reads.iter().find_map(|read| own_claim(read, nonce));
            replay(&mut state, &*deps.reads, reads).await?;
            if let Some(valid) = own {
                return Ok::<_, NotOwned>(valid);
            }
        }
    };
    let valid = timeout(LANDED_WITHIN, claimed).await.map_err(|_| NotOwned::ClaimLate)??;
    let cursor = reader.cursor().clone();
    // What was read behind the own claim may hold a higher one; nothing else there can count, for nothing of ours is there yet.
    if !valid || cursor.epoch != epoch {
        return Err(NotOwned::Outclaimed(cursor.epoch.0));
    }
    let next = first_command(partition, &cursor, &start)?;
    state.take_ownership(&cursor);
    let tail = LogOffset(cursor.offset);
    Ok(Owned { state, cursor, tail, incarnation: start.incarnation, next, progress })
}

/// The newest cursor that is older than the once window: all ids that memory must know lie behind it. T at the end of the log is
/// at least T of the newest cursor, so judging by that one is on the safe side. None so old: the whole log.
fn start_of(trail: &[ProgressCursor]) -> LogCursor {
    let Some(newest) = trail.last() else { return LogCursor::default() };
    let before = newest.cursor.time.minus_ms(ONCE_WINDOW_MS);
    trail.iter().rev().map(|at| &at.cursor).find(|cursor| cursor.time <= before).cloned().unwrap_or_default()
}

/// Takes the valid outcomes into the state, on top of the heads in the store. Foreign and void records change nothing; the
/// writer puts the foreign ones aside, once for all readers.
async fn replay(state: &mut PartitionState, store: &dyn SequencerReads, reads: Vec<Read>) -> Result<(), NotOwned> {
    let mut missing = BTreeSet::new();
    for read in &reads {
        if let What::Valid(TimelineRecord::Outcome(outcome)) = &read.what
            && matches!(outcome.verdict, Verdict::Accepted(_))
            && !state.has_head(outcome.channel)
        {
            missing.insert(outcome.channel);
        }
    }
    let missing: Vec<ChannelId> = missing.into_iter().collect();
    for channels in missing.chunks(LOAD_BATCH_MAX) {
        for (channel, head) in channels.iter().zip(store.heads(channels).await?) {
            state.insert_head(*channel, head);
        }
    }
    for read in reads {
        match read.what {
            What::Valid(TimelineRecord::Outcome(outcome)) => state.replay(&outcome, read.offset),
            What::Unreadable(source) if !source.is_foreign() => {
                return Err(NotOwned::Unreadable { offset: read.offset, source });
            }
            What::Valid(TimelineRecord::Claim { .. }) | What::Void { .. } | What::Unreadable(_) => {}
        }
    }
    Ok(())
}

/// Whether this is the own claim, and if so whether it is valid. A claim of the same epoch by another has another nonce.
fn own_claim(read: &Read, own: u128) -> Option<bool> {
    match &read.what {
        What::Valid(TimelineRecord::Claim { nonce, .. }) if *nonce == own => Some(true),
        What::Void { record: TimelineRecord::Claim { nonce, .. }, .. } if *nonce == own => Some(false),
        _ => None,
    }
}

/// The commands log when the claim was made.
struct CommandsLog {
    incarnation: u64,
    start: u64,
    end: u64,
}

impl CommandsLog {
    fn position(&self) -> CommandPosition {
        CommandPosition { incarnation: self.incarnation, offset: self.start }
    }
}

async fn commands_start(
    shared: &Shared,
    commands: &TopicPartition,
    incarnation: u64,
) -> Result<CommandsLog, eventlog::Error> {
    let bounds = shared.deps.log.bounds(commands).await?;
    Ok(CommandsLog { incarnation, start: bounds.start.0, end: bounds.end.0 })
}

/// Where to go on. The own claim has moved `low` up to the log's start, and to a new incarnation if there is one.
fn first_command(partition: PartitionId, cursor: &LogCursor, commands: &CommandsLog) -> Result<u64, Error> {
    let end = CommandPosition { incarnation: commands.incarnation, offset: commands.end };
    if end < cursor.low {
        return Err(Error::CommandsBelowLow { partition, low: cursor.low, end });
    }
    Ok(cursor.low.offset)
}
