//! Runs one task for every partition that a consumer group assigns to this member, and ends it when it no longer does.

use crate::backoff::Backoff;
use crate::limits::{REJOIN_AFTER, REJOIN_AFTER_MAX};
use domain::PartitionId;
use eventlog::{AssignmentChange, Membership, SharedLog, Topic};
use runtime::{SharedEntropy, Shutdown, Tasks};
use std::collections::BTreeMap;
use std::future::Future;
use tokio::sync::oneshot;

/// A member of a consumer group of one topic.
#[derive(Debug)]
pub struct Assigned<E> {
    tasks: Tasks,
    shutdown: Shutdown,
    running: BTreeMap<u32, Running<E>>,
}

#[derive(Debug)]
struct Running<E> {
    stop: Shutdown,
    ended: oneshot::Receiver<Result<(), E>>,
}

impl<E: Send + 'static> Assigned<E> {
    /// Joins `group` and runs `start(partition, stop)` in `tasks` for each partition gained, until it is lost or the shutdown
    /// begins. A partition that is lost and gained again starts only after the former task has ended. Joins again, with
    /// back-off, when the membership fails. Returns when the shutdown began and every task has ended, or with the first
    /// error of a task, when the others have ended too: a task's error is one that nobody but a person can heal.
    pub async fn run<Work>(
        log: &SharedLog,
        (group, topic): (&str, &Topic),
        (tasks, entropy): (&Tasks, SharedEntropy),
        shutdown: &Shutdown,
        mut start: impl FnMut(PartitionId, Shutdown) -> Work,
    ) -> Result<(), E>
    where
        Work: Future<Output = Result<(), E>> + Send + 'static,
    {
        let mut assigned = Self { tasks: tasks.clone(), shutdown: shutdown.child(), running: BTreeMap::new() };
        let mut backoff = Backoff::new(entropy, REJOIN_AFTER, REJOIN_AFTER_MAX);
        while !shutdown.has_begun() {
            let result = match shutdown.or_until(log.join(group, topic)).await {
                None => break,
                Some(Ok(membership)) => assigned.serve(membership, shutdown, &mut backoff, &mut start).await,
                Some(Err(error)) => Ok(error),
            };
            let error = match result {
                Ok(error) => error,
                Err(End::Shutdown) => break,
                Err(End::Failed(error)) => {
                    // The first error counts; those of the others follow from the stop.
                    let _ = assigned.stop_all().await;
                    return Err(error);
                }
            };
            tracing::warn!(group, %topic, %error, "no membership; joining again");
            assigned.stop_all().await?;
            shutdown.or_until(backoff.wait()).await;
        }
        assigned.stop_all().await
    }

    /// Follows the assignment until the membership fails (`Ok`) or there is an end.
    async fn serve<Work>(
        &mut self,
        mut membership: Box<dyn Membership>,
        shutdown: &Shutdown,
        backoff: &mut Backoff,
        start: &mut impl FnMut(PartitionId, Shutdown) -> Work,
    ) -> Result<eventlog::Error, End<E>>
    where
        Work: Future<Output = Result<(), E>> + Send + 'static,
    {
        loop {
            let change = tokio::select! {
                biased;
                () = shutdown.begun() => return Err(End::Shutdown),
                (partition, result) = any_end(&mut self.running) => {
                    self.running.remove(&partition);
                    result.map_err(End::Failed)?;
                    continue;
                }
                change = membership.next_change() => change,
            };
            match change {
                Err(error) => return Ok(error),
                Ok(AssignmentChange::Gained(partitions)) => {
                    backoff.reset();
                    for partition in partitions {
                        self.stop(partition).await.map_err(End::Failed)?;
                        self.start(partition, start);
                    }
                }
                Ok(AssignmentChange::Lost(partitions)) => {
                    for partition in partitions {
                        self.stop(partition).await.map_err(End::Failed)?;
                    }
                }
            }
        }
    }

    fn start<Work>(&mut self, partition: u32, start: &mut impl FnMut(PartitionId, Shutdown) -> Work)
    where
        Work: Future<Output = Result<(), E>> + Send + 'static,
    {
        let stop = self.shutdown.child();
        let work = start(PartitionId(partition as u16), stop.clone());
        let (end, ended) = oneshot::channel();
        self.tasks.spawn(async move {
            // Nobody waits any more when the whole role was cut off.
            let _ = end.send(work.await);
        });
        self.running.insert(partition, Running { stop, ended });
    }

    async fn stop(&mut self, partition: u32) -> Result<(), E> {
        let Some(running) = self.running.remove(&partition) else { return Ok(()) };
        running.stop.begin();
        // A task that was cut off ends without a word.
        running.ended.await.unwrap_or(Ok(()))
    }

    async fn stop_all(&mut self) -> Result<(), E> {
        for running in self.running.values() {
            running.stop.begin();
        }
        let mut first = Ok(());
        while let Some((partition, _)) = self.running.first_key_value() {
            let result = self.stop(*partition).await;
            first = first.and(result);
        }
        first
    }
}

enum End<E> {
    Shutdown,
    Failed(E),
}

/// The next task that ends; pending for ever if there is none.
async fn any_end<E>(running: &mut BTreeMap<u32, Running<E>>) -> (u32, Result<(), E>) {
    std::future::poll_fn(|context| {
        for (partition, running) in running.iter_mut() {
            if let std::task::Poll::Ready(result) = std::pin::Pin::new(&mut running.ended).poll(context) {
                return std::task::Poll::Ready((*partition, result.unwrap_or(Ok(()))));
            }
        }
        std::task::Poll::Pending
    })
    .await
}
