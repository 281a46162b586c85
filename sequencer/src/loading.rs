//! Batched reads of the store for parked commands: tried again until the store answers.

use crate::limits::{LOAD_AGAIN_AFTER, LOAD_AGAIN_AFTER_MAX};
use crate::parking::Questions;
use domain::decide::Head;
use domain::{ChannelId, ClientMsgId, Lookup, UserId};
use futures_util::future::BoxFuture;
use runtime::SharedEntropy;
use runtime::health::Component;
use std::sync::Arc;
use store::SequencerReads;
use timeline::Backoff;

/// What the store said.
#[derive(Debug)]
pub(crate) struct Answers {
    pub(crate) heads: Vec<(ChannelId, Option<Head>)>,
    pub(crate) ids: Vec<((ChannelId, UserId, ClientMsgId), Lookup)>,
}

/// Asks until there is an answer. An error of the store is never taken for a miss.
pub(crate) fn load(
    reads: Arc<dyn SequencerReads>,
    questions: Questions,
    entropy: SharedEntropy,
    health: Component,
) -> BoxFuture<'static, Answers> {
    Box::pin(async move {
        let mut backoff = Backoff::new(entropy, LOAD_AGAIN_AFTER, LOAD_AGAIN_AFTER_MAX);
        loop {
            match ask(&*reads, &questions).await {
                Ok(answers) => {
                    if backoff.failures() > 0 {
                        health.ready();
                    }
                    return answers;
                }
                Err(error) => {
                    metrics::counter!("hubbub_sequencer_store_errors_total").increment(1);
                    health.ready_but(format!("channels not in memory wait for the store: {error}"));
                    tracing::warn!(%error, failures = backoff.failures(), "the store does not answer; commands stay parked");
                }
            }
            backoff.wait().await;
        }
    })
}

async fn ask(reads: &dyn SequencerReads, questions: &Questions) -> Result<Answers, store::Error> {
    let mut answers = Answers { heads: Vec::new(), ids: Vec::new() };
    if !questions.heads.is_empty() {
        let heads = reads.heads(&questions.heads).await?;
        answers.heads = questions.heads.iter().copied().zip(heads).collect();
    }
    if !questions.ids.is_empty() {
        let known = reads.find_ids(&questions.ids).await?.into_iter();
        let lookups = known.map(|known| match known {
            Some(known) => Lookup::Found { seq: known.seq, digest: known.digest },
            None => Lookup::Missed,
        });
        answers.ids = questions.ids.iter().copied().zip(lookups).collect();
    }
    Ok(answers)
}
