//! A few threads that read, each with its own connections, behind one bounded queue.

use crate::failure::{Failure, File};
use crate::limits::READ_QUEUE_JOBS_MAX;
use crate::schema::open_for_reading;
use rusqlite::Connection;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use store::{Error, ErrorKind};
use tokio::sync::{mpsc, oneshot};

/// A reader thread's connections.
#[derive(Debug)]
pub(crate) struct Connections {
    pub(crate) projections: Connection,
    pub(crate) records: Connection,
}

impl Connections {
    pub(crate) fn of(&mut self, file: File) -> &mut Connection {
        match file {
            File::Projections => &mut self.projections,
            File::Records => &mut self.records,
        }
    }
}

pub(crate) type Job = Box<dyn FnOnce(&mut Connections) + Send>;

/// The threads and their queue. Dropping it lets them finish and end.
pub(crate) struct Readers {
    queue: Option<mpsc::Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    pub(crate) fn start(dir: &Path, threads: usize, cache_bytes: usize) -> Result<Self, Error> {
        let (queue, jobs) = mpsc::channel::<Job>(READ_QUEUE_JOBS_MAX);
        let jobs = Arc::new(Mutex::new(jobs));
        let mut readers = Self { queue: Some(queue), threads: Vec::new() };
        for n in 0..threads.max(1) {
            let mut connections = Connections {
                projections: open_for_reading(File::Projections, dir, cache_bytes)?,
                records: open_for_reading(File::Records, dir, cache_bytes)?,
            };
            let jobs = Arc::clone(&jobs);
            let thread = std::thread::Builder::new()
                .name(format!("store-read-{n}"))
                .spawn(move || {
                    // One thread waits in the queue, the others for the lock: whoever gets a job lets the next one wait.
                    while let Some(job) = { jobs.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv() } {
                        job(&mut connections);
                    }
                })
                .map_err(|error| {
                    Error::new(ErrorKind::Unavailable, "can't start a reader thread").with_source(error)
                })?;
            readers.threads.push(thread);
        }
        Ok(readers)
    }

    /// Waits for room in the queue; the job then runs in any case.
    pub(crate) async fn submit(&self, job: Job) -> Result<(), Failure> {
        let queue = self.queue.as_ref().ok_or_else(Failure::closed)?;
        queue.send(job).await.map_err(|_| Failure::closed())
    }

    /// Reads one thing from one file. A read that nobody waits for any longer is passed over.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        file: File,
        read: impl FnOnce(&mut Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.submit(Box::new(move |connections| {
            if !reply.is_closed() {
                // The caller may have gone since.
                let _ = reply.send(read(connections.of(file)));
            }
        }))
        .await?;
        Ok(answer.await.map_err(|_| Failure::closed())??)
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            // A panic of the thread was reported by the panic hook.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readers").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}
