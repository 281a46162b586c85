//! One writer thread a file: takes what has gathered, writes it in one transaction, and tells everybody how it went.

use crate::failure::{Failure, File};
use crate::limits::{GROUP_ROWS_MAX, WRITE_QUEUE_JOBS_MAX};
use rusqlite::Connection;
use std::fmt::Debug;
use std::thread::JoinHandle;
use store::{Error, ErrorKind};
use tokio::sync::{mpsc, oneshot};

/// What a lane writes.
pub(crate) trait Sink: Send + 'static {
    /// One call's part.
    type Work: Send + 'static;

    /// About how many rows it is.
    fn rows(work: &Self::Work) -> usize;

    /// Writes a group into one transaction and commits it. The inner results belong to the calls one by one (a taken name); an
    /// outer failure means that nothing of the group was written.
    fn write(
        &mut self,
        connection: &mut Connection,
        group: &[Self::Work],
    ) -> Result<Vec<Result<usize, Failure>>, Failure>;

    /// Between two transactions, after the callers were told.
    fn rest(&mut self, connection: &mut Connection, rows: usize);
}

type Reply = oneshot::Sender<Result<usize, Failure>>;

/// The queue into a writer thread. Dropping it lets the thread finish what is in the queue and end.
#[derive(Debug)]
pub(crate) struct Lane<W> {
    queue: Option<mpsc::Sender<(W, Reply)>>,
    thread: Option<JoinHandle<()>>,
}

impl<W: Send + 'static> Lane<W> {
    pub(crate) fn start<S: Sink<Work = W>>(file: File, connection: Connection, sink: S) -> Result<Self, Error> {
        let (queue, jobs) = mpsc::channel(WRITE_QUEUE_JOBS_MAX);
        let thread = std::thread::Builder::new()
            .name(format!("store-{}", file.name().trim_end_matches(".db")))
            .spawn(move || run(file, connection, sink, jobs))
            .map_err(|error| Error::new(ErrorKind::Unavailable, "can't start a writer thread").with_source(error))?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Waits for room in the queue, then for the commit.
    pub(crate) async fn write(&self, work: W) -> Result<usize, Error> {
        let (reply, answer) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(Failure::closed)?;
        queue.send((work, reply)).await.map_err(|_| Failure::closed())?;
        Ok(answer.await.map_err(|_| Failure::closed())??)
    }
}

impl<W> Drop for Lane<W> {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported by the panic hook.
            let _ = thread.join();
        }
    }
}

fn run<S: Sink>(file: File, mut connection: Connection, mut sink: S, mut jobs: mpsc::Receiver<(S::Work, Reply)>) {
    let (mut group, mut replies) = (Vec::new(), Vec::new());
    while let Some((work, reply)) = jobs.blocking_recv() {
        let mut rows = S::rows(&work);
        group.push(work);
        replies.push(reply);
        while rows < GROUP_ROWS_MAX
            && let Ok((work, reply)) = jobs.try_recv()
        {
            rows += S::rows(&work);
            group.push(work);
            replies.push(reply);
        }
        let results = match sink.write(&mut connection, &group) {
            Ok(results) => results,
            // Nothing helps the whole against these; anything else may be the fault of one call, which must not fail the others.
            Err(failure) if group.len() == 1 || matches!(failure.kind(), ErrorKind::Full | ErrorKind::Damaged) => {
                tracing::error!(file = file.name(), error = ?failure, "writing to the store failed");
                group.iter().map(|_| Err(failure.clone())).collect()
            }
            Err(_) => group.chunks(1).map(|work| write_one(&mut sink, &mut connection, work)).collect(),
        };
        for (reply, result) in replies.drain(..).zip(results) {
            // Nobody waits any longer: fine, it is written all the same.
            let _ = reply.send(result);
        }
        group.clear();
        sink.rest(&mut connection, rows);
    }
}

fn write_one<S: Sink>(sink: &mut S, connection: &mut Connection, work: &[S::Work]) -> Result<usize, Failure> {
    sink.write(connection, work)?.pop().unwrap_or(Ok(0))
}
