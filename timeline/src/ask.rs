//! Sends a command and waits for its outcome: for roles that are not sockets (api, fanout).

use crate::commands::Commands;
use crate::limits::{ASK_RESEND_AFTER, ASKS_PENDING_MAX};
use crate::mailbox::{Mailbox, MailboxEvent, Process};
use domain::{Answer, ClientMsgId, Command, Outcome, ReplyAddress, TimelineRecord, Verdict};
use runtime::{Shutdown, Tasks};
use schemas::records::{Delivery, Told, decode_timeline};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

/// Asks the sequencer. Clones share the mailbox.
#[derive(Clone, Debug)]
pub struct Asker {
    shared: Arc<Shared>,
    commands: Commands,
}

#[derive(Debug)]
struct Shared {
    process: Arc<Process>,
    next_waiter: AtomicU64,
    waiters: Mutex<HashMap<u64, Waiter, foldhash::fast::FixedState>>,
    places: Semaphore,
}

#[derive(Debug)]
struct Waiter {
    id: ClientMsgId,
    told: oneshot::Sender<Told>,
}

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nothing came in time: it may or may not have happened, or may yet. Ask again with the same id.
    #[error("no outcome within {0:?}; it may have happened: send the same id again")]
    TimedOut(Duration),
    /// The owner is full or the queue is; nothing happened. Ask again later with the same id.
    #[error("busy; nothing happened: send the same id again later")]
    Busy,
}

impl Asker {
    /// Reads the mailbox from now on, in `tasks`, until the shutdown.
    pub fn start(mailbox: Mailbox, commands: Commands, tasks: &Tasks, shutdown: Shutdown) -> Self {
        let shared = Arc::new(Shared {
            process: Arc::clone(mailbox.process()),
            next_waiter: AtomicU64::new(1),
            waiters: Mutex::default(),
            places: Semaphore::new(ASKS_PENDING_MAX),
        });
        tasks.spawn(read_outcomes(mailbox, Arc::clone(&shared), shutdown));
        Self { shared, commands }
    }

    /// The process that asks.
    pub fn process(&self) -> &Arc<Process> {
        &self.shared.process
    }

    /// Sends the command (its reply address is set here), again and again under the same id, until its outcome comes or the
    /// time is over. Cancel-safe: a dropped call leaves the command to its fate.
    pub async fn ask(&self, mut command: Command, within: Duration) -> Result<Told, AskError> {
        let deadline = Instant::now() + within;
        let place = tokio::time::timeout_at(deadline, self.shared.places.acquire()).await;
        let _place = place.map_err(|_| AskError::Busy)?.expect("the semaphore is never closed");
        let connection = self.shared.next_waiter.fetch_add(1, Ordering::Relaxed);
        command.reply = Some(ReplyAddress { process: self.shared.process.id().into(), connection });
        let _registration = Registration { shared: &self.shared, connection };
        let mut pause = Duration::from_millis(20);
        loop {
            let told = self.shared.register(connection, command.id);
            let sent = self.commands.send(&command).is_ok();
            let until = deadline.min(Instant::now() + ASK_RESEND_AFTER);
            let busy = if sent {
                match tokio::time::timeout_at(until, told).await {
                    Ok(Ok(Told { answer: Err(Answer::RetryLater), .. })) => true,
                    Ok(Ok(told)) => return Ok(told),
                    Ok(Err(_)) | Err(_) => false,
                }
            } else {
                true
            };
            if busy {
                if Instant::now() + pause >= deadline {
                    return Err(AskError::Busy);
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(ASK_RESEND_AFTER);
            } else if Instant::now() >= deadline {
                return Err(AskError::TimedOut(within));
            }
            command.retry = true;
        }
    }
}

/// Takes the waiter away when an ask ends, however it ends.
struct Registration<'a> {
    shared: &'a Shared,
    connection: u64,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.shared.lock().remove(&self.connection);
    }
}

impl Shared {
    fn register(&self, connection: u64, id: ClientMsgId) -> oneshot::Receiver<Told> {
        let (told, receiver) = oneshot::channel();
        self.lock().insert(connection, Waiter { id, told });
        receiver
    }

    fn tell(&self, connection: u64, told: Told) {
        let mut waiters = self.lock();
        if waiters.get(&connection).is_some_and(|waiter| waiter.id == told.id)
            && let Some(waiter) = waiters.remove(&connection)
        {
            // Nobody there any more: the ask timed out in this instant.
            let _ = waiter.told.send(told);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Waiter, foldhash::fast::FixedState>> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read_outcomes(mut mailbox: Mailbox, shared: Arc<Shared>, shutdown: Shutdown) {
    loop {
        let event = match shutdown.or_until(mailbox.next()).await {
            None => return,
            Some(Ok(event)) => event,
            Some(Err(error)) => {
                tracing::error!(process = shared.process.id(), %error, "own topic can't be read; waiters time out");
                return;
            }
        };
        // After a new epoch the askers' own resending finds out what was missed.
        if let MailboxEvent::Deliveries { deliveries, end } = event {
            for (_, delivery) in deliveries {
                if let Delivery::Outcome { reply: Some(reply), record, .. } = delivery {
                    match decode_timeline(&record) {
                        Ok(TimelineRecord::Outcome(outcome)) => shared.tell(reply.connection, told(&outcome)),
                        Ok(TimelineRecord::Claim { .. }) => {}
                        Err(error) => tracing::error!(%error, "an outcome can't be decoded; its waiter times out"),
                    }
                }
            }
            shared.process.set_delivered(end);
        }
    }
}

/// What an outcome says to the one who asked.
pub fn told(outcome: &Outcome) -> Told {
    let answer = match &outcome.verdict {
        Verdict::Accepted(events) => Ok(events.first().map_or_else(Default::default, |event| event.seq)),
        Verdict::Answered(answer) => Err(*answer),
    };
    Told { channel: outcome.channel, id: outcome.id, time: outcome.time, answer }
}
