//! The log as the roles at the door see it: while there is no room, it takes no new commands.
//!
//! What was taken before still goes its way to the end: the sequencer and the writer have the log itself, and the reserve
//! that is kept free is for them.

use eventlog::{
    Append, AppendError, AppendTime, Bounds, Error, ErrorKind, EventLog, LogOffset, Membership, PartitionReader,
    Record, SharedLog, Topic, TopicDescription, TopicPartition, TopicSpec,
};
use futures_util::future::BoxFuture;
use runtime::disk::Room;
use std::sync::Arc;

#[derive(Debug)]
struct GuardedLog {
    log: SharedLog,
    room: Room,
}

/// The same log, refusing commands with [`ErrorKind::Full`] while there is no room.
pub(crate) fn guard(log: SharedLog, room: Room) -> SharedLog {
    Arc::new(GuardedLog { log, room })
}

impl EventLog for GuardedLog {
    fn append(&self, to: &TopicPartition, records: Vec<Record>) -> Result<Append, AppendError> {
        if to.topic.as_str() == schemas::topics::COMMANDS && self.room.is_full() {
            return Err(AppendError {
                records,
                error: Error::new(ErrorKind::Full, "no space is left to store messages"),
            });
        }
        self.log.append(to, records)
    }

    fn create_topic<'a>(&'a self, spec: &'a TopicSpec) -> BoxFuture<'a, Result<TopicDescription, Error>> {
        self.log.create_topic(spec)
    }

    fn delete_topic<'a>(&'a self, topic: &'a Topic) -> BoxFuture<'a, Result<(), Error>> {
        self.log.delete_topic(topic)
    }

    fn describe<'a>(&'a self, topic: &'a Topic) -> BoxFuture<'a, Result<Option<TopicDescription>, Error>> {
        self.log.describe(topic)
    }

    fn read<'a>(
        &'a self,
        from: &'a TopicPartition,
        offset: LogOffset,
    ) -> BoxFuture<'a, Result<Box<dyn PartitionReader>, Error>> {
        self.log.read(from, offset)
    }

    fn bounds<'a>(&'a self, of: &'a TopicPartition) -> BoxFuture<'a, Result<Bounds, Error>> {
        self.log.bounds(of)
    }

    fn offset_at<'a>(&'a self, of: &'a TopicPartition, time: AppendTime) -> BoxFuture<'a, Result<LogOffset, Error>> {
        self.log.offset_at(of, time)
    }

    fn join<'a>(&'a self, group: &'a str, topic: &'a Topic) -> BoxFuture<'a, Result<Box<dyn Membership>, Error>> {
        self.log.join(group, topic)
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.log.flush()
    }
}
