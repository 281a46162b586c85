//! Reads this process's own topic and hands what it says to connections: one decode and one encode per event.

use crate::frame::{Frame, SharedFrame, error, first_seq};
use crate::hub::Hub;
use crate::limits::PUSHES_BEFORE_WAKE;
use crate::link::Link;
use domain::{Answer, Outcome, RejectCause, ReplyAddress, TimelineRecord, UserId, Verdict};
use runtime::Shutdown;
use schemas::error_codes::Code;
use schemas::frames::ServerFrame;
use schemas::records::{Delivery, Signal, SignalKind, decode_timeline};
use std::sync::Arc;
use std::task::Waker;
use timeline::{Mailbox, MailboxEvent};

/// When to send again what the owner had no room for, in ms.
const RETRY_AFTER_MS: u64 = 500;

/// Runs until the shutdown, or until the topic can't be read.
pub(crate) async fn run(hub: Arc<Hub>, mut mailbox: Mailbox, shutdown: Shutdown) -> Result<(), eventlog::Error> {
    let mut wakes = Wakes::default();
    loop {
        let Some(event) = shutdown.or_until(mailbox.next()).await else { return Ok(()) };
        match event? {
            MailboxEvent::NewEpoch => {
                tracing::warn!(connections = hub.connections(), "every socket resyncs");
                hub.for_each_link(|link| link.order(|orders| orders.resync = true));
            }
            MailboxEvent::Deliveries { deliveries, end } => {
                for (_, delivery) in deliveries {
                    match delivery {
                        Delivery::Outcome { recipients, reply, record, partition, offset, .. } => {
                            match decode_timeline(&record) {
                                Ok(TimelineRecord::Outcome(outcome)) => {
                                    deliver(&hub, &outcome, &recipients, reply.as_ref(), &mut wakes)
                                }
                                Ok(TimelineRecord::Claim { .. }) => {
                                    tracing::warn!(partition, offset, "a claim was delivered, passed over")
                                }
                                Err(error) => {
                                    tracing::error!(partition, offset, %error, "a delivered outcome can't be decoded; digests reveal it")
                                }
                            }
                        }
                        Delivery::Signal { recipients, signal, .. } => {
                            signalled(&hub, &signal, &recipients, &mut wakes)
                        }
                    }
                }
                wakes.wake();
                hub.process().set_delivered(end);
            }
        }
    }
}

/// Connections to wake when what comes together has been queued.
#[derive(Default)]
struct Wakes {
    wakers: Vec<Waker>,
    pushes: usize,
}

impl Wakes {
    fn push(&mut self, link: &Link, frames: &[SharedFrame]) {
        self.wakers.extend(link.push(frames));
        self.pushes += 1;
        if self.pushes >= PUSHES_BEFORE_WAKE {
            self.wake();
        }
    }

    fn wake(&mut self) {
        self.pushes = 0;
        self.wakers.drain(..).for_each(Waker::wake);
    }
}

fn deliver(hub: &Hub, outcome: &Outcome, recipients: &[UserId], reply: Option<&ReplyAddress>, wakes: &mut Wakes) {
    // The connection that asked, if it is still here and still theirs.
    let asker =
        reply.and_then(|reply| hub.link(reply.connection)).filter(|link| link.user.get() == Some(&outcome.sender));
    match &outcome.verdict {
        Verdict::Accepted(events) => {
            let frames: Vec<SharedFrame> = events.iter().map(|event| Frame::of_event(outcome, event)).collect();
            let mut asker_has_it = false;
            for user in recipients {
                hub.with_links_of(*user, |link| {
                    asker_has_it |= asker.as_ref().is_some_and(|asker| Arc::ptr_eq(asker, link));
                    wakes.push(link, &frames);
                });
            }
            if let Some(asker) = asker {
                if !asker_has_it {
                    wakes.push(&asker, &frames);
                }
                asker.answered();
                debug_assert!(first_seq(events).0 > 0, "seqs start at 1");
            }
        }
        Verdict::Answered(answer) => {
            if let Some(asker) = asker {
                wakes.push(&asker, &[Frame::control(&answered(outcome, *answer))]);
                asker.answered();
            }
        }
    }
}

fn answered(outcome: &Outcome, answer: Answer) -> ServerFrame {
    let client_msg_id = outcome.id.to_string();
    let Some(code) = Code::of_answer(answer) else {
        let Answer::Duplicate { seq } = answer else { unreachable!("only a duplicate is good news") };
        return ServerFrame::Ack { channel: outcome.channel.to_string(), client_msg_id, seq: seq.0 };
    };
    let ServerFrame::Error { code, message, .. } = error(code, code.sentence()) else {
        unreachable!("made as an error")
    };
    ServerFrame::Error {
        code,
        message,
        client_msg_id: Some(client_msg_id),
        request: None,
        retry_after_ms: (answer == Answer::RetryLater).then_some(RETRY_AFTER_MS),
        server_time: (answer == Answer::Rejected(RejectCause::Clock)).then_some(outcome.time.0),
    }
}

fn signalled(hub: &Hub, signal: &Signal, recipients: &[UserId], wakes: &mut Wakes) {
    let SignalKind::Typing = signal.kind;
    let frame =
        Frame::control(&ServerFrame::Typing { channel: signal.channel.to_string(), user: signal.user.to_string() });
    for user in recipients.iter().filter(|user| **user != signal.user) {
        hub.with_links_of(*user, |link| wakes.push(link, std::slice::from_ref(&frame)));
    }
}
